/**
 * Reads the extended attributes of an entry, ACLs among them, as far as they can
 * be read. Called by the walker for entries that are new or changed. Invariant:
 * an attribute is complete, or left out and counted as a problem by its errno.
 */
import { EACCES, ENODATA, ENOSYS, ENOTSUP, EPERM, ERANGE } from '../sys/errno.ts';
import { fgetXattr, flistXattr, getXattr, listXattr } from '../sys/xattrs.ts';
import { XATTR_VALUE_MAX_BYTES, XATTRS_MAX, XATTRS_MAX_BYTES, type Xattr } from './tree.ts';

/** Linux: XATTR_LIST_MAX. */
const LIST_MAX_BYTES = 64 << 10;
/** What nearly all lists and values fit. Only what does not is read again into a buffer for the longest. */
const SHORT_BYTES = 1 << 10;
const shortList = Buffer.allocUnsafeSlow(SHORT_BYTES);
const longList = Buffer.allocUnsafeSlow(LIST_MAX_BYTES);
const shortValue = Buffer.allocUnsafeSlow(SHORT_BYTES);
const longValue = Buffer.allocUnsafeSlow(XATTR_VALUE_MAX_BYTES);
const NONE: readonly Xattr[] = [];

export interface Attributes {
  readonly xattrs: readonly Xattr[];
  /** -errno of the first that could not be read; 0 */
  readonly failed: number;
}
const NOTHING: Attributes = { xattrs: NONE, failed: 0 };

/** Those of an open file or directory. */
export function attributesOf(fd: number): Attributes {
  const bytes = flistXattr(fd, shortList);
  if (bytes === 0) return NOTHING;
  const list = filled(bytes, shortList, longList, (buffer) => flistXattr(fd, buffer));
  return collect(list, (name, value) => fgetXattr(fd, name, value));
}

/** Those of a name in the current directory; of a link itself. */
export function attributesAt(name: Uint8Array): Attributes {
  const bytes = listXattr(name, shortList);
  if (bytes === 0) return NOTHING;
  const list = filled(bytes, shortList, longList, (buffer) => listXattr(name, buffer));
  return collect(list, (attribute, value) => getXattr(name, attribute, value));
}

/** What `short` was filled with, by `bytes`; where that is too small, what `again` fills `long` with; or -errno. */
function filled(
  bytes: number,
  short: Buffer,
  long: Buffer,
  again: (buffer: Buffer) => number,
): Buffer | number {
  if (bytes >= 0) return short.subarray(0, bytes);
  if (bytes !== -ERANGE) return bytes;
  const more = again(long);
  return more < 0 ? more : long.subarray(0, more);
}

/** `get` reads an attribute's value: bytes or -errno. */
function collect(list: Buffer | number, get: (name: Buffer, value: Buffer) => number): Attributes {
  if (typeof list === 'number')
    return { xattrs: NONE, failed: list === -ENOTSUP || list === -ENOSYS ? 0 : list };
  const xattrs: Xattr[] = [];
  let failed = 0;
  let total = 2;
  for (let at = 0; at < list.length; ) {
    const end = list.indexOf(0, at);
    const name = Buffer.from(list.subarray(at, end));
    at = end + 1;
    const value = filled(get(name, shortValue), shortValue, longValue, (buffer) => get(name, buffer));
    total += 5 + name.length + (typeof value === 'number' ? 0 : value.length);
    if (total > XATTRS_MAX_BYTES || xattrs.length >= XATTRS_MAX) return { xattrs, failed: -ERANGE };
    if (typeof value !== 'number') xattrs.push({ name, value: Buffer.from(value) });
    else if (!isAbsent(value)) failed ||= value;
  }
  return { xattrs, failed };
}

/** It went away meanwhile, or it is listed though it is not for us (trusted.*, some of security.*). */
function isAbsent(errno: number): boolean {
  return errno === -ENODATA || errno === -ENOTSUP || errno === -EPERM || errno === -EACCES;
}
