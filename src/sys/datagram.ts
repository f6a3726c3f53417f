/**
 * Datagrams to a Unix socket that somebody else listens on: syslog's and the
 * service manager's. Called by the parent alone; node:dgram knows no such
 * sockets. Each write to the descriptor is one datagram, and never waits.
 */
import { closeSync } from 'node:fs';
import { Failure } from '../error.ts';
import { check } from './errno.ts';
import { addressOf, pinned, syscall } from './foreign.ts';
import { NUMBERS } from './numbers.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
/** sun_path, and a NUL where it is a path. */
const PATH_MAX_BYTES = 107;
const FAMILY_BYTES = 2;

/** A socket connected to `path`; one that begins with '@' is in the abstract namespace (unix(7)). */
export function connectDatagram(path: string): number {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length > PATH_MAX_BYTES)
    throw new Failure('connect', path, { cause: `not a path of 1 to ${PATH_MAX_BYTES} bytes` });
  const isAbstract = name[0] === 0x40;
  if (isAbstract) name[0] = 0;
  const address = pinned(FAMILY_BYTES + PATH_MAX_BYTES + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, FAMILY_BYTES);
  const lengthBytes = FAMILY_BYTES + name.length + (isAbstract ? 0 : 1);
  const fd = check(
    syscall(NUMBERS.socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
    'socket',
    path,
  );
  try {
    check(syscall(NUMBERS.connect, fd, addressOf(address), lengthBytes), 'connect', path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
