/**
 * Unix sockets as far as Node has none of it: pairs, descriptors as ancillary
 * data, and the credentials of a peer. Called by src/ipc, by privsep for its
 * pairs, and by control for credentials.
 *
 * Invariant: a descriptor that was received is either returned or closed.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { DESCRIPTORS_MAX } from './constants.ts';
import { check, EAGAIN, ENOBUFS, ETOOMANYREFS, errnoError } from './errno.ts';
import { addressOf, pinned, syscall, writeWord } from './foreign.ts';
import { NUMBERS } from './numbers.ts';

const AF_UNIX = 1;
const TYPES = { stream: 1, seqpacket: 5 } as const;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const SCM_RIGHTS = 1;
const F_DUPFD_CLOEXEC = 1030;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const MSG_PEEK = 2;
const MSG_CTRUNC = 8;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0x800;
const SHUT_RDWR = 2;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** Descriptors to close, from which on it is worth while to look for runs of them. */
const MANY = 8;

/** Most data bytes beside descriptors. */
const DATA_MAX_BYTES = 64;
/** What is sent at once, at most, without waiting. */
const NOW_MAX_BYTES = 4096;

// struct msghdr, on both architectures (64-bit):
//   0 name*  8 namelen  16 iov*  24 iovlen  32 control*  40 controllen  48 flags
const MSGHDR_BYTES = 56;
// struct cmsghdr: 0 len (u64, of the whole)  8 level  12 type  16 data
const CMSGHDR_BYTES = 16;
/** CMSG_SPACE(DESCRIPTORS_MAX ints). */
const CONTROL_BYTES = CMSGHDR_BYTES + 8 * Math.ceil((4 * DESCRIPTORS_MAX) / 8);

const header = pinned(MSGHDR_BYTES);
const vector = pinned(16);
const content = pinned(DATA_MAX_BYTES);
const control = pinned(CONTROL_BYTES);
const outgoing = pinned(NOW_MAX_BYTES);
const small = pinned(16);
const smallLength = pinned(4);
const address = pinned(112);

const HEADER = addressOf(header);
const CONTROL = addressOf(control);
const CONTENT = addressOf(content);
const SMALL = addressOf(small);
const SMALL_LENGTH = addressOf(smallLength);
const ADDRESS = addressOf(address);
const OUTGOING = addressOf(outgoing);
writeWord(header, addressOf(vector), 16);
writeWord(header, 1, 24);
writeWord(vector, CONTENT, 0);

/** A connected pair, close-on-exec and non-blocking. 'seqpacket' keeps messages apart. */
export function socketpair(type: keyof typeof TYPES): [number, number] {
  const flags = TYPES[type] | SOCK_CLOEXEC | SOCK_NONBLOCK;
  check(syscall(NUMBERS.socketpair, AF_UNIX, flags, 0, SMALL), 'socketpair', type);
  return [small.readInt32LE(0), small.readInt32LE(4)];
}

/** A connected pair of streams on which reading waits: what threads of the pool wait on. */
export function blockingPair(): [number, number] {
  check(
    syscall(NUMBERS.socketpair, AF_UNIX, TYPES.stream | SOCK_CLOEXEC, 0, SMALL),
    'socketpair',
    'blocking',
  );
  return [small.readInt32LE(0), small.readInt32LE(4)];
}

/**
 * Sends `fds` (at most 253) with `data` (1 to 64 bytes) in one message, never
 * waiting; false means that it would have to, as the peer has to read first.
 * The sender keeps its own copies.
 */
