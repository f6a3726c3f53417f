/**
 * Where the snapshot code gets chunks from and puts them: the two interfaces
 * that the chunker process and plakarctl's reader implement, and a twin in
 * memory for tests. Invariant: what `get` returns has been verified against its
 * id by whoever implements it, so that the decoders here never see bytes that
 * were not once stored by a holder of the keys.
 */
import { crypto } from '../builtin.ts';
import { Failure } from '../error.ts';
import type { Pieces } from '../keys/lanes.ts';

/** What a chunk holds; part of what its id is computed over. */
export const CHUNK_DATA = 1;
export const CHUNK_TREE = 2;
export const CHUNK_LIST = 3;
export type ChunkKind = typeof CHUNK_DATA | typeof CHUNK_TREE | typeof CHUNK_LIST;

export const ID_BYTES = 32;
/** No chunk of any kind is longer. */
export const CHUNK_MAX_BYTES = 4 << 20;

/** Names a chunk, as every reference in the tree does. */
export interface ChunkRef {
  readonly id: Buffer;
  /** plaintext bytes */
  readonly length: number;
}

export interface ChunkSource {
  /**
   * The chunk's verified plaintext, exactly `length` bytes; it may be a view that stays valid as long as it is
   * referred to. Rejects with a Failure of kind 'damaged' where it is missing or wrong.
   */
  get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer>;
}

/** The nodes of a walk, sent ahead of it. */
export interface AheadSource extends ChunkSource {
  /** A tree node that came already, and is the next of the walk: a promise for each would be half of its time. */
  now?(id: Buffer, length: number): Buffer | undefined;
  /** The walk is over. */
  stop(): void;
}

/** A source that can send the nodes of a tree ahead of a walk. */
export interface TreeSource extends ChunkSource {
  /** What is below `directory`, for a walk that asks for its nodes in pre-order; others are asked for one by one. */
  below(directory: ChunkRef): AheadSource;
}

export interface ChunkStore {
  /**
   * Stores a chunk unless it is there already and writes its id to `idOut` (32 bytes). A promise is returned only
   * if it had to wait; until it resolves `data` and `idOut` must be left alone, afterwards both are the caller's.
   */
  put(kind: ChunkKind, data: Buffer, idOut: Buffer): Promise<void> | undefined;
}

/** A store that takes many at once. */
export interface BulkStore extends ChunkStore {
  /** As `put`, of several chunks of one buffer; their ids go to `idsOut`, ID_BYTES each. Faster than one by one. */
  putAll(kind: ChunkKind, chunks: Pieces, idsOut: Buffer): Promise<void> | undefined;
}

/** Many chunks of one kind. Request `i` is the ID_BYTES of `ids` at i * ID_BYTES and `lengths[i]`. */
export interface ChunkRequests {
  readonly kind: ChunkKind;
  readonly ids: Buffer;
  /** plaintext bytes, 1..CHUNK_MAX_BYTES each */
  readonly lengths: Uint32Array;
  /** how many; `ids` and `lengths` may be longer */
  readonly count: number;
}

/** A source that is read in bulk, in the order of the repository: what restore wants. */
export interface BulkSource extends ChunkSource {
  /**
   * For each id (ID_BYTES each, any number) a number that sorts by place in the repository, or -1 where the chunk is
   * missing.
   */
  locate(ids: Buffer): Promise<Float64Array>;
  /**
   * Reads every request, several at a time, and calls either `onChunk` or `onFailed` once for each, in any order.
   * The arrays must be left alone until it resolves. `data` is verified, exactly as long as asked, does not move,
   * and is valid during the call, or until the promise that it returned is resolved. Rejects where the source itself is gone, or with what `onChunk` threw; then no more calls come.
   */
  readMany(
    requests: ChunkRequests,
    onChunk: (index: number, data: Buffer) => void | Promise<void>,
    onFailed: (index: number, failure: Failure) => void,
  ): Promise<void>;
}

/** Chunks in memory, by id: the twin for tests. */
export class MemoryChunks implements BulkSource, BulkStore {
  readonly chunks = new Map<string, { kind: ChunkKind; data: Buffer }>();
  /** how often put and get were called */
  puts = 0;
  gets = 0;
  readonly #key: Buffer;

  constructor(key = Buffer.alloc(32, 1)) {
    this.#key = key;
  }

  put(kind: ChunkKind, data: Buffer, idOut: Buffer): undefined {
    this.puts++;
    const id = crypto().createHmac('sha256', this.#key).update(Buffer.of(kind)).update(data).digest();
    id.copy(idOut);
    const name = id.toString('hex');
    if (!this.chunks.has(name)) this.chunks.set(name, { kind, data: Buffer.from(data) });
  }

  putAll(kind: ChunkKind, { buffer, starts, lengths, count }: Pieces, idsOut: Buffer): undefined {
    for (let i = 0; i < count; i++) {
      const start = starts[i] ?? 0;
      this.put(kind, buffer.subarray(start, start + (lengths[i] ?? 0)), idsOut.subarray(i * ID_BYTES));
    }
  }

  get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    this.gets++;
    const name = id.toString('hex');
    const chunk = this.chunks.get(name);
    if (chunk === undefined || chunk.kind !== kind || chunk.data.length !== length)
      return Promise.reject(new Failure('read chunk', name, { kind: 'damaged', cause: 'missing' }));
    return Promise.resolve(chunk.data);
  }

  /** By the order of storing. */
  locate(ids: Buffer): Promise<Float64Array> {
    const places = new Map<string, number>();
    for (const name of this.chunks.keys()) places.set(name, places.size);
    const count = ids.length / ID_BYTES;
    const name = (i: number) => ids.toString('hex', i * ID_BYTES, (i + 1) * ID_BYTES);
    return Promise.resolve(Float64Array.from({ length: count }, (_, i) => places.get(name(i)) ?? -1));
  }

  async readMany(
    requests: ChunkRequests,
    onChunk: (index: number, data: Buffer) => void | Promise<void>,
    onFailed: (index: number, failure: Failure) => void,
  ): Promise<void> {
    for (let i = 0; i < requests.count; i++) {
      const id = requests.ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES);
      const found = await this.get(requests.kind, id, requests.lengths[i] ?? 0).catch((error) => error);
      if (found instanceof Failure) onFailed(i, found);
      else await onChunk(i, found);
    }
  }
}
