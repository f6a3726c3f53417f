/**
 * A snapshot's tree from one repository into another, whose keys, and so whose
 * chunk ids and chunk boundaries, are others. Called by the chunker that takes
 * snapshots over. It walks their tree and tells the builder (builder.ts) what a
 * scanner would have told it of the same files, so that the tree that comes out
 * is, byte for byte, the one that a push of them gives, and the two deduplicate
 * against each other.
 *
 * With a base, a snapshot that both repositories have, the three trees are read
 * side by side: what is the same in theirs as in the base of theirs is in ours
 * what it is in the base of ours, and is not even looked into. That takes no
 * map of ids, which no memory could hold.
 *
 * Two loops, one ahead of the other: the walk lays down records and contents,
 * the builder takes both. Invariant: what either waits for, the other will do.
 */
import { Failure } from '../error.ts';
import { TreeBuilder } from './builder.ts';
import { Bytes } from './bytes.ts';
import type { AheadSource, ChunkRef, ChunkSource } from './chunks.ts';
import type { ContentWriter } from './content.ts';
import { type CopyOptions, FileCopier, type FileToCopy } from './copyfile.ts';
import { LeafCursor, readRoot } from './directory.ts';
import * as scan from './scanlog.ts';
import { DEPTH_MAX } from './stream.ts';
import { AT_FLAGS, DIRECTORY, EntryReader, FILE, FLAG_INCONSISTENT, FLAG_UNREADABLE } from './tree.ts';
import { refsOf, type Twin, TwinDirectory, type TwinRefs } from './twin.ts';

/** Batches between the walk and the builder. */
const BATCHES_MAX = 4;
const SLASH = Buffer.from('/');

export interface TranslateOptions extends CopyOptions {
  /** throws where the job must end; called between batches */
  readonly check: () => void;
  /** something of theirs cannot be read; the path begins with a slash */
  readonly onDamage: (path: Buffer, failure: Failure) => void;
}

/** One open directory of theirs. */
interface Open {
  /** its name; empty for the root's */
  readonly name: Buffer;
  /** its own entry, without content */
  readonly entry: Buffer;
  readonly leaves: LeafCursor;
  readonly entries: EntryReader;
  /** in the base */
  twin: TwinDirectory | undefined;
}

/** A file of a batch. */
interface Job extends FileToCopy {
  readonly flags: number;
  readonly path: Buffer;
  readonly size: number;
}

interface Batch {
  readonly records: Buffer;
  readonly jobs: readonly Job[];
}

/** A run of entries of the base that is taken over. */
interface Run {
  readonly part: number;
  readonly from: number;
  to: number;
}

const isDamage = (error: unknown): error is Failure => error instanceof Failure && error.kind === 'damaged';

/**
 * Copies the tree whose root node is `root`; resolves with the root node of ours, once all of it has been put.
 * Damage of theirs is told, path by path, and then rejects with a Failure of kind 'damaged'.
 */
export async function translateTree(
  root: ChunkRef,
  base: TwinRefs | undefined,
  options: TranslateOptions,
): Promise<ChunkRef> {
  if (base?.theirs.id.equals(root.id)) return base.ours;
  return new Translation(options).run(root, base);
}

class Translation {
  readonly #options: TranslateOptions;
  readonly #copier: FileCopier;
  readonly #builder: TreeBuilder;
  readonly #stack: Open[] = [];
  readonly #out = new Bytes(scan.BATCH_LONGEST_BYTES);
  #source: ChunkSource;
  #ahead: AheadSource | undefined;
  #jobs: Job[] = [];
  #run: Run | undefined;
  readonly #batches: Batch[] = [];
  #isWalked = false;
  #wake: (() => void) | undefined;
  #room: (() => void) | undefined;
  #error: { readonly error: unknown } | undefined;
  /** those of the batch that the builder is at */
  #taking: readonly Job[] = [];
  #damages = 0;

