/**
 * A repository's directory, as root sees it before storage has it for its own:
 * whether a repository is in it, and where there is none, a new one. Used by
 * group.ts.
 *
 * Invariant: what changes hands is what was looked at: it is opened once, through
 * no link of anybody but root, and never named again.
 */
import { closeSync, fchownSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { Failure } from '../../error.ts';
import type { User } from '../../privsep/user.ts';
import { CONFIG_NAME } from '../../repository/config.ts';
import { O_DIRECTORY, O_RDONLY, S_IFDIR, S_IFMT } from '../../sys/constants.ts';
import { check, EEXIST, ENOENT } from '../../sys/errno.ts';
import { mkdirAt, openAt, Stat, statAt, statFd } from '../../sys/files.ts';
import { openDirectory, openPath } from '../../sys/path.ts';

/** What a creation that was cut short leaves behind, and a new file system has. */
const LEFTOVERS = new Set([...['tmp', 'keys', 'packs', 'index', 'snapshots', 'leases', 'log', 'lost+found']]);
const MODE = 0o700;
const HERE = Buffer.from('.');

const stat = new Stat();

/** Throws a Failure of kind 'no-repository' unless there is a repository at `location`. */
export function checkRepository(location: string): void {
  const none = (cause: string, remedy?: string) =>
    new Failure('use', location, { cause, kind: 'no-repository', ...(remedy && { remedy }) });
  const missing = none('there is no repository', 'plakarctl create makes one');
  let fd: number;
  try {
    fd = openPath(location);
  } catch (cause) {
    throw codeOf(cause) === 'ENOENT' ? missing : new Failure('use', location, { cause });
  }
  try {
    check(statFd(fd, stat), 'statx', location);
    if ((stat.mode & S_IFMT) !== S_IFDIR) throw none('it is not a directory');
    const found = statAt(fd, Buffer.from(CONFIG_NAME), stat);
    if (found === -ENOENT) throw missing;
    check(found, 'statx', path.join(location, CONFIG_NAME));
  } finally {
    closeSync(fd);
  }
}

/** Makes the directory, owned by storage; one that is there must be empty. */
export function makeRepositoryDirectory(location: string, { uid, gid }: User): void {
  const fd = openNew(location) ?? openOld(location);
  try {
    fchownSync(fd, uid, gid);
  } finally {
    closeSync(fd);
  }
}

/** A directory that was not there before, open; undefined where something is. */
function openNew(location: string): number | undefined {
  let above = -1;
  try {
    above = openDirectory(path.dirname(location));
    const name = Buffer.from(path.basename(location));
    const made = mkdirAt(above, name, MODE);
    if (made === -EEXIST) return undefined;
    check(made, 'mkdirat', location);
    return check(openAt(above, name, O_RDONLY | O_DIRECTORY), 'openat', location);
  } catch (cause) {
    throw new Failure('make directory', location, { cause });
  } finally {
    if (above >= 0) closeSync(above);
  }
}

function openOld(location: string): number {
  let fd = -1;
  try {
    fd = openForReading(location);
    refuseFull(location, readdirSync(`/proc/self/fd/${fd}`));
    return fd;
  } catch (cause) {
    if (fd >= 0) closeSync(fd);
    throw cause instanceof Failure && cause.operation === 'create repository'
      ? cause
      : new Failure('use', location, { cause });
  }
}

function openForReading(location: string): number {
  const name = openDirectory(location);
  try {
    return check(openAt(name, HERE, O_RDONLY | O_DIRECTORY), 'openat', location);
  } finally {
    closeSync(name);
  }
}

function refuseFull(location: string, names: readonly string[]): void {
  if (names.includes(CONFIG_NAME)) throw repositoryExists(location);
  const foreign = names.find((name) => !LEFTOVERS.has(name));
  if (foreign !== undefined)
    throw new Failure('use', location, { cause: `it is not empty: there is ${foreign}` });
}

export function repositoryExists(location: string): Failure {
  return new Failure('create repository', location, {
    cause: 'there is one already',
    remedy: 'remove it, or name another location',
  });
}

function codeOf(error: unknown): unknown {
  for (let at = error; at instanceof Error; at = at.cause) if ('code' in at) return at.code;
  return undefined;
}
