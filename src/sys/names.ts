/**
 * Names on their way into a system call: a few regions at known addresses, into
 * which a name is copied and ended with a NUL. Called by files.ts and xattrs.ts.
 *
 * Invariant: a name that holds a NUL is refused, as the kernel would see only
 * the part before it; a repository may hold such a name, and it names nothing.
 */
import { PATH_MAX } from './constants.ts';
import { EINVAL, ENAMETOOLONG } from './errno.ts';
import { addressOf, pinned } from './foreign.ts';

/** A file's name or path: bytes, without a NUL. */
export type Name = Uint8Array;

const SLOTS = 2;
const names = pinned(SLOTS * PATH_MAX);
/** Where the first name of a call is. */
export const NAME = addressOf(names);
/** Where the second is. */
export const SECOND_NAME = NAME + PATH_MAX;

function put(region: number, name: Name, start: number, end: number): number {
  if (end - start >= PATH_MAX) return -ENAMETOOLONG;
  let to = region;
  for (let from = start; from < end; from++) {
    const byte = name[from];
    if (byte === undefined || byte === 0) return -EINVAL;
    names[to++] = byte;
  }
  names[to] = 0;
  return 0;
}

/** Puts bytes `start` to `end` of `name` at NAME; 0, -EINVAL or -ENAMETOOLONG. */
export function putName(name: Name, start = 0, end = name.length): number {
  return put(0, name, start, end);
}

/** The same at SECOND_NAME. */
export function putSecondName(name: Name): number {
  return put(PATH_MAX, name, 0, name.length);
}
