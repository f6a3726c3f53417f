/**
 * errno as an error. The calls in files.ts return -errno, as most of what they
 * meet is expected; everything else in src/sys throws what is made here, which
 * names the call and its object.
 */
import { Failure } from '../error.ts';

// asm-generic/errno.h, the same on x86-64 and arm64: node:os, which has them too, takes a twelfth of a short command
export const EPERM = 1;
export const ENOENT = 2;
export const EIO = 5;
export const ENXIO = 6;
export const EAGAIN = 11;
export const EACCES = 13;
export const EEXIST = 17;
export const EXDEV = 18;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ERANGE = 34;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const ELOOP = 40;
export const ENODATA = 61;
export const ENOTSUP = 95;
export const EOPNOTSUPP = 95;
export const ENOBUFS = 105;
/** Too many descriptors of this user are on their way. */
export const ETOOMANYREFS = 109;
export const ESTALE = 116;
export const EDQUOT = 122;

let names: ReadonlyMap<number, string> | undefined;

/** Words for those that libuv has none for. */
const MESSAGES: ReadonlyMap<number, string> = new Map([
  [ESTALE, 'stale file handle'],
  [EDQUOT, 'disk quota exceeded'],
  [ETOOMANYREFS, 'too many descriptors in flight'],
]);

/** `EACCES` for 13; takes -errno as well. */
export function errnoName(errno: number): string {
  names ??= new Map(
    Object.entries(process.getBuiltinModule('node:os').constants.errno).map(([name, number]) => [
      number,
      name,
    ]),
  );
  return names.get(Math.abs(errno)) ?? `E${Math.abs(errno)}`;
}

/** A failed system call, with the fields that Node's own errors have. */
export class SystemError extends Error {
  readonly code: string;
  /** Negative, as in Node's own errors. */
  readonly errno: number;
  readonly syscall: string;

  constructor(errno: number, syscall: string) {
    const code = errnoName(errno);
    const number = Math.abs(errno);
    // loaded when it is needed: it takes a millisecond of the start of plakarctl
    const { getSystemErrorMessage } = process.getBuiltinModule('node:util');
    const words = MESSAGES.get(number) ?? getSystemErrorMessage(-number) ?? `error ${number}`;
    super(`${code}: ${words.replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase())}, ${syscall}`);
    this.name = 'SystemError';
    this.code = code;
    this.errno = -Math.abs(errno);
    this.syscall = syscall;
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  openat2: 'needs Linux 5.6 or later',
  fchmodat2: 'needs Linux 6.6 or later',
  seccomp: 'needs a kernel with seccomp filters',
};

/** The Failure for -errno (or errno) of `call` on `object`. */
export function errnoError(errno: number, call: string, object: string): Failure {
  const cause = new SystemError(errno, call);
  const remedy = cause.code === 'ENOSYS' ? REMEDIES[call] : undefined;
  return new Failure(call, object, remedy === undefined ? { cause } : { cause, remedy });
}

/** `result`, or the Failure if it is negative. */
export function check(result: number, call: string, object: string): number {
  if (result < 0) throw errnoError(result, call, object);
  return result;
}
