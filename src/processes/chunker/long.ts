/**
 * Files of more than one chunk: read straight into the open segment, as far as
 * it goes, and split there. What is behind the last whole chunk is kept aside,
 * as the segment's table will lie there, and begins what is read next: about a
 * fifth of what is read. Called by FileReader. Invariant: between reading and
 * keeping nothing waits, so nothing else comes to lie where was read to.
 */
import { readSync } from 'node:fs';
import { CHUNK_DATA } from '../../keys/derive.ts';
import { CHUNK_MAX_BYTES } from '../../repository/constants.ts';
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
  /** What was read and is in no chunk yet: the first `#kept` bytes. */
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
    const { sizes } = this.#cutter.splitter;
    for (let length = sizes.min; !this.#ended || this.#kept > 0; ) {
      const stage = this.#store.stage(CHUNK_DATA, length) ?? (await this.#room(length));
      this.#take(fd, stage, length);
      await this.#cutter.list(content);
      // a chunk that did not fit, or one of which so much does not
      length = this.#cutter.refused || Math.min(sizes.max, Math.max(sizes.min, this.#kept + 1));
    }
  }

  async #room(length: number): Promise<Stage> {
    for (;;) {
      await this.#store.makeRoom(CHUNK_DATA, length);
      const stage = this.#store.stage(CHUNK_DATA, length);
      if (stage !== undefined) return stage;
    }
  }

  /** Reads, cuts, names and keeps what goes into `stage`, which has room for a chunk of `length` bytes. */
  #take(fd: number, stage: Stage, length: number): void {
    const { buffer, start, end, chunksMax, segment } = stage;
    const { writer } = segment;
    const { pieces } = this.#cutter;
    const fits = (at: number, bytes: number): boolean => pieces.count < chunksMax && writer.takes(at, bytes);
    let filled = start + (this.#rest?.copy(buffer, start, 0, this.#kept) ?? 0);
    let cut = start;
    pieces.begin(buffer);
    // first as far as segments go, then as far as a chunk may go beyond, which few come to
    for (let limit = Math.max(end, start + length); ; ) {
      filled = this.#fill(fd, buffer, filled, limit);
      cut = this.#cutter.cut(buffer, cut, filled, this.#ended, fits);
      limit = writer.reach(cut);
      if (this.#ended || this.#cutter.refused > 0 || filled >= limit) break;
    }
    this.#keepAside(buffer, cut, filled);
    this.#store.name(CHUNK_DATA, pieces, pieces.ids);
    for (let i = 0; i < pieces.count; i++)
      this.#store.keep(stage, pieces.starts[i] as number, pieces.lengths[i] as number, pieces.id(i));
  }

  /** Reads up to `limit` of the buffer; returns how far it is filled. */
  #fill(fd: number, buffer: Buffer, from: number, limit: number): number {
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

  #keepAside(buffer: Buffer, from: number, to: number): void {
    this.#kept = to - from;
    if (this.#kept === 0) return;
    this.#rest ??= Buffer.allocUnsafeSlow(CHUNK_MAX_BYTES);
    buffer.copy(this.#rest, 0, from, to);
  }
}
