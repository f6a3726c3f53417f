/**
 * Segments: the unit of compression and sealing. The chunker fills a slot with
 * SegmentWriter, the crypto process turns it into what is stored and back with
 * SegmentCodec, and readers find chunks in it with SegmentReader. Owns the
 * invariant that nothing is read from a segment that its table does not cover
 * exactly, and that nothing is decompressed beyond its declared length.
 *
 * Raw:      chunks, one after another
 *           count × { u32 length, 8 bytes of the id }
 *           u32 count
 *
 * Content (what is sealed):
 *   offset size
 *        0    1  compression: 0 stored, 1 one zstd frame
 *        1    1  kind: 1 data, 2 metadata (trees and lists)
 *        2    2  zero
 *        4    4  rawLength
 *        8    4  bodyLength
 *       12    n  body
 *     12+n       zeros, so that the sealed length is a Padmé length
 */
import { Failure } from '../error.ts';
import { CHUNK_DATA, CHUNK_ID_BYTES, type ChunkKind } from '../keys/derive.ts';
import { NONCE_BYTES, SEAL_OVERHEAD_BYTES } from '../keys/overhead.ts';
import type { Sealer } from '../keys/seal.ts';
import { Compressor, Decompressor } from '../sys/zstd.ts';
import {
  SEGMENT_CHUNKS_MAX,
  SEGMENT_DATA_MAX_BYTES,
  SEGMENT_HEADER_BYTES,
  SEGMENT_METADATA_TARGET_BYTES,
  SEGMENT_RAW_MAX_BYTES,
  SEGMENT_ROW_BYTES,
  SEGMENT_SEALED_MAX_BYTES,
  SEGMENT_TARGET_BYTES,
} from './constants.ts';
import { isZero, padme, zeros } from './padding.ts';

/** The two classes of segment, kept apart so that browsing reads little: file contents, and trees and chunk lists. */
export const CLASS_DATA = 1;
export const CLASS_METADATA = 2;
export type SegmentClass = typeof CLASS_DATA | typeof CLASS_METADATA;

/** The class of segment that chunks of `kind` go to. */
export function classOf(kind: ChunkKind): SegmentClass {
  return kind === CHUNK_DATA ? CLASS_DATA : CLASS_METADATA;
}

/** The size at which a segment is closed, bytes of chunks. */
export function targetBytes(which: SegmentClass): number {
  return which === CLASS_DATA ? SEGMENT_TARGET_BYTES : SEGMENT_METADATA_TARGET_BYTES;
}

/** How much of a chunk may be beyond the size at which segments are closed. */
const BEYOND_SHARE = 1 / 4;

/**
 * Whether a chunk of `length` bytes may begin at `at` of a segment: one that would go far beyond the size at which
 * segments are closed begins the next.
 */
export function belongs(which: SegmentClass, at: number, length: number): boolean {
  return at === 0 || at + length <= targetBytes(which) + length * BEYOND_SHARE;
}

/** Where the longest chunk ends that may begin at `at`. */
export function reachOf(which: SegmentClass, at: number): number {
  if (at === 0) return SEGMENT_DATA_MAX_BYTES;
  const length = Math.floor((targetBytes(which) - at) / (1 - BEYOND_SHARE));
  return Math.min(SEGMENT_DATA_MAX_BYTES, at + length);
}

/** The bytes of a sealed segment that tell how long it is. */
export const HEAD_BYTES = NONCE_BYTES + SEGMENT_HEADER_BYTES;

const STORED = 0;
const ZSTD = 1;

/** Lays chunks in a slot, then the table behind them. Used again: its own tables are 288 KiB. */
export class SegmentWriter {
  buffer: Buffer;
  readonly kind: SegmentClass;
  readonly #lengths = new Uint32Array(SEGMENT_CHUNKS_MAX);
  readonly #ids = Buffer.alloc(SEGMENT_CHUNKS_MAX * CHUNK_ID_BYTES);
  /** Where the next chunk's bytes go in `buffer`; also the bytes of chunks so far. */
  offset = 0;
  count = 0;

  /** `buffer` has room for a raw segment: SEGMENT_RAW_MAX_BYTES, or less for smaller chunks. */
  constructor(buffer: Buffer, kind: SegmentClass) {
    this.buffer = buffer;
    this.kind = kind;
  }

  /** Begins another segment, in `buffer`. */
  begin(buffer: Buffer): void {
    this.buffer = buffer;
    this.offset = 0;
    this.count = 0;
  }

