/**
 * Walks a snapshot's tree in the order of paths: a directory, then what is in
 * it, then what follows it. Called by ls, find, checksum and tarball. No
 * recursion, and bounded memory but for the path itself: of the directories on
 * the way down at most LEAVES_MAX_BYTES of nodes are kept, others are read again.
 */
import { Failure } from '../error.ts';
import {
  type AheadSource,
  CHUNK_TREE,
  type ChunkRef,
  type ChunkSource,
  type TreeSource,
} from '../snapshot/chunks.ts';
import { LeafCursor } from '../snapshot/directory.ts';
import { DIRECTORY, EntryReader, nodeHeight } from '../snapshot/tree.ts';
import { writePlain } from './line.ts';

const LEAVES_MAX_BYTES = 64 << 20;
const SLASH = 0x2f;
const NOTHING = Buffer.alloc(0);
/** Paths longer than this grow the buffer. */
const PATH_BYTES = 4096;

export interface BrowseOptions {
  /** Goes into subdirectories. */
  readonly recursive: boolean;
  /**
   * Told of every entry, with its path. Both are valid during the call alone,
   * or until the promise it returns is resolved.
   */
  readonly visit: (entry: EntryReader, path: Path) => Promise<void> | undefined;
  /** Told of a directory, or a part of one, that is damaged; the walk goes on after it. */
  readonly damaged: (path: Buffer, failure: Failure) => void;
}

/** Where an entry is. */
export interface Path {
  /** The path's bytes. */
  readonly bytes: Buffer;
  /** Writes it to `to` at `at` where all of it is ASCII that prints as itself, and fits: where it ends, or -1. */
  writePlain(to: Buffer, at: number): number;
}

/** A directory in whose middle the walk is. */
interface Frame {
  readonly directory: ChunkRef;
  /** Undefined where all entries are in the directory's own node. */
  cursor: LeafCursor | undefined;
  readonly entries: EntryReader;
  /** Length of the directory's path, without a slash. */
  readonly pathBytes: number;
  /** Whether its path is ASCII that prints as itself; undefined until that is asked for. */
  isPlain: boolean | undefined;
  /** What names the leaf, for reading it again. */
  leaf: ChunkRef;
  /** Bytes of the leaf that are held; 0 where there is none to go on with. */
  held: number;
  /** Nothing of it has been read. */
  fresh: boolean;
  /** The leaf was let go, and has to be read again. */
  dropped: boolean;
  /** The cursor does not stand at a leaf: after damage there is no next one. */
  lost: boolean;
}

const FRESH = { isPlain: undefined, held: 0, fresh: true, dropped: false, lost: false };

class Walk implements Path {
  readonly #source: ChunkSource;
  /** gives the nodes as they are first needed */
  readonly #ahead: ChunkSource | AheadSource;
  readonly #options: BrowseOptions;
  readonly #stack: Frame[] = [];
  #path: Buffer;
  #heldBytes = 0;
  #visiting = false;

  constructor(source: ChunkSource, ahead: ChunkSource | AheadSource, base: Buffer, options: BrowseOptions) {
    this.#source = source;
    this.#ahead = ahead;
    this.#options = options;
    this.#path = Buffer.alloc(Math.max(PATH_BYTES, base.length));
    base.copy(this.#path);
  }

  /** Of the entry that is visited. */
  get bytes(): Buffer {
    const frame = this.#stack.at(-1);
    if (frame === undefined) return NOTHING;
    // which may make the buffer anew
    const end = this.#name(frame, frame.entries);
    return this.#path.subarray(0, end);
  }

  writePlain(to: Buffer, at: number): number {
    const frame = this.#stack.at(-1);
    if (frame === undefined) return -1;
    const { pathBytes, entries } = frame;
    const nameAt = at + pathBytes + 1;
    if (nameAt > to.length || frame.isPlain === false) return -1;
    // looked at for the first entry, and copied for each
    if (frame.isPlain === undefined) {
      frame.isPlain = writePlain(this.#path, 0, pathBytes, to, at) >= 0;
      if (!frame.isPlain) return -1;
    } else for (let i = 0; i < pathBytes; i++) to[at + i] = this.#path[i] as number;
    to[nameAt - 1] = SLASH;
    return writePlain(entries.buffer, entries.nameStart, entries.nameEnd, to, nameAt);
  }

  /** Waits only where there is something to wait for: most directories came ahead, and take no promise. */
  async run(directory: ChunkRef, pathBytes: number): Promise<void> {
    this.#push(directory, pathBytes);
    for (let frame = this.#stack.at(-1); frame !== undefined; frame = this.#stack.at(-1)) {
      let found: ChunkRef | undefined;
      try {
        if (frame.fresh) this.#begin(frame);
        if (frame.dropped) await this.#again(frame);
        const { entries } = frame;
        while (found === undefined && frame.held > 0 && entries.next()) {
          this.#visiting = true;
          const busy = this.#options.visit(entries, this);
          if (busy !== undefined) await busy;
          this.#visiting = false;
          if (this.#options.recursive && entries.type === DIRECTORY) found = entries.directory();
        }
        if (found === undefined) {
          if (frame.cursor === undefined) this.#pop(frame);
          else await this.#leaf(frame, frame.cursor);
        }
      } catch (error) {
        this.#damaged(frame, error);
        continue;
      }
      if (found !== undefined) this.#descend(frame, found);
    }
  }

  #descend(frame: Frame, directory: ChunkRef): void {
    const pathBytes = this.#name(frame, frame.entries);
    const isLast = frame.cursor === undefined || frame.cursor.last;
    // after its last entry a frame is not needed: a chain of any depth takes one
    if (isLast && frame.entries.index + 1 >= frame.entries.count) this.#pop(frame);
    this.#push(directory, pathBytes);
  }

  #push(directory: ChunkRef, pathBytes: number): void {
    const own = { id: Buffer.from(directory.id), length: directory.length };
    const entries = new EntryReader();
    this.#stack.push({ directory: own, cursor: undefined, entries, pathBytes, leaf: own, ...FRESH });
  }

  /** Begins with the directory's node if it is there, and otherwise with a cursor that reads it. */
  #begin(frame: Frame): void {
    const { directory } = frame;
    const node = 'now' in this.#ahead ? this.#ahead.now?.(directory.id, directory.length) : undefined;
    frame.fresh = false;
    if (node !== undefined && nodeHeight(node) === 0) this.#hold(frame, node);
    else frame.cursor = new LeafCursor(this.#ahead, directory, node);
  }

  #pop(frame: Frame): void {
    this.#stack.pop();
    this.#heldBytes -= frame.held;
  }

