/**
 * Builds a snapshot's tree from the walker's records. Called by the chunker,
 * batch by batch. All directories that are open, from the root to where the walk
 * is, have their entries in one stack of bytes: a directory's node begins where
 * its parent's entries end, and gives way to its own entry once it is stored.
 * Invariants: whatever the walker sends, what is stored is a well-formed tree
 * (names ascending, entries checked, nothing named that was not stored or read);
 * equal trees get equal nodes, however they came to be: walked from scratch, or
 * copied in part from the parent's.
 */
import { Failure } from '../error.ts';
import { Bytes, compareBytes, putInt64 } from './bytes.ts';
import { CHUNK_TREE, type ChunkRef, type ChunkSource, type ChunkStore, ID_BYTES } from './chunks.ts';
import { ContentWriter, SPLITTER_NONE } from './content.ts';
import { endsNode, LeafCursor } from './directory.ts';
import * as scan from './scanlog.ts';
import { type Shard, ShardWriter } from './shards.ts';
import { DEPTH_MAX } from './stream.ts';
import {
  AT_FLAGS,
  AT_NAME_LENGTH,
  AT_SIZE,
  appendNodeHead,
  DIRECTORY_CONTENT_BYTES,
  ENTRY_HEAD_BYTES,
  EntryReader,
  type EntryStat,
  endEntry,
  FLAG_INCONSISTENT,
  FLAG_UNREADABLE,
  HEIGHT_ROOT,
  NODE_HEAD_BYTES,
  setCount,
  setStat,
} from './tree.ts';

/** Entries of all open directories together: what a walker can make the chunker hold. */
const PENDING_MAX_BYTES = 256 << 20;
const NO_NAME = Buffer.alloc(0);
const SLASH = Buffer.from('/');
const NO_ID = Buffer.alloc(ID_BYTES);

/** A file whose contents are wanted. It is the builder's own, and used again for the next file. */
export interface FileToRead {
  /** The entry as the walker saw it; content and xattrs apart. */
  readonly entry: EntryReader;
  /** Takes the contents; it has begun, with no splitter. */
  readonly content: ContentWriter;
  /** Where it is in the tree, beginning with a slash. */
  path(): Buffer;
  /** Corrects the entry, where a later stat(2) of the descriptor says otherwise. */
  restat(stat: EntryStat): void;
}

export interface TreeBuilderOptions {
  /** Where the parent's nodes come from. */
  readonly source: ChunkSource;
  readonly store: ChunkStore;
  /**
   * Reads a file to its end into `file.content`, and owns the descriptor from now on. Returns the flags to set:
   * FLAG_INCONSISTENT, FLAG_UNREADABLE (its contents are then dropped), or 0; a promise only if it has to wait.
   */
  readonly readFile: (fd: number, file: FileToRead) => number | Promise<number>;
  /** Closes a descriptor that no file took. */
  readonly discard: (fd: number) => void;
  /** Told of what the walker could not read (EVENT_UNREADABLE) or did not find again (EVENT_VANISHED). */
  readonly onEvent: (event: number, path: Buffer, text: string) => void;
}

/** How a walk ended. */
export interface BuiltTree {
  /** The new root node; undefined where nothing differs from the parent. */
  readonly root: ChunkRef | undefined;
  readonly counts: scan.ScanCounts;
}

function malformed(cause: string): Failure {
  return new Failure('build tree', '', { cause });
}

/** One open directory. */
class Frame {
  /** what the directory is called in the one around it */
  name: Buffer = NO_NAME;
  /** where its current leaf begins in the stack */
  node = 0;
  /** entries in that leaf */
  count = 0;
  /** whether the leaf ends before the next entry */
  full = false;
  /** where the last entry is in the stack; -1 before the first of the leaf */
  lastEntry = -1;
  /** the last entry's name, where its leaf is gone */
  lastName = NO_NAME;
  shards: ShardWriter | undefined;
  old: OldDirectory | undefined;

  reset(node: number, name: Buffer): void {
    this.name = name;
    this.node = node;
    this.count = 0;
    this.full = false;
    this.lastEntry = -1;
    this.lastName = NO_NAME;
    this.shards = undefined;
    this.old = undefined;
  }
}

/** The parent's node of an open directory, read as runs of it are copied, forwards only. */
class OldDirectory {
  readonly entries = new EntryReader();
  readonly #leaves: LeafCursor;
  #part = -1;

