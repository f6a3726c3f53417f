/**
 * Opening a configured path without being led elsewhere: a link on the way is
 * followed only if it is root's, as whoever owns a directory on the way could
 * otherwise have any directory of the machine opened in its place. Called by
 * privsep for root directories, by the parent for whatever else is configured,
 * and by the scanner for what lies below its own root.
 *
 * Invariant: what is returned open was reached through directories and links of
 * root's alone, and no link of /proc's; nothing is looked up twice.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import {
  AT_FDCWD,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  S_IFLNK,
  S_IFMT,
} from './constants.ts';
import { check, EAGAIN, ELOOP, ENOSYS, SystemError } from './errno.ts';
import { openAt, openBeneath, readlinkAt, Stat, statFd } from './files.ts';
import { pinned } from './foreign.ts';

/** As the kernel has it. */
const LINKS_MAX = 40;
/** A rename elsewhere makes the kernel uncertain; it is asked again. */
const ATTEMPTS_MAX = 100;
const TARGET_MAX_BYTES = 4096;
const ROOT = 0;
const TOP = Buffer.from('/');
const HERE = Buffer.from('.');
const EMPTY = Buffer.alloc(0);

const stat = new Stat();
const target = pinned(TARGET_MAX_BYTES);

/** What a walk came to: an open descriptor, or a path with the first of its links replaced. */
type Step = { readonly fd: number } | { readonly path: string };

/** As openPath, for what has to be a directory. */
export function openDirectory(path: string): number {
  return openPath(path, O_DIRECTORY);
}

/**
 * Opens whatever is at an absolute path, as a name for it alone (O_PATH): no
 * device, fifo or file is opened by it, and /proc/self/fd/N is a name that
 * nobody can bend. Needs openat2. Throws a Failure that names the link that
 * must not be followed, or what the system says of the path itself.
 */
export function openPath(path: string, flags = 0): number {
  return follow(path, (top, rest) => {
    const resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
    let fd = -EAGAIN;
    for (let i = 0; i < ATTEMPTS_MAX && fd === -EAGAIN; i++)
      fd = openBeneath(top, Buffer.from(rest || '.'), O_PATH | flags, 0, resolve);
    if (fd === -ELOOP) return walk(top, rest, true);
    // whoever calls names the path
    if (fd < 0 && fd !== -ENOSYS) throw new SystemError(fd, 'openat2');
    return { fd: check(fd, 'openat2', path) };
  });
}

/**
 * Opens a directory for reading where openat2 is refused, one name after
 * another. A link at the end is not followed, whose ever it is.
 */
export function walkToDirectory(path: string): number {
  const fd = follow(path, (top, rest) => walk(top, rest, false));
  try {
    return check(openAt(fd, HERE, O_RDONLY | O_DIRECTORY), 'open', path);
  } finally {
    fs.closeSync(fd);
  }
}

function follow(path: string, open: (top: number, rest: string) => Step): number {
  const top = check(openAt(AT_FDCWD, TOP, O_PATH | O_DIRECTORY), 'openat', '/');
  try {
    let at = path;
    for (let links = 0; links <= LINKS_MAX; links++) {
      const step = open(top, namesOf(at).join('/'));
      if ('fd' in step) return step.fd;
      at = step.path;
    }
    throw new Failure('follow links', path, { cause: `there are more than ${LINKS_MAX}` });
  } finally {
    fs.closeSync(top);
  }
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

/** Goes name by name. `isLast` says whether a link at the end is to be followed too. */
function walk(top: number, rest: string, isLast: boolean): Step {
  const names = namesOf(rest);
  let at = check(openAt(top, HERE, O_PATH | O_DIRECTORY), 'openat', '/');
  try {
    for (const [i, name] of names.entries()) {
      const path = `/${names.slice(0, i + 1).join('/')}`;
      const fd = check(openAt(at, Buffer.from(name), O_PATH), 'openat', path);
      fs.closeSync(at);
      at = fd;
      check(statFd(at, stat), 'statx', path);
      if ((stat.mode & S_IFMT) !== S_IFLNK || (!isLast && i === names.length - 1)) continue;
      const above = names.slice(0, i).join('/');
      return { path: [replaced(at, path, above), ...names.slice(i + 1)].join('/') };
    }
    const fd = at;
    at = -1;
    return { fd };
  } finally {
    if (at >= 0) fs.closeSync(at);
  }
}

/** Where the link that is open at `fd` leads. */
function replaced(fd: number, path: string, above: string): string {
  if (stat.uid !== ROOT)
    throw new Failure('follow link', path, {
      cause: `it belongs to user ${stat.uid}, who could have it lead anywhere`,
      remedy: 'name the path that it leads to, or make it root’s',
    });
  const lengthBytes = check(readlinkAt(fd, EMPTY, target), 'readlink', path);
  const to = target.toString('utf8', 0, lengthBytes);
  return to.startsWith('/') ? to : `${above}/${to}`;
}
