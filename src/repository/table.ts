/**
 * Chunk id → segment ordinal, in memory. An IdTable is open addressing with
 * linear probing over a buffer that the caller gives: storage writes it in a
 * shared mapping that the chunker can only read, so "is it new?" costs no
 * message. Owns the invariant that a reader in another process never sees half
 * an entry: the word that makes an entry exist is stored last, atomically.
 *
 * Header, 64 bytes, then entries of 16:
 *
 *   word                         entry
 *      0  magic "idt1"               0  id, bytes 0..11
 *      1  log2 of the capacity      12  ordinal + 1, and 2^31 if marked; 0 empty; 2^32-1 removed
 *      2  chunks
 *      3  entries in use, removed ones too
 *
 * A marked chunk is in a pack that a cleanup may remove: it can be read, but
 * nothing new may refer to it.
 *
 * Ids are outputs of HMAC, so their own first bits place them. Twelve bytes
 * tell them apart: among 2^30 chunks a new one is taken for another with a
 * probability of 2^-66.
 */
import { Failure } from '../error.ts';

const MAGIC = 0x31746469; // "idt1"
const HEADER_WORDS = 16;
const ENTRY_WORDS = 4;
const LOG2_WORD = 1;
const COUNT_WORD = 2;
const USED_WORD = 3;
/** The bytes of an id that an entry holds. */
export const TABLE_ID_BYTES = 12;

const EMPTY = 0;
const REMOVED = -1;
/** The bit of the word that marks an entry. */
const MARKED = 0x8000_0000 | 0;
const ORDINAL_MASK = 0x7fff_ffff;
/** The largest ordinal: two values of the word are taken. */
export const ORDINAL_MAX = 0x7fff_fffd;
const LOG2_MIN = 10;
/** 2^31 entries, 32 GiB */
const LOG2_MAX = 31;
/** Beyond this share of entries in use probing gets long. */
const LOAD_MAX = 0.7;

/** The smallest log2 of a capacity that takes `chunks` with room to grow by half. */
function log2For(chunks: number): number {
  const wanted = Math.ceil((chunks * 1.5) / LOAD_MAX);
  const log2 = Math.max(LOG2_MIN, Math.ceil(Math.log2(Math.max(1, wanted))));
  if (log2 > LOG2_MAX)
    throw new Failure('index chunks', '', { cause: `more than ${LOAD_MAX * 2 ** LOG2_MAX}` });
  return log2;
}

/** The bytes of a buffer for a table of `chunks` and half as many more. */
export function tableSizeFor(chunks: number): number {
  return 4 * (HEADER_WORDS + ENTRY_WORDS * 2 ** log2For(chunks));
}

/** Opens over a buffer that holds a table, or formats one: see `create`. */
export class IdTable {
  readonly buffer: Buffer;
  readonly #words: Int32Array;
  readonly #shift: number;
  readonly #mask: number;

