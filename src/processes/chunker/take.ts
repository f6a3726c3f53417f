/**
 * The taking side of a sync: copies snapshots of another repository into this
 * one, each with its id. Runs in the chunker of the repository that is written,
 * which reads the other through a reader session of that one's chunker.
 *
 * Invariants: a snapshot is made only when all of it is durable here and has
 * been found whole, read back; its id means the same in both repositories, or
 * is an error by name. Of contents, the other chunker has verified each chunk
 * against its id there, this one computes the id here over bytes of its own,
 * crypto opens what it has sealed before it leaves, and sizes are compared file
 * by file: to read them back once more would find nothing but a disk that
 * lies, which `check` is for.
 */

import type { Reader } from '../../client/reader.ts';
import { describe, Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { BEGIN, BEGUN, DELETE, END, OK, TOTALS, TOTALS_ARE } from '../../messages/data.ts';
import { SYNC_TOLD_MAX, type SYNCED, type TAKE } from '../../messages/sync.ts';
import type { Journal } from '../../repository/journal.ts';
import { becomes, provisionalHeader } from '../../repository/provisional.ts';
import { encodeSnapshot, type SnapshotHeader } from '../../repository/snapshot.ts';
import { type ChunkRef, ID_BYTES } from '../../snapshot/chunks.ts';
import { IdMap } from '../../snapshot/idmap.ts';
import type { Splitter } from '../../snapshot/splitter.ts';
import { translateTree } from '../../snapshot/translate.ts';
import type { TwinRefs } from '../../snapshot/twin.ts';
import { verifyWhole } from '../../snapshot/whole.ts';
import type { Catalog } from './catalog.ts';
import type { SegmentFetcher } from './fetch.ts';
import type { Problem, Progress } from './push.ts';
import { isEverything, type Listed, type Selected, select } from './selection.ts';
import type { SegmentStore } from './store.ts';

const PROGRESS_MS = 200;
/** Two headers are of one snapshot if they are equal with this for a root. */
const NO_ROOT: ChunkRef = { id: Buffer.alloc(ID_BYTES), length: 1 };

export type TakeRequest = PayloadOf<typeof TAKE.shape>;
export type Synced = PayloadOf<typeof SYNCED.shape>;
type Outcome = Synced['snapshots'][number]['outcome'];

export interface TakeParts {
  readonly repository: string;
  /** a session on the other repository; closed by whoever made it */
  readonly theirs: Reader;
  readonly store: SegmentStore;
  readonly fetcher: SegmentFetcher;
  readonly catalog: Catalog;
  readonly journal: Journal;
  readonly storage: Channel;
  readonly splitter: Splitter;
  readonly now: () => number;
  /** Runs `work` while nobody else writes to the store. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  readonly onProgress: (progress: Progress) => void;
  readonly onProblem: (problem: Problem) => void;
}

const isDamage = (error: unknown): error is Failure => error instanceof Failure && error.kind === 'damaged';

export class Take {
  readonly #request: TakeRequest;
  readonly #parts: TakeParts;
  readonly #ids = new IdMap();
  readonly #told: Synced['snapshots'] = [];
  #theirs: ReadonlyMap<string, SnapshotHeader> = new Map();
  #cancelled = false;
  #held = 0;
  #problems = 0;
  #damagedPaths = 0;
  #failure: 'damaged' | 'failed' | undefined;
  #movedBytes = 0;
  #files = 0;
  /** of the snapshots that are done, and of all */
  #doneBytes = 0;
  #expectedBytes = 0;
  /** what came since the snapshot at work was begun */
  #beganBytes = 0;
  #progressMs = 0;
  readonly #totals = { chunks: 0, addedBytes: 0, storedBytes: 0 };

  constructor(request: TakeRequest, parts: TakeParts) {
    this.#request = request;
    this.#parts = parts;
  }

  cancel(): void {
    this.#cancelled = true;
    this.#parts.theirs.close();
  }

  #check(): void {
    if (this.#cancelled)
      throw new Failure(this.#request.operation, '', { cause: 'interrupted', kind: 'interrupted' });
  }

  async run(): Promise<Synced> {
    const startedMs = this.#parts.now();
    try {
      const selected = await this.#select();
      const wanted = await this.#missing(selected);
      if (!this.#request.dryRun) await this.#moveAll(wanted);
      else for (const each of wanted) this.#tell(each, 'moved');
      return this.#synced(selected, startedMs);
    } catch (error) {
      // what fails as the session was closed fails as it was interrupted
      this.#check();
      throw error;
    }
  }

  #synced({ unknown }: Selected, startedMs: number): Synced {
    const { from, dryRun } = this.#request;
    return {
      from,
      to: this.#parts.repository,
      dryRun,
      created: false,
      snapshots: this.#told,
      held: this.#held,
      unknown: [...unknown],
      ...this.#totals,
      movedBytes: this.#movedBytes,
      failure: this.#failure,
      durationMs: this.#parts.now() - startedMs,
    };
  }

  #tell({ name, header }: Listed, outcome: Outcome): void {
    if (this.#told.length >= SYNC_TOLD_MAX)
      throw new Failure(this.#request.operation, '', {
        cause: `more than ${SYNC_TOLD_MAX} snapshots at once`,
        remedy: 'select fewer, such as with -since',
      });
    this.#told.push({ snapshot: name, time: header.time, bytes: header.counts.bytes, outcome });
  }

  #problem(object: string, text: string, path?: Buffer): void {
    this.#problems++;
    const paths = path === undefined ? undefined : [path];
    this.#parts.onProblem({ object: object.slice(0, 4096), text: text.slice(0, 4096), paths });
  }

  #failed(kind: 'damaged' | 'failed'): void {
    if (this.#failure !== 'damaged') this.#failure = kind;
  }

  // ---- which

  async #select(): Promise<Selected> {
    const { theirs } = this.#parts;
    const { selection, lenient, from } = this.#request;
    const { snapshots, damaged } = await theirs.list();
    this.#theirs = new Map(snapshots.map(({ name, header }) => [name, header]));
    const selected = await select(snapshots, selection, (name) => theirs.resolve(name), lenient);
    // nobody can tell what else a header said that cannot be read
    if (isEverything(selection) || selected.named.size === 0)
      for (const { name, text } of damaged) {
        this.#problem(`${from} snapshots/${name}`, text);
        this.#failed('damaged');
      }
    return selected;
  }

  /** Those of the selected that are not here; what became of the others is told. */
  async #missing({ snapshots, named }: Selected): Promise<Listed[]> {
    const { catalog, journal, repository } = this.#parts;
    const { operation, from } = this.#request;
    const ours = new Map((await catalog.list()).map(({ name, header }) => [name, header]));
    if (operation === 'clone') this.#refuseOthers(ours);
    const removed = await journal.removed();
    const missing: Listed[] = [];
    for (const each of snapshots) {
      const { name, header } = each;
      const our = ours.get(name);
      if (our !== undefined && isSame(our, header)) this.#held++;
      else if (our !== undefined || catalog.damaged.has(name)) {
        const why = catalog.damaged.get(name) ?? `it is not the one of ${from}`;
        this.#problem(`${repository} snapshots/${name}`, why);
        this.#failed(our === undefined ? 'damaged' : 'failed');
        this.#tell(each, 'failed');
      } else if (removed.has(name) && !named.has(name)) this.#tell(each, 'removed');
      else missing.push(each);
    }
    return missing;
  }

  /** A clone is the same as what it was made of; the rest of one that was cut short may be there. */
  #refuseOthers(ours: ReadonlyMap<string, SnapshotHeader>): void {
    const { from } = this.#request;
    for (const [name, header] of ours) {
      if (this.#theirs.has(becomes(header) ?? name)) continue;
      throw new Failure('clone to', this.#parts.repository, {
        cause: `it holds snapshot ${name}, which ${from} does not`,
        remedy: `plakarctl sync ${from} to ${this.#parts.repository} adds to it`,
      });
    }
  }

  // ---- moving

  async #moveAll(wanted: readonly Listed[]): Promise<void> {
    for (const { header } of wanted) this.#expectedBytes += header.counts.bytes;
    await this.#removeProvisional();
    for (const each of wanted) {
      this.#check();
      this.#tell(each, await this.#move(each));
      this.#doneBytes += each.header.counts.bytes;
      this.#files += each.header.counts.files;
      this.#beganBytes = this.#movedBytes;
      this.#report(true);
    }
  }

  /** Takes one over; damage is told and does not end the others. */
  async #move(each: Listed): Promise<Outcome> {
    const { name } = each;
    try {
      await this.#parts.inTurn(() => this.#copy(each));
      return 'moved';
    } catch (error) {
      if (!isDamage(error)) throw new Failure('copy snapshot', name, { cause: error });
      if (this.#damagedPaths === 0) this.#problem(`snapshot ${name}`, describe(error));
      this.#failed('damaged');
      return 'failed';
    }
  }

  async #copy({ name, header }: Listed): Promise<void> {
    const { store, storage, catalog, journal } = this.#parts;
    this.#check();
    const { generation } = store;
    await store.flush(generation);
    const lease = (await storage.query(BEGIN, {}, BEGUN)).payload.snapshot;
    store.idle();
    const before = { ...store.totals };
    const heldBytes = await this.#storedBytes();
    try {
      const root = await this.#tree({ name, header }, generation);
      const copied = { ...header, root: { id: Buffer.from(root.id), length: root.length } };
      const made = await catalog.copy(lease, copied, provisionalHeader(copied, lease));
      if (made) await journal.append('made', [header.id]);
      await this.#removeProvisional();
    } finally {
      // where that fails, a cleanup finds that nobody holds it any more
      await storage.query(END, { snapshot: lease }, OK).catch(() => undefined);
      this.#totals.chunks += store.totals.chunks - before.chunks;
      this.#totals.addedBytes += store.totals.addedBytes - before.addedBytes;
    }
    this.#totals.storedBytes += Math.max(0, (await this.#storedBytes()) - heldBytes);
  }

  async #storedBytes(): Promise<number> {
    return (await this.#parts.storage.query(TOTALS, {}, TOTALS_ARE)).payload.storedBytes;
  }

  /** The tree in this repository, durable and whole. */
  async #tree(each: Listed, generation: number): Promise<ChunkRef> {
    this.#damagedPaths = 0;
    const base = await this.#base(each);
    try {
      return await this.#translate(each, base, generation);
    } catch (error) {
      if (base === undefined || !isDamage(error) || this.#damagedPaths > 0) throw error;
      // what was to be taken over is not whole, or may go: all of it is taken anew, and so mended
      return await this.#translate(each, undefined, generation);
    }
  }

  async #translate(
    { name, header }: Listed,
    base: TwinRefs | undefined,
    generation: number,
  ): Promise<ChunkRef> {
    const { theirs, fetcher, store, splitter, repository } = this.#parts;
    const check = (): void => {
      this.#check();
      store.checkGeneration(generation);
    };
    const root = await translateTree(header.root, base, {
      theirs,
      ours: fetcher,
      store,
      splitter,
      ids: this.#ids,
      check,
      onBytes: (bytes) => {
        this.#movedBytes += bytes;
        this.#report(false);
      },
      onDamage: (path, failure) => {
        this.#damagedPaths++;
        this.#problem(`${name}:`, `in ${this.#request.from}: ${describe(failure)}`, path);
      },
    });
    await store.flush(generation);
    try {
      await verifyWhole(root, { source: fetcher, holds: (id) => fetcher.holds(id), check });
    } catch (cause) {
      throw new Failure('verify the copy in', repository, { cause });
    }
    return root;
  }

  /** A snapshot that both have, as like this one as can be: what was to become it, or the one of its kind before it. */
  async #base({ name, header }: Listed): Promise<TwinRefs | undefined> {
    const { catalog, fetcher } = this.#parts;
    let best: { refs: TwinRefs; header: SnapshotHeader } | undefined;
    for (const ours of await catalog.list()) {
      const counterpart = becomes(ours.header) ?? ours.name;
      const theirs = this.#theirs.get(counterpart);
      if (theirs === undefined || !isOneKind(theirs, header) || !fetcher.holds(ours.header.root.id)) continue;
      const refs = { theirs: theirs.root, ours: ours.header.root };
      if (counterpart === name) return refs;
      if (best === undefined || isNearer(theirs, best.header, header)) best = { refs, header: theirs };
    }
    return best?.refs;
  }

  /** Removes provisional snapshots of syncs that were cut short, once what they were to become is there. */
  async #removeProvisional(): Promise<void> {
    const { catalog, storage } = this.#parts;
    const all = await catalog.list();
    const names = new Set(all.map(({ name }) => name));
    for (const { name, header } of all) {
      const next = becomes(header);
      if (next !== undefined && names.has(next)) await storage.query(DELETE, { kind: 'snapshots', name }, OK);
    }
  }

  #report(always: boolean): void {
    const nowMs = this.#parts.now();
    if (!always && nowMs - this.#progressMs < PROGRESS_MS) return;
    this.#progressMs = nowMs;
    const bytes = this.#doneBytes + this.#movedBytes - this.#beganBytes;
    this.#parts.onProgress({
      job: this.#request.job,
      operation: this.#request.operation,
      files: this.#files,
      bytes,
      bytesExpected: Math.max(bytes, this.#expectedBytes),
      filesExpected: undefined,
      storedBytes: this.#parts.store.totals.storedBytes,
      problems: this.#problems,
    });
  }
}

