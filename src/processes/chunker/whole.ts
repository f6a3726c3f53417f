/**
 * Chunks of the parent's tree, for a push that means to take parts of it over.
 * What cannot be read, or names a chunk that is not in the repository any more,
 * counts as damaged, so that what is below it is read from the source again.
 * Invariant: nothing is taken for stored that was found to be damaged: its pack
 * is set aside first, and so it is stored anew.
 */
import { Failure } from '../../error.ts';
import {
  CHUNK_LIST,
  type ChunkKind,
  type ChunkRef,
  type ChunkSource,
  ID_BYTES,
} from '../../snapshot/chunks.ts';
import { eachReference } from '../../snapshot/references.ts';
import { missing, type SegmentFetcher } from './fetch.ts';

export class WholeChunks implements ChunkSource {
  readonly #fetcher: SegmentFetcher;
  readonly #setAside: (segment: number) => Promise<void>;

  constructor(fetcher: SegmentFetcher, setAside: (segment: number) => Promise<void>) {
    this.#fetcher = fetcher;
    this.#setAside = setAside;
  }

  async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    const chunk = await this.#read(kind, id, length);
    let lists: ChunkRef[] | undefined;
    eachReference(kind, chunk, (named, ids, at, namedLength) => {
      if (!this.#fetcher.holds(ids, at)) throw missing(ids, at, 'it is not in the repository to stay');
      if (named !== CHUNK_LIST) return;
      lists ??= [];
      lists.push({ id: Buffer.from(ids.subarray(at, at + ID_BYTES)), length: namedLength });
    });
    if (lists !== undefined) for (const list of lists) await this.get(CHUNK_LIST, list.id, list.length);
    return chunk;
  }

  async #read(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    try {
      return await this.#fetcher.get(kind, id, length);
    } catch (error) {
      const segment = this.#fetcher.locate(id);
      if (error instanceof Failure && error.kind === 'damaged' && segment >= 0) await this.#setAside(segment);
      throw error;
    }
  }
}
