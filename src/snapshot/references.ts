/**
 * Which chunks a chunk names: the one place that check, cleanup and clone learn
 * from what must be there for a snapshot to be complete. Invariant: it decodes
 * the whole chunk, so a chunk that passes is well-formed.
 */
import { CHUNK_DATA, CHUNK_LIST, CHUNK_TREE, type ChunkKind } from './chunks.ts';
import { BlockReader, INLINE_RECORDS_MAX } from './content.ts';
import { ShardReader } from './directory.ts';
import { DIRECTORY, EntryReader, FILE, HEIGHT_ROOT, nodeHeight } from './tree.ts';

/** Told of each reference; `id` is a view into the chunk. */
export type ReferenceVisitor = (kind: ChunkKind, id: Buffer, length: number) => void;

/**
 * Tells `visit` of every chunk that this chunk names, in order, once for each time it is named. Throws a Failure of
 * kind 'damaged'.
 */
export function references(kind: ChunkKind, chunk: Buffer, visit: ReferenceVisitor): void {
  if (kind === CHUNK_LIST) ofBlock(new BlockReader().load(chunk), visit);
  else if (kind === CHUNK_TREE) ofNode(chunk, visit);
}

function ofNode(node: Buffer, visit: ReferenceVisitor): void {
  const height = nodeHeight(node);
  if (height === 0 || height === HEIGHT_ROOT) {
    ofEntries(node, height === HEIGHT_ROOT, visit);
    return;
  }
  const shards = new ShardReader().load(node);
  while (shards.next()) visit(CHUNK_TREE, shards.id(), shards.length);
}

function ofBlock(block: BlockReader, visit: ReferenceVisitor): void {
  const kind = block.depth === 0 ? CHUNK_DATA : CHUNK_LIST;
  while (block.next()) if (!block.isHole) visit(kind, block.id(), block.chunkLength);
}

function ofEntries(node: Buffer, root: boolean, visit: ReferenceVisitor): void {
  const entries = new EntryReader().load(node, root);
  const block = new BlockReader();
  while (entries.next()) {
    if (entries.type === FILE)
      ofBlock(block.load(node, entries.contentStart, entries.end, INLINE_RECORDS_MAX, entries.view), visit);
    const directory = entries.type === DIRECTORY ? entries.directory() : undefined;
    if (directory !== undefined) visit(CHUNK_TREE, directory.id, directory.length);
  }
}
