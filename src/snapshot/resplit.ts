/**
 * Contents that come in another splitter's chunks, into chunks of ours. Called
 * where snapshots are copied between repositories, for each file that was
 * split. Invariant: the chunks are those that a push of the same file gives:
 * what is between two holes is split by itself.
 */
import { type BulkStore, CHUNK_DATA, CHUNK_MAX_BYTES } from './chunks.ts';
import type { ContentWriter } from './content.ts';
import { ChunkCutter } from './cutter.ts';
import type { Splitter } from './splitter.ts';

/** The splitter sees a whole largest chunk, with as much again behind it. */
const BUFFER_BYTES = 2 * CHUNK_MAX_BYTES;

export class Resplitter {
  readonly #store: BulkStore;
  readonly #cutter: ChunkCutter;
  #buffer: Buffer | undefined;
  #filled = 0;

  constructor(store: BulkStore, splitter: Splitter) {
    this.#store = store;
    this.#cutter = new ChunkCutter(splitter);
  }

  /** Room for the next `length` bytes, at most CHUNK_MAX_BYTES, which count as written when `added` is called. */
  async room(length: number, content: ContentWriter): Promise<Buffer> {
    this.#buffer ??= Buffer.allocUnsafeSlow(BUFFER_BYTES);
    if (this.#filled + length > BUFFER_BYTES) await this.#split(this.#buffer, false, content);
    return this.#buffer.subarray(this.#filled, this.#filled + length);
  }

  added(length: number): void {
    this.#filled += length;
  }

  /** The end of the file, or a hole: what is left is split to its end. */
  async end(content: ContentWriter): Promise<void> {
    if (this.#buffer !== undefined) await this.#split(this.#buffer, true, content);
  }

  /** Forgets what is left of a file that is given up. */
  drop(): void {
    this.#filled = 0;
    this.#cutter.forget();
  }

  async #split(buffer: Buffer, ended: boolean, content: ContentWriter): Promise<void> {
    const filled = this.#filled;
    const { pieces } = this.#cutter;
    let start = 0;
    for (;;) {
      pieces.begin(buffer);
      start = this.#cutter.cut(buffer, start, filled, ended);
      if (pieces.count === 0) break;
      const storing = this.#store.putAll(CHUNK_DATA, pieces, pieces.ids);
      if (storing !== undefined) await storing;
      const listing = pieces.list(content);
      if (listing !== undefined) await listing;
    }
    buffer.copyWithin(0, start, filled);
    this.#filled = filled - start;
  }
}
