/**
 * Which chunks a chunk names: the one place that check, cleanup and clone learn
 * from what must be there for a snapshot to be complete. Invariant: it decodes
 * the whole chunk, so a chunk that passes is well-formed.
 */
import { CHUNK_DATA, CHUNK_LIST, CHUNK_TREE, type ChunkKind, ID_BYTES } from './chunks.ts';
import { BlockReader, INLINE_RECORDS_MAX } from './content.ts';
import { ShardReader } from './directory.ts';
import { DIRECTORY, EntryReader, FILE, HEIGHT_ROOT, nodeHeight } from './tree.ts';

/** Told of each reference; `id` is a view into the chunk. */
export type ReferenceVisitor = (kind: ChunkKind, id: Buffer, length: number) => void;

/** The same, where the id is at `at` of `bytes`: for whoever looks at many, and keeps few. */
export type ReferenceReader = (kind: ChunkKind, bytes: Buffer, at: number, length: number) => void;

/**
 * Tells `visit` of every chunk that this chunk names, in order, once for each time it is named. Throws a Failure of
 * kind 'damaged'.
 */
export function references(kind: ChunkKind, chunk: Buffer, visit: ReferenceVisitor): void {
  eachReference(kind, chunk, (named, bytes, at, length) => {
    visit(named, bytes.subarray(at, at + ID_BYTES), length);
  });
}

/** As `references`, without a view for each. */
export function eachReference(kind: ChunkKind, chunk: Buffer, visit: ReferenceReader): void {
  if (kind === CHUNK_LIST) ofBlock(new BlockReader().load(chunk), visit);
  else if (kind === CHUNK_TREE) ofNode(chunk, visit);
}

function ofNode(node: Buffer, visit: ReferenceReader): void {
  const height = nodeHeight(node);
  if (height === 0 || height === HEIGHT_ROOT) {
    ofEntries(node, height === HEIGHT_ROOT, visit);
    return;
  }
  const shards = new ShardReader().load(node);
  while (shards.next()) visit(CHUNK_TREE, shards.id(), 0, shards.length);
}

function ofBlock(block: BlockReader, visit: ReferenceReader): void {
  const kind = block.depth === 0 ? CHUNK_DATA : CHUNK_LIST;
  while (block.next()) if (!block.isHole) visit(kind, block.buffer, block.idStart, block.chunkLength);
}

function ofEntries(node: Buffer, root: boolean, visit: ReferenceReader): void {
  const entries = new EntryReader().load(node, root);
  const block = new BlockReader();
  while (entries.next()) {
    if (entries.type === FILE)
      ofBlock(block.load(node, entries.contentStart, entries.end, INLINE_RECORDS_MAX, entries.view), visit);
    const directory = entries.type === DIRECTORY ? entries.directory() : undefined;
    if (directory !== undefined) visit(CHUNK_TREE, directory.id, 0, directory.length);
  }
}