export function sendDescriptors(socket: number, fds: readonly number[], data: Uint8Array): boolean {
  if (fds.length > DESCRIPTORS_MAX || data.length < 1 || data.length > DATA_MAX_BYTES)
    throw new Failure('send descriptors', '', {
      cause: `${fds.length} in one message, ${data.length} bytes`,
    });
  content.set(data, 0);
  writeWord(vector, data.length, 8);
  const lengthBytes = CMSGHDR_BYTES + 4 * fds.length;
  writeWord(control, lengthBytes, 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  let at = CMSGHDR_BYTES;
  for (const fd of fds) at = control.writeInt32LE(fd, at);
  writeWord(header, fds.length === 0 ? 0 : CONTROL, 32);
  writeWord(header, fds.length === 0 ? 0 : lengthBytes, 40);
  const sent = syscall(NUMBERS.sendmsg, socket, HEADER, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent === data.length) return true;
  if (sent >= 0)
    throw new Failure('send descriptors', '', { cause: `${sent} of ${data.length} bytes were sent` });
  // the last is a bound on descriptors in flight, per user: it passes as peers read
  if (sent === -EAGAIN || sent === -ENOBUFS || sent === -ETOOMANYREFS) return false;
  throw errnoError(sent, 'sendmsg', `socket ${socket}`);
}

/** What one message held. Whoever receives it owns the descriptors. */
export interface Reception {
  /** Bytes of data; 0 when the peer has closed. */
  readonly bytes: number;
  readonly fds: number[];
}

/** Takes the descriptors out of the control buffer, of which `usedBytes` are filled. */
function takeDescriptors(usedBytes: number): number[] {
  const fds: number[] = [];
  for (let at = 0; at + CMSGHDR_BYTES <= usedBytes; ) {
    const lengthBytes = control.readUInt32LE(at);
    if (lengthBytes < CMSGHDR_BYTES) break;
    const end = Math.min(at + lengthBytes, usedBytes);
    if (control.readInt32LE(at + 8) === SOL_SOCKET && control.readInt32LE(at + 12) === SCM_RIGHTS)
      for (let i = at + CMSGHDR_BYTES; i + 4 <= end; i += 4) fds.push(control.readInt32LE(i));
    at += 8 * Math.ceil(lengthBytes / 8);
  }
  return fds;
}

/**
 * Receives one message with at most `max` descriptors, which are close-on-exec,
 * and up to `data.length` (at most 64) bytes. Undefined when there is none (or,
 * with `wait`, when none came within the socket's timeout). Throws, and closes
 * what came, if there are more than `max` or the descriptor table is full.
 */
export function receiveDescriptors(
  socket: number,
  max: number,
  data: Uint8Array,
  { wait = false } = {},
): Reception | undefined {
  const wantBytes = Math.min(data.length, DATA_MAX_BYTES);
  writeWord(vector, wantBytes, 8);
  writeWord(header, CONTROL, 32);
  writeWord(header, CONTROL_BYTES, 40);
  const flags = MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT);
  const bytes = syscall(NUMBERS.recvmsg, socket, HEADER, flags);
  if (bytes === -EAGAIN) return undefined;
  if (bytes < 0) throw errnoError(bytes, 'recvmsg', `socket ${socket}`);
  const fds = takeDescriptors(header.readUInt32LE(40));
  const truncated = (header.readUInt32LE(48) & MSG_CTRUNC) !== 0;
  if (truncated || fds.length > max) {
    closeAll(fds);
    const cause = truncated ? 'descriptor table is full' : `${fds.length} came, ${max} are allowed`;
    throw new Failure('receive descriptors', '', { cause });
  }
  data.set(content.subarray(0, Math.min(bytes, wantBytes)));
  return { bytes, fds };
}

/**
 * The first bytes of the next message, which stays where it is, as a view that
 * holds until the next call here. Undefined when there is none; empty when the
 * peer has closed.
 */
export function peekMessage(socket: number, maxBytes: number): Buffer | undefined {
  const wantBytes = Math.min(maxBytes, DATA_MAX_BYTES);
  const bytes = syscall(NUMBERS.recvfrom, socket, CONTENT, wantBytes, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC);
  if (bytes === -EAGAIN) return undefined;
  if (bytes < 0) throw errnoError(bytes, 'recvfrom', `socket ${socket}`);
  return content.subarray(0, Math.min(bytes, wantBytes));
}

/** Has whoever reads from `fd`, or writes to it, wait. */
export function setBlocking(fd: number): void {
  const flags = check(syscall(NUMBERS.fcntl, fd, F_GETFL), 'fcntl', `descriptor ${fd}`);
  check(syscall(NUMBERS.fcntl, fd, F_SETFL, flags & ~O_NONBLOCK), 'fcntl', `descriptor ${fd}`);
}

