/**
 * Directories of any size: where one that fills more than a node is cut into
 * shards, and the cursors that read its nodes of entries, its leaves, in order.
 * The builder cuts; the scanner's stream, restore, ls and cat read. Layouts are
 * in tree.ts.
 *
 * A leaf, or a node of shards, ends after a record when it holds at least
 * 256 KiB and the FNV-1a hash of the record's name has its low 11 bits zero, or
 * when it holds 1 MiB. This depends on the records of that node alone, so that a
 * change in a big directory changes one leaf or two. Invariant: all leaves of a
 * directory are equally far from its top, and in the order of their names.
 */
import { type Bytes, compareBytes, getUint64 } from './bytes.ts';
import { CHUNK_MAX_BYTES, CHUNK_TREE, type ChunkRef, type ChunkSource, ID_BYTES } from './chunks.ts';
import { damaged, EntryReader, HEIGHT_MAX, isName, NODE_HEAD_BYTES, nodeHeight } from './tree.ts';

/** A node shorter than this never ends; one that has grown beyond the maximum always does. */
export const NODE_CUT_MIN_BYTES = 256 << 10;
export const NODE_CUT_MAX_BYTES = 1 << 20;
const CUT_MASK = 0x7ff;
export const SHARD_HEAD_BYTES = 50;
const NOTHING = Buffer.alloc(0);
const NO_VIEW: DataView = new DataView(new ArrayBuffer(0));

/** Whether a node of `bytes` ends after a record whose name is bytes `start`..`end` of `name`. */
export function endsNode(bytes: number, name: Uint8Array, start: number, end: number): boolean {
  if (bytes < NODE_CUT_MIN_BYTES) return false;
  if (bytes >= NODE_CUT_MAX_BYTES) return true;
  let hash = 0x811c9dc5;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (name[i] as number), 0x01000193);
  return (hash & CUT_MASK) === 0;
}

/** Appends a shard record: `entries` in and below the node `id`, whose first entry has the given name. */
export function appendShard(
  out: Bytes,
  id: Uint8Array,
  length: number,
  entries: number,
  name: Uint8Array,
): void {
  out.u32(SHARD_HEAD_BYTES + name.length);
  out.bytes(id, 0, ID_BYTES);
  out.u32(length);
  out.i64(entries);
  out.u16(name.length);
  out.bytes(name);
}

/** A cursor over a node of shards; `next` moves to the next and checks it. */
export class ShardReader {
  buffer: Buffer = NOTHING;
  height = 0;
  count = 0;
  index = -1;
  /** length of the node that the current shard names */
  length = 0;
  /** entries in and below it */
  entries = 0;
  nameStart = 0;
  nameEnd = 0;
  #start = 0;
  #end = 0;
  #view: DataView = NO_VIEW;

  load(node: Buffer): this {
    const height = nodeHeight(node);
    if (height < 1 || height > HEIGHT_MAX) throw damaged(`a node of height ${height} in place of shards`);
    this.buffer = node;
    this.#view = new DataView(node.buffer, node.byteOffset, node.length);
    this.height = height;
    this.count = this.#view.getUint32(4, true);
    if (this.count < 1) throw damaged('no shards');
    this.index = -1;
    this.#end = NODE_HEAD_BYTES;
    return this;
  }