/** Whether two headers of one id are of one snapshot: all but where its tree is. */
function isSame(a: SnapshotHeader, b: SnapshotHeader): boolean {
  return encodeSnapshot({ ...a, root: NO_ROOT }).equals(encodeSnapshot({ ...b, root: NO_ROOT }));
}

/** Whether two are of the same host, source and paths. */
function isOneKind(a: SnapshotHeader, b: SnapshotHeader): boolean {
  return (
    a.host === b.host &&
    a.source === b.source &&
    a.paths.length === b.paths.length &&
    a.paths.every((path, i) => b.paths[i]?.equals(path) === true)
  );
}

/** Whether `a` is nearer to `to` than `b` is: the last before it, or else the first after it. */
function isNearer(a: SnapshotHeader, b: SnapshotHeader, to: SnapshotHeader): boolean {
  const isBefore = ({ time }: SnapshotHeader): boolean => time <= to.time;
  if (isBefore(a) !== isBefore(b)) return isBefore(a);
  return isBefore(a) ? a.time > b.time : a.time < b.time;
}

/** What a clone to a repository that is yet to be made would move: all of it. */
export async function survey(request: TakeRequest, catalog: Catalog, now: () => number): Promise<Synced> {
  const startedMs = now();
  const all = await catalog.list();
  const { snapshots } = await select(
    all,
    request.selection,
    (name) => catalog.resolve(name, () => true),
    request.lenient,
  );
  return {
    from: request.from,
    to: request.from,
    dryRun: true,
    created: true,
    snapshots: snapshots.slice(0, SYNC_TOLD_MAX).map(({ name, header }) => ({
      snapshot: name,
      time: header.time,
      bytes: header.counts.bytes,
      outcome: 'moved' as const,
    })),
    held: 0,
    unknown: [],
    chunks: 0,
    movedBytes: 0,
    addedBytes: 0,
    storedBytes: 0,
    failure: catalog.damaged.size > 0 ? 'damaged' : undefined,
    durationMs: now() - startedMs,
  };
}
