/**
 * A growable byte buffer that is written at its end and reused: the encoders of
 * this directory write into one, so that no record costs an allocation. Used by
 * the tree, content and scan log encoders; it owns the invariant that bytes
 * 0..length are written and that `view` looks at the same memory as `buffer`.
 */
import { Failure } from '../error.ts';

/** No buffer of ours grows beyond this; who may be fed by a peer sets a lower limit. */
const BYTES_MAX = 1 << 30;

export class Bytes {
  buffer: Buffer;
  view: DataView;
  length = 0;
  readonly #max: number;

  /** @param capacity first allocation, bytes  @param max growing beyond it throws a Failure */
  constructor(capacity = 4096, max = BYTES_MAX) {
    this.buffer = Buffer.allocUnsafeSlow(capacity);
    this.view = new DataView(this.buffer.buffer);
    this.#max = max;
  }

  /** Makes room for `bytes` more and returns where they begin; they count as written. */
  extend(bytes: number): number {
    const at = this.length;
    const end = at + bytes;
    if (end > this.buffer.length) this.#grow(end);
    this.length = end;
    return at;
  }

  #grow(needed: number): void {
    if (needed > this.#max)
      throw new Failure('grow buffer', '', { cause: `${needed} bytes, more than the limit of ${this.#max}` });
    const next = Buffer.allocUnsafeSlow(Math.min(this.#max, Math.max(needed, this.buffer.length * 2)));
    this.buffer.copy(next, 0, 0, this.length);
    this.buffer = next;
    this.view = new DataView(next.buffer);
  }

  u8(value: number): void {
    const at = this.extend(1);
    this.buffer[at] = value;
  }

  u16(value: number): void {
    // first, as growing replaces the view
    const at = this.extend(2);
    this.view.setUint16(at, value, true);
  }

  u32(value: number): void {
    const at = this.extend(4);
    this.view.setUint32(at, value, true);
  }

  /** A signed or unsigned 64-bit integer from a whole number. */
  i64(value: number): void {
    const at = this.extend(8);
    putInt64(this.view, at, value);
  }

  /** Bytes `from`..`to` of `source`. */
  bytes(source: Uint8Array, from = 0, to = source.length): void {
    const at = this.extend(to - from);
    // a copy of a name is shorter than the call into the runtime that would do it
    if (to - from <= 32) for (let i = from, o = at; i < to; i++, o++) this.buffer[o] = source[i] as number;
    else this.buffer.set(source.subarray(from, to), at);
  }

  /** Forgets what is beyond `length`. */
  truncate(length: number): void {
    this.length = length;
  }

  /** The bytes written from `from` on: a view, valid until the next write. */
  since(from: number): Buffer {
    return this.buffer.subarray(from, this.length);
  }
}

const TWO_32 = 0x1_0000_0000;

/** Writes a whole number as a little-endian 64-bit integer (two's complement when negative). */
export function putInt64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setInt32(at + 4, Math.floor(value / TWO_32) | 0, true);
}

/** A signed 64-bit integer as a number; exact up to 2^53. */
export function getInt64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getInt32(at + 4, true) * TWO_32;
}

/** An unsigned 64-bit integer as a number; exact up to 2^53. */
export function getUint64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * TWO_32;
}

/** Orders two byte ranges as unsigned bytes, the shorter first where one begins the other: <0, 0, >0. */
export function compareBytes(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const shared = Math.min(aEnd - aStart, bEnd - bStart);
  for (let i = 0; i < shared; i++) {
    const difference = (a[aStart + i] as number) - (b[bStart + i] as number);
    if (difference !== 0) return difference;
  }
  return aEnd - aStart - (bEnd - bStart);
}