  next(): boolean {
    if (this.index + 1 >= this.count) {
      if (this.#end !== this.buffer.length) throw damaged('bytes after the last shard');
      return false;
    }
    const start = this.#end;
    if (this.buffer.length - start < SHARD_HEAD_BYTES) throw damaged('truncated shard');
    const view = this.#view;
    const end = start + view.getUint32(start, true);
    const nameStart = start + SHARD_HEAD_BYTES;
    const nameEnd = nameStart + view.getUint16(start + 48, true);
    if (end > this.buffer.length || nameEnd !== end) throw damaged('shard of a wrong length');
    if (!isName(this.buffer, nameStart, nameEnd)) throw damaged('malformed name');
    if (
      this.index >= 0 &&
      compareBytes(this.buffer, this.nameStart, this.nameEnd, this.buffer, nameStart, nameEnd) >= 0
    )
      throw damaged('shards out of order');
    this.#start = start;
    this.#end = end;
    this.nameStart = nameStart;
    this.nameEnd = nameEnd;
    this.length = view.getUint32(start + 36, true);
    this.entries = getUint64(view, start + 40);
    if (this.length <= NODE_HEAD_BYTES || this.length > CHUNK_MAX_BYTES) throw damaged('malformed shard');
    if (this.entries < 1 || this.entries > Number.MAX_SAFE_INTEGER) throw damaged('malformed shard');
    this.index++;
    return true;
  }

  id(): Buffer {
    return this.buffer.subarray(this.#start + 4, this.#start + 4 + ID_BYTES);
  }

  name(): Buffer {
    return this.buffer.subarray(this.nameStart, this.nameEnd);
  }
}

/**
 * Reads the leaves of one directory in order, one at a time, with at most one
 * node of each height in memory.
 */
export class LeafCursor {
  readonly #source: ChunkSource;
  readonly #directory: ChunkRef;
  readonly #top: Buffer | undefined;
  readonly #levels: ShardReader[] = [];
  /** the directory's only leaf */
  #only: Buffer | undefined;
  /** number of the leaf that it stands at; -1 before the first */
  part = -1;
  /** whether it is the directory's last */
  last = false;
  /** the shard record that names it; undefined where the directory is a single leaf */
  shard: ShardReader | undefined;

  /** `top` is the directory's own node, where the caller has it already. */
  constructor(source: ChunkSource, directory: ChunkRef, top?: Buffer) {
    this.#source = source;
    this.#directory = directory;
    this.#top = top;
  }

  /** The next leaf, or undefined after the last. Throws a Failure of kind 'damaged'. */
  async next(): Promise<Buffer | undefined> {
    return (await this.advance()) ? this.read() : undefined;
  }

  /** Moves to the next leaf, which is not yet read; false after the last. */
  async advance(): Promise<boolean> {
    if (this.part < 0) await this.#first();
    else if (!this.#up()) return false;
    let lowest = this.#levels.at(-1);
    while (lowest !== undefined && lowest.height > 1) {
      const node = await this.#source.get(CHUNK_TREE, lowest.id(), lowest.length);
      lowest = this.#push(node, lowest.height - 1);
    }
    this.part++;
    this.shard = lowest;
    this.last = this.#levels.every((level) => level.index === level.count - 1);
    return true;
  }

  /** Reads the leaf that it stands at. */
  async read(): Promise<Buffer> {
    const { shard } = this;
    if (shard === undefined) return this.#only ?? NOTHING;
    const leaf = await this.#source.get(CHUNK_TREE, shard.id(), shard.length);
    const entries = new EntryReader().load(leaf);
    if (entries.count !== shard.entries || !entries.next())
      throw damaged('leaf of another length than its shard says');
    if (entries.compareName(shard.buffer, shard.nameStart, shard.nameEnd) !== 0)
      throw damaged('leaf begins with another name than its shard says');
    return leaf;
  }

  async #first(): Promise<void> {
    const { id, length } = this.#directory;
    const node = this.#top ?? (await this.#source.get(CHUNK_TREE, id, length));
    const height = nodeHeight(node);
    if (height > HEIGHT_MAX) throw damaged('a root node in place of a directory');
    if (height === 0) this.#only = node;
    else this.#push(node, height);
  }

  #push(node: Buffer, height: number): ShardReader {
    const level = new ShardReader().load(node);
    if (level.height !== height) throw damaged(`unexpected height ${level.height}`);
    level.next();
    this.#levels.push(level);
    return level;
  }

  /** Moves the lowest node of shards that has a next one to it. */
  #up(): boolean {
    for (let level = this.#levels.at(-1); level !== undefined; level = this.#levels.at(-1)) {
      if (level.next()) return true;
      this.#levels.pop();
    }
    return false;
  }
}

/** The entry of the snapshot's root directory, whose node `root` names. */
export async function readRoot(source: ChunkSource, root: ChunkRef): Promise<EntryReader> {
  const entry = new EntryReader().load(await source.get(CHUNK_TREE, root.id, root.length), true);
  entry.next();
  return entry;
}

/** The entry `name` of `directory`, or undefined where there is none. Reads one node of each height. */
export async function findEntry(
  source: ChunkSource,
  directory: ChunkRef,
  name: Uint8Array,
): Promise<EntryReader | undefined> {
  let node = await source.get(CHUNK_TREE, directory.id, directory.length);
  for (let height = nodeHeight(node); height > 0; ) {
    const shard = lastShardUpTo(new ShardReader().load(node), name);
    if (shard === undefined) return undefined;
    node = await source.get(CHUNK_TREE, shard.id, shard.length);
    if (nodeHeight(node) !== height - 1) throw damaged('unexpected height');
    height--;
  }
  const entries = new EntryReader().load(node);
  while (entries.next()) {
    const order = entries.compareName(name, 0, name.length);
    if (order === 0) return entries;
    if (order > 0) return undefined;
  }
  return undefined;
}

/** The last shard that does not begin after `name`. */
function lastShardUpTo(shards: ShardReader, name: Uint8Array): ChunkRef | undefined {
  let found: ChunkRef | undefined;
  while (shards.next()) {
    if (compareBytes(shards.buffer, shards.nameStart, shards.nameEnd, name, 0, name.length) > 0) break;
    found = { id: shards.id(), length: shards.length };
  }
  return found;
}
