/**
 * Files of one chunk: read straight into the open segment, one behind the
 * other, and their ids computed together, as two at once take half of the time
 * that they take one by one. The descriptors of a batch are known before its
 * records are worked on, so the files that come next are read with the one that
 * is asked for. Called by FileReader. Invariant: what was read ahead of its turn
 * is taken only while it is still where it was read to, and read again if not.
 */
import { readSync } from 'node:fs';
import { CHUNK_DATA, CHUNK_ID_BYTES } from '../../keys/derive.ts';
import type { Pieces } from '../../keys/lanes.ts';
import { BATCH_MAX_DESCRIPTORS } from '../../messages/scan.ts';
import type { SegmentStore, Stage } from './store.ts';

/** A file of size 0 may hold something all the same, as in /proc: so much is tried. */
export const UNSIZED_BYTES = 64 << 10;
/** What is read together is still in the processor's cache when it is hashed. */
const TOGETHER_BYTES = 512 << 10;

export class SmallFiles {
  readonly #store: SegmentStore;
  readonly #maxBytes: number;
  /** the batch: descriptors in the order of their files, and sizes as the walker saw them */
  #fds: readonly number[] = [];
  readonly #sizes = new Float64Array(BATCH_MAX_DESCRIPTORS);
  /** the first of them that has not been asked for */
  #next = 0;
  /** where what is in `#read` was read to, which begins with file `#first` of the batch, or with one that is in none */
  #stage: Stage | undefined;
  #first = 0;
  readonly #read: { buffer: Buffer; starts: Uint32Array; lengths: Uint32Array; count: number } & Pieces = {
    buffer: Buffer.alloc(0),
    starts: new Uint32Array(BATCH_MAX_DESCRIPTORS),
    lengths: new Uint32Array(BATCH_MAX_DESCRIPTORS),
    count: 0,
  };
  readonly #ids = Buffer.alloc(BATCH_MAX_DESCRIPTORS * CHUNK_ID_BYTES);
  /** each of them by itself */
  readonly #idOf = Array.from({ length: BATCH_MAX_DESCRIPTORS }, (_, i) =>
    this.#ids.subarray(i * CHUNK_ID_BYTES, (i + 1) * CHUNK_ID_BYTES),
  );
  /** the one of `#read` that was asked for last */
  #current = 0;

  /** `maxBytes`: files that are longer are not read here. */
  constructor(store: SegmentStore, maxBytes: number) {
    this.#store = store;
    this.#maxBytes = maxBytes;
  }

  /** The files of these descriptors come next, in this order; `sizes` is copied. */
  expect(fds: readonly number[], sizes: Float64Array): void {
    this.#fds = fds;
    this.#sizes.set(sizes.subarray(0, fds.length));
    this.#next = 0;
    this.#stage = undefined;
  }

  /**
   * Reads a file: up to `sizeBytes`, or UNSIZED_BYTES where that is 0. False where room must be made for it first. A
   * system call that fails throws.
   */
  read(fd: number, sizeBytes: number): boolean {
    const index = this.#fds.indexOf(fd, this.#next);
    if (index >= 0) this.#next = index + 1;
    this.#current = index - this.#first;
    if (index >= 0 && this.#current < this.#read.count && this.#isThere()) return true;
    return this.#readFrom(fd, sizeBytes, index);
  }

  /** Reads a file, and those that follow it in the batch. */
  #readFrom(fd: number, sizeBytes: number, index: number): boolean {
    const wantBytes = sizeBytes || UNSIZED_BYTES;
    const stage = this.#store.stage(CHUNK_DATA, wantBytes);
    this.#stage = stage;
    if (stage === undefined) return false;
    this.#first = index;
    this.#current = 0;
    this.#read.buffer = stage.buffer;
    this.#read.count = 0;
    const end = stage.start + this.#take(fd, stage.start, wantBytes);
    if (index >= 0) this.#readAhead(stage, index + 1, end);
    this.#store.name(CHUNK_DATA, this.#read, this.#ids);
    return true;
  }

  #readAhead({ start, end, chunksMax }: Stage, index: number, from: number): void {
    const endBytes = Math.min(end, start + TOGETHER_BYTES);
    const last = Math.min(this.#fds.length, index + chunksMax - 1);
    let at = from;
    for (let i = index; i < last; i++) {
      const size = this.#sizes[i] as number;
      const wantBytes = size || UNSIZED_BYTES;
      if (size > this.#maxBytes || at + wantBytes > endBytes) return;
      try {
        at += this.#take(this.#fds[i] as number, at, wantBytes);
      } catch {
        // it is read again when it is asked for, and what is wrong with it is said then
        return;
      }
    }
  }

  #isThere(): boolean {
    return this.#stage !== undefined && this.#store.isStaged(this.#stage);
  }

  /** Reads up to `want` bytes of a file to `at`; returns how many there were. */
  #take(fd: number, at: number, want: number): number {
    const { buffer, starts, lengths, count } = this.#read;
    let filled = 0;
    while (filled < want) {
      const n = readSync(fd, buffer, at + filled, want - filled, filled);
      if (n === 0) break;
      filled += n;
    }
    starts[count] = at;
    lengths[count] = filled;
    this.#read.count++;
    return filled;
  }

  /** How many bytes the file had that was read last. */
  get length(): number {
    return this.#read.lengths[this.#current] as number;
  }

  /** Its id, until the next is read. */
  get id(): Buffer {
    return this.#idOf[this.#current] as Buffer;
  }

  /** Takes it as a chunk, unless that is known. */
  keep(): void {
    if (this.#stage === undefined) throw new Error('keep without read');
    this.#store.keep(this.#stage, this.#read.starts[this.#current] as number, this.length, this.id);
  }
}