  /** A view of the table in `buffer`, which may be mapped read-only; throws a Failure if it holds none. */
  constructor(buffer: Buffer) {
    this.buffer = buffer;
    if (buffer.length < 4 * HEADER_WORDS || buffer.byteOffset % 4 !== 0)
      throw new Failure('open chunk table', '', { cause: 'no table' });
    this.#words = new Int32Array(buffer.buffer, buffer.byteOffset, buffer.length >> 2);
    const log2 = this.#words[LOG2_WORD] ?? 0;
    if (this.#words[0] !== MAGIC || log2 < LOG2_MIN || log2 > LOG2_MAX)
      throw new Failure('open chunk table', '', { cause: 'no table' });
    if (this.#words.length < HEADER_WORDS + ENTRY_WORDS * 2 ** log2)
      throw new Failure('open chunk table', '', { cause: 'shorter than its header says' });
    this.#shift = 32 - log2;
    this.#mask = 2 ** log2 - 1;
  }

  /** Formats `buffer` (zeroed, aligned to 4, of tableSizeFor some count) as an empty table, as large as fits. */
  static create(buffer: Buffer): IdTable {
    const entries = (buffer.length / 4 - HEADER_WORDS) / ENTRY_WORDS;
    const log2 = Math.min(LOG2_MAX, Math.floor(Math.log2(entries)));
    if (buffer.byteOffset % 4 !== 0 || !(log2 >= LOG2_MIN))
      throw new Failure('make chunk table', '', {
        cause: `${buffer.length} bytes are too few, or unaligned`,
      });
    const header = new Int32Array(buffer.buffer, buffer.byteOffset, HEADER_WORDS);
    header[LOG2_WORD] = log2;
    header[0] = MAGIC;
    return new IdTable(buffer);
  }

  /** Chunks in the table. */
  get count(): number {
    return Atomics.load(this.#words, COUNT_WORD) >>> 0;
  }

  get capacity(): number {
    return this.#mask + 1;
  }

  /** Whether `more` insertions want a larger table first. */
  needsGrowth(more = 1): boolean {
    return ((this.#words[USED_WORD] ?? 0) >>> 0) + more > LOAD_MAX * this.capacity;
  }

  /** The ordinal of the segment that holds the chunk whose id is at `offset` of `id`, or -1. */
  lookup(id: Buffer, offset: number): number {
    const word = this.#find(id, offset);
    if (word < 0) return -1;
    const value = Atomics.load(this.#words, word + 3);
    return value === REMOVED || value === EMPTY ? -1 : ordinalOf(value);
  }

  /** Whether the chunk is there to stay: in the table, and not marked. Only then may something new refer to it. */
  holds(id: Buffer, offset: number): boolean {
    const word = this.#find(id, offset);
    // removed entries have the bit of marked ones
    return word >= 0 && Atomics.load(this.#words, word + 3) > 0;
  }

  /** The first word of the id's entry, removed or not; where it has none, -1 - (first word of the empty entry). */
  #find(id: Buffer, offset: number): number {
    const words = this.#words;
    const a = id.readInt32LE(offset);
    const b = id.readInt32LE(offset + 4);
    const c = id.readInt32LE(offset + 8);
    const mask = this.#mask;
    let entry = a >>> this.#shift;
    // bounded for a reader: a hostile writer may leave no empty entry
    for (let probes = 0; probes <= mask; probes++) {
      const word = HEADER_WORDS + ENTRY_WORDS * entry;
      if (Atomics.load(words, word + 3) === EMPTY) return -1 - word;
      if (words[word] === a && words[word + 1] === b && words[word + 2] === c) return word;
      entry = (entry + 1) & mask;
    }
    return -1;
  }

  /**
   * Adds a chunk; returns false, changing nothing, where the id is there
   * already. The caller has made sure that there is room (needsGrowth).
   */
  insert(id: Buffer, offset: number, ordinal: number, marked = false): boolean {
    if (ordinal < 0 || ordinal > ORDINAL_MAX)
      throw new Failure('index chunk', '', { cause: `segment ordinal ${ordinal} out of range` });
    const words = this.#words;
    const value = (ordinal + 1) | (marked ? MARKED : 0);
    const found = this.#find(id, offset);
    if (found >= 0) {
      if (words[found + 3] !== REMOVED) return false;
      Atomics.store(words, found + 3, value);
    } else {
      const word = -1 - found;
      if (word < HEADER_WORDS) throw new Failure('index chunk', '', { cause: 'table is full' });
      words[word] = id.readInt32LE(offset);
      words[word + 1] = id.readInt32LE(offset + 4);
      words[word + 2] = id.readInt32LE(offset + 8);
      Atomics.store(words, word + 3, value);
      words[USED_WORD] = (words[USED_WORD] ?? 0) + 1;
    }
    Atomics.add(words, COUNT_WORD, 1);
    return true;
  }

  /** Takes the id out if it is at `ordinal`; returns whether it was. */
  remove(id: Buffer, offset: number, ordinal: number): boolean {
    const found = this.#find(id, offset);
    const value = found < 0 ? EMPTY : (this.#words[found + 3] ?? EMPTY);
    if (value === EMPTY || value === REMOVED || ordinalOf(value) !== ordinal) return false;
    Atomics.store(this.#words, found + 3, REMOVED);
    Atomics.sub(this.#words, COUNT_WORD, 1);
    return true;
  }

  /**
   * Has an id that is in the table be found at another ordinal from now on,
   * unmarked, if it is marked, or if it is at `from`; returns whether it was.
   */
  move(id: Buffer, offset: number, ordinal: number, from = -1): boolean {
    const found = this.#find(id, offset);
    const value = found < 0 ? EMPTY : (this.#words[found + 3] ?? EMPTY);
    if (value === EMPTY || value === REMOVED || (value > 0 && ordinalOf(value) !== from)) return false;
    Atomics.store(this.#words, found + 3, ordinal + 1);
    return true;
  }

  /** Takes out every chunk whose segment is gone, and calls `visit` with each: reads the whole table. */
  sweep(gone: (ordinal: number) => boolean, visit?: (id: Buffer, ordinal: number) => void): void {
    const words = this.#words;
    this.each((id, ordinal, _marked, word) => {
      if (!gone(ordinal)) return;
      Atomics.store(words, word, REMOVED);
      Atomics.sub(words, COUNT_WORD, 1);
      visit?.(id, ordinal);
    });
  }

  /** Marks the chunks of the segments that this says, and no others: reads the whole table. */
  mark(isMarked: (ordinal: number) => boolean): void {
    const words = this.#words;
    this.each((_id, ordinal, marked, word) => {
      const wanted = isMarked(ordinal);
      if (wanted !== marked) Atomics.store(words, word, (ordinal + 1) | (wanted ? MARKED : 0));
    });
  }

  /**
   * Calls `visit` with the first TABLE_ID_BYTES of each id, in a buffer that is
   * used again, its ordinal, whether it is marked, and the place of its word.
   */
  each(visit: (id: Buffer, ordinal: number, marked: boolean, word: number) => void): void {
    const words = this.#words;
    const id = Buffer.alloc(TABLE_ID_BYTES);
    const end = HEADER_WORDS + ENTRY_WORDS * this.capacity;
    for (let word = HEADER_WORDS; word < end; word += ENTRY_WORDS) {
      const value = words[word + 3] ?? 0;
      if (value === EMPTY || value === REMOVED) continue;
      id.writeInt32LE(words[word] ?? 0, 0);
      id.writeInt32LE(words[word + 1] ?? 0, 4);
      id.writeInt32LE(words[word + 2] ?? 0, 8);
      visit(id, ordinalOf(value), value < 0, word + 3);
    }
  }

  /** The same chunks with room for `more`, in memory that `allocate` gives, zeroed; removed entries stay behind. */
  grown(more: number, allocate: (bytes: number) => Buffer): IdTable {
    const larger = IdTable.create(allocate(tableSizeFor(this.count + more)));
    this.each((id, ordinal, marked) => {
      larger.insert(id, 0, ordinal, marked);
    });
    return larger;
  }
}

function ordinalOf(value: number): number {
  return (value & ORDINAL_MASK) - 1;
}

/** A private set of ids that grows, each with a small number: what is on its way to storage, or in use. Called by the chunker. */
export class PendingTable {
  #table = IdTable.create(Buffer.alloc(tableSizeFor(0)));

  get count(): number {
    return this.#table.count;
  }

  has(id: Buffer, offset = 0): boolean {
    return this.#table.lookup(id, offset) >= 0;
  }

  /** Takes all of them out; the memory stays, for as many others. */
  clear(): void {
    this.#table = IdTable.create(this.#table.buffer.fill(0));
  }

  /** Calls `visit` with the first TABLE_ID_BYTES of each id, in a buffer that is used again, and its number. */
  each(visit: (id: Buffer, value: number) => void): void {
    this.#table.each(visit);
  }

  /** Adds an id with a number up to ORDINAL_MAX; false where it is there already. */
  add(id: Buffer, offset = 0, value = 0): boolean {
    if (this.#table.needsGrowth()) this.#table = this.#table.grown(1, Buffer.alloc);
    return this.#table.insert(id, offset, value);
  }
}