  constructor(source: ChunkSource, directory: ChunkRef) {
    this.#leaves = new LeafCursor(source, directory);
  }

  isAt(part: number): boolean {
    return this.#part === part;
  }

  /** Goes to leaf number `part`, before its first entry. */
  async seek(part: number): Promise<void> {
    if (part < this.#part) throw malformed('a run that goes back');
    while (this.#leaves.part < part)
      if (!(await this.#leaves.advance())) throw malformed('a run beyond the old directory');
    this.entries.load(await this.#leaves.read());
    this.#part = part;
  }
}

export class TreeBuilder implements FileToRead {
  readonly content: ContentWriter;
  readonly #options: TreeBuilderOptions;
  readonly #records = new scan.ScanReader();
  readonly #stack = new Bytes(64 << 10, PENDING_MAX_BYTES);
  readonly #frames: Frame[] = [];
  readonly #id = Buffer.alloc(ID_BYTES);
  #depth = 0;
  #root: ChunkRef | undefined;
  #counts: scan.ScanCounts | undefined;
  #same = false;
  /** where the entry is that is being appended */
  #entry = 0;

  constructor(options: TreeBuilderOptions) {
    this.#options = options;
    this.content = new ContentWriter(options.store);
  }

  /** The file being read, as the walker saw it. */
  get entry(): EntryReader {
    return this.#records.entry;
  }

  path(): Buffer {
    const names = this.#frames.slice(1, this.#depth).map(({ name }) => name);
    const parts = [...names, this.entry.name()].flatMap((name) => [SLASH, name]);
    return Buffer.concat(parts);
  }

  restat(stat: EntryStat): void {
    setStat(this.#stack.view, this.#entry, stat);
  }

  /** What was built, once the walker has said that it is at its end. */
  get result(): BuiltTree | undefined {
    if (this.#counts === undefined) return undefined;
    return { root: this.#root, counts: this.#counts };
  }

  /**
   * Takes the next batch and its descriptors; both belong to the builder until this resolves. Rejects where the
   * records make no tree, or where reading or storing failed; then nothing more can be fed.
   */
  async feed(batch: Buffer, fds: readonly number[]): Promise<void> {
    let used = 0;
    try {
      this.#records.load(batch);
      while (this.#records.next()) {
        if (this.#counts !== undefined) throw malformed('a record after the end');
        const isFile = this.#records.what === scan.FILE_TO_READ && (this.#records.flags & 1) !== 0;
        const waiting = isFile ? this.#file(fds[used++]) : this.#take();
        if (waiting !== undefined) await waiting;
      }
      if (used !== fds.length) throw malformed('descriptors that belong to no file');
    } finally {
      for (const fd of fds.slice(used)) this.#options.discard(fd);
    }
  }

  #take(): Promise<void> | undefined {
    const records = this.#records;
    switch (records.what) {
      case scan.ENTER:
        this.#enter();
        return undefined;
      case scan.COPY:
        return this.#copy();
      case scan.FILE_TO_READ:
        return this.#unreadable();
      case scan.SPECIAL:
        return this.#special();
      case scan.LEAVE:
        return this.#leave();
      case scan.EVENT:
        this.#options.onEvent(records.flags, records.path, records.text);
        return undefined;
      default:
        this.#end();
        return undefined;
    }
  }

  /** The innermost open directory. */
  #top(): Frame {
    const frame = this.#frames[this.#depth - 1];
    if (this.#depth === 0 || frame === undefined) throw malformed('a record outside of any directory');
    return frame;
  }

  #enter(): void {
    const { oldLength, oldStart, nameStart, nameEnd, buffer } = this.#records;
    if ((nameStart === nameEnd) !== (this.#depth === 0)) throw malformed('a directory without name');
    if (this.#root !== undefined) throw malformed('a second root');
    if (this.#depth >= DEPTH_MAX) throw malformed('too deep');
    let frame = this.#frames[this.#depth];
    if (frame === undefined) {
      frame = new Frame();
      this.#frames.push(frame);
    }
    this.#depth++;
    frame.reset(appendNodeHead(this.#stack, 0), Buffer.from(buffer.subarray(nameStart, nameEnd)));
    if (oldLength === 0) return;
    const id = Buffer.from(buffer.subarray(oldStart, oldStart + ID_BYTES));
    frame.old = new OldDirectory(this.#options.source, { id, length: oldLength });
  }

  // ---- entries

  /** Runs `append`, once there is room for another entry in the innermost directory. */
  #append(append: () => Promise<void> | undefined): Promise<void> | undefined {
    const frame = this.#top();
    return frame.full ? this.#endLeaf(frame).then(append) : append();
  }

  #special(): Promise<void> | undefined {
    return this.#append(() => {
      this.#begin();
      this.#added();
      return undefined;
    });
  }

  /** Copies the walker's entry to the stack. */
  #begin(): void {
    const { buffer, start, end } = this.#records.entry;
    this.#entry = this.#stack.length;
    this.#stack.bytes(buffer, start, end);
  }

  /** A file that the walker could not open. */
  #unreadable(): Promise<void> | undefined {
    return this.#append(() => {
      this.#begin();
      this.content.begin(SPLITTER_NONE);
      return this.#content();
    });
  }

  #file(fd: number | undefined): Promise<void> | undefined {
    if (fd === undefined) throw malformed('a file without its descriptor');
    if (this.#depth === 0) {
      this.#options.discard(fd);
      throw malformed('a file outside of any directory');
    }
    return this.#append(() => {
      this.#begin();
      this.content.begin(SPLITTER_NONE);
      const flags = this.#options.readFile(fd, this);
      return typeof flags === 'number' ? this.#wasRead(flags) : flags.then((later) => this.#wasRead(later));
    });
  }

  #wasRead(flags: number): Promise<void> | undefined {
    const at = this.#entry + AT_FLAGS;
    const { buffer } = this.#stack;
    buffer[at] = (buffer[at] as number) | (flags & (FLAG_INCONSISTENT | FLAG_UNREADABLE));
    if (flags & FLAG_UNREADABLE) this.content.begin(SPLITTER_NONE);
    else putInt64(this.#stack.view, this.#entry + AT_SIZE, this.content.size);
    return this.#content();
  }

  #content(): Promise<void> | undefined {
    const waiting = this.content.finish(this.#stack);
    if (waiting !== undefined) return waiting.then(() => this.#added());
    this.#added();
    return undefined;
  }

  /** Takes the entry at the end of the stack into the innermost directory. */
  #added(): void {
    const frame = this.#top();
    const { view, buffer } = this.#stack;
    const start = this.#entry + ENTRY_HEAD_BYTES;
    const end = start + view.getUint16(this.#entry + AT_NAME_LENGTH, true);
    if (this.#compareWithLast(frame, start, end) <= 0) throw malformed('names out of order');
    endEntry(this.#stack, this.#entry);
    frame.lastEntry = this.#entry;
    frame.count++;
    frame.full = endsNode(this.#stack.length - frame.node, buffer, start, end);
  }

  /** Orders the name at `start`..`end` of the stack against the directory's last. */
  #compareWithLast(frame: Frame, start: number, end: number): number {
    const { view, buffer } = this.#stack;
    if (frame.lastEntry < 0)
      return compareBytes(buffer, start, end, frame.lastName, 0, frame.lastName.length);
    const last = frame.lastEntry + ENTRY_HEAD_BYTES;
    const lastEnd = last + view.getUint16(frame.lastEntry + AT_NAME_LENGTH, true);
    return compareBytes(buffer, start, end, buffer, last, lastEnd);
  }

  /** Takes over a run of the old directory's entries. */
  async #copy(): Promise<void> {
    const frame = this.#top();
    const { old } = frame;
    const { part, from, to } = this.#records;
    if (old === undefined) throw malformed('a run of no old directory');
    if (!old.isAt(part)) await old.seek(part);
    const { entries } = old;
    if (entries.index >= from) throw malformed('a run that goes back');
    while (entries.index < from) if (!entries.next()) throw malformed('a run beyond the leaf');
    for (;;) {
      if (frame.full) await this.#endLeaf(frame);
      this.#entry = this.#stack.length;
      this.#stack.bytes(entries.buffer, entries.start, entries.end);
      this.#added();
      if (entries.index + 1 >= to) return;
      if (entries.next()) continue;
      if (to === scan.TO_END) return;
      throw malformed('a run beyond the leaf');
    }
  }

  // ---- nodes

  /** The current leaf, stored. */
  async #putLeaf(frame: Frame): Promise<Shard> {
    setCount(this.#stack, frame.node, frame.count);
    const leaf = this.#stack.since(frame.node);
    const id = Buffer.alloc(ID_BYTES);
    await this.#options.store.put(CHUNK_TREE, leaf, id);
    return { id, length: leaf.length, entries: frame.count, name: this.#firstName(frame) };
  }

  #firstName(frame: Frame): Buffer {
    if (frame.count === 0) return NO_NAME;
    const at = frame.node + NODE_HEAD_BYTES;
    const start = at + ENTRY_HEAD_BYTES;
    const end = start + this.#stack.view.getUint16(at + AT_NAME_LENGTH, true);
    return Buffer.from(this.#stack.buffer.subarray(start, end));
  }

  /** Ends the current leaf and begins the next. */
  async #endLeaf(frame: Frame): Promise<void> {
    frame.shards ??= new ShardWriter(this.#options.store);
    await frame.shards.add(await this.#putLeaf(frame));
    const last = frame.lastEntry + ENTRY_HEAD_BYTES;
    const lastEnd = last + this.#stack.view.getUint16(frame.lastEntry + AT_NAME_LENGTH, true);
    frame.lastName = Buffer.from(this.#stack.buffer.subarray(last, lastEnd));
    frame.lastEntry = -1;
    frame.count = 0;
    frame.full = false;
    this.#stack.truncate(frame.node + NODE_HEAD_BYTES);
  }

  /** Ends the innermost directory: its node is stored and its entry goes to the directory around it. */
  #leave(): Promise<void> | undefined {
    const frame = this.#top();
    const { flags, nameStart, nameEnd } = this.#records.entry;
    if ((nameStart === nameEnd) !== (this.#depth === 1)) throw malformed('a directory without name');
    if (frame.shards !== undefined) return this.#leaveShards(frame, frame.shards);
    if (flags & FLAG_UNREADABLE) {
      if (frame.count > 0) throw malformed('entries of an unreadable directory');
      return this.#left(frame, NO_ID, 0);
    }
    setCount(this.#stack, frame.node, frame.count);
    const leaf = this.#stack.since(frame.node);
    const waiting = this.#options.store.put(CHUNK_TREE, leaf, this.#id);
    if (waiting === undefined) return this.#left(frame, this.#id, leaf.length);
    return waiting.then(() => this.#left(frame, this.#id, leaf.length));
  }

  async #leaveShards(frame: Frame, shards: ShardWriter): Promise<void> {
    if (this.#records.entry.flags & FLAG_UNREADABLE) throw malformed('entries of an unreadable directory');
    await shards.add(await this.#putLeaf(frame));
    const node = await shards.finish();
    await this.#left(frame, node.id, node.length);
  }

  #left(frame: Frame, id: Buffer, length: number): Promise<void> | undefined {
    this.#stack.truncate(frame.node);
    frame.reset(0, NO_NAME);
    this.#depth--;
    if (this.#depth === 0) return this.#leaveRoot(id, length);
    return this.#append(() => {
      this.#begin();
      this.#directory(id, length);
      this.#added();
      return undefined;
    });
  }

  #directory(id: Buffer, length: number): void {
    const at = this.#stack.extend(DIRECTORY_CONTENT_BYTES);
    id.copy(this.#stack.buffer, at);
    this.#stack.view.setUint32(at + ID_BYTES, length, true);
  }

  /** Stores the root node. */
  async #leaveRoot(id: Buffer, length: number): Promise<void> {
    const node = appendNodeHead(this.#stack, HEIGHT_ROOT);
    setCount(this.#stack, node, 1);
    this.#begin();
    this.#directory(id, length);
    endEntry(this.#stack, this.#entry);
    const chunk = this.#stack.since(node);
    const rootId = Buffer.alloc(ID_BYTES);
    await this.#options.store.put(CHUNK_TREE, chunk, rootId);
    this.#root = { id: rootId, length: chunk.length };
    this.#stack.truncate(0);
  }

  #end(): void {
    this.#same = (this.#records.flags & 1) !== 0;
    if (this.#depth !== 0) throw malformed('the end inside a directory');
    if (this.#same === (this.#root !== undefined)) throw malformed('an end without a tree');
    this.#counts = this.#records.counts;
  }
}
