/**
 * Writes the nodes of shards of one big directory, bottom-up, as its leaves come
 * in order. Called by the builder once a directory has more than one leaf.
 * Invariant: what is written depends on the sequence of leaves alone, and memory
 * is one node of each height.
 */
import { Failure } from '../error.ts';
import { Bytes } from './bytes.ts';
import { CHUNK_TREE, type ChunkRef, type ChunkStore, ID_BYTES } from './chunks.ts';
import { appendShard, endsNode } from './directory.ts';
import { appendNodeHead, HEIGHT_MAX, setCount } from './tree.ts';

/** A node, and what the shard that names it says. */
export interface Shard extends ChunkRef {
  /** entries in and below the node */
  readonly entries: number;
  /** name of its first entry */
  readonly name: Buffer;
}

/** A node of shards that is being filled. It is ended only when another shard comes, so that none is empty. */
interface Level {
  readonly node: Bytes;
  readonly shards: { count: number; entries: number; first: Buffer };
  full: boolean;
}

export class ShardWriter {
  readonly #store: ChunkStore;
  readonly #levels: Level[] = [];

  constructor(store: ChunkStore) {
    this.#store = store;
  }

  /** Appends a node of height `height`-1, which follows all before it. What it is given is copied. */
  async add(shard: Shard, height = 1): Promise<void> {
    const level = this.#level(height);
    if (level.full) await this.#end(level, height);
    const { shards } = level;
    if (shards.count === 0) shards.first = Buffer.from(shard.name);
    appendShard(level.node, shard.id, shard.length, shard.entries, shard.name);
    shards.count++;
    shards.entries += shard.entries;
    level.full = endsNode(level.node.length, shard.name, 0, shard.name.length);
  }

  /** Ends the directory and returns its uppermost node. */
  async finish(): Promise<ChunkRef> {
    for (let height = 1; ; height++) {
      const level = this.#level(height);
      if (height === this.#levels.length) return this.#put(level);
      await this.#end(level, height);
    }
  }

  #level(height: number): Level {
    const level = this.#levels[height - 1];
    if (level !== undefined) return level;
    if (height > HEIGHT_MAX) throw new Failure('write directory', '', { cause: 'too many entries' });
    const fresh = {
      node: new Bytes(),
      shards: { count: 0, entries: 0, first: Buffer.alloc(0) },
      full: false,
    };
    appendNodeHead(fresh.node, height);
    this.#levels.push(fresh);
    return fresh;
  }

  async #put(level: Level): Promise<ChunkRef> {
    const id = Buffer.alloc(ID_BYTES);
    setCount(level.node, 0, level.shards.count);
    await this.#store.put(CHUNK_TREE, level.node.since(0), id);
    return { id, length: level.node.length };
  }

  async #end(level: Level, height: number): Promise<void> {
    const { entries, first } = level.shards;
    const node = await this.#put(level);
    level.node.truncate(0);
    appendNodeHead(level.node, height);
    level.shards.count = 0;
    level.shards.entries = 0;
    level.full = false;
    await this.add({ ...node, entries, name: first }, height + 1);
  }
}