  constructor(options: TranslateOptions) {
    this.#options = options;
    this.#source = options.theirs;
    this.#copier = new FileCopier(options);
    this.#builder = new TreeBuilder({
      source: options.ours,
      store: options.store,
      readFile: (token, { content }) => this.#readFile(this.#taking[token], content),
      discard: () => undefined,
      onEvent: () => undefined,
    });
  }

  async run(root: ChunkRef, base: TwinRefs | undefined): Promise<ChunkRef> {
    const building = this.#build().catch((error: unknown) => this.#fail(error));
    try {
      await this.#walk(root, base);
      this.#isWalked = true;
      this.#wake?.();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#ahead?.stop();
    }
    await building;
    if (this.#error !== undefined) throw this.#error.error;
    if (this.#damages > 0)
      throw new Failure('read tree', '', {
        cause: `${this.#damages} paths are damaged`,
        kind: 'damaged',
      });
    const built = this.#builder.result?.root;
    if (built === undefined) throw new Failure('copy tree', '', { cause: 'it has no root' });
    return built;
  }

  #fail(error: unknown): void {
    this.#error ??= { error };
    this.#copier.end(error);
    this.#wake?.();
    this.#room?.();
  }

  // ---- the walk

  async #walk(root: ChunkRef, base: TwinRefs | undefined): Promise<void> {
    const { theirs, ours } = this.#options;
    const entry = await readRoot(theirs, root);
    const directory = entry.directory();
    let refs: TwinRefs | undefined;
    if (base !== undefined) {
      const both = { theirs: await readRoot(theirs, base.theirs), ours: await readRoot(ours, base.ours) };
      refs = refsOf(both);
    } else if (directory !== undefined) {
      // everything will be asked for, in this order
      this.#ahead = theirs.below({ id: Buffer.from(directory.id), length: directory.length });
      this.#source = this.#ahead;
    }
    await this.#enter(entry, refs);
    for (let open = this.#stack.at(-1); open !== undefined; open = this.#stack.at(-1)) {
      if (await this.#advance(open)) await this.#entry(open);
      else await this.#leave(open);
    }
    scan.appendEnd(this.#out, false, scan.noCounts());
    await this.#flush();
  }

  /** Moves to the next entry; false at the end of the directory, or where it is damaged. */
  async #advance({ entries, leaves }: Open): Promise<boolean> {
    try {
      while (!entries.next()) {
        const leaf = await leaves.next();
        if (leaf === undefined) return false;
        entries.load(leaf);
      }
      return true;
    } catch (error) {
      this.#damaged(this.#path(), error);
      return false;
    }
  }

  #damaged(path: Buffer, error: unknown): void {
    if (!isDamage(error)) throw error;
    this.#damages++;
    this.#options.onDamage(path, error);
  }

  /** The path of the innermost directory, or of what is in it. */
  #path(name?: Buffer): Buffer {
    const names = this.#stack.slice(1).map((open) => open.name);
    if (name !== undefined) names.push(name);
    return names.length === 0 ? SLASH : Buffer.concat(names.flatMap((each) => [SLASH, each]));
  }

  async #entry(open: Open): Promise<void> {
    const { entries } = open;
    const twin = await this.#twin(open);
    if (twin !== undefined && isSame(entries, twin.theirs)) return this.#takeOver(twin);
    this.#endRun();
    if (entries.type === DIRECTORY) await this.#enter(entries, twin && refsOf(twin));
    else if (entries.type === FILE) await this.#file(entries, twin);
    else this.#record(scan.SPECIAL, 0, entries, entries.end, 0);
    if (this.#isFull) await this.#flush();
  }

  /** The entry in the base; a base that is damaged is no help from there on, and no harm. */
  async #twin(open: Open): Promise<Twin | undefined> {
    const { twin, entries } = open;
    try {
      return await twin?.find(entries.buffer, entries.nameStart, entries.nameEnd);
    } catch (error) {
      if (!isDamage(error)) throw error;
      open.twin = undefined;
      return undefined;
    }
  }

  #takeOver({ part, index }: Twin): void {
    const run = this.#run;
    if (run !== undefined && run.part === part && run.to === index) {
      run.to++;
      return;
    }
    this.#endRun();
    this.#run = { part, from: index, to: index + 1 };
  }

  #endRun(): void {
    const run = this.#run;
    if (run === undefined) return;
    this.#run = undefined;
    scan.appendCopy(this.#out, run.part, run.from, run.to);
  }

  /** Appends a record of the entry up to `end`, without the flags of `without`. */
  #record(what: number, flags: number, entry: EntryReader, end: number, without: number): void {
    const out = this.#out;
    const record = scan.beginRecord(out, what, flags);
    appendEntry(out, entry, end, without);
    scan.endRecord(out, record);
  }

  async #file(entry: EntryReader, twin: Twin | undefined): Promise<void> {
    const isMissing = (entry.flags & FLAG_UNREADABLE) !== 0;
    this.#record(scan.FILE_TO_READ, isMissing ? 0 : 1, entry, entry.contentStart, FLAG_INCONSISTENT);
    if (isMissing) return;
    const theirs = Buffer.from(entry.content());
    const isKnown = twin !== undefined && twin.theirs.type === FILE && twin.theirs.content().equals(theirs);
    const job: Job = {
      theirs,
      ours: isKnown ? Buffer.from(twin.ours.content()) : undefined,
      flags: entry.flags & FLAG_INCONSISTENT,
      path: this.#path(entry.name()),
      size: entry.size,
    };
    this.#jobs.push(job);
    await this.#copier.lay(job, () => this.#flush());
  }

  async #enter(entry: EntryReader, twin: TwinRefs | undefined): Promise<void> {
    const out = this.#out;
    const directory = entry.directory();
    const own = new Bytes(entry.contentStart - entry.start);
    appendEntry(own, entry, entry.contentStart, 0);
    const record = scan.beginRecord(out, scan.ENTER, twin === undefined ? 0 : 1);
    if (twin !== undefined) {
      out.bytes(twin.ours.id);
      out.u32(twin.ours.length);
    }
    out.bytes(entry.buffer, entry.nameStart, entry.nameEnd);
    scan.endRecord(out, record);
    if (this.#stack.length >= DEPTH_MAX) throw new Failure('copy tree', '', { cause: 'too deep' });
    const isSameNode = twin !== undefined && directory?.id.equals(twin.theirs.id) === true;
    if (isSameNode) await this.#takeOverAll(twin.ours);
    if (isSameNode || directory === undefined) {
      this.#appendLeave(own.since(0));
      return;
    }
    this.#stack.push({
      name: Buffer.from(entry.name()),
      entry: own.since(0),
      leaves: new LeafCursor(this.#source, { id: Buffer.from(directory.id), length: directory.length }),
      entries: new EntryReader(),
      twin: twin && new TwinDirectory(this.#options.theirs, this.#options.ours, twin),
    });
  }

  /** Takes over every entry of a directory of ours. */
  async #takeOverAll(directory: ChunkRef): Promise<void> {
    const leaves = new LeafCursor(this.#options.ours, directory);
    const entries = new EntryReader();
    for (let leaf = await leaves.next(); leaf !== undefined; leaf = await leaves.next())
      if (entries.load(leaf).count > 0) scan.appendCopy(this.#out, leaves.part, 0, scan.TO_END);
  }

  async #leave(open: Open): Promise<void> {
    this.#endRun();
    this.#appendLeave(open.entry);
    this.#stack.pop();
    if (this.#isFull) await this.#flush();
  }

  #appendLeave(entry: Buffer): void {
    const record = scan.beginRecord(this.#out, scan.LEAVE, 0);
    this.#out.bytes(entry);
    scan.endRecord(this.#out, record);
  }

  get #isFull(): boolean {
    return this.#out.length >= scan.BATCH_FULL_BYTES || this.#jobs.length >= scan.BATCH_FULL_DESCRIPTORS;
  }

  /** Hands over what has been laid down; waits while the builder is far behind. */
  async #flush(): Promise<void> {
    if (this.#error !== undefined) throw this.#error.error;
    if (this.#out.length === 0) return;
    this.#batches.push({ records: Buffer.from(this.#out.since(0)), jobs: this.#jobs });
    this.#out.truncate(0);
    this.#jobs = [];
    this.#copier.hurry();
    this.#wake?.();
    while (this.#batches.length > BATCHES_MAX && this.#error === undefined)
      await new Promise<void>((resolve) => {
        this.#room = resolve;
      });
  }

  // ---- the builder

  async #build(): Promise<void> {
    for (;;) {
      this.#options.check();
      const batch = this.#batches.shift();
      if (batch === undefined) {
        if (this.#isWalked || this.#error !== undefined) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      this.#room?.();
      this.#taking = batch.jobs;
      await this.#builder.feed(
        batch.records,
        batch.jobs.map((_, token) => token),
      );
    }
  }

  async #readFile(job: Job | undefined, content: ContentWriter): Promise<number> {
    if (job === undefined) throw new Failure('copy tree', '', { cause: 'a file that nobody laid down' });
    try {
      await this.#copier.copy(job, content);
    } catch (error) {
      if (job.ours !== undefined) throw error;
      this.#damaged(job.path, error);
      return FLAG_UNREADABLE;
    }
    if (content.size !== job.size)
      throw new Failure('copy file', job.path.toString(), {
        cause: `${content.size} of ${job.size} bytes came`,
      });
    return job.flags;
  }
}

/** Whether the two entries are the same, contents too. */
function isSame(a: EntryReader, b: EntryReader): boolean {
  return a.buffer.compare(b.buffer, b.start, b.end, a.start, a.end) === 0;
}

/** Appends the entry up to `end`, as a record of that length. */
function appendEntry(out: Bytes, entry: EntryReader, end: number, without: number): void {
  const at = out.length;
  out.bytes(entry.buffer, entry.start, end);
  out.view.setUint32(at, end - entry.start, true);
  out.buffer[at + AT_FLAGS] = (out.buffer[at + AT_FLAGS] ?? 0) & ~without;
}
