/**
 * One push: takes what a walker (a scanner, or a client with its user's rights)
 * sends, reads the files, builds the tree, makes everything durable and then
 * the snapshot. Invariant: the header is written last, after a flush that no
 * loss came before, so a snapshot that exists can be restored.
 */
import { describe, Failure, toWire } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { PATH_MAX_BYTES, type problem, type progress, type summary } from '../../messages/client.ts';
import { BEGIN, BEGUN, END, OK, SET_ASIDE, TOTALS, TOTALS_ARE } from '../../messages/data.ts';
import { BATCH_MAX_DESCRIPTORS, BATCH_USED, SCAN, SCAN_DONE, SCAN_FAILED } from '../../messages/scan.ts';
import type { Journal } from '../../repository/journal.ts';
import {
  SNAPSHOT_ERRORS_MAX,
  type SnapshotHeader,
  snapshotId,
  snapshotName,
} from '../../repository/snapshot.ts';
import { type BuiltTree, type FileToRead, TreeBuilder } from '../../snapshot/builder.ts';
import { CHUNK_TREE, type ChunkRef } from '../../snapshot/chunks.ts';
import { sizesToRead } from '../../snapshot/scanlog.ts';
import type { Splitter } from '../../snapshot/splitter.ts';
import { streamTree } from '../../snapshot/stream.ts';
import { FLAG_INCONSISTENT, FLAG_UNREADABLE } from '../../snapshot/tree.ts';
import { decodeVisits, type Visit } from '../../snapshot/visits.ts';
import { check } from '../../sys/errno.ts';
import { blocksRead, readAhead, Stat, statFd } from '../../sys/files.ts';
import { closeAll } from '../../sys/socket.ts';
import { VERSION } from '../../version.ts';
import type { Catalog, Snapshot } from './catalog.ts';
import type { SegmentFetcher } from './fetch.ts';
import { FileReader } from './file.ts';
import { ParentNodes } from './nodes.ts';
import type { SegmentStore } from './store.ts';
import { WholeChunks } from './whole.ts';

const PROGRAM = `plakard ${VERSION}`;
/** Of a file that comes, what is read ahead of it; from there on it is read ahead as it is read. */
const AHEAD_BYTES = 1 << 20;
/** Of what is read, what comes from disks when it pays to tell them early. */
const COLD_SHARE = 1 / 8;
/** How often a file that changes while it is read is read again. */
const READ_AGAIN_MAX = 1;
const BLOCK_BYTES = 512;
const PROGRESS_MS = 200;
/** A file that changed this shortly before the parent snapshot began may have changed again within a clock's tick. */
const CLOCK_SLACK_SEC = 2;

export type Summary = PayloadOf<typeof summary>;
export type Progress = PayloadOf<typeof progress>;
export type Problem = PayloadOf<typeof problem>;

/** What a push is of. */
export interface PushRequest {
  readonly job: number;
  readonly host: string;
  readonly user: string;
  /** of the configuration, or empty where a client walks */
  readonly source: string;
  readonly paths: readonly Buffer[];
  readonly tags: readonly string[];
}

export interface PushParts {
  readonly repository: string;
  readonly store: SegmentStore;
  readonly fetcher: SegmentFetcher;
  readonly catalog: Catalog;
  readonly journal: Journal;
  readonly storage: Channel;
  readonly splitter: Splitter;
  readonly walker: Channel;
  readonly now: () => number;
  readonly onProgress: (progress: Progress) => void;
  readonly onProblem: (problem: Problem) => void;
}

interface Batch {
  readonly data: Buffer;
  readonly fds: readonly number[];
}

