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
  const get: Get = (name, value) => fgetXattr(fd, name, value);
  return bytes === -ERANGE
    ? collect(longList, flistXattr(fd, longList), get)
    : collect(shortList, bytes, get);
}

/** Those of a name in the current directory; of a link itself. */
export function attributesAt(name: Uint8Array): Attributes {
  const bytes = listXattr(name, shortList);
  if (bytes === 0) return NOTHING;
  const get: Get = (attribute, value) => getXattr(name, attribute, value);
  return bytes === -ERANGE
    ? collect(longList, listXattr(name, longList), get)
    : collect(shortList, bytes, get);
}

/** Reads an attribute's value: bytes or -errno. */
type Get = (name: Buffer, value: Buffer) => number;

function collect(list: Buffer, listed: number, get: Get): Attributes {
  if (listed < 0) return { xattrs: NONE, failed: listed === -ENOTSUP || listed === -ENOSYS ? 0 : listed };
  const xattrs: Xattr[] = [];
  let failed = 0;
  let total = 2;
  for (let at = 0; at < listed; ) {
    const end = list.indexOf(0, at);
    const name = Buffer.from(list.subarray(at, end));
    at = end + 1;
    let value = shortValue;
    let bytes = get(name, value);
    if (bytes === -ERANGE) {
      value = longValue;
      bytes = get(name, value);
    }
    total += 5 + name.length + Math.max(0, bytes);
    if (total > XATTRS_MAX_BYTES || xattrs.length >= XATTRS_MAX) return { xattrs, failed: -ERANGE };
    if (bytes >= 0) xattrs.push({ name, value: Buffer.from(value.subarray(0, bytes)) });
    else if (!isAbsent(bytes)) failed ||= bytes;
  }
  return { xattrs, failed };
}

/** It went away meanwhile, or it is listed though it is not for us (trusted.*, some of security.*). */
function isAbsent(errno: number): boolean {
  return errno === -ENODATA || errno === -ENOTSUP || errno === -EPERM || errno === -EACCES;
}
