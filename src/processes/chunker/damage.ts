/**
 * Which paths of a snapshot damage touches: those of files with a chunk that is
 * missing or damaged, and of directories whose own node is. Called by check,
 * when there is damage.
 */
import type { ChunkRef, ChunkSource } from '../../snapshot/chunks.ts';
import { extents } from '../../snapshot/content.ts';
import { LeafCursor, readRoot } from '../../snapshot/directory.ts';
import { DIRECTORY, EntryReader, FILE, FLAG_UNREADABLE } from '../../snapshot/tree.ts';

/** Paths that are told of one snapshot. */
const PATHS_MAX = 1000;
const SLASH = Buffer.from('/');

/** An entry's name and what it refers to, kept while others are visited. */
interface Child {
  readonly path: Buffer;
  readonly directory: ChunkRef | undefined;
  readonly content: Buffer | undefined;
}

/** Yields paths, as inside the snapshot (beginning with a slash), of what cannot be restored whole. */
export async function* damagedPaths(
  source: ChunkSource,
  root: ChunkRef,
  isDamaged: (id: Buffer) => boolean,
): AsyncGenerator<Buffer> {
  let told = 0;
  const first = isDamaged(root.id) ? undefined : (await readRoot(source, root)).directory();
  const waiting: Child[] = [
    {
      path: SLASH,
      directory: first && { id: Buffer.from(first.id), length: first.length },
      content: undefined,
    },
  ];
  for (let child = waiting.pop(); child !== undefined && told < PATHS_MAX; child = waiting.pop()) {
    const damaged =
      child.content === undefined
        ? await visitDirectory(source, child, isDamaged, waiting)
        : await isFileDamaged(source, child.content, isDamaged);
    if (!damaged) continue;
    told++;
    yield child.path;
  }
}

/** Adds what is in the directory to `waiting`; true if the directory itself cannot be read. */
async function visitDirectory(
  source: ChunkSource,
  { path, directory }: Child,
  isDamaged: (id: Buffer) => boolean,
  waiting: Child[],
): Promise<boolean> {
  if (directory === undefined || isDamaged(directory.id)) return true;
  const leaves = new LeafCursor(source, directory);
  const entries = new EntryReader();
  try {
    for (let leaf = await leaves.next(); leaf !== undefined; leaf = await leaves.next()) {
      entries.load(leaf);
      while (entries.next()) {
        if ((entries.flags & FLAG_UNREADABLE) !== 0) continue;
        const child = childOf(path, entries);
        if (child !== undefined) waiting.push(child);
      }
    }
    return false;
  } catch {
    // whatever is wrong with it has been told; here only the path counts
    return true;
  }
}

function childOf(parent: Buffer, entries: EntryReader): Child | undefined {
  const path = Buffer.concat([parent, parent.length > 1 ? SLASH : Buffer.alloc(0), entries.name()]);
  if (entries.type === FILE) return { path, directory: undefined, content: Buffer.from(entries.content()) };
  if (entries.type !== DIRECTORY) return undefined;
  const directory = entries.directory();
  return {
    path,
    directory: directory && { id: Buffer.from(directory.id), length: directory.length },
    content: undefined,
  };
}

async function isFileDamaged(
  source: ChunkSource,
  content: Buffer,
  isDamaged: (id: Buffer) => boolean,
): Promise<boolean> {
  try {
    for await (const { id } of extents(source, content)) if (id !== undefined && isDamaged(id)) return true;
    return false;
  } catch {
    // a list of its chunks is damaged
    return true;
  }
}
