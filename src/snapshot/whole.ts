/**
 * Whether a snapshot's tree is there, whole: every node and list of chunks is
 * read back and decoded, and every chunk of file contents that they name is in
 * the repository to stay. Called before a copied snapshot is made. Memory is
 * bounded by SEEN_MAX, and the nodes beside one path.
 */
import { Failure } from '../error.ts';
import { PendingTable } from '../repository/table.ts';
import { CHUNK_DATA, CHUNK_TREE, type ChunkKind, type ChunkRef, type ChunkSource } from './chunks.ts';
import { references } from './references.ts';

/** Nodes that are remembered, in 64 MiB; beyond that all are forgotten, and read again where they are met again. */
const SEEN_MAX = 1 << 21;

interface Named extends ChunkRef {
  readonly kind: ChunkKind;
}

export interface WholeOptions {
  readonly source: ChunkSource;
  /** whether the chunk is in the repository to stay */
  readonly holds: (id: Buffer) => boolean;
  /** throws where it must end */
  readonly check: () => void;
}

function missing(id: Buffer): Failure {
  return new Failure('find chunk', id.toString('hex', 0, 8), {
    cause: 'it is not in the repository to stay',
    kind: 'damaged',
  });
}

/** Rejects with a Failure of kind 'damaged' that names a chunk, unless all below the root node is there. */
export async function verifyWhole(root: ChunkRef, { source, holds, check }: WholeOptions): Promise<void> {
  let seen = new PendingTable();
  const waiting: Named[] = [{ kind: CHUNK_TREE, ...root }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    check();
    if (seen.count >= SEEN_MAX) seen = new PendingTable();
    if (!seen.add(next.id)) continue;
    if (!holds(next.id)) throw missing(next.id);
    const chunk = await source.get(next.kind, next.id, next.length);
    references(next.kind, chunk, (kind, id, length) => {
      if (kind === CHUNK_DATA) {
        if (!holds(id)) throw missing(id);
      } else if (!seen.has(id)) waiting.push({ kind, id: Buffer.from(id), length });
    });
  }
}
