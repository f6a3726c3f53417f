/**
 * Reads every directory node below one, in the order in which a walk of the
 * tree asks for them: a leaf, then all that is below each of its directories,
 * then the next leaf. The chunker reads so ahead of a client that walks, and
 * sends it what it will ask for next. Iterative, and bounded by the nodes on
 * the path from the top.
 */
import { Failure } from '../error.ts';
import type { ChunkRef, ChunkSource } from './chunks.ts';
import { LeafCursor } from './directory.ts';
import { DEPTH_MAX } from './stream.ts';
import { DIRECTORY, EntryReader, nodeHeight } from './tree.ts';

/** Where nodes come from. */
export interface WalkSource extends ChunkSource {
  /** A node that can be had without waiting: a promise for each would be half of a walk's time. */
  now?(id: Buffer, length: number): Buffer | undefined;
}

interface Open {
  /** Undefined where the directory's own node is its only leaf. */
  leaves: LeafCursor | undefined;
  readonly entries: EntryReader;
}

/** Reads through `source` until `isOver`. A directory that is damaged ends where it is; other failures reject. */
export async function readPreorder(
  source: WalkSource,
  directory: ChunkRef,
  isOver: () => boolean,
): Promise<void> {
  const stack: Open[] = [{ leaves: new LeafCursor(source, directory), entries: new EntryReader() }];
  for (let open = stack.at(-1); open !== undefined && !isOver(); open = stack.at(-1)) {
    try {
      const child = nextDirectory(open.entries);
      if (child !== undefined) {
        if (stack.length >= DEPTH_MAX) throw new Failure('read tree', '', { cause: 'too deep' });
        const below: Open = { leaves: undefined, entries: new EntryReader() };
        stack.push(below);
        begin(below, source, child);
        continue;
      }
      const leaf = open.leaves === undefined ? undefined : await open.leaves.next();
      if (leaf === undefined) stack.pop();
      else open.entries.load(leaf);
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
      stack.pop();
    }
  }
}

/** Begins with the directory's node if it can be had, and otherwise with a cursor that reads it. */
function begin(open: Open, source: WalkSource, { id, length }: ChunkRef): void {
  const node = source.now?.(id, length);
  if (node !== undefined && nodeHeight(node) === 0) open.entries.load(node);
  else open.leaves = new LeafCursor(source, { id: Buffer.from(id), length }, node);
}

/** Moves to the next entry that is a directory with a node. */
function nextDirectory(entries: EntryReader): ChunkRef | undefined {
  if (entries.count === 0) return undefined;
  while (entries.next()) {
    const directory = entries.type === DIRECTORY ? entries.directory() : undefined;
    if (directory !== undefined) return directory;
  }
  return undefined;
}
