/**
 * Files of a megabyte and less: read straight into the open segment, one behind
 * the other, split where they are long enough to be, and the ids of all their
 * chunks computed together, as two at once take half of the time that they take
 * one by one. The descriptors of a batch are known before its records are worked
 * on, so the files that come next are read with the one that is asked for.
 * Called by FileReader. Invariant: what was read ahead of its turn is taken only
 * while it is still where it was read to, and read again if not.
 */
import { readSync } from 'node:fs';
import { CHUNK_DATA } from '../../keys/derive.ts';
import { BATCH_MAX_DESCRIPTORS } from '../../messages/scan.ts';
import { SEGMENT_TARGET_BYTES } from '../../repository/constants.ts';
import type { ContentWriter } from '../../snapshot/content.ts';
import { NamedPieces } from '../../snapshot/pieces.ts';
import type { Splitter } from '../../snapshot/splitter.ts';
import type { SegmentStore, Stage } from './store.ts';

/** A file of size 0 may hold something all the same, as in /proc: so much is tried. */
export const UNSIZED_BYTES = 64 << 10;
/** Longer files are not read here. */
export const SMALL_MAX_BYTES = 1 << 20;
/** What is read together is still in the processor's cache when it is hashed. */
const TOGETHER_BYTES = 512 << 10;
/** Files that are split have no more chunks than this many for each that is not. */
const PIECES_MAX = 2 * BATCH_MAX_DESCRIPTORS;

/** What became of a file that was to be read. */
export const READ = 0;
/** Room must be made for it first. */
export const NO_ROOM = 1;
/** It is to be split, and does not go into the open segment as a whole, or has grown. */
export const TOO_LONG = 2;
export type Outcome = typeof READ | typeof NO_ROOM | typeof TOO_LONG;

export class SmallFiles {
  readonly #store: SegmentStore;
  readonly #splitter: Splitter;
  /** the batch: descriptors in the order of their files, and sizes as the walker saw them */
  #fds: readonly number[] = [];
  #sizes: Float64Array = new Float64Array();
  /** the first of them that has not been asked for */
  #next = 0;
  /** where what was read was read to, which begins with file `#first` of the batch, or with one that is in none */
  #stage: Stage | undefined;
  #first = 0;
  /** how many files were read: the pieces of each begin at `#begins`, and those of the next behind them */
  #count = 0;
  readonly #begins = new Uint32Array(BATCH_MAX_DESCRIPTORS + 1);
  readonly #lengths = new Uint32Array(BATCH_MAX_DESCRIPTORS);
  readonly #pieces = new NamedPieces(PIECES_MAX);
  /** the one of the files that was asked for last */
  #current = 0;

  constructor(store: SegmentStore, splitter: Splitter) {
    this.#store = store;
    this.#splitter = splitter;
  }

  /** The files of these descriptors come next, in this order; both stay as they are meanwhile. */
  expect(fds: readonly number[], sizes: Float64Array): void {
    this.#fds = fds;
    this.#sizes = sizes;
    this.#next = 0;
    this.#stage = undefined;
  }

  /** Reads a file: up to `sizeBytes`, or UNSIZED_BYTES where that is 0. A system call that fails throws. */
  read(fd: number, sizeBytes: number): Outcome {
    const index = this.#fds.indexOf(fd, this.#next);
    this.#current = index - this.#first;
    const isRead = index >= 0 && this.#current >= 0 && this.#current < this.#count && this.#isThere();
    if (!isRead) {
      const outcome = this.#readFrom(fd, sizeBytes, index);
      if (outcome !== READ) return outcome;
    }
    if (index >= 0) this.#next = index + 1;
    return READ;
  }

  /** Reads a file, and those that follow it in the batch. */
  #readFrom(fd: number, sizeBytes: number, index: number): Outcome {
    const wantBytes = sizeBytes || UNSIZED_BYTES;
    const stage = this.#store.stage(CHUNK_DATA, wantBytes);
    this.#stage = undefined;
    if (stage === undefined) return NO_ROOM;
    // its first chunks would end the segment, and the others would not be in it
    const isSplit = wantBytes > this.#splitter.sizes.min;
    if (isSplit && (stage.end > SEGMENT_TARGET_BYTES || this.#piecesOf(wantBytes) > stage.chunksMax))
      return TOO_LONG;
    this.#stage = stage;
    this.#first = index;
    this.#current = 0;
    this.#count = 0;
    this.#pieces.begin(stage.buffer);
    const length = this.#take(fd, stage.start, wantBytes);
    if (length < 0) return TOO_LONG;
    if (index >= 0) this.#readAhead(stage, index + 1, stage.start + length);
    this.#store.name(CHUNK_DATA, this.#pieces, this.#pieces.ids);
    return READ;
  }

  /** As many as fit in a cache, or as come to as much as the first: then none of that is hashed alone. */
  #readAhead({ start, end, chunksMax }: Stage, index: number, from: number): void {
    const endBytes = Math.min(end, start + Math.max(TOGETHER_BYTES, 2 * (from - start)));
    const piecesMax = Math.min(PIECES_MAX, chunksMax);
    let at = from;
    for (let i = index; i < this.#fds.length; i++) {
      const size = this.#sizes[i] as number;
      const wantBytes = size || UNSIZED_BYTES;
      if (size > SMALL_MAX_BYTES || at + wantBytes > endBytes) return;
      if (this.#pieces.count + this.#piecesOf(wantBytes) > piecesMax) return;
      let length: number;
      try {
        length = this.#take(this.#fds[i] as number, at, wantBytes);
      } catch {
        // it is read again when it is asked for, and what is wrong with it is said then
        return;
      }
      if (length < 0) return;
      at += length;
    }
  }

  /** So many at most has a file of this length. */
  #piecesOf(bytes: number): number {
    return 1 + Math.floor(bytes / this.#splitter.sizes.min);
  }

  #isThere(): boolean {
    return this.#stage !== undefined && this.#store.isStaged(this.#stage);
  }

  /**
   * Reads up to `want` bytes of a file to `at`, and splits it if it is long; returns how many there were, or -1, having
   * added nothing, where one that is to be split has more than that.
   */
  #take(fd: number, at: number, want: number): number {
    const pieces = this.#pieces;
    const room = want > this.#splitter.sizes.min ? want + 1 : want;
    let filled = 0;
    while (filled < room) {
      const n = readSync(fd, pieces.buffer, at + filled, room - filled, filled);
      if (n === 0) break;
      filled += n;
    }
    if (filled > want) return -1;
    const end = at + filled;
    let cut = at;
    do {
      const next = this.#splitter.cut(pieces.buffer, cut, end);
      pieces.add(cut, next - cut);
      cut = next;
    } while (cut < end);
    this.#lengths[this.#count++] = filled;
    this.#begins[this.#count] = pieces.count;
    return filled;
  }

  /** How many bytes the file had that was read last. */
  get length(): number {
    return this.#lengths[this.#current] as number;
  }

  /** Takes its chunks, unless they are known, and lists them. A promise only where it had to wait. */
  keep(content: ContentWriter): undefined | Promise<void> {
    if (this.#stage === undefined) throw new Error('keep without read');
    const { starts, lengths } = this.#pieces;
    const begin = this.#begins[this.#current] as number;
    const end = this.#begins[this.#current + 1] as number;
    for (let i = begin; i < end; i++)
      this.#store.keep(this.#stage, starts[i] as number, lengths[i] as number, this.#pieces.id(i));
    return this.#pieces.list(content, begin, end);
  }
}
