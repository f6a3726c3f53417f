/**
 * The listening side of a Unix socket, for the parent that makes it and the
 * control process that serves it: node:net cannot make one without serving it,
 * and does not tell who called.
 */
import { chmodSync, chownSync, closeSync, fstatSync, lstatSync, unlinkSync } from 'node:fs';
import { Failure } from '../error.ts';
import { check } from './errno.ts';
import { addressOf, pinned, syscall } from './foreign.ts';
import { NUMBERS } from './numbers.ts';
import { openPath } from './path.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const SOCK_NONBLOCK = 0x800;
const SOL_SOCKET = 1;
const SO_PEERGROUPS = 59;
/** Longest path of a Unix socket: sun_path, and a NUL. */
const PATH_MAX_BYTES = 107;
const BACKLOG = 128;
/** Supplementary groups that are read; the kernel allows as many for one process. */
const GROUPS_MAX = 65536;

/** Who may connect. */
export interface SocketOwner {
  readonly gid: number;
  /** permission bits */
  readonly mode: number;
}

/**
 * Makes a listening socket at `path`, with its owner and mode in place before
 * anybody can connect. A socket file that is there is replaced: the caller has
 * made sure that nobody serves it.
 */
export function listenUnix(path: string, owner: SocketOwner): number {
  const bytes = Buffer.from(path);
  if (bytes.length > PATH_MAX_BYTES)
    throw new Failure('listen on', path, { cause: 'the path is too long for a socket' });
  removeSocket(path);
  const address = pinned(2 + PATH_MAX_BYTES + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  const fd = check(
    syscall(NUMBERS.socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
    'socket',
    path,
  );
  const former = process.umask(0o777);
  try {
    check(syscall(NUMBERS.bind, fd, addressOf(address), 2 + bytes.length + 1), 'bind', path);
  } finally {
    process.umask(former);
  }
  ownSocket(path, owner);
  check(syscall(NUMBERS.listen, fd, BACKLOG), 'listen', path);
  return fd;
}

/** Gives a socket file its group and mode. Nothing else, wherever a link may lead. */
export function ownSocket(path: string, { gid, mode }: SocketOwner): void {
  let fd = -1;
  try {
    fd = openPath(path);
    if (!fstatSync(fd).isSocket()) throw notSocket(path);
    chownSync(`/proc/self/fd/${fd}`, 0, gid);
    chmodSync(`/proc/self/fd/${fd}`, mode);
  } catch (cause) {
    throw new Failure('give its group and mode to', path, { cause });
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** Removes a socket file, if there is one; anything else there is a Failure. */
export function removeSocket(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw notSocket(path);
  unlinkSync(path);
}

function notSocket(path: string): Failure {
  return new Failure('listen on', path, { cause: 'there is something that is not a socket' });
}

const groups = pinned(4 * GROUPS_MAX);
const groupsLength = pinned(4);

/** The supplementary groups of a connected Unix socket's peer, as the kernel noted when it connected. */
export function peerGroups(socket: number): number[] {
  groupsLength.writeUInt32LE(groups.length);
  const result = syscall(
    NUMBERS.getsockopt,
    socket,
    SOL_SOCKET,
    SO_PEERGROUPS,
    addressOf(groups),
    addressOf(groupsLength),
  );
  check(result, 'getsockopt', `socket ${socket}`);
  const count = groupsLength.readUInt32LE(0) / 4;
  return Array.from({ length: count }, (_, i) => groups.readUInt32LE(4 * i));
}
