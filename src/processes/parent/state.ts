/**
 * The directory of what the daemon remembers between its starts. Used by the
 * parent, before it relies on anything in there, and by the command that sends
 * it to the background, which makes a log there.
 *
 * Invariant: nobody but root can write to it, and one daemon alone uses it.
 */
import { closeSync, mkdirSync } from 'node:fs';
import { Failure } from '../../error.ts';
import { O_DIRECTORY, O_RDONLY } from '../../sys/constants.ts';
import { check, EAGAIN } from '../../sys/errno.ts';
import { lockFile, openAt, Stat, statFd } from '../../sys/files.ts';
import { openDirectory } from '../../sys/path.ts';

const MODE = 0o700;
const WRITABLE_BY_OTHERS = 0o022;
const HERE = Buffer.from('.');

/** Makes the directory if there is none, and refuses one that others could write to. */
export function trustState(path: string): void {
  try {
    closeSync(openTrusted(path));
  } catch (cause) {
    throw new Failure('use state directory', path, { cause });
  }
}

/** As `trustState`, and locks it. Returns a descriptor that has to stay open meanwhile. */
export function holdState(path: string): number {
  let fd = -1;
  try {
    fd = openTrusted(path);
    const locked = lockFile(fd);
    if (locked === -EAGAIN) throw new Failure('lock', '', { cause: 'another plakard uses it', kind: 'busy' });
    check(locked, 'flock', path);
    return fd;
  } catch (cause) {
    if (fd >= 0) closeSync(fd);
    throw new Failure('use state directory', path, { cause });
  }
}

function openTrusted(path: string): number {
  mkdirSync(path, { recursive: true, mode: MODE });
  const name = openDirectory(path);
  try {
    refuseOthers(path, name);
    return check(openAt(name, HERE, O_RDONLY | O_DIRECTORY), 'openat', path);
  } finally {
    closeSync(name);
  }
}

function refuseOthers(path: string, fd: number): void {
  const stat = new Stat();
  check(statFd(fd, stat), 'statx', path);
  if (stat.uid !== 0 || (stat.mode & WRITABLE_BY_OTHERS) !== 0)
    throw new Failure('trust it', '', {
      cause: 'others than root may write to it',
      remedy: `chown root ${path}; chmod 700 ${path}`,
    });
}
