/**
 * Files of more than one chunk: read straight into the open segment, as far as
 * it goes, and into the one that will follow it, and split there. What is
 * behind the last whole chunk is kept aside, as the segment's table will lie
 * there, and begins what is read next. Two segments hold some eleven chunks, and
 * most of eleven are hashed two at a time. Called by FileReader. Invariant: between
 * reading and placing nothing waits, so nothing else comes to lie where was
 * read to.
 */
import { readSync } from 'node:fs';
import { CHUNK_DATA } from '../../keys/derive.ts';
import { CHUNK_MAX_BYTES, SEGMENT_CHUNKS_MAX, SEGMENT_TARGET_BYTES } from '../../repository/constants.ts';
import { belongs, CLASS_DATA, reachOf } from '../../repository/segment.ts';
import type { ContentWriter } from '../../snapshot/content.ts';
import { ChunkCutter } from '../../snapshot/cutter.ts';
import type { Splitter } from '../../snapshot/splitter.ts';
import { readAhead } from '../../sys/files.ts';
import type { SegmentStore, Stage } from './store.ts';

/** The disk reads on by so much, while what was read is split. */
const AHEAD_BYTES = 2 * CHUNK_MAX_BYTES;

export class LongFiles {
  readonly #store: SegmentStore;
  readonly #cutter: ChunkCutter;
  /** What was read and is in no chunk yet, while nothing is read: the first `#kept` bytes. */
  #rest: Buffer | undefined;
  #kept = 0;
  /** of the file: what is read next, where reading ends, and whether it has */
  #at = 0;
  #to = 0;
  #ended = false;
  /** as far as the kernel has been told to read */
  #told = 0;

  constructor(store: SegmentStore, splitter: Splitter) {
    this.#store = store;
    this.#cutter = new ChunkCutter(splitter);
  }

  /** The bytes from `from` up to `to` or the end of the file, in chunks. A system call that fails throws. */
  async read(fd: number, from: number, to: number, content: ContentWriter): Promise<void> {
    this.#kept = 0;
    this.#at = from;
    this.#to = to;
    this.#ended = false;
    this.#told = from;
    this.#cutter.forget();
    while (!this.#isDone()) {
      const length = this.#length();
      const stage = this.#store.stage(CHUNK_DATA, length) ?? (await this.#room(length));
      this.#take(fd, stage);
      const listing = this.#cutter.pieces.list(content);
      if (listing !== undefined) await listing;
    }
  }

  #isDone(): boolean {
    return this.#ended && this.#kept === 0;
  }

  /** The bytes of the next chunk, or as many as it is known to have at least. */
  #length(): number {
    const { min, max } = this.#cutter.splitter.sizes;
    return this.#cutter.refused || Math.min(max, Math.max(min, this.#kept + 1));
  }

  async #room(length: number): Promise<Stage> {
    for (;;) {
      await this.#store.makeRoom(CHUNK_DATA, length);
      const stage = this.#store.stage(CHUNK_DATA, length);
      if (stage !== undefined) return stage;
    }
  }

  /** Reads, cuts, names and places what goes into the open segment, and into the next if there is a slot for it. */
  #take(fd: number, stage: Stage): void {
    const store = this.#store;
    const { memory } = store;
    const { pieces } = this.#cutter;
    pieces.begin(memory);
    try {
      const { base, chunksMax } = stage;
      const start = base + stage.start;
      this.#rest?.copy(memory, start, 0, this.#kept);
      let end = this.#lay(fd, base, start, chunksMax);
      const next = this.#isDone() ? undefined : store.reserve();
      if (next !== undefined) {
        memory.copyWithin(next, end, end + this.#kept);
        end = this.#lay(fd, next, next, SEGMENT_CHUNKS_MAX);
      }
      this.#keepAside(end);
      store.name(CHUNK_DATA, pieces, pieces.ids);
      for (let i = 0; i < pieces.count; i++)
        store.place(pieces.starts[i] as number, pieces.lengths[i] as number, pieces.id(i));
    } finally {
      store.unreserve();
    }
  }

  /**
   * Reads on behind what was kept, which is at `start` now, and cuts what goes into the segment at `base`; returns where
   * the last chunk ends.
   */
  #lay(fd: number, base: number, start: number, chunksMax: number): number {
    const cutter = this.#cutter;
    const { pieces } = cutter;
    const last = pieces.count + chunksMax;
    const fits = (at: number, bytes: number): boolean =>
      pieces.count < last && belongs(CLASS_DATA, at - base, bytes);
    let filled = start + this.#kept;
    let cut = start;
    // first as far as segments go, then as far as a chunk may go beyond, which few come to
    for (let limit = Math.max(base + SEGMENT_TARGET_BYTES, start + this.#length()); ; ) {
      filled = this.#fill(fd, filled, limit);
      cut = cutter.cut(pieces.buffer, cut, filled, this.#ended, fits);
      limit = base + reachOf(CLASS_DATA, cut - base);
      if (this.#ended || cutter.refused > 0 || filled >= limit) break;
    }
    this.#kept = filled - cut;
    // more than a chunk is left where no more could be cut together: it is read again
    const surplus = this.#kept - CHUNK_MAX_BYTES;
    if (surplus > 0) {
      this.#kept -= surplus;
      this.#at -= surplus;
      this.#ended = false;
    }
    return cut;
  }

  /** Reads up to `limit` of the memory; returns how far it is filled. */
  #fill(fd: number, from: number, limit: number): number {
    const { buffer } = this.#cutter.pieces;
    let filled = from;
    while (filled < limit && !this.#ended) {
      const want = Math.min(limit - filled, this.#to - this.#at);
      const n = want === 0 ? 0 : readSync(fd, buffer, filled, want, this.#at);
      this.#ended = n === 0;
      filled += n;
      this.#at += n;
    }
    if (!this.#ended) this.#tell(fd);
    return filled;
  }

  /** Each part of the file once, as the kernel looks at every page of it. */
  #tell(fd: number): void {
    if (this.#told - this.#at >= AHEAD_BYTES / 2) return;
    const from = Math.max(this.#told, this.#at);
    readAhead(fd, from, AHEAD_BYTES);
    this.#told = from + AHEAD_BYTES;
  }

  #keepAside(from: number): void {
    if (this.#kept === 0) return;
    this.#rest ??= Buffer.allocUnsafeSlow(CHUNK_MAX_BYTES);
    this.#cutter.pieces.buffer.copy(this.#rest, 0, from, from + this.#kept);
  }
}