/**
 * How many bytes a stream socket takes without waiting: none of what is longer
 * than a few KiB, and none where something is wrong with the socket, which the
 * next write will say.
 */
export function sendNow(socket: number, bytes: Uint8Array): number {
  if (bytes.length > NOW_MAX_BYTES) return 0;
  outgoing.set(bytes);
  const sent = syscall(NUMBERS.sendto, socket, OUTGOING, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL);
  return Math.max(0, sent);
}

/** Ends both directions of a connected socket: who waits for it returns. What is wrong with it is no matter. */
export function shutdownBoth(socket: number): void {
  syscall(NUMBERS.shutdown, socket, SHUT_RDWR);
}

/** Another descriptor for the same open file, close-on-exec. */
export function duplicate(fd: number): number {
  return check(syscall(NUMBERS.fcntl, fd, F_DUPFD_CLOEXEC, 0), 'fcntl', `descriptor ${fd}`);
}

/** Lets no program that is executed have the descriptor. */
export function closeOnExec(fd: number): void {
  check(syscall(NUMBERS.fcntl, fd, F_SETFD, FD_CLOEXEC), 'fcntl', `descriptor ${fd}`);
}

/** Closes every one of `fds`. Of many, those that follow each other go by one call: a push closes each file's twice. */
export function closeAll(fds: readonly number[]): void {
  if (fds.length < MANY) for (const fd of fds) fs.closeSync(fd);
  else closeRuns(Int32Array.from(fds).sort());
}

function closeRuns(fds: Int32Array): void {
  for (let from = 0; from < fds.length; ) {
    const first = fds[from] as number;
    let to = from + 1;
    while (fds[to] === first + to - from) to++;
    // before Linux 5.9 there is no such call
    if (syscall(NUMBERS.close_range, first, first + to - from - 1, 0) < 0)
      for (let i = from; i < to; i++) fs.closeSync(fds[i] as number);
    from = to;
  }
}

/** Who is at the other end, as the kernel noted when it connected. */
export interface Credentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** The credentials of a connected Unix socket's peer. */
export function peerCredentials(socket: number): Credentials {
  smallLength.writeUInt32LE(12);
  const result = syscall(NUMBERS.getsockopt, socket, SOL_SOCKET, SO_PEERCRED, SMALL, SMALL_LENGTH);
  check(result, 'getsockopt', `socket ${socket}`);
  return { pid: small.readInt32LE(0), uid: small.readUInt32LE(4), gid: small.readUInt32LE(8) };
}

function setTimeouts(socket: number, timeoutMs: number): void {
  // struct timeval; zero would mean for ever
  const usec = Math.max(1, Math.round(timeoutMs * 1000));
  writeWord(small, Math.floor(usec / 1e6), 0);
  writeWord(small, usec % 1e6, 8);
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO])
    check(
      syscall(NUMBERS.setsockopt, socket, SOL_SOCKET, option, SMALL, 16),
      'setsockopt',
      `socket ${socket}`,
    );
}

/** Longest path of a Unix socket: sun_path, and a NUL. */
const SOCKET_PATH_MAX_BYTES = 107;

/**
 * Connects to the Unix stream socket at `path`. The socket blocks, in connect
 * and in every call after it, for at most `timeoutMs` each.
 */
export function connectUnix(path: string, timeoutMs: number): number {
  const lengthBytes = Buffer.byteLength(path);
  if (lengthBytes > SOCKET_PATH_MAX_BYTES || lengthBytes === 0 || path.includes('\0'))
    throw new Failure('connect', path, { cause: `not a path of 1 to ${SOCKET_PATH_MAX_BYTES} bytes` });
  const socket = check(syscall(NUMBERS.socket, AF_UNIX, TYPES.stream | SOCK_CLOEXEC, 0), 'socket', path);
  try {
    setTimeouts(socket, timeoutMs);
    address.fill(0);
    address.writeUInt16LE(AF_UNIX, 0);
    address.write(path, 2, 'utf8');
    check(syscall(NUMBERS.connect, socket, ADDRESS, 2 + lengthBytes + 1), 'connect', path);
  } catch (error) {
    fs.closeSync(socket);
    throw error;
  }
  return socket;
}
