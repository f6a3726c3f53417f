/**
 * The rows that pack footers and index objects are made of, one per segment.
 * Called by pack.ts and index.ts alone. Owns the bounds of what a row may say.
 *
 *   offset size
 *        0    4  offset in the pack
 *        4    4  sealedLength
 *        8    1  kind of segment
 *        9    3  zero
 *       12    4  key epoch
 *       16    4  count of chunks
 *       20  n·s  the ids of its chunks: 32 bytes each in a footer, the first 16 in an index
 */
import { Failure } from '../error.ts';
import {
  PACK_MAX_BYTES,
  SEGMENT_CHUNKS_MAX,
  SEGMENT_SEALED_MAX_BYTES,
  SEGMENT_SEALED_MIN_BYTES,
} from './constants.ts';
import { CLASS_DATA, CLASS_METADATA, type SegmentClass } from './segment.ts';

const ROW_BYTES = 20;

/** One segment of a pack. */
export interface SegmentRecord {
  readonly offset: number;
  readonly sealedLength: number;
  readonly kind: SegmentClass;
  readonly keyEpoch: number;
  readonly count: number;
  /** `count` ids, or their beginnings: ids.length / count bytes each */
  readonly ids: Buffer;
}

/** The bytes of a row with `count` ids of `idBytes`. */
export function rowBytes(count: number, idBytes: number): number {
  return ROW_BYTES + count * idBytes;
}

export class ListingWriter {
  readonly #out: Buffer;
  #at = 0;

  constructor(bytes: number) {
    this.#out = Buffer.alloc(bytes);
  }

  u32(value: number): void {
    this.#at = this.#out.writeUInt32LE(value, this.#at);
  }

  bytes(value: Buffer): void {
    this.#at += value.copy(this.#out, this.#at);
  }

  /** A row; of each id the first `idBytes` are written. */
  segment(segment: SegmentRecord, idBytes: number): void {
    this.u32(segment.offset);
    this.u32(segment.sealedLength);
    this.u32(segment.kind);
    this.u32(segment.keyEpoch);
    this.u32(segment.count);
    const stride = segment.ids.length / segment.count;
    for (let i = 0; i < segment.count; i++) {
      segment.ids.copy(this.#out, this.#at, i * stride, i * stride + idBytes);
      this.#at += idBytes;
    }
  }

  finish(): Buffer {
    if (this.#at !== this.#out.length)
      throw new Failure('encode listing', '', {
        cause: `${this.#at} bytes where ${this.#out.length} were counted`,
      });
    return this.#out;
  }
}

/** Reads what ListingWriter wrote; everything that does not fit is a Failure of kind 'damaged'. */
export class ListingReader {
  readonly #bytes: Buffer;
  readonly #object: string;
  #at = 0;

  constructor(bytes: Buffer, object: string) {
    this.#bytes = bytes;
    this.#object = object;
  }

  damaged(cause: string): Failure {
    return new Failure('decode', this.#object, { cause, kind: 'damaged' });
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#bytes.length) throw this.damaged('truncated');
    this.#at += bytes;
    return at;
  }

  u32(min: number, max: number, what: string): number {
    const value = this.#bytes.readUInt32LE(this.#take(4));
    if (value < min || value > max) throw this.damaged(`${what} ${value} out of range`);
    return value;
  }

  /** A view. */
  bytes(length: number): Buffer {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  segment(idBytes: number): SegmentRecord {
    const offset = this.u32(0, PACK_MAX_BYTES, 'offset');
    const sealedLength = this.u32(SEGMENT_SEALED_MIN_BYTES, SEGMENT_SEALED_MAX_BYTES, 'sealed length');
    const kind = this.u32(CLASS_DATA, CLASS_METADATA, 'kind') as SegmentClass;
    const keyEpoch = this.u32(1, 0xffff_ffff, 'key epoch');
    const count = this.u32(1, SEGMENT_CHUNKS_MAX, 'chunk count');
    return { offset, sealedLength, kind, keyEpoch, count, ids: this.bytes(count * idBytes) };
  }

  finish(): void {
    if (this.#at !== this.#bytes.length) throw this.damaged('trailing bytes');
  }
}
