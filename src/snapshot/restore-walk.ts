/**
 * The walk of a restore: reads a directory's tree from its node down, makes the
 * directories and everything without contents at once, and plans the chunks of
 * files into windows. Called by restore.ts. It asks for nodes in pre-order, as a
 * source that sends them ahead expects. Invariants: no recursion, and a bounded
 * number of bytes of nodes in memory, whatever the depth and width of the tree;
 * a node that cannot be read costs what is below it, and nothing else.
 */
import { setImmediate } from 'node:timers/promises';
import { Failure } from '../error.ts';
import { isUnreadable } from '../repository/problem.ts';
import { CHUNK_TREE, type ChunkRef, type ChunkSource, type TreeSource } from './chunks.ts';
import { BlockReader, extents, INLINE_RECORDS_MAX } from './content.ts';
import { LeafCursor } from './directory.ts';
import type { Directories, Directory } from './restore-directory.ts';
import type { Files, LargeFile } from './restore-file.ts';
import { type Links, WAITING_MAX } from './restore-link.ts';
import { failureOf, type Report } from './restore-report.ts';
import type { Specials } from './restore-special.ts';
import type { Window } from './restore-window.ts';
import { DIRECTORY, EntryReader, FILE, FLAG_UNREADABLE } from './tree.ts';

/** Leaves that are kept while their subdirectories are walked; beyond it they are read again. */
const LEAVES_MAX_BYTES = 64 << 20;
/** After so many leaves the event loop gets its turn, so that signals are heard, and what was read goes on its way. */
const LEAVES_A_TURN = 16;
const EMPTY = Buffer.alloc(0);

/** A directory in whose middle the walk is. */
interface Frame {
  readonly directory: Directory;
  readonly cursor: LeafCursor;
  readonly ref: ChunkRef;
  /** the leaf that is being walked, and what names it; undefined where it has to be read again */
  leaf: Buffer | undefined;
  leafRef: ChunkRef;
  /** where in it the entries of subdirectories are, and how many of them are done */
  subdirectories: number[];
  done: number;
}

export interface WalkParts {
  readonly source: ChunkSource | TreeSource;
  readonly directories: Directories;
  readonly files: Files;
  readonly links: Links;
  readonly specials: Specials;
  readonly report: Report;
  /** called at every leaf; what it throws ends the restore */
  readonly onLeaf: () => void;
}

export class Walk {
  readonly #parts: WalkParts;
  #nodes: ChunkSource;
  readonly #entries = new EntryReader();
  readonly #block = new BlockReader();
  readonly #stack: Frame[] = [];
  #window: Window;
  #spare: Window;
  #flushing: Promise<void> | undefined;
  #isReading = false;
  #leafBytes = 0;
  #leaves = 0;

  constructor(parts: WalkParts, windows: readonly [Window, Window]) {
    this.#parts = parts;
    this.#nodes = parts.source;
    [this.#window, this.#spare] = windows;
  }

  /** Restores what is in the directory whose node `ref` names into `directory`, as far as planning. */
  async contents(directory: Directory, ref: ChunkRef): Promise<void> {
    const { source, directories } = this.#parts;
    const ahead = 'below' in source ? source.below(ref) : undefined;
    this.#nodes = ahead ?? source;
    directories.hold(directory);
    this.#push(directory, ref);
    try {
      for (let frame = this.#stack.at(-1); frame !== undefined; frame = this.#stack.at(-1)) {
        if (frame.done < frame.subdirectories.length) await this.#descend(frame);
        else await this.#nextLeaf(frame);
      }
    } finally {
      ahead?.stop();
    }
  }

  /** Restores one entry that is no directory. */
  async single(directory: Directory, entry: EntryReader): Promise<void> {
    await this.#entry(directory, entry);
  }

  /** Resolves when everything planned is restored. */
  async flush(): Promise<void> {
    await this.#flushing;
    this.#flushing = undefined;
    await this.#window.flush();
  }

  #push(directory: Directory, ref: ChunkRef): void {
    const own = { id: Buffer.from(ref.id), length: ref.length };
    const cursor = new LeafCursor(this.#nodes, own);
    const frame = { directory, cursor, ref: own, leaf: undefined, leafRef: own, subdirectories: [] };
    this.#stack.push({ ...frame, done: 0 });
  }

  #pop(frame: Frame): void {
    this.#stack.pop();
    this.#leafBytes -= memoryOf(frame.leaf);
    frame.leaf = undefined;
    this.#parts.directories.release(frame.directory);
  }

  async #nextLeaf(frame: Frame): Promise<void> {
    this.#parts.onLeaf();
    if (++this.#leaves % LEAVES_A_TURN === 0) await setImmediate();
    this.#leafBytes -= memoryOf(frame.leaf);
    frame.leaf = undefined;
    frame.subdirectories = [];
    frame.done = 0;
    try {
      if (!(await frame.cursor.advance())) return this.#pop(frame);
    } catch (error) {
      this.#damaged(frame, error);
      return this.#pop(frame);
    }
    try {
      await this.#leaf(frame, await frame.cursor.read());
    } catch (error) {
      this.#damaged(frame, error);
      // of a directory of many leaves, one is lost
      if (frame.cursor.last && frame.subdirectories.length === 0) this.#pop(frame);
    }
  }

