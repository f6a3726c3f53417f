/**
 * The contents of a regular file: the list of its extents, in its directory
 * entry while it is short, in list chunks of a growing tree when it is long.
 * The chunker writes it (ContentWriter), restore and cat read it (extents).
 * Invariant: a block's extents cover the file from its first byte to its last,
 * without gap, and memory stays bounded whatever the file's size.
 *
 * Content block, in an entry and as the whole of a list chunk, little-endian:
 *
 *   offset size
 *        0    1  splitter that cut the file: 0 none (one chunk), 1 fastcdc1
 *        1    1  depth: 0 the records are extents; d > 0 they name list chunks, each a block of depth d-1
 *        2    2  zero
 *        4    4  number of records
 *        8       records
 *
 *   data extent (depth 0)        hole (depth 0)              list (depth > 0)
 *   0   4  length, 1..4 MiB      0   4  0x80000000           0   4  length of the list chunk, 1..4 MiB
 *   4  32  id of the data chunk  4   8  length, 1..2^53-1    4  32  id of the list chunk
 *                                                           36   8  bytes of the file it covers
 *
 * An entry holds at most 64 records. A list is ended after a record whose id
 * begins with a zero byte, once it has more than 64, or when it has 2048, so
 * that an insertion in a big file changes few lists. Two holes never touch.
 */
import { Failure } from '../error.ts';
import { UnknownVersion } from '../keys/frame.ts';
import { Bytes, getUint64 } from './bytes.ts';
import { CHUNK_LIST, CHUNK_MAX_BYTES, type ChunkSource, type ChunkStore, ID_BYTES } from './chunks.ts';

export const SPLITTER_NONE = 0;
export const SPLITTER_FASTCDC1 = 1;

export const BLOCK_HEAD_BYTES = 8;
/** Records of a file that its entry itself holds. */
export const INLINE_RECORDS_MAX = 64;
/** Records of one list chunk. */
export const LIST_RECORDS_MAX = 2048;
/** Levels of lists: more than 64^5 chunks, which is beyond any file. */
export const LIST_DEPTH_MAX = 5;

const HOLE = 0x80000000;
const DATA_BYTES = 4 + ID_BYTES;
const HOLE_BYTES = 12;
const LIST_BYTES = 4 + ID_BYTES + 8;

function damaged(cause: string): Failure {
  return new Failure('read list of chunks', '', { kind: 'damaged', cause });
}

// of readers that have nothing to read yet: there is one for each node of a tree
const NOTHING = Buffer.alloc(0);
const NO_VIEW = new DataView(new ArrayBuffer(0));

/**
 * A cursor over one block: `next` moves to the next record and checks it, without allocation.
 */
export class BlockReader {
  buffer: Buffer = NOTHING;
  splitter = 0;
  depth = 0;
  count = 0;
  /** index of the current record */
  index = -1;
  /** bytes of the file that the current record covers */
  covered = 0;
  /** length of the chunk that the current record names; 0 for a hole */
  chunkLength = 0;
  /** where in `buffer` the chunk's id is */
  idStart = 0;
  /** bytes of the file covered by the records so far */
  total = 0;
  #view: DataView = NO_VIEW;
  #at = 0;
  #end = 0;
  #afterHole = false;

