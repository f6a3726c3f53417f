/**
 * The whole chunks of a buffer into a store and a file's list: what reading a
 * file and splitting a copied one anew have in common. Chunks are cut before
 * any is stored, as the ids of several take half of the time that they take one
 * by one. Allocates nothing.
 */
import { type BulkStore, CHUNK_DATA, CHUNK_MAX_BYTES } from './chunks.ts';
import type { ContentWriter } from './content.ts';
import { NamedPieces } from './pieces.ts';
import type { Splitter } from './splitter.ts';

/** Chunks that are stored together: as many as a buffer of 8 MiB can have. */
const TOGETHER_MAX = 32;

export class ChunkCutter {
  readonly #store: Pick<BulkStore, 'putAll'>;
  readonly #splitter: Splitter;
  readonly #cut = new NamedPieces(TOGETHER_MAX);

  constructor(store: Pick<BulkStore, 'putAll'>, splitter: Splitter) {
    this.#store = store;
    this.#splitter = splitter;
  }

  /**
   * Stores whole chunks of the first `filled` bytes, all of them where the data
   * has `ended`; returns how many bytes they took.
   */
  async take(buffer: Buffer, filled: number, ended: boolean, content: ContentWriter): Promise<number> {
    let used = 0;
    for (;;) {
      used = this.#cutFrom(buffer, used, filled, ended);
      if (this.#cut.count === 0) return used;
      const storing = this.#store.putAll(CHUNK_DATA, this.#cut, this.#cut.ids);
      if (storing !== undefined) await storing;
      for (let i = 0; i < this.#cut.count; i++) {
        const listing = content.data(this.#cut.lengths[i] as number, this.#cut.id(i));
        if (listing !== undefined) await listing;
      }
    }
  }

  /** Finds the next chunks from `start` on; returns where the last ends. */
  #cutFrom(buffer: Buffer, start: number, filled: number, ended: boolean): number {
    const cut = this.#cut;
    cut.begin(buffer);
    let at = start;
    while (at < filled && cut.count < TOGETHER_MAX) {
      const end = this.#splitter.cut(buffer, at, filled);
      const length = end - at;
      if (end === filled && !ended && length < CHUNK_MAX_BYTES) break;
      cut.add(at, length);
      at = end;
    }
    return at;
  }
}