  /** Part of a directory cannot be read: that is this directory's problem, if it is damage, or of a later version. */
  #damaged(frame: Frame, error: unknown): void {
    if (!isUnreadable(error)) throw error;
    const { directories, report } = this.#parts;
    const path = directories.pathOf(frame.directory);
    report.problem(path, failureOf(path, error));
  }

  async #leaf(frame: Frame, leaf: Buffer): Promise<void> {
    try {
      const entries = this.#entries.load(leaf);
      while (entries.next()) {
        if (entries.type === DIRECTORY) {
          frame.subdirectories.push(entries.start);
          continue;
        }
        const waiting = this.#entry(frame.directory, entries);
        if (waiting !== undefined) await waiting;
      }
    } finally {
      if (frame.subdirectories.length > 0) this.#retain(frame, leaf);
    }
    if (frame.subdirectories.length === 0 && frame.cursor.last) this.#pop(frame);
  }

  #retain(frame: Frame, leaf: Buffer): void {
    const { shard } = frame.cursor;
    frame.leafRef = shard === undefined ? frame.ref : { id: Buffer.from(shard.id()), length: shard.length };
    frame.leaf = leaf;
    this.#leafBytes += memoryOf(leaf);
    for (const outer of this.#stack) {
      if (this.#leafBytes <= LEAVES_MAX_BYTES || outer === frame) return;
      this.#leafBytes -= memoryOf(outer.leaf);
      outer.leaf = undefined;
    }
  }

  /** Goes into the next subdirectory of the frame's leaf. */
  async #descend(frame: Frame): Promise<void> {
    let { leaf } = frame;
    if (leaf === undefined) {
      // it was read before, so that it cannot be had now is no damage to report, but the end
      leaf = await this.#parts.source.get(CHUNK_TREE, frame.leafRef.id, frame.leafRef.length);
      this.#retainAgain(frame, leaf);
    }
    const start = frame.subdirectories[frame.done++] ?? 0;
    const entry = this.#entries.loadRecord(leaf, start, start + leaf.readUInt32LE(start), true);
    const directory = this.#parts.directories.make(frame.directory, entry);
    const ref = entry.directory();
    // after its last subdirectory a frame is not needed: a chain of any depth is walked with one
    if (frame.done === frame.subdirectories.length && frame.cursor.last) this.#pop(frame);
    if (directory === undefined) return;
    if (ref !== undefined) this.#push(directory, ref);
    else this.#unreadable(directory);
  }

  #retainAgain(frame: Frame, leaf: Buffer): void {
    frame.leaf = leaf;
    this.#leafBytes += memoryOf(leaf);
  }

  #unreadable(directory: Directory): void {
    const { directories, report } = this.#parts;
    const path = directories.pathOf(directory);
    report.problem(path, missing(path));
    directories.release(directory);
  }

  /** Restores or plans one entry that is no directory; a promise only where it has to wait. */
  #entry(directory: Directory, entry: EntryReader): Promise<void> | undefined {
    const { files, links, specials } = this.#parts;
    if (links.take(directory, entry)) return links.waiting > WAITING_MAX ? this.flush() : undefined;
    if (entry.type !== FILE) {
      specials.make(directory, entry);
      return undefined;
    }
    if ((entry.flags & FLAG_UNREADABLE) !== 0) {
      const path = this.#parts.directories.pathOf(directory, entry.name());
      files.lost(directory, entry, missing(path));
      return undefined;
    }
    return this.#file(directory, entry);
  }

  #file(directory: Directory, entry: EntryReader): Promise<void> | undefined {
    const { files } = this.#parts;
    const block = this.#block.load(
      entry.buffer,
      entry.contentStart,
      entry.end,
      INLINE_RECORDS_MAX,
      entry.view,
    );
    if (block.count === 0) {
      files.whole(directory, entry, EMPTY);
      return undefined;
    }
    if (block.count === 1 && block.depth === 0 && block.next() && !block.isHole) {
      this.#window.addWhole(directory, entry, block.idStart, block.chunkLength);
      return this.#isDue ? this.#swap() : undefined;
    }
    const file = files.begin(directory, entry);
    return file === undefined ? undefined : this.#largeFile(file, entry.content());
  }

  async #largeFile(file: LargeFile, content: Buffer): Promise<void> {
    const { files, source } = this.#parts;
    try {
      for await (const { offset, length, id } of extents(source, content)) {
        if (file.failure !== undefined) break;
        if (id === undefined) files.hole(file, offset, offset + length);
        else this.#window.addPart(file, offset, id, 0, length);
        if (this.#isDue) await this.#swap();
      }
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      // gives back the walk's own share of the file as well
      files.partLost(file, error);
      return;
    }
    files.release(file);
  }

  /** Whether the window is to be read: it is as large as the time allowed in which the other was. */
  get #isDue(): boolean {
    return this.#window.full || (!this.#isReading && this.#window.isWorthwhile);
  }

  /** Begins to read the window, when the other has been read, and fills that. */
  async #swap(): Promise<void> {
    await this.#flushing;
    const full = this.#window;
    this.#window = this.#spare;
    this.#spare = full;
    this.#isReading = true;
    this.#flushing = full.flush().finally(() => {
      this.#isReading = false;
    });
    // heard when it is awaited
    this.#flushing.catch(() => undefined);
  }
}

/** Bytes that a leaf keeps in memory: what it came in goes with it. */
function memoryOf(leaf: Buffer | undefined): number {
  return leaf?.buffer.byteLength ?? 0;
}

function missing(path: Buffer): Failure {
  return new Failure('restore', path.toString(), {
    cause: 'it could not be read when the snapshot was taken',
    kind: 'partial',
  });
}
