/**
 * Compares two trees of snapshots: both are walked at once, each directory's
 * entries merged in the order of their names. Called by diff. Equal directories
 * are equal chunks and are not read, so the cost is that of what differs. No
 * recursion: directories still to be compared wait on a stack.
 */
import { Failure } from '../error.ts';
import type { ChunkRef, ChunkSource } from '../snapshot/chunks.ts';
import { LeafCursor } from '../snapshot/directory.ts';
import { DIRECTORY, EntryReader } from '../snapshot/tree.ts';

export interface Difference {
  readonly change: 'added' | 'removed' | 'contents' | 'metadata';
  /** Below what is compared; valid during the call alone. */
  readonly path: Buffer;
}

export interface Comparer {
  /** Told of each difference: of a directory before what is in it. */
  readonly differs: (difference: Difference) => Promise<void> | undefined;
  /** A directory of either side is damaged; what is in it is not compared. */
  readonly damaged: (path: Buffer, failure: Failure) => void;
}

const SLASH = Buffer.from('/');

/** The entries of one directory, across its leaves; a side without the directory has none. */
class Entries {
  readonly entry = new EntryReader();
  readonly #leaves: LeafCursor | undefined;
  #isLoaded = false;
  /** After the last. */
  ended = false;

  constructor(source: ChunkSource, directory: ChunkRef | undefined) {
    if (directory === undefined) this.ended = true;
    else this.#leaves = new LeafCursor(source, directory);
  }

  async next(): Promise<void> {
    while (!this.ended) {
      if (this.#isLoaded && this.entry.next()) return;
      const leaf = await this.#leaves?.next();
      if (leaf === undefined) this.ended = true;
      else this.entry.load(leaf);
      this.#isLoaded = leaf !== undefined;
    }
  }
}

/** Directories that have to be compared. */
interface Pair {
  readonly path: Buffer;
  readonly before: ChunkRef | undefined;
  readonly after: ChunkRef | undefined;
}

/** Reads both sides of `pair`; pushes what is to be gone into. */
async function comparePair(
  source: ChunkSource,
  pair: Pair,
  comparer: Comparer,
  found: Pair[],
): Promise<void> {
  const before = new Entries(source, pair.before);
  const after = new Entries(source, pair.after);
  await Promise.all([before.next(), after.next()]);
  while (!before.ended || !after.ended) {
    const order = orderOf(before, after);
    const a = order <= 0 ? before.entry : undefined;
    const b = order >= 0 ? after.entry : undefined;
    const name = (a ?? b)?.name() ?? Buffer.alloc(0);
    const path = Buffer.concat([pair.path, SLASH, name]);
    const change = changeOf(a, b);
    const busy = change === undefined ? undefined : comparer.differs({ change, path });
    if (busy !== undefined) await busy;
    const inside = { path, before: directoryOf(a), after: directoryOf(b) };
    if (!isSame(inside.before, inside.after)) found.push(inside);
    if (a !== undefined) await before.next();
    if (b !== undefined) await after.next();
  }
}

function orderOf(before: Entries, after: Entries): number {
  if (before.ended) return 1;
  if (after.ended) return -1;
  const { buffer, nameStart, nameEnd } = after.entry;
  return before.entry.compareName(buffer, nameStart, nameEnd);
}

/** A copy of the reference, as the entry's node is not kept. */
function directoryOf(entry: EntryReader | undefined): ChunkRef | undefined {
  const directory = entry?.type === DIRECTORY ? entry.directory() : undefined;
  return directory && { id: Buffer.from(directory.id), length: directory.length };
}

function isSame(a: ChunkRef | undefined, b: ChunkRef | undefined): boolean {
  return a === undefined ? b === undefined : b !== undefined && a.id.equals(b.id);
}

function changeOf(a: EntryReader | undefined, b: EntryReader | undefined): Difference['change'] | undefined {
  if (a === undefined) return 'added';
  if (b === undefined) return 'removed';
  if (a.type !== b.type) return 'contents';
  // a directory's contents are told by what is in it, and its time changes with them
  if (a.type !== DIRECTORY && !a.content().equals(b.content())) return 'contents';
  const isTimeEqual = a.type === DIRECTORY || (a.mtimeSec === b.mtimeSec && a.mtimeNsec === b.mtimeNsec);
  const isOwnerEqual = a.mode === b.mode && a.uid === b.uid && a.gid === b.gid;
  return isTimeEqual && isOwnerEqual && xattrsOf(a).equals(xattrsOf(b)) ? undefined : 'metadata';
}

function xattrsOf(entry: EntryReader): Buffer {
  return entry.buffer.subarray(entry.xattrsStart, entry.contentStart);
}

/** Compares what is in the directories `before` and `after`. Rejects with what `differs` throws. */
export async function compare(
  source: ChunkSource,
  before: ChunkRef,
  after: ChunkRef,
  comparer: Comparer,
): Promise<void> {
  const stack: Pair[] = isSame(before, after) ? [] : [{ path: Buffer.alloc(0), before, after }];
  for (let pair = stack.pop(); pair !== undefined; pair = stack.pop()) {
    const found: Pair[] = [];
    try {
      await comparePair(source, pair, comparer, found);
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
      comparer.damaged(pair.path.length === 0 ? SLASH : pair.path, error);
    }
    // the first of them is compared next
    while (found.length > 0) stack.push(found.pop() as Pair);
  }
}
