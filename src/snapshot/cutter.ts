/**
 * The whole chunks of a buffer into a store and a file's list: what reading a
 * file and splitting a copied one anew have in common. Allocates nothing.
 */
import { CHUNK_DATA, CHUNK_MAX_BYTES, type ChunkStore, ID_BYTES } from './chunks.ts';
import type { ContentWriter } from './content.ts';
import type { Splitter } from './splitter.ts';

export class ChunkCutter {
  readonly #store: Pick<ChunkStore, 'put'>;
  readonly #splitter: Splitter;
  readonly #id = Buffer.alloc(ID_BYTES);

  constructor(store: Pick<ChunkStore, 'put'>, splitter: Splitter) {
    this.#store = store;
    this.#splitter = splitter;
  }

  /**
   * Stores whole chunks of the first `filled` bytes, all of them where the data
   * has `ended`; returns how many bytes they took.
   */
  async take(buffer: Buffer, filled: number, ended: boolean, content: ContentWriter): Promise<number> {
    let start = 0;
    while (start < filled) {
      const end = this.#splitter.cut(buffer, start, filled);
      const length = end - start;
      if (end === filled && !ended && length < CHUNK_MAX_BYTES) break;
      const storing = this.#store.put(CHUNK_DATA, buffer.subarray(start, end), this.#id);
      if (storing !== undefined) await storing;
      const listing = content.data(length, this.#id);
      if (listing !== undefined) await listing;
      start = end;
    }
    return start;
  }
}
