/**
 * Chunks of the parent's tree, for a push that means to take parts of it over:
 * one that names a chunk which is not in the repository any more counts as
 * damaged, so that what is below it is read from the source again.
 */
import { CHUNK_LIST, type ChunkKind, type ChunkSource } from '../../snapshot/chunks.ts';
import { references } from '../../snapshot/references.ts';
import { missing, type SegmentFetcher } from './fetch.ts';

export class WholeChunks implements ChunkSource {
  readonly #fetcher: SegmentFetcher;

  constructor(fetcher: SegmentFetcher) {
    this.#fetcher = fetcher;
  }

  async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    const chunk = await this.#fetcher.get(kind, id, length);
    const lists: { id: Buffer; length: number }[] = [];
    references(kind, chunk, (named, namedId, namedLength) => {
      if (!this.#fetcher.holds(namedId)) throw missing(namedId, 0, 'it is not in the repository to stay');
      if (named === CHUNK_LIST) lists.push({ id: Buffer.from(namedId), length: namedLength });
    });
    for (const list of lists) await this.get(CHUNK_LIST, list.id, list.length);
    return chunk;
  }
}