  /** Begins with the block at `start`..`end` of `buffer`; `view` may be given where the caller has one. */
  load(buffer: Buffer, start = 0, end = buffer.length, recordsMax = LIST_RECORDS_MAX, view?: DataView): this {
    if (end - start < BLOCK_HEAD_BYTES) throw damaged('shorter than its head');
    this.buffer = buffer;
    this.#view = view ?? new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
    this.splitter = buffer[start] as number;
    this.depth = buffer[start + 1] as number;
    this.count = this.#view.getUint32(start + 4, true);
    if (this.splitter > SPLITTER_FASTCDC1)
      throw new UnknownVersion('list of chunks', `splitter ${this.splitter}`);
    if (this.depth > LIST_DEPTH_MAX) throw damaged(`depth ${this.depth}`);
    if (this.#view.getUint16(start + 2, true) !== 0) throw damaged('reserved bytes are not zero');
    if (this.count > recordsMax) throw damaged(`${this.count} records`);
    this.index = -1;
    this.total = 0;
    this.#at = start + BLOCK_HEAD_BYTES;
    this.#end = end;
    this.#afterHole = false;
    return this;
  }

  /** Moves to the next record; false after the last, which must end where the block does. */
  next(): boolean {
    if (this.index + 1 >= this.count) {
      if (this.#at !== this.#end) throw damaged('bytes after the last record');
      return false;
    }
    this.index++;
    const left = this.#end - this.#at;
    if (left < HOLE_BYTES) throw damaged('truncated');
    const length = this.#view.getUint32(this.#at, true);
    if (length === HOLE && this.depth === 0) this.#hole();
    else this.#chunk(length, left);
    this.total += this.covered;
    if (this.total > Number.MAX_SAFE_INTEGER) throw damaged('covers too much');
    return true;
  }

  #hole(): void {
    const length = getUint64(this.#view, this.#at + 4);
    if (length < 1 || length > Number.MAX_SAFE_INTEGER || this.#afterHole) throw damaged('malformed hole');
    this.#afterHole = true;
    this.covered = length;
    this.chunkLength = 0;
    this.#at += HOLE_BYTES;
  }

  #chunk(length: number, left: number): void {
    const bytes = this.depth === 0 ? DATA_BYTES : LIST_BYTES;
    if (left < bytes) throw damaged('truncated');
    if (length < 1 || length > CHUNK_MAX_BYTES) throw damaged(`chunk of ${length} bytes`);
    this.#afterHole = false;
    this.chunkLength = length;
    this.idStart = this.#at + 4;
    this.covered = this.depth === 0 ? length : getUint64(this.#view, this.#at + 4 + ID_BYTES);
    if (this.covered < 1 || this.covered > Number.MAX_SAFE_INTEGER) throw damaged('malformed list record');
    this.#at += bytes;
  }

  get isHole(): boolean {
    return this.chunkLength === 0;
  }

  /** The chunk's id: a view into the block. */
  id(): Buffer {
    return this.buffer.subarray(this.idStart, this.idStart + ID_BYTES);
  }
}

/** Part of a file: a data chunk, or a hole where `id` is undefined. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly id: Buffer | undefined;
}

/**
 * The extents of a file in order, from the one that covers `from` on. `block` is an entry's content. Lists are read
 * from `source` one at a time a level. Throws a Failure of kind 'damaged'. Where `block` has depth 0, a BlockReader
 * does the same without promises.
 */
export async function* extents(source: ChunkSource, block: Buffer, from = 0): AsyncGenerator<Extent> {
  const levels = [
    { reader: new BlockReader().load(block, 0, block.length, INLINE_RECORDS_MAX), expected: -1 },
  ];
  let offset = 0;
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const { reader, expected } = level;
    if (!reader.next()) {
      if (expected >= 0 && reader.total !== expected)
        throw damaged('a list covers other than its reference says');
      levels.pop();
      continue;
    }
    const end = offset + reader.covered;
    if (end <= from) {
      offset = end;
    } else if (reader.depth === 0) {
      yield { offset, length: reader.covered, id: reader.isHole ? undefined : reader.id() };
      offset = end;
    } else {
      const list = new BlockReader().load(await source.get(CHUNK_LIST, reader.id(), reader.chunkLength));
      if (list.depth !== reader.depth - 1) throw damaged('a list of the wrong depth');
      levels.push({ reader: list, expected: reader.covered });
    }
  }
}

/** One level of lists that is being written: a block without its head's count. */
interface Level {
  readonly block: Bytes;
  count: number;
  covered: number;
}

/**
 * Assembles the content of one file after another. Each call may return a promise, as the store may have to wait;
 * nothing else may be called until it resolves.
 */
export class ContentWriter {
  readonly #store: ChunkStore;
  readonly #levels: Level[] = [];
  readonly #id = Buffer.alloc(ID_BYTES);
  #splitter = SPLITTER_NONE;
  #hole = 0;
  #size = 0;

  constructor(store: ChunkStore) {
    this.#store = store;
  }

  /** Bytes of the file so far. */
  get size(): number {
    return this.#size;
  }

  /** Begins a file; what was not finished is forgotten. */
  begin(splitter: number): void {
    this.#splitter = splitter;
    this.#hole = 0;
    this.#size = 0;
    this.#levels.length = Math.min(this.#levels.length, 1);
    const first = this.#levels[0];
    if (first !== undefined) this.#reset(first, 0);
  }

  /** The splitter may turn out later: a file that fits one chunk has none. */
  set splitter(splitter: number) {
    this.#splitter = splitter;
  }

  /** Appends a data chunk of `length` bytes with `id`. */
  data(length: number, id: Uint8Array): Promise<void> | undefined {
    this.#flushHole();
    this.#size += length;
    return this.#append(0, length, id, length);
  }

  /** Appends `length` bytes of hole. */
  hole(length: number): void {
    this.#hole += length;
    this.#size += length;
  }

  /** Ends the file and appends its content block to `out`. */
  finish(out: Bytes): Promise<void> | undefined {
    this.#flushHole();
    return this.#finish(0, out);
  }

  #level(depth: number): Level {
    const level = this.#levels[depth];
    if (level !== undefined) return level;
    if (depth > LIST_DEPTH_MAX)
      throw new Failure('list chunks', '', { cause: 'the file has too many extents' });
    const fresh = { block: new Bytes(256), count: 0, covered: 0 };
    this.#reset(fresh, depth);
    this.#levels[depth] = fresh;
    return fresh;
  }

  #reset(level: Level, depth: number): void {
    level.count = 0;
    level.covered = 0;
    level.block.length = 0;
    level.block.u8(this.#splitter);
    level.block.u8(depth);
    level.block.u16(0);
    level.block.u32(0);
  }

  #flushHole(): void {
    if (this.#hole === 0) return;
    const level = this.#level(0);
    level.block.u32(HOLE);
    level.block.i64(this.#hole);
    level.count++;
    level.covered += this.#hole;
    this.#hole = 0;
  }

  #append(depth: number, length: number, id: Uint8Array, covered: number): Promise<void> | undefined {
    const level = this.#level(depth);
    level.block.u32(length);
    level.block.bytes(id);
    if (depth > 0) level.block.i64(covered);
    level.count++;
    level.covered += covered;
    // a hole may come before the next chunk, hence one less
    const full = level.count >= LIST_RECORDS_MAX - 1 || (level.count > INLINE_RECORDS_MAX && id[0] === 0);
    return full ? this.#spill(depth) : undefined;
  }

  /** Stores a level's records as a list chunk that the level above names. */
  #spill(depth: number): Promise<void> | undefined {
    const level = this.#level(depth);
    this.#seal(level);
    const waiting = this.#store.put(CHUNK_LIST, level.block.since(0), this.#id);
    return waiting === undefined ? this.#linked(depth) : waiting.then(() => this.#linked(depth));
  }

  #linked(depth: number): Promise<void> | undefined {
    const level = this.#level(depth);
    const { covered } = level;
    const length = level.block.length;
    this.#reset(level, depth);
    return this.#append(depth + 1, length, this.#id, covered);
  }

  #seal(level: Level): void {
    level.block.buffer[0] = this.#splitter;
    level.block.view.setUint32(4, level.count, true);
  }

  #finish(depth: number, out: Bytes): Promise<void> | undefined {
    const level = this.#level(depth);
    const isTop = depth + 1 >= this.#levels.length;
    if (isTop && level.count <= INLINE_RECORDS_MAX) {
      this.#seal(level);
      out.bytes(level.block.since(0));
      return undefined;
    }
    const waiting = level.count > 0 ? this.#spill(depth) : undefined;
    return waiting === undefined
      ? this.#finish(depth + 1, out)
      : waiting.then(() => this.#finish(depth + 1, out));
  }
}
