/**
 * MessagePack of repository objects: called for the configuration object, key
 * slots and snapshot headers. Owns the invariant that bytes from a repository
 * reach the decoder only when they are one complete value made of the plain
 * types: extensions (which can carry code-like structures), deep nesting and
 * counts larger than the bytes behind them are refused beforehand.
 */
// not all of msgpackr: its native decoder of strings is not for bytes of others
import { Packr, Unpackr } from 'msgpackr/pack';
import { Failure } from '../error.ts';
import type { Shape } from '../ipc/shape.ts';
import { UnknownVersion } from './frame.ts';

/** How deep lists and maps may nest in an object. */
const DEPTH_MAX = 8;

const packr = new Packr({ useRecords: false, variableMapSize: true, encodeUndefinedAsNil: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** Encodes `value`: maps in the order of their keys, whole numbers over 32 bits as float 64. */
export function encodeMsgpack(value: object): Buffer {
  // pack() may return a view of a buffer that the next call overwrites
  return Buffer.from(packr.pack(value));
}

/** The only version of every map that has one. */
const VERSION = 1;

/**
 * Decodes exactly one value and checks it against `shape`; throws a Failure of
 * kind 'damaged', or an UnknownVersion where it is a map of a later `version`.
 */
export function decodeMsgpack<T>(bytes: Buffer, shape: Shape<T>, object: string): T {
  if (skipValue(bytes, 0, 0) !== bytes.length)
    throw new Failure('decode', object, { cause: 'malformed msgpack', kind: 'damaged' });
  let value: unknown;
  try {
    value = unpackr.unpack(bytes);
  } catch (cause) {
    throw new Failure('decode', object, { cause, kind: 'damaged' });
  }
  // a later version may have other fields, so it is refused before those are looked at
  const version = typeof value === 'object' && value !== null ? Reflect.get(value, 'version') : undefined;
  if (typeof version === 'number' && version > VERSION)
    throw new UnknownVersion(object, `version ${version}`);
  try {
    return shape(value, object);
  } catch (cause) {
    throw new Failure('decode', object, { cause, kind: 'damaged' });
  }
}

const REFUSED = -1;

/** Where the value at `at` ends, or REFUSED. The first byte's ranges are those of the msgpack specification. */
function skipValue(bytes: Buffer, at: number, depth: number): number {
  const first = bytes[at];
  if (first === undefined || depth > DEPTH_MAX) return REFUSED;
  if (first < 0x80 || first >= 0xe0) return at + 1;
  if (first < 0x90) return skipItems(bytes, at + 1, 2 * (first & 0x0f), depth);
  if (first < 0xa0) return skipItems(bytes, at + 1, first & 0x0f, depth);
  if (first < 0xc0) return within(bytes, at + 1 + (first & 0x1f));
  return skipLong(bytes, at, first, depth);
}

function skipLong(bytes: Buffer, at: number, first: number, depth: number): number {
  switch (first) {
    case 0xc0: // nil
    case 0xc2: // false
    case 0xc3: // true
      return at + 1;
    case 0xc4: // bin 8, 16, 32 and str 8, 16, 32
    case 0xd9:
      return skipSized(bytes, at, 1);
    case 0xc5:
    case 0xda:
      return skipSized(bytes, at, 2);
    case 0xc6:
    case 0xdb:
      return skipSized(bytes, at, 4);
    case 0xca: // float 32 and 64
      return within(bytes, at + 5);
    case 0xcb:
      return within(bytes, at + 9);
    case 0xdc: // array 16, 32 and map 16, 32
      return skipCounted(bytes, at, 2, 1, depth);
    case 0xdd:
      return skipCounted(bytes, at, 4, 1, depth);
    case 0xde:
      return skipCounted(bytes, at, 2, 2, depth);
    case 0xdf:
      return skipCounted(bytes, at, 4, 2, depth);
    default: // uint 8..64 are 0xcc..0xcf, int 8..64 are 0xd0..0xd3
      if (first >= 0xcc && first <= 0xd3) return within(bytes, at + 1 + (1 << (first & 3)));
      return REFUSED;
  }
}

function within(bytes: Buffer, end: number): number {
  return end <= bytes.length ? end : REFUSED;
}

function skipSized(bytes: Buffer, at: number, lengthBytes: number): number {
  const start = at + 1 + lengthBytes;
  return start > bytes.length ? REFUSED : within(bytes, start + bytes.readUIntBE(at + 1, lengthBytes));
}

function skipCounted(bytes: Buffer, at: number, countBytes: number, per: number, depth: number): number {
  const start = at + 1 + countBytes;
  return start > bytes.length
    ? REFUSED
    : skipItems(bytes, start, per * bytes.readUIntBE(at + 1, countBytes), depth);
}

/** Each item takes a byte at least, so a count that cannot be met ends the loop at the end of the bytes. */
function skipItems(bytes: Buffer, start: number, count: number, depth: number): number {
  if (count > bytes.length - start) return REFUSED;
  let at = start;
  for (let i = 0; i < count; i++) {
    at = skipValue(bytes, at, depth + 1);
    if (at === REFUSED) return REFUSED;
  }
  return at;
}
