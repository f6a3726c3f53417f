/**
 * A directory that two repositories hold, each with its own ids: read side by
 * side, forwards, to learn what an entry of the one is in the other. Called
 * where snapshots are copied between repositories, with directories of a
 * snapshot that both have. Invariant: two entries are taken for the same only
 * if all but their chunk ids agree.
 */
import type { ChunkRef, ChunkSource } from './chunks.ts';
import { LeafCursor } from './directory.ts';
import { AT_TYPE, DIRECTORY, EntryReader } from './tree.ts';

/** One directory in both repositories. */
export interface TwinRefs {
  readonly theirs: ChunkRef;
  readonly ours: ChunkRef;
}

/** An entry in both; valid until the next is looked for. */
export interface Twin {
  readonly theirs: EntryReader;
  readonly ours: EntryReader;
  /** where ours is: the leaf, and the entry in it */
  readonly part: number;
  readonly index: number;
}

/** One of the two. */
class Side {
  readonly entries = new EntryReader();
  readonly leaves: LeafCursor;
  #stands = false;

  constructor(source: ChunkSource, directory: ChunkRef) {
    this.leaves = new LeafCursor(source, directory);
  }

  /** Moves to the first entry that is not before the name; whether it has it. */
  async seek(name: Uint8Array, start: number, end: number): Promise<boolean> {
    for (;;) {
      if (!this.#stands && !(await this.#advance())) return false;
      const order = this.entries.compareName(name, start, end);
      if (order >= 0) return order === 0;
      this.#stands = false;
    }
  }

  async #advance(): Promise<boolean> {
    while (!this.entries.next()) {
      const leaf = await this.leaves.next();
      if (leaf === undefined) return false;
      this.entries.load(leaf);
    }
    this.#stands = true;
    return true;
  }
}

export class TwinDirectory {
  readonly #theirs: Side;
  readonly #ours: Side;

  constructor(theirs: ChunkSource, ours: ChunkSource, refs: TwinRefs) {
    this.#theirs = new Side(theirs, refs.theirs);
    this.#ours = new Side(ours, refs.ours);
  }

  /** The entry with bytes `start`..`end` of `name` as its name, where both have it; names must ascend. */
  async find(name: Uint8Array, start: number, end: number): Promise<Twin | undefined> {
    if (!(await this.#theirs.seek(name, start, end))) return undefined;
    if (!(await this.#ours.seek(name, start, end))) return undefined;
    const theirs = this.#theirs.entries;
    const ours = this.#ours.entries;
    if (!sameHead(theirs, ours)) return undefined;
    return { theirs, ours, part: this.#ours.leaves.part, index: ours.index };
  }
}

/** Whether all but the content agrees: type, flags, name, owner, size, times, xattrs. */
function sameHead(a: EntryReader, b: EntryReader): boolean {
  const [from, to] = [a.start + AT_TYPE, a.contentStart];
  return b.buffer.compare(a.buffer, from, to, b.start + AT_TYPE, b.contentStart) === 0;
}

/** The directory that is an entry of both, with ids of its own. */
export function refsOf({ theirs, ours }: Pick<Twin, 'theirs' | 'ours'>): TwinRefs | undefined {
  if (theirs.type !== DIRECTORY || ours.type !== DIRECTORY) return undefined;
  const [a, b] = [theirs.directory(), ours.directory()];
  if (a === undefined || b === undefined) return undefined;
  return {
    theirs: { id: Buffer.from(a.id), length: a.length },
    ours: { id: Buffer.from(b.id), length: b.length },
  };
}
