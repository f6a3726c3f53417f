/**
 * The names in the directories that a walk has open, innermost last, sorted by
 * their bytes. Called by the walker. Names are kept in blocks that are never
 * copied, so a directory of ten million entries costs its names and 6 bytes
 * each. Invariant: each name is a valid entry name, once per directory.
 */
import { NAME_MAX } from './tree.ts';

const BLOCK_BITS = 22;
const BLOCK_BYTES = 1 << BLOCK_BITS;
const BLOCK_MASK = BLOCK_BYTES - 1;
/** All names of all open directories: 384 MiB. */
const BLOCKS_MAX = 96;
/** Bytes before each name: its type as in dirent.h, its length. */
const HEAD_BYTES = 2;
/** Shorter ranges are sorted by insertion. */
const INSERTION_MAX = 12;
const SLASH = 0x2f;

export class Names {
  /** The name that `at` was last called for: bytes `start`..`end` of `buffer`, and its type. */
  buffer: Uint8Array = new Uint8Array(0);
  start = 0;
  end = 0;
  type = 0;
  #count = 0;
  #bytes = 0;
  #offsets = new Uint32Array(1024);
  readonly #blocks: Uint8Array[] = [];
  readonly #ranges: number[] = [];
  readonly #blocksMax: number;

  /** @param blocksMax room for names, in blocks of 4 MiB */
  constructor(blocksMax = BLOCKS_MAX) {
    this.#blocksMax = blocksMax;
  }

  /** Names of all open directories. */
  get count(): number {
    return this.#count;
  }

  /** Where the next name will be kept; for `truncate`. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Adds a name, bytes `start`..`end` of `from`. False if there is no more room. A name that no file can have (of a
   * broken file system) is left out.
   */
  add(from: Uint8Array, start: number, end: number, type: number): boolean {
    const length = end - start;
    if (length > NAME_MAX) return true;
    let at = this.#bytes;
    // with its NUL behind it, a name does not cross into the next block
    if ((at & BLOCK_MASK) + HEAD_BYTES + length + 1 > BLOCK_BYTES) at = (at | BLOCK_MASK) + 1;
    const index = at >>> BLOCK_BITS;
    if (index >= this.#blocksMax) return false;
    let block = this.#blocks[index];
    if (block === undefined) {
      block = new Uint8Array(BLOCK_BYTES);
      this.#blocks[index] = block;
    }
    let to = at & BLOCK_MASK;
    block[to++] = type;
    block[to++] = length;
    for (let i = start; i < end; i++) {
      const byte = from[i] as number;
      if (byte === SLASH) return true;
      block[to++] = byte;
    }
    block[to] = 0;
    this.#push(at + HEAD_BYTES);
    this.#bytes = at + HEAD_BYTES + length + 1;
    return true;
  }

  #push(offset: number): void {
    if (this.#count === this.#offsets.length) {
      const next = new Uint32Array(this.#offsets.length * 2);
      next.set(this.#offsets);
      this.#offsets = next;
    }
    this.#offsets[this.#count++] = offset;
  }

  /** Makes name number `index` the current one. */
  at(index: number): void {
    const offset = this.#offsets[index] as number;
    const block = this.#block(offset);
    const start = offset & BLOCK_MASK;
    this.buffer = block;
    this.start = start;
    this.end = start + (block[start - 1] as number);
    this.type = block[start - 2] as number;
  }

  /** Forgets all names from number `count`, kept from `bytes` on: those of a directory that is left. */
  truncate(count: number, bytes: number): void {
    this.#count = count;
    this.#bytes = bytes;
    // one block is kept at hand, so that leaving and entering does not allocate
    const needed = (bytes >>> BLOCK_BITS) + 2;
    if (this.#blocks.length > needed) this.#blocks.length = needed;
  }

  /** Sorts all names from number `from` on, and drops those that came twice. */
  sort(from: number): void {
    this.#sortRange(from, this.#count);
    let kept = from;
    for (let i = from; i < this.#count; i++) {
      const offset = this.#offsets[i] as number;
      if (kept > from && this.#compare(this.#offsets[kept - 1] as number, offset, 0) === 0) continue;
      this.#offsets[kept++] = offset;
    }
    this.#count = kept;
  }

  #block(offset: number): Uint8Array {
    return this.#blocks[offset >>> BLOCK_BITS] as Uint8Array;
  }

  /** Orders two names that are equal in their first `depth` bytes. */
  #compare(a: number, b: number, depth: number): number {
    const aBlock = this.#block(a);
    const bBlock = this.#block(b);
    let i = (a & BLOCK_MASK) + depth;
    let j = (b & BLOCK_MASK) + depth;
    for (;;) {
      const x = aBlock[i++] as number;
      const difference = x - (bBlock[j++] as number);
      if (difference !== 0 || x === 0) return difference;
    }
  }

  /**
   * Multikey quicksort (Bentley and Sedgewick, 1997) on the NUL-terminated names: no more than 256 partitions for
   * each byte of a name, whatever the names are.
   */
  #sortRange(from: number, to: number): void {
    const ranges = this.#ranges;
    ranges.push(from, to, 0);
    while (ranges.length > 0) {
      const depth = ranges.pop() as number;
      const high = ranges.pop() as number;
      const low = ranges.pop() as number;
      if (high - low <= INSERTION_MAX) this.#insertionSort(low, high, depth);
      else this.#partition(low, high, depth);
    }
  }

  #partition(low: number, high: number, depth: number): void {
    const offsets = this.#offsets;
    const pivot = this.#median(low, high, depth);
    let less = low;
    let more = high;
    for (let i = low; i < more; ) {
      const offset = offsets[i] as number;
      const byte = this.#byte(offset, depth);
      if (byte === pivot) {
        i++;
      } else if (byte < pivot) {
        offsets[i++] = offsets[less] as number;
        offsets[less++] = offset;
      } else {
        offsets[i] = offsets[--more] as number;
        offsets[more] = offset;
      }
    }
    if (less - low > 1) this.#ranges.push(low, less, depth);
    // names that end here are equal
    if (pivot !== 0 && more - less > 1) this.#ranges.push(less, more, depth + 1);
    if (high - more > 1) this.#ranges.push(more, high, depth);
  }

  #byte(offset: number, depth: number): number {
    return this.#block(offset)[(offset & BLOCK_MASK) + depth] as number;
  }

  #median(low: number, high: number, depth: number): number {
    const offsets = this.#offsets;
    const a = this.#byte(offsets[low] as number, depth);
    const b = this.#byte(offsets[(low + high) >>> 1] as number, depth);
    const c = this.#byte(offsets[high - 1] as number, depth);
    return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
  }

  #insertionSort(low: number, high: number, depth: number): void {
    const offsets = this.#offsets;
    for (let i = low + 1; i < high; i++) {
      const offset = offsets[i] as number;
      let j = i;
      for (; j > low && this.#compare(offsets[j - 1] as number, offset, depth) > 0; j--)
        offsets[j] = offsets[j - 1] as number;
      offsets[j] = offset;
    }
  }
}
