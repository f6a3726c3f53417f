/**
 * The listening side of a Unix socket, for the parent that makes it and the
 * control process that serves it: node:net cannot make one without serving it,
 * and does not tell who called.
 */
import { chmodSync, chownSync, lstatSync, unlinkSync } from 'node:fs';
import { Failure } from '../error.ts';
import { check } from './errno.ts';
import { addressOf, pinned, syscall } from './foreign.ts';
import { NUMBERS } from './numbers.ts';

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
export function listenUnix(path: string, { gid, mode }: SocketOwner): number {
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
  chownSync(path, 0, gid);
  chmodSync(path, mode);
  check(syscall(NUMBERS.listen, fd, BACKLOG), 'listen', path);
  return fd;
}

/** Removes a socket file, if there is one; anything else there is a Failure. */
export function removeSocket(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new Failure('listen on', path, { cause: 'there is something that is not a socket' });
  unlinkSync(path);
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