export class Push {
  readonly #request: PushRequest;
  readonly #parts: PushParts;
  readonly #files: FileReader;
  readonly #builder: TreeBuilder;
  readonly #generation: number;
  readonly #stat = new Stat();
  readonly #errors: { path: Buffer; text: string }[] = [];
  readonly #over = Promise.withResolvers<BuiltTree>();
  #batches: Promise<void> = Promise.resolve();
  #isOver = false;
  /** the parent's nodes on their way to the walker */
  #nodes: ParentNodes | undefined;
  #filesRead = 0;
  #readBytes = 0;
  #inconsistent = 0;
  #unreadable = 0;
  #parent: Snapshot | undefined;
  #progressMs = 0;
  /** the parent's tree, as far as it can be taken over */
  readonly #whole: WholeChunks;

  constructor(request: PushRequest, parts: PushParts) {
    this.#request = request;
    this.#parts = parts;
    this.#files = new FileReader(parts.store, parts.splitter);
    this.#generation = parts.store.generation;
    this.#whole = new WholeChunks(parts.fetcher, (segment) => this.#setAside(segment));
    // rejections reach whoever awaits `run`; before that they are nobody's
    this.#over.promise.catch(() => undefined);
    this.#builder = new TreeBuilder({
      source: parts.fetcher,
      store: parts.store,
      readFile: (fd, file) => this.#readFile(fd, file),
      discard: (fd) => this.#doneWith(fd),
      onEvent: (_event, path, text) => this.#problem(path, text),
    });
  }

  get job(): number {
    return this.#request.job;
  }

  /** The configured source, or empty where a client walks. */
  get source(): string {
    return this.#request.source;
  }

  /** From the first message to the walker to the durable snapshot. */
  async run(): Promise<Summary> {
    const { walker } = this.#parts;
    const { job } = this.#request;
    let lease: string | undefined;
    try {
      lease = await this.#begin();
      const summary = await this.#run(lease);
      // the snapshot is made, whether or not its walker lived to hear of it
      if (!walker.closed) walker.message(SCAN_DONE, { job, summary });
      return summary;
    } catch (error) {
      this.fail(error);
      await this.#batches;
      if (!walker.closed) walker.message(SCAN_FAILED, { job, ...toWire(error) });
      throw error;
    } finally {
      this.#isOver = true;
      const ended = lease === undefined ? undefined : this.#giveBack(lease);
      this.#nodes?.close();
      await ended;
    }
  }

  /** Gives the lease back, once; where that fails, a cleanup finds that nobody holds it any more. */
  #giveBack(lease: string): Promise<unknown> {
    this.#givenBack ??= this.#parts.storage.query(END, { snapshot: lease }, OK).catch(() => undefined);
    return this.#givenBack;
  }
  #givenBack: Promise<unknown> | undefined;

  /** Takes the lease, under which what is in the table may be referred to, and nothing that was on its way before. */
  async #begin(): Promise<string> {
    const { store, storage, journal } = this.#parts;
    await store.flush(this.#generation);
    const { payload } = await storage.query(BEGIN, {}, BEGUN);
    store.idle();
    for (const { object, text } of await journal.verify()) this.#notice(object, text);
    return payload.snapshot;
  }

  async #run(lease: string): Promise<Summary> {
    const { store, catalog, walker, storage, now, fetcher, journal } = this.#parts;
    const { host, user, source, paths, job } = this.#request;
    const startedMs = now();
    const before = { ...store.totals };
    const held = (await storage.query(TOTALS, {}, TOTALS_ARE)).payload.storedBytes;
    const parent = await catalog.parentFor(host, source, paths, user);
    if (parent !== undefined && (await this.#isReadable(parent))) this.#parent = parent;
    const root = this.#parent?.header.root;
    const trustBeforeSec = this.#parent && Math.floor(this.#parent.header.time / 1000) - CLOCK_SLACK_SEC;
    // a client walks all of what it walks; a scanner says what it visits
    const isScanned = source !== '' && root !== undefined;
    const parentName = isScanned ? this.#parent?.name : undefined;
    if (isScanned) this.#awaited = root;
    this.#nodes = root && new ParentNodes(walker, job);
    const scan = {
      job,
      root: root && { id: root.id, length: root.length },
      trustBeforeSec,
      parent: parentName,
    };
    const fds = this.#nodes === undefined ? [] : [this.#nodes.takeDescriptor()];
    walker.message(SCAN, scan, fds, { given: true });
    if (root !== undefined && !isScanned) this.#streamParent(root, undefined);
    const built = await this.#over.promise;
    const rootRef = built.root ?? root;
    if (rootRef === undefined) throw new Failure('build tree', '', { cause: 'the walker sent no root' });
    // an unchanged tree is taken over only while it is whole
    if (built.root === undefined) await fetcher.get(CHUNK_TREE, rootRef.id, rootRef.length);
    await store.flush(this.#generation);
    const stored = (await storage.query(TOTALS, {}, TOTALS_ARE)).payload.storedBytes;
    const counts = {
      added: store.totals.addedBytes - before.addedBytes,
      stored: Math.max(0, stored - held),
    };
    const header = this.#header(lease, built, rootRef, startedMs, counts);
    const { name } = await catalog.add(header);
    // beside the log, as the snapshot protects by itself what it refers to
    void this.#giveBack(lease);
    await journal.append('made', [header.id]);
    return this.#summary(name, header, built);
  }

  /** Ends the push: the walker, the client or the store gave up. */
  fail(error: unknown): void {
    this.#isOver = true;
    this.#nodes?.close();
    this.#over.reject(error);
  }

  // ---- the parent's tree to the walker

  /** Without that, what is damaged would be taken for stored. */
  async #setAside(segment: number): Promise<void> {
    try {
      await this.#parts.storage.query(SET_ASIDE, { segment }, OK);
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  /** Whether the root of its tree can be read; a push without a parent reads everything. */
  async #isReadable({ name, header: { root } }: Snapshot): Promise<boolean> {
    if (!this.#parts.fetcher.holds(root.id)) return false;
    try {
      await this.#whole.get(CHUNK_TREE, root.id, root.length);
      return true;
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
      this.#notice(`parent ${name}`, describe(error));
      return false;
    }
  }

  /** The scanner has begun, and said which directories it visits. */
  begun(visits: Buffer | undefined): void {
    const root = this.#awaited;
    this.#awaited = undefined;
    try {
      if (root === undefined) throw new Failure('scan', '', { cause: 'it began unasked' });
      this.#streamParent(root, visits && decodeVisits(visits));
    } catch (error) {
      this.fail(error);
    }
  }
  /** the parent's root, until the scanner has said what it wants of it */
  #awaited: ChunkRef | undefined;

  #streamParent(root: ChunkRef, visits: Visit | undefined): void {
    const nodes = this.#nodes;
    if (nodes === undefined) return;
    const onDamage = (error: unknown): void =>
      this.#notice(`parent ${this.#parent?.name ?? ''}`, describe(error));
    const options = {
      write: (bytes: Buffer) => nodes.write(bytes),
      onDamage,
      visits,
      isOver: () => this.#isOver,
    };
    streamTree(this.#whole, root, options)
      .then(() => nodes.end())
      .catch((error: unknown) => this.fail(error));
  }

  /** The walker has used so much of the parent's tree. */
  nodesUsed(bytes: number): void {
    this.#nodes?.used(bytes);
  }

  // ---- what the walker sends

  /** Takes a batch; they are worked on one after another. */
  batch(data: Buffer, fds: readonly number[]): void {
    this.#readAhead(fds);
    this.#batches = this.#batches.then(() => this.#feed({ data, fds }));
  }

  /**
   * Has the kernel read what comes next, while what came before is still worked on: a disk is fastest when it has much
   * to do. Only while much of what is read is not in memory anyhow, as each call costs as much as reading a small file
   * that is.
   */
  #readAhead(fds: readonly number[]): void {
    const fromDisk = blocksRead() * BLOCK_BYTES - this.#diskBytes;
    const read = this.#readBytes - this.#readBefore;
    if (read > 0 || fromDisk > 0) {
      this.#isCold = fromDisk > COLD_SHARE * read;
      this.#diskBytes += fromDisk;
      this.#readBefore = this.#readBytes;
    }
    if (this.#isCold) for (const fd of fds) readAhead(fd, 0, AHEAD_BYTES);
  }
  /** when that was looked at last: what came from disks since this process began, and what this push has read */
  #diskBytes = blocksRead() * BLOCK_BYTES;
  #readBefore = 0;
  #isCold = true;

  async #feed({ data, fds }: Batch): Promise<void> {
    if (this.#isOver) {
      closeAll(fds);
      return;
    }
    try {
      sizesToRead(data, this.#sizes);
      this.#files.expect(fds, this.#sizes);
      try {
        await this.#builder.feed(data, fds);
      } finally {
        this.#close();
      }
      this.#parts.store.checkGeneration(this.#generation);
      const { job } = this.#request;
      this.#parts.walker.message(BATCH_USED, { job, bytes: data.length, descriptors: fds.length });
      const { result } = this.#builder;
      if (result !== undefined) this.#over.resolve(result);
      this.#report(false);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Descriptors are closed by the batch, as most of them follow each other and go by one call. */
  #doneWith(fd: number): void {
    this.#read.push(fd);
  }

  #close(): void {
    closeAll(this.#read);
    this.#read.length = 0;
  }
  readonly #read: number[] = [];
  /** of the files of a batch */
  readonly #sizes = new Float64Array(BATCH_MAX_DESCRIPTORS);

  #readFile(fd: number, file: FileToRead): number | Promise<number> {
    try {
      const { entry } = file;
      const sparse = entry.size > this.#parts.splitter.sizes.min && this.#isSparse(fd);
      const waiting = this.#files.read(fd, entry.size, sparse, file.content);
      if (waiting !== undefined)
        return waiting.then(
          () => this.#wasRead(fd, file),
          (error: unknown) => this.#couldNot(fd, file, error),
        );
      return this.#wasRead(fd, file);
    } catch (error) {
      return this.#couldNot(fd, file, error);
    }
  }

  #isSparse(fd: number): boolean {
    check(statFd(fd, this.#stat), 'statx', '');
    return this.#stat.blocks * BLOCK_BYTES < this.#stat.size;
  }

  /** Whether the file held still while it was read; if not, it is read again. */
  #wasRead(fd: number, file: FileToRead): number | Promise<number> {
    if (this.#heldStill(fd, file)) return this.#done(fd, file);
    return this.#readAgain(fd, file);
  }

  #heldStill(fd: number, { entry, content }: FileToRead): boolean {
    check(statFd(fd, this.#stat), 'statx', '');
    const stat = this.#stat;
    return (
      stat.mtimeNsec === entry.mtimeNsec &&
      stat.mtimeSec === entry.mtimeSec &&
      stat.ctimeNsec === entry.ctimeNsec &&
      stat.ctimeSec === entry.ctimeSec &&
      // what has no size, as in /proc, holds what it holds
      (stat.size === content.size || stat.size === 0)
    );
  }

  async #readAgain(fd: number, file: FileToRead): Promise<number> {
    try {
      for (let tries = 0; tries < READ_AGAIN_MAX; tries++) {
        const { mtimeSec, mtimeNsec, ctimeSec, ctimeNsec, size } = this.#stat;
        file.content.begin(0);
        await this.#files.read(fd, size, this.#isSparse(fd), file.content);
        check(statFd(fd, this.#stat), 'statx', '');
        const after = this.#stat;
        file.restat(after);
        if (
          after.size === file.content.size &&
          after.mtimeSec === mtimeSec &&
          after.mtimeNsec === mtimeNsec &&
          after.ctimeSec === ctimeSec &&
          after.ctimeNsec === ctimeNsec
        )
          return this.#done(fd, file);
      }
      this.#inconsistent++;
      this.#problem(this.#pathOf(file), 'it changed while it was read');
      return this.#done(fd, file) | FLAG_INCONSISTENT;
    } catch (error) {
      return this.#couldNot(fd, file, error);
    }
  }

  #done(fd: number, file: FileToRead): number {
    this.#doneWith(fd);
    this.#filesRead++;
    this.#readBytes += file.content.size;
    return 0;
  }

  #couldNot(fd: number, file: FileToRead, error: unknown): number {
    this.#doneWith(fd);
    // a store that failed is no fault of the file's
    this.#parts.store.checkGeneration(this.#generation);
    if (error instanceof Failure && error.kind !== 'failed') throw error;
    this.#unreadable++;
    this.#problem(this.#pathOf(file), describe(error));
    return FLAG_UNREADABLE;
  }

  /** As the walker names paths: absolute. */
  #pathOf(file: FileToRead): Buffer {
    const [only] = this.#request.paths;
    const isBelow = this.#request.paths.length === 1 && only !== undefined && only.length > 1;
    return isBelow ? Buffer.concat([only, file.path()]) : file.path();
  }

  #problem(path: Buffer, text: string): void {
    const kept = Buffer.from(path.subarray(0, PATH_MAX_BYTES));
    if (this.#errors.length < SNAPSHOT_ERRORS_MAX)
      this.#errors.push({ path: kept, text: text.slice(0, 1024) });
    this.#parts.onProblem({ object: '', text: text.slice(0, 4096), paths: [kept] });
  }

  #notice(object: string, text: string): void {
    this.#parts.onProblem({ object: object.slice(0, 4096), text: text.slice(0, 4096), paths: undefined });
  }

  /** Tells how far it is, now and then. */
  #report(always: boolean): void {
    const nowMs = this.#parts.now();
    if (!always && nowMs - this.#progressMs < PROGRESS_MS) return;
    this.#progressMs = nowMs;
    const expected = this.#parent?.header.counts;
    this.#parts.onProgress({
      job: this.#request.job,
      operation: 'push',
      files: this.#filesRead,
      bytes: this.#readBytes,
      bytesExpected: expected?.bytes,
      filesExpected: expected?.files,
      storedBytes: this.#parts.store.totals.storedBytes,
      problems: this.#errors.length,
    });
  }

  // ---- the end

  #header(
    lease: string,
    { counts }: BuiltTree,
    root: ChunkRef,
    startedMs: number,
    bytes: { added: number; stored: number },
  ): SnapshotHeader {
    const { now } = this.#parts;
    const { host, user, source, paths, tags } = this.#request;
    const parent = this.#parent?.header.id;
    return {
      version: 1,
      id: snapshotId(lease),
      time: startedMs,
      end: now(),
      host,
      user,
      source,
      paths: [...paths],
      tags: [...tags],
      program: PROGRAM,
      parent,
      root: { id: Buffer.from(root.id), length: root.length },
      errors: this.#errors,
      counts: {
        files: counts.files,
        directories: counts.directories,
        others: counts.others,
        bytes: counts.bytes,
        new: counts.new,
        changed: counts.changed,
        unchanged: counts.unchanged,
        unreadable: counts.unreadable + this.#unreadable,
        inconsistent: this.#inconsistent,
        addedBytes: bytes.added,
        storedBytes: bytes.stored,
      },
    };
  }

  #summary(snapshot: string, header: SnapshotHeader, { counts }: BuiltTree): Summary {
    return {
      snapshot,
      repository: this.#parts.repository,
      source: header.source,
      parent: header.parent && snapshotName(header.parent),
      files: counts.files,
      directories: counts.directories,
      others: counts.others,
      bytes: counts.bytes,
      filesNew: counts.new,
      filesChanged: counts.changed,
      filesUnchanged: counts.unchanged,
      unreadable: header.counts.unreadable,
      inconsistent: this.#inconsistent,
      excluded: counts.excluded,
      readBytes: this.#readBytes,
      addedBytes: header.counts.addedBytes,
      storedBytes: header.counts.storedBytes,
      durationMs: header.end - header.time,
    };
  }
}
