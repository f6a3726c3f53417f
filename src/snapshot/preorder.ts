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
import { DIRECTORY, EntryReader } from './tree.ts';

interface Open {
  readonly leaves: LeafCursor;
  readonly entries: EntryReader;
}

/** Reads through `source` until `isOver`. A directory that is damaged ends where it is; other failures reject. */
export async function readPreorder(
  source: ChunkSource,
  directory: ChunkRef,
  isOver: () => boolean,
): Promise<void> {
  const stack: Open[] = [{ leaves: new LeafCursor(source, directory), entries: new EntryReader() }];
  for (let open = stack.at(-1); open !== undefined && !isOver(); open = stack.at(-1)) {
    try {
      const child = nextDirectory(open.entries);
      if (child !== undefined) {
        if (stack.length >= DEPTH_MAX) throw new Failure('read tree', '', { cause: 'too deep' });
        const own = { id: Buffer.from(child.id), length: child.length };
        stack.push({ leaves: new LeafCursor(source, own), entries: new EntryReader() });
        continue;
      }
      const leaf = await open.leaves.next();
      if (leaf === undefined) stack.pop();
      else open.entries.load(leaf);
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
      stack.pop();
    }
  }
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
