/**
 * Payloads as msgpack. Called by channel.ts alone.
 *
 * Invariant: bytes of a peer reach the decoder only when they are exactly one
 * value of plain types. Extensions (which would make records, errors, regular
 * expressions), deep nesting, and counts larger than the bytes behind them (for
 * which the decoder would allocate) are refused before.
 */
// not all of msgpackr: its native decoder of strings is not for bytes of others
import { Packr, RESERVE_START_SPACE, Unpackr } from 'msgpackr/pack';
import { Failure } from '../error.ts';
import { RELEASED_MIN_BYTES } from '../sys/release.ts';

/** How deep lists and records nest. */
const DEPTH_MAX = 16;

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true });

/** The payload's bytes, behind `headBytes` (at most 255) for the caller to fill. Nothing overwrites them later. */
export function encode(payload: unknown, headBytes: number): Buffer {
  return packr.pack(payload, RESERVE_START_SPACE + headBytes);
}

/** More than the encoder wants to be free when it begins, and than names and numbers beside long buffers take. */
const AROUND_BYTES = 4096;
/** What the encoder writes to, of many payloads one behind the other. */
const SHARED_BYTES = 8192;

/**
 * As `encode`, where most of it is buffers, in memory of its own; undefined
 * where they are too short for that. The encoder by itself takes four times
 * what does not fit where it is.
 */
export function encodeLong(payload: unknown, headBytes: number): Buffer | undefined {
  const bytes = bufferBytes(payload);
  if (bytes < RELEASED_MIN_BYTES) return undefined;
  packr.useBuffer(Buffer.allocUnsafeSlow(headBytes + bytes + AROUND_BYTES));
  try {
    return encode(payload, headBytes);
  } finally {
    packr.useBuffer(Buffer.allocUnsafeSlow(SHARED_BYTES));
  }
}

/** The bytes of the buffers in a payload. */
function bufferBytes(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  if (ArrayBuffer.isView(value)) return value.byteLength;
  let bytes = 0;
  for (const each of Object.values(value)) bytes += bufferBytes(each);
  return bytes;
}

/** The value in `bytes`; a Failure if they are not one. Buffers in it are views of `bytes`. */
export function decode(bytes: Buffer): unknown {
  if (!isPlain(bytes)) throw new Failure('malformed payload', '', { cause: 'not one plain value' });
  try {
    return unpackr.unpack(bytes);
  } catch (cause) {
    // a key that is no text
    throw new Failure('malformed payload', '', { cause });
  }
}

// What follows a first byte from 0xc0 to 0xdf, as the msgpack specification has it
const REFUSED = -1;
const FOLLOWING: readonly number[] = [
  // c0 nil, c1 unused, c2 false, c3 true, c4-c6 bin, c7-c9 ext
  ...[0, REFUSED, 0, 0, 1, 2, 4, REFUSED, REFUSED, REFUSED],
  // ca-cb float, cc-cf unsigned, d0-d3 signed, d4-d8 fixext
  ...[4, 8, 1, 2, 4, 8, 1, 2, 4, 8, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED],
  // d9-db str, dc-dd array, de-df map
  ...[1, 2, 4, 2, 4, 2, 4],
];

/** How many values are still to come at each level above the one that is read. */
const outer = new Uint32Array(DEPTH_MAX);

/** Whether `bytes` are exactly one value of plain types. */
export function isPlain(bytes: Buffer): boolean {
  const end = bytes.length;
  let at = 0;
  let depth = 0;
  let left = 1;
  for (;;) {
    while (left === 0) {
      if (depth === 0) return at === end;
      left = outer[--depth] as number;
    }
    left--;
    if (at >= end) return false;
    const first = bytes[at++] as number;
    let skip = 0;
    let count = 0;
    if (first < 0x80 || first >= 0xe0) continue;
    if (first < 0x90) count = 2 * (first & 0x0f);
    else if (first < 0xa0) count = first & 0x0f;
    else if (first < 0xc0) skip = first & 0x1f;
    else {
      const following = FOLLOWING[first - 0xc0] as number;
      if (following === REFUSED || end - at < following) return false;
      const lengthed = (first >= 0xc4 && first <= 0xc6) || first >= 0xd9;
      if (!lengthed) skip = following;
      else {
        const value = bytes.readUIntBE(at, following);
        at += following;
        if (first < 0xdc) skip = value;
        else count = first < 0xde ? value : 2 * value;
      }
    }
    // a value is at least one byte
    if (skip > end - at || count > end - at) return false;
    at += skip;
    if (count === 0) continue;
    if (depth === DEPTH_MAX) return false;
    outer[depth++] = left;
    left = count;
  }
}
