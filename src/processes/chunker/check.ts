/**
 * `plakarctl check`, at its depths: fast (packs exist, every reference leads to
 * a chunk in the index), snapshots (what these snapshots refer to is read and
 * verified), full (every pack is, footers and orphans too) and sample (as fast,
 * and a part of all packs is read, another each time). Runs in the chunker,
 * which can recompute ids. Goes on behind every problem, and names for each the
 * object and the paths that it touches. What is read whoever refers to it is
 * read while references are followed, as crypto would have nothing to do.
 */
import { setImmediate } from 'node:timers/promises';
import { describe, Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { CHUNK_TREE } from '../../keys/derive.ts';
import type { CHECKED } from '../../messages/client.ts';
import {
  FINDINGS,
  FINDINGS_ARE,
  MISSING_IS,
  MISSING_PACK,
  PACK_IS,
  VERIFY_PACK,
} from '../../messages/data.ts';
import { ReferenceChecker } from '../../repository/check.ts';
import { INDEX_ID_BYTES } from '../../repository/index.ts';
import type { Journal } from '../../repository/journal.ts';
import { PACK_IS_MISSING } from '../../repository/problem.ts';
import { PendingTable } from '../../repository/table.ts';
import { references } from '../../snapshot/references.ts';
import type { Catalog, Snapshot } from './catalog.ts';
import { damagedPaths } from './damage.ts';
import type { SegmentFetcher } from './fetch.ts';
import { type Finding, Findings } from './findings.ts';
import type { Memory } from './memory.ts';
import type { Progress } from './push.ts';

export type Checked = PayloadOf<typeof CHECKED.shape>;

/** What to check. */
export interface CheckRequest {
  readonly depth: Checked['depth'];
  /** those to check, or all where empty */
  readonly snapshots: readonly string[];
  /** of a sample: in how many runs everything is read */
  readonly runs: number | undefined;
}

/** Slots that are left while segments are verified: to others, and to the nodes of trees. */
const SLOTS_LEFT = 4;
/** Following references makes way to what has arrived of segments. */
const FOLLOW_TURN_MS = 2;
const PROGRESS_MS = 200;
/** More than is ever told of segments. */
const REASONS_MAX = 4096;
const NOTES_MAX = 64;
const NOTE_MAX_CHARS = 1024;

export interface CheckParts {
  readonly repository: string;
  readonly job: number;
  readonly fetcher: SegmentFetcher;
  readonly catalog: Catalog;
  readonly journal: Journal;
  readonly memory: Memory;
  readonly storage: Channel;
  readonly now: () => number;
  readonly onProgress: (progress: Progress) => void;
  readonly onFinding: (finding: Finding) => void;
}

/** What a check has found that repairs go by. */
export interface Damage {
  /** names of packs with a segment or a footer that cannot be read */
  readonly packs: Set<string>;
  /** names of packs whose footer and index disagree */
  readonly disagreeing: Set<string>;
  /** ids of chunks that snapshots refer to, and that are missing or cannot be read, in hexadecimal */
  readonly chunks: Set<string>;
  /** names of snapshots that cannot be restored whole */
  readonly snapshots: Set<string>;
}

export class Check {
  readonly #parts: CheckParts;
  readonly #findings = new Findings();
  readonly damage: Damage = {
    packs: new Set(),
    disagreeing: new Set(),
    chunks: new Set(),
    snapshots: new Set(),
  };
  /** Chunks that snapshots refer to. */
  seen = new PendingTable();
  /** Ordinals of the segments of each pack, in order. */
  readonly segments = new Map<string, readonly number[]>();
  /** name of the pack that each segment is in */
  readonly #packs: string[] = [];
  readonly #quarantined = new Set<string>();
  /** segments that could not be read, by ordinal, and why, of as many as can be told */
  readonly #damagedSegments = new Map<number, string>();
  /** the packs that they are in */
  readonly #unreadablePacks = new Set<string>();
  /** the pack that is missing, by the beginnings of the ids of its chunks */
  readonly #missing = new Map<string, string>();
  readonly #notes: string[] = [];
  #cancelled = false;
  /** what one of several things at the same time failed by: the others end */
  #failed: unknown;
  #followedMs = 0;
  #indexedChunks = 0;
  #packsChecked = 0;
  #chunks = 0;
  #bytes = 0;
  #progressMs = 0;

  constructor(parts: CheckParts) {
    this.#parts = parts;
  }

  cancel(): void {
    this.#cancelled = true;
  }

  #checkCancelled(): void {
    if (this.#cancelled) throw new Failure('check', '', { cause: 'interrupted', kind: 'interrupted' });
    if (this.#failed !== undefined) throw this.#failed;
  }

  async run(request: CheckRequest): Promise<Checked> {
    const { now, repository, memory, fetcher } = this.#parts;
    const startedMs = now();
    const { depth } = request;
    const runs = depth === 'sample' ? (request.runs ?? 1) : undefined;
    const turn = runs === undefined ? undefined : memory.turn(runs);
    const isFull = depth === 'full' && request.snapshots.length === 0;
    // a daemon lives for long: what it has read before may have been damaged since
    const again = depth !== 'fast';
    const snapshots = await this.#snapshots(request.snapshots, again);
    // single snapshots do not need all of the index
    await this.#askStorage(depth === 'full' || depth === 'sample');
    await this.#verifyPacks((name) => isFull || isTurn(name, 0, runs, turn));
    const ofPacks = this.#segmentsOf((name, position) => isFull || isTurn(name, position, runs, turn));
    const wanted = new Set<number>();
    const following = this.#followReferences(snapshots, depth === 'sample' ? undefined : wanted);
    await this.#all([following, this.#verifySegments(ofPacks)]);
    const checker = await following;
    this.seen = checker.seen;
    for (const ordinal of ofPacks) wanted.delete(ordinal);
    if (depth === 'fast') this.#chunks = checker.report.chunks;
    else await this.#verifySegments([...wanted].sort((a, b) => a - b));
    this.#tellUnreadable();
    await this.#namePaths(snapshots);
    for (const finding of this.#findings) this.#parts.onFinding(finding);
    if (runs !== undefined) await memory.turned(runs);
    return {
      repository,
      depth,
      snapshots: snapshots.length,
      packs: this.#packsChecked,
      chunks: this.#chunks,
      bytes: this.#bytes,
      orphans: isFull ? Math.max(0, fetcher.chunks - checker.seen.count) : 0,
      duplicates: isFull ? Math.max(0, this.#indexedChunks - fetcher.chunks) : 0,
      quarantined: this.#quarantined.size,
      problems: this.#findings.count,
      runs,
      turn,
      notes: this.#notes.slice(0, NOTES_MAX).map((note) => note.slice(0, NOTE_MAX_CHARS)),
      durationMs: now() - startedMs,
    };
  }

  /** Waits for all; when one fails the others are ended first, as none may go on behind the check. */
  async #all(works: readonly Promise<unknown>[]): Promise<void> {
    const noted = works.map((work) =>
      work.catch((error: unknown) => {
        this.#failed ??= error;
      }),
    );
    await Promise.all(noted);
    if (this.#failed !== undefined) throw this.#failed;
  }

  /** The segments of packs that are not set aside which `isWanted` says, in their order. */
  #segmentsOf(isWanted: (pack: string, position: number) => boolean): number[] {
    const wanted = [...this.segments].flatMap(([name, ordinals]) =>
      this.#quarantined.has(name) ? [] : ordinals.filter((_, position) => isWanted(name, position)),
    );
    return wanted.sort((a, b) => a - b);
  }

  /** Those that are named, or all; a header that cannot be opened is damage. */
  async #snapshots(names: readonly string[], again: boolean): Promise<readonly Snapshot[]> {
    const { catalog, journal } = this.#parts;
    if (again) catalog.forget();
    if (names.length > 0) {
      const found = new Set<Snapshot>();
      for (const name of names) found.add(await catalog.resolve(name, () => true));
      return [...found];
    }
    const all = await catalog.list();
    for (const [name, why] of catalog.damaged) {
      this.#findings.add(`snapshots/${name}`, why);
      this.damage.snapshots.add(name);
    }
    for (const { object, text } of await journal.verify(again)) this.#findings.add(object, text);
    return all;
  }

  /** What storage has found when it read the index: what is wrong, what it mended, what is missing. */
  async #askStorage(again: boolean): Promise<void> {
    const { storage } = this.#parts;
    const { payload } = await storage.query(FINDINGS, { again }, FINDINGS_ARE);
    for (const { object, text } of payload.problems)
      if (text !== PACK_IS_MISSING) this.#findings.add(object, text);
    this.#notes.push(...payload.mended);
    for (let number = 0; ; number++) {
      const { payload: missing } = await storage.query(MISSING_PACK, { number }, MISSING_IS);
      if (missing.name === '') return;
      for (let at = 0; at < missing.ids.length; at += INDEX_ID_BYTES)
        this.#missing.set(missing.ids.toString('hex', at, at + INDEX_ID_BYTES), missing.name);
    }
  }

  async #verifyPacks(wantsFooter: (name: string) => boolean): Promise<void> {
    const { storage } = this.#parts;
    // the footer of the next pack is asked for once its name is known
    for (let pack = 0, footer = 0; ; ) {
      this.#checkCancelled();
      const { payload } = await storage.query(VERIFY_PACK, { pack, footer }, PACK_IS);
      const { name, segments, problems, disagrees, quarantined, chunks } = payload;
      if (name === '') return;
      if (footer === 0 && wantsFooter(name) && problems.length === 0) {
        [pack, footer] = [payload.pack, 1];
        continue;
      }
      for (const ordinal of segments) this.#packs[ordinal] = name;
      this.segments.set(name, segments);
      this.#indexedChunks += chunks;
      if (quarantined) this.#quarantined.add(name);
      else {
        for (const text of problems) this.#findings.add(`packs/${name}`, text);
        if (disagrees) this.damage.disagreeing.add(name);
        else if (problems.length > 0) this.damage.packs.add(name);
      }
      this.#packsChecked++;
      [pack, footer] = [payload.pack + 1, 0];
    }
  }

  async #followReferences(
    snapshots: readonly Snapshot[],
    wanted: Set<number> | undefined,
  ): Promise<ReferenceChecker> {
    const { fetcher } = this.#parts;
    const checker = new ReferenceChecker({
      has: (id) => {
        const ordinal = fetcher.locate(id);
        if (ordinal >= 0) wanted?.add(ordinal);
        return ordinal >= 0;
      },
      read: async ({ kind, id, length }) => {
        this.#checkCancelled();
        const nowMs = this.#parts.now();
        if (nowMs - this.#followedMs > FOLLOW_TURN_MS) {
          await setImmediate();
          this.#followedMs = this.#parts.now();
        }
        return fetcher.get(kind, id, length);
      },
      references,
      contents: false,
    });
    const { report } = checker;
    for (const { name, header } of snapshots) {
      const before = report.problems.length;
      await checker.check({ kind: CHUNK_TREE, id: header.root.id, length: header.root.length });
      // one that was removed meanwhile need not be whole
      if (report.problems.length > before && !(await this.#exists(name)))
        for (const { object } of report.problems.splice(before)) report.damaged.delete(idOf(object));
      this.#report();
    }
    const unneeded = new Set(this.#missing.values());
    for (const { object, text } of report.problems) {
      const id = idOf(object);
      const pack = this.#missing.get(id.slice(0, 2 * INDEX_ID_BYTES));
      const isLost = pack !== undefined && fetcher.locate(Buffer.from(id, 'hex')) < 0;
      if (isLost) unneeded.delete(pack);
      this.#findings.add(this.#objectOf(id), isLost ? PACK_IS_MISSING : text);
    }
    if (unneeded.size > 0)
      this.#notes.push(`missing packs of which nothing is needed, or all is in others: ${unneeded.size}`);
    for (const id of report.damaged) this.damage.chunks.add(id);
    return checker;
  }

  /** What is to be told of a chunk that cannot be had: the pack that it is, or was, in. */
  #objectOf(id: string): string {
    const ordinal = this.#parts.fetcher.locate(Buffer.from(id, 'hex'));
    const pack = ordinal < 0 ? this.#missing.get(id.slice(0, 2 * INDEX_ID_BYTES)) : this.#packs[ordinal];
    return pack === undefined ? `chunk ${id}` : `packs/${pack}`;
  }

  async #exists(snapshot: string): Promise<boolean> {
    return (await this.#parts.catalog.list()).some(({ name }) => name === snapshot);
  }

  /** Reads segments, several at a time, and recomputes the id of every chunk in them. */
  async #verifySegments(ordinals: readonly number[]): Promise<void> {
    let next = 0;
    const work = async () => {
      for (let at = next++; at < ordinals.length; at = next++) {
        this.#checkCancelled();
        await this.#verifySegment(ordinals[at] ?? 0);
        this.#report();
      }
    };
    const ahead = Math.max(1, this.#parts.fetcher.slots - SLOTS_LEFT);
    await this.#all(Array.from({ length: ahead }, work));
  }

  async #verifySegment(ordinal: number): Promise<void> {
    const { fetcher } = this.#parts;
    try {
      const segment = await fetcher.fresh(ordinal);
      try {
        fetcher.verify(segment);
        this.#chunks += segment.reader.count;
        this.#bytes += segment.raw.length;
      } finally {
        fetcher.release(segment);
      }
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
      // a cleanup has removed it meanwhile: nothing is found there any more
      if (!fetcher.isUsed(ordinal)) return;
      const why = this.#damagedSegments.size < REASONS_MAX ? describe(error) : 'it cannot be read';
      this.#damagedSegments.set(ordinal, why);
      this.#unreadablePacks.add(this.#packs[ordinal] ?? '?');
    }
  }

  /** In their order, however they were read. */
  #tellUnreadable(): void {
    for (const [ordinal, why] of [...this.#damagedSegments].sort(([a], [b]) => a - b)) {
      const name = this.#packs[ordinal] ?? '?';
      this.damage.packs.add(name);
      this.#findings.add(`packs/${name}`, `segment ${ordinal}: ${why}`);
    }
  }

  /** Says which paths the damage touches. */
  async #namePaths(snapshots: readonly Snapshot[]): Promise<void> {
    const { fetcher } = this.#parts;
    const { chunks } = this.damage;
    if (chunks.size === 0 && this.#damagedSegments.size === 0) return;
    const isDamaged = (id: Buffer): boolean =>
      chunks.has(id.toString('hex')) || this.#damagedSegments.has(fetcher.locate(id));
    for (const { name, header } of snapshots) {
      for await (const { path, id } of damagedPaths(fetcher, header.root, isDamaged)) {
        this.#checkCancelled();
        this.damage.snapshots.add(name);
        this.damage.chunks.add(id.toString('hex'));
        const touched = Buffer.concat([Buffer.from(`${name}:`), path]);
        this.#findings.touch(this.#objectOf(id.toString('hex')), touched);
      }
    }
  }

  #report(): void {
    const nowMs = this.#parts.now();
    if (nowMs - this.#progressMs < PROGRESS_MS) return;
    this.#progressMs = nowMs;
    this.#parts.onProgress({
      job: this.#parts.job,
      operation: 'check',
      files: 0,
      bytes: this.#bytes,
      bytesExpected: undefined,
      filesExpected: undefined,
      storedBytes: 0,
      problems: this.#findings.count + this.#unreadablePacks.size,
    });
  }
}

/** The id in the object of a reference checker's problem, `chunk ID`. */
function idOf(object: string): string {
  return object.slice('chunk '.length);
}

/**
 * Whether it is a segment's turn, by the name of its pack and its position in
 * it: neither changes, so that in `runs` runs in a row each has its turn once.
 */
export function isTurn(
  pack: string,
  position: number,
  runs: number | undefined,
  turn: number | undefined,
): boolean {
  if (runs === undefined) return false;
  return (Number.parseInt(pack.slice(0, 8), 16) + position) % runs === turn;
}