  async #leaf(frame: Frame, cursor: LeafCursor): Promise<void> {
    this.#heldBytes -= frame.held;
    frame.held = 0;
    frame.lost = true;
    if (!(await cursor.advance())) {
      this.#stack.pop();
      return;
    }
    frame.lost = false;
    const { shard } = cursor;
    if (shard !== undefined) frame.leaf = { id: Buffer.from(shard.id()), length: shard.length };
    this.#hold(frame, await cursor.read());
  }

  #hold(frame: Frame, leaf: Buffer): void {
    frame.entries.load(leaf);
    frame.held = leaf.length;
    this.#heldBytes += leaf.length;
    for (const outer of this.#stack) {
      if (this.#heldBytes <= LEAVES_MAX_BYTES || outer === frame) return;
      this.#heldBytes -= outer.held;
      outer.dropped = outer.held > 0;
      outer.held = 0;
      outer.entries.buffer = NOTHING;
    }
  }

  /** Reads a leaf that was let go, and moves to the entry that the walk is at. */
  async #again(frame: Frame): Promise<void> {
    const { index } = frame.entries;
    frame.dropped = false;
    this.#hold(frame, await this.#source.get(CHUNK_TREE, frame.leaf.id, frame.leaf.length));
    while (frame.entries.index < index && frame.entries.next());
  }

  /** Writes the entry's path into the buffer and returns its length. */
  #name(frame: Frame, entries: EntryReader): number {
    const start = frame.pathBytes + 1;
    const end = start + entries.nameEnd - entries.nameStart;
    if (end > this.#path.length) this.#path = Buffer.concat([this.#path], end * 2);
    this.#path[frame.pathBytes] = SLASH;
    entries.buffer.copy(this.#path, start, entries.nameStart, entries.nameEnd);
    return end;
  }

  /** A part of a directory that cannot be read costs what is in it, and nothing else. */
  #damaged(frame: Frame, error: unknown): void {
    if (this.#visiting || !(error instanceof Failure) || error.kind !== 'damaged') throw error;
    const path = this.#path.subarray(0, frame.pathBytes);
    this.#options.damaged(path.length === 0 ? Buffer.from('/') : path, error);
    if (frame.lost || frame.cursor === undefined || frame.cursor.last) {
      this.#pop(frame);
      return;
    }
    this.#heldBytes -= frame.held;
    frame.held = 0;
  }
}

/**
 * Walks what is in the directory whose node is `directory`. `path` is the
 * directory's own. Rejects with what `visit` throws.
 */
export async function browse(
  source: ChunkSource | TreeSource,
  directory: ChunkRef,
  path: Buffer,
  options: BrowseOptions,
): Promise<void> {
  const base = path.length === 1 && path[0] === SLASH ? NOTHING : path;
  const ahead = options.recursive && 'below' in source ? source.below(directory) : undefined;
  try {
    await new Walk(source, ahead ?? source, base, options).run(directory, base.length);
  } finally {
    ahead?.stop();
  }
}