  /** Whether a chunk of `length` bytes can still be put at `offset` and appended. */
  room(length: number): boolean {
    const end = this.offset + length;
    return (
      this.count < SEGMENT_CHUNKS_MAX &&
      end <= SEGMENT_DATA_MAX_BYTES &&
      end + (this.count + 1) * SEGMENT_ROW_BYTES + 4 <= this.buffer.length
    );
  }

  /** Whether it has reached the size at which segments are closed. */
  get full(): boolean {
    return this.offset >= targetBytes(this.kind) || this.count === SEGMENT_CHUNKS_MAX;
  }

  /** Takes the `length` bytes at `offset` as a chunk, with the id at `idOffset` of `id`. */
  append(id: Buffer, length: number, idOffset = 0): void {
    if (length < 1 || !this.room(length))
      throw new Failure('fill segment', '', { cause: `no room for a chunk of ${length} bytes` });
    this.#lengths[this.count] = length;
    id.copy(this.#ids, this.count * CHUNK_ID_BYTES, idOffset, idOffset + CHUNK_ID_BYTES);
    this.offset += length;
    this.count++;
  }

  /** The ids so far, 32 bytes each: a view until the next segment begins. */
  get ids(): Buffer {
    return this.#ids.subarray(0, this.count * CHUNK_ID_BYTES);
  }

  /** Writes the table; returns the raw length. */
  finish(): number {
    if (this.count === 0) throw new Failure('fill segment', '', { cause: 'empty' });
    let at = this.offset;
    for (let i = 0; i < this.count; i++) {
      this.buffer.writeUInt32LE(this.#lengths[i] ?? 0, at);
      this.#ids.copy(this.buffer, at + 4, i * CHUNK_ID_BYTES, i * CHUNK_ID_BYTES + 8);
      at += SEGMENT_ROW_BYTES;
    }
    this.buffer.writeUInt32LE(this.count, at);
    return at + 4;
  }
}

function damaged(cause: string): Failure {
  return new Failure('read segment', '', { cause, kind: 'damaged' });
}

/** Finds chunks in a raw segment. Reused: `load` each. The table is copied, so a slot that changes later does no harm. */
export class SegmentReader {
  /** Chunks in the loaded segment. */
  count = 0;
  readonly #ends = new Uint32Array(SEGMENT_CHUNKS_MAX + 1);
  readonly #low = new Int32Array(SEGMENT_CHUNKS_MAX);
  readonly #high = new Int32Array(SEGMENT_CHUNKS_MAX);

  /** Checks and takes the table of a raw segment of `raw.length` bytes; throws a Failure of kind 'damaged'. */
  load(raw: Buffer): void {
    this.count = 0;
    if (raw.length < SEGMENT_ROW_BYTES + 5 || raw.length > SEGMENT_RAW_MAX_BYTES)
      throw damaged(`raw length ${raw.length}`);
    const count = raw.readUInt32LE(raw.length - 4);
    if (count < 1 || count > SEGMENT_CHUNKS_MAX) throw damaged(`chunk count ${count}`);
    const dataBytes = raw.length - 4 - count * SEGMENT_ROW_BYTES;
    if (dataBytes < count) throw damaged(`table of ${count} chunks in ${raw.length} bytes`);
    let end = 0;
    for (let i = 0, at = dataBytes; i < count; i++, at += SEGMENT_ROW_BYTES) {
      const length = raw.readUInt32LE(at);
      end += length;
      if (length < 1 || end > dataBytes) throw damaged('lengths of chunks exceed the segment');
      this.#ends[i + 1] = end;
      this.#low[i] = raw.readInt32LE(at + 4);
      this.#high[i] = raw.readInt32LE(at + 8);
    }
    if (end !== dataBytes) throw damaged('bytes that no chunk covers');
    this.count = count;
  }

  /**
   * The number of the chunk whose id begins as the one at `idOffset` of `id`,
   * looking from chunk `from` on and then around; -1 if there is none. Eight
   * bytes are compared: whoever uses the chunk computes its id.
   */
  find(id: Buffer, idOffset: number, from = 0): number {
    const low = id.readInt32LE(idOffset);
    const high = id.readInt32LE(idOffset + 4);
    const start = from < this.count ? from : 0;
    for (let i = start; i < this.count; i++) if (this.#low[i] === low && this.#high[i] === high) return i;
    for (let i = 0; i < start; i++) if (this.#low[i] === low && this.#high[i] === high) return i;
    return -1;
  }

  /** Where chunk `index` begins in the raw segment. */
  offset(index: number): number {
    return this.#ends[index] ?? 0;
  }

  /** The bytes of chunk `index`. */
  length(index: number): number {
    return (this.#ends[index + 1] ?? 0) - (this.#ends[index] ?? 0);
  }

  /** Whether the table's bytes of chunk `index`'s id are those at `idOffset` of `id`. */
  matches(index: number, id: Buffer, idOffset: number): boolean {
    return (
      this.#low[index] === id.readInt32LE(idOffset) && this.#high[index] === id.readInt32LE(idOffset + 4)
    );
  }
}

/** What SegmentCodec.unpack found. */
export interface Unpacked {
  readonly kind: SegmentClass;
  readonly rawLength: number;
}

/** Compresses raw segments, one at a time; what it returns is a view until the next. */
export class SegmentCompressor {
  readonly #body = pinnedBuffer(SEGMENT_RAW_MAX_BYTES);
  #compressor: Compressor | undefined;
  #level = 0;

  /** The compressed form of `raw`; `raw` itself where that is no shorter, or `level` is 0. */
  compress(raw: Buffer, level: number): Buffer {
    if (level === 0) return raw;
    const bytes = this.#of(level).compress(raw, this.#room(raw));
    return bytes < 0 ? raw : this.#body.subarray(0, bytes);
  }

  /** As `compress`, on a thread of the pool; `raw` must stay until then. */
  async compressOnPool(raw: Buffer, level: number): Promise<Buffer> {
    if (level === 0) return raw;
    const bytes = await this.#of(level).compressOnPool(raw, this.#room(raw));
    return bytes < 0 ? raw : this.#body.subarray(0, bytes);
  }

  #of(level: number): Compressor {
    if (this.#compressor === undefined || this.#level !== level) {
      this.#compressor?.free();
      this.#compressor = new Compressor(level);
      this.#level = level;
    }
    return this.#compressor;
  }

  #room({ length }: Buffer): Buffer {
    if (length > SEGMENT_RAW_MAX_BYTES)
      throw new Failure('seal segment', '', { cause: `${length} bytes are too many` });
    return this.#body.subarray(0, length - 1);
  }
}

/** Raw segments to sealed ones and back. Reused; not re-entrant. */
export class SegmentCodec {
  #sealer: Sealer;
  readonly #aad: Buffer;
  readonly #header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  readonly #content = pinnedBuffer(SEGMENT_SEALED_MAX_BYTES);
  /** what is decompressed to be compared */
  readonly #body = pinnedBuffer(SEGMENT_RAW_MAX_BYTES);
  readonly #decompressor = new Decompressor();
  readonly #compressor = new SegmentCompressor();

  /** `aad` is associatedData(repository, SEALED_SEGMENT) of sealed.ts. */
  constructor(sealer: Sealer, aad: Buffer) {
    this.#sealer = sealer;
    this.#aad = aad;
  }

  /** What seals and opens from now on: of another epoch. */
  set sealer(sealer: Sealer) {
    this.#sealer = sealer;
  }

  /**
   * Compresses (zstd `level` 1..22; 0 stores) and seals `raw` into `out`, which
   * has SEGMENT_SEALED_MAX_BYTES; returns the sealed length. What does not
   * shrink is stored as it is.
   */
  pack(raw: Buffer, kind: SegmentClass, level: number, out: Buffer): number {
    return this.seal(raw, this.#compressor.compress(raw, level), kind, out);
  }

  /** Seals `raw` into `out`, as `pack` does, of what a SegmentCompressor made of it. */
  seal(raw: Buffer, body: Buffer, kind: SegmentClass, out: Buffer): number {
    if (raw.length > SEGMENT_RAW_MAX_BYTES)
      throw new Failure('seal segment', '', { cause: `${raw.length} bytes are too many` });
    const header = this.#header;
    header[0] = body === raw ? STORED : ZSTD;
    header[1] = kind;
    header.writeUInt32LE(raw.length, 4);
    header.writeUInt32LE(body.length, 8);
    const bare = SEAL_OVERHEAD_BYTES + SEGMENT_HEADER_BYTES + body.length;
    const padding = zeros(padme(bare) - bare);
    return this.#sealer.sealPiecesInto([header, body, padding], this.#aad, out, 0);
  }

  /** Opens `sealed` into `out`; throws a Failure of kind 'damaged'. `out` has SEGMENT_RAW_MAX_BYTES. */
  unpack(sealed: Buffer, out: Buffer): Unpacked {
    const { kind, compressed, rawLength, body } = this.#open(sealed);
    if (rawLength > out.length) throw new Failure('open segment', '', { cause: 'the output is too small' });
    if (compressed) this.#decompress(body, out.subarray(0, rawLength));
    else out.set(body, 0);
    return { kind, rawLength };
  }

  /**
   * How long the sealed segment is that begins with these HEAD_BYTES, and its
   * class, by what its header says unauthenticated; undefined where that is none.
   */
  look(head: Buffer): { length: number; kind: SegmentClass } | undefined {
    const header = this.#sealer.peek(head);
    const [compression, kind] = header;
    const rawLength = header.readUInt32LE(4);
    const bodyLength = header.readUInt32LE(8);
    if (header.readUInt16LE(2) !== 0 || (compression !== STORED && compression !== ZSTD)) return undefined;
    if (kind !== CLASS_DATA && kind !== CLASS_METADATA) return undefined;
    if (rawLength < SEGMENT_ROW_BYTES || rawLength > SEGMENT_RAW_MAX_BYTES) return undefined;
    if (bodyLength < 1 || bodyLength > rawLength) return undefined;
    if (compression === STORED && bodyLength !== rawLength) return undefined;
    const length = padme(SEAL_OVERHEAD_BYTES + SEGMENT_HEADER_BYTES + bodyLength);
    return length > SEGMENT_SEALED_MAX_BYTES ? undefined : { length, kind };
  }

  /** Opens what was just sealed and compares; throws a Failure if it is not `raw`, as faulty memory may bring about. */
  verify(sealed: Buffer, raw: Buffer, kind: SegmentClass): void {
    const opened = this.#open(sealed);
    const same = opened.kind === kind && opened.rawLength === raw.length;
    const plain = same && opened.compressed ? this.#body.subarray(0, raw.length) : opened.body;
    if (plain !== opened.body) this.#decompress(opened.body, plain);
    if (!same || plain.compare(raw) !== 0)
      throw new Failure('verify sealed segment', '', {
        cause: 'it does not open to what was sealed',
        remedy: 'test this machine’s memory',
      });
  }

  /** Fills `out`, which has the declared length. */
  #decompress(body: Buffer, out: Buffer): void {
    const bytes = this.#decompressor.decompress(body, out);
    if (bytes < 0)
      throw new Failure('decompress segment', '', { cause: 'no frame of its length', kind: 'damaged' });
    if (bytes !== out.length) throw damaged(`${bytes} bytes where ${out.length} are declared`);
  }

  /** The checked content; `body` is a view until the next call. */
  #open(sealed: Buffer): { kind: SegmentClass; compressed: boolean; rawLength: number; body: Buffer } {
    if (sealed.length > SEGMENT_SEALED_MAX_BYTES) throw damaged(`sealed length ${sealed.length}`);
    const content = this.#content;
    const contentBytes = this.#sealer.openInto(sealed, this.#aad, content, 0);
    if (contentBytes < SEGMENT_HEADER_BYTES) throw damaged('no header');
    const compression = content[0];
    const kind = content[1];
    const rawLength = content.readUInt32LE(4);
    const bodyLength = content.readUInt32LE(8);
    const end = SEGMENT_HEADER_BYTES + bodyLength;
    if (content.readUInt16LE(2) !== 0 || (compression !== STORED && compression !== ZSTD))
      throw damaged('unknown compression');
    if (kind !== CLASS_DATA && kind !== CLASS_METADATA) throw damaged(`unknown kind ${kind}`);
    if (rawLength > SEGMENT_RAW_MAX_BYTES || (compression === STORED && rawLength !== bodyLength))
      throw damaged(`raw length ${rawLength}`);
    if (end > contentBytes || padme(SEAL_OVERHEAD_BYTES + end) !== sealed.length)
      throw damaged('body length');
    if (!isZero(content.subarray(end, contentBytes))) throw damaged('padding is not zero');
    return {
      kind,
      compressed: compression === ZSTD,
      rawLength,
      body: content.subarray(SEGMENT_HEADER_BYTES, end),
    };
  }
}

/** Memory of its own, which zstd can be pointed at. */
function pinnedBuffer(bytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(bytes));
}
