/**
 * Which paths of a snapshot damage touches: those of files with a chunk that is
 * missing or damaged, and of directories whose own node is. Called by check,
 * when there is damage.
 */
import type { ChunkRef, ChunkSource } from '../../snapshot/chunks.ts';
import { extents } from '../../snapshot/content.ts';
import { LeafCursor, readRoot } from '../../snapshot/directory.ts';
import { DIRECTORY, EntryReader, FILE, FLAG_UNREADABLE } from '../../snapshot/tree.ts';

/** A path, and the chunk whose damage touches it. */
export interface DamagedPath {
  readonly path: Buffer;
  readonly id: Buffer;
}

const SLASH = Buffer.from('/');
const NO_CHUNK = Buffer.alloc(32);

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
): AsyncGenerator<DamagedPath> {
  if (isDamaged(root.id)) {
    yield { path: SLASH, id: root.id };
    return;
  }
  const first = (await readRoot(source, root)).directory();
  const waiting: Child[] = [
    {
      path: SLASH,
      directory: first && { id: Buffer.from(first.id), length: first.length },
      content: undefined,
    },
  ];
  for (let child = waiting.pop(); child !== undefined; child = waiting.pop()) {
    const damaged =
      child.content === undefined
        ? await visitDirectory(source, child, isDamaged, waiting)
        : await damagedChunk(source, child.content, isDamaged);
    if (damaged !== undefined) yield { path: child.path, id: damaged };
  }
}

/** Adds what is in the directory to `waiting`; the chunk for which the directory itself cannot be read. */
async function visitDirectory(
  source: ChunkSource,
  { path, directory }: Child,
  isDamaged: (id: Buffer) => boolean,
  waiting: Child[],
): Promise<Buffer | undefined> {
  if (directory === undefined) return undefined;
  if (isDamaged(directory.id)) return directory.id;
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
    return undefined;
  } catch {
    // whatever is wrong with it has been told; here only the path counts
    return directory.id;
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

async function damagedChunk(
  source: ChunkSource,
  content: Buffer,
  isDamaged: (id: Buffer) => boolean,
): Promise<Buffer | undefined> {
  let list: Buffer = NO_CHUNK;
  const noting: ChunkSource = {
    get: (kind, id, length) => {
      list = Buffer.from(id);
      return source.get(kind, id, length);
    },
  };
  try {
    for await (const { id } of extents(noting, content))
      if (id !== undefined && isDamaged(id)) return Buffer.from(id);
    return undefined;
  } catch {
    // a list of its chunks is damaged: the one that was read last
    return list;
  }
}
