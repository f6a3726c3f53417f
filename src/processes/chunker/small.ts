/**
 * Files of one chunk: read straight into the open segment, one behind the
 * other, and their ids computed together, as two at once take half of the time
 * that they take one by one. The descriptors of a batch are known before its
 * records are worked on, so the files that come next are read with the one that
 * is asked for. Called by FileReader. Invariant: what was read ahead of its turn
 * is taken only while it is still where it was read to, and read again if not.
 */
import { readSync } from 'node:fs';
import { CHUNK_DATA } from '../../keys/derive.ts';
import { BATCH_MAX_DESCRIPTORS } from '../../messages/scan.ts';
import { NamedPieces } from '../../snapshot/pieces.ts';
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
  #sizes: Float64Array = new Float64Array();
  /** the first of them that has not been asked for */
  #next = 0;
  /** where what is in `#read` was read to, which begins with file `#first` of the batch, or with one that is in none */
  #stage: Stage | undefined;
  #first = 0;
  readonly #read = new NamedPieces(BATCH_MAX_DESCRIPTORS);
  /** the one of `#read` that was asked for last */
  #current = 0;

  /** `maxBytes`: files that are longer are not read here. */
  constructor(store: SegmentStore, maxBytes: number) {
    this.#store = store;
    this.#maxBytes = maxBytes;
  }

  /** The files of these descriptors come next, in this order; both stay as they are meanwhile. */
  expect(fds: readonly number[], sizes: Float64Array): void {
    this.#fds = fds;
    this.#sizes = sizes;
    this.#next = 0;
    this.#stage = undefined;
  }

  /**
   * Reads a file: up to `sizeBytes`, or UNSIZED_BYTES where that is 0. False where room must be made for it first. A
   * system call that fails throws.
   */
  read(fd: number, sizeBytes: number): boolean {
    const index = this.#fds.indexOf(fd, this.#next);
    this.#current = index - this.#first;
    const isRead = index >= 0 && this.#current < this.#read.count && this.#isThere();
    if (!isRead && !this.#readFrom(fd, sizeBytes, index)) return false;
    if (index >= 0) this.#next = index + 1;
    return true;
  }

  /** Reads a file, and those that follow it in the batch. */
  #readFrom(fd: number, sizeBytes: number, index: number): boolean {
    const wantBytes = sizeBytes || UNSIZED_BYTES;
    const stage = this.#store.stage(CHUNK_DATA, wantBytes);
    this.#stage = stage;
    if (stage === undefined) return false;
    this.#first = index;
    this.#current = 0;
    this.#read.begin(stage.buffer);
    const end = stage.start + this.#take(fd, stage.start, wantBytes);
    if (index >= 0) this.#readAhead(stage, index + 1, end);
    this.#store.name(CHUNK_DATA, this.#read, this.#read.ids);
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
    const { buffer } = this.#read;
    let filled = 0;
    while (filled < want) {
      const n = readSync(fd, buffer, at + filled, want - filled, filled);
      if (n === 0) break;
      filled += n;
    }
    this.#read.add(at, filled);
    return filled;
  }

  /** How many bytes the file had that was read last. */
  get length(): number {
    return this.#read.lengths[this.#current] as number;
  }

  /** Its id, until the next is read. */
  get id(): Buffer {
    return this.#read.id(this.#current);
  }

  /** Takes it as a chunk, unless that is known. */
  keep(): void {
    if (this.#stage === undefined) throw new Error('keep without read');
    this.#store.keep(this.#stage, this.#read.starts[this.#current] as number, this.length, this.id);
  }
}
