/**
 * `plakarctl check`, at its three depths: fast (packs exist, every reference
 * leads to a chunk in the index), snapshots (what these snapshots refer to is
 * read and verified) and full (every pack is, footers and orphans too). Runs in
 * the chunker, which can recompute ids. Goes on behind every problem, and names
 * the paths that damage touches.
 */
import { describe, Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { CHECKED } from '../../messages/client.ts';
import { PACK_IS, VERIFY_PACK } from '../../messages/data.ts';
import { ReferenceChecker } from '../../repository/check.ts';
import type { Journal } from '../../repository/journal.ts';
import { references } from '../../snapshot/references.ts';
import type { Catalog, Snapshot } from './catalog.ts';
import { damagedPaths } from './damage.ts';
import type { SegmentFetcher } from './fetch.ts';
import type { Problem, Progress } from './push.ts';

export type Checked = PayloadOf<typeof CHECKED.shape>;
export type Depth = 'fast' | 'snapshots' | 'full';

/** Segments that are on their way while one is verified. */
const AHEAD = 6;
const PROGRESS_MS = 200;
/** Problems beyond these are counted and not told. */
const PROBLEMS_TOLD_MAX = 1000;

export interface CheckParts {
  readonly repository: string;
  readonly job: number;
  readonly fetcher: SegmentFetcher;
  readonly catalog: Catalog;
  readonly journal: Journal;
  readonly storage: Channel;
  readonly now: () => number;
  readonly onProgress: (progress: Progress) => void;
  readonly onProblem: (problem: Problem) => void;
}

export class Check {
  readonly #parts: CheckParts;
  /** name of the pack that each segment is in */
  readonly #packs: string[] = [];
  readonly #damagedSegments = new Map<number, string>();
  #cancelled = false;
  #problems = 0;
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
  }

  async run(depth: Depth, names: readonly string[]): Promise<Checked> {
    const { now, repository } = this.#parts;
    const startedMs = now();
    const snapshots = await this.#snapshots(names);
    await this.#verifyPacks(depth === 'full' && names.length === 0);
    const wanted = new Set<number>();
    const references = await this.#followReferences(snapshots, wanted);
    let orphans = 0;
    if (depth === 'full' && names.length === 0) {
      for (let ordinal = 0; ordinal < this.#packs.length; ordinal++)
        if (this.#packs[ordinal] !== undefined) wanted.add(ordinal);
      orphans = Math.max(0, this.#parts.fetcher.chunks - references.seen.count);
    }
    if (depth !== 'fast') await this.#verifySegments([...wanted].sort((a, b) => a - b));
    else this.#chunks = references.report.chunks;
    if (this.#problems > 0) await this.#namePaths(snapshots, references.report.damaged);
    return {
      repository,
      depth,
      snapshots: snapshots.length,
      packs: this.#packsChecked,
      chunks: this.#chunks,
      bytes: this.#bytes,
      orphans,
      problems: this.#problems,
      durationMs: now() - startedMs,
    };
  }

  /** Those that are named, or all; a header that cannot be opened is damage. */
  async #snapshots(names: readonly string[]): Promise<readonly Snapshot[]> {
    const { catalog } = this.#parts;
    if (names.length > 0) {
      const found = new Set<Snapshot>();
      for (const name of names) found.add(await catalog.resolve(name, () => true));
      return [...found];
    }
    const all = await catalog.list();
    for (const [name, why] of catalog.damaged) this.#problem(`snapshots/${name}`, why);
    for (const { object, text } of await this.#parts.journal.verify()) this.#problem(object, text);
    return all;
  }

  async #verifyPacks(footers: boolean): Promise<void> {
    const { storage } = this.#parts;
    for (let pack = 0; ; pack++) {
      this.#checkCancelled();
      const { payload } = await storage.query(VERIFY_PACK, { pack, footer: footers ? 1 : 0 }, PACK_IS);
      if (payload.name === '') return;
      pack = payload.pack;
      for (const ordinal of payload.segments) this.#packs[ordinal] = payload.name;
      for (const text of payload.problems) this.#problem(`packs/${payload.name}`, text);
      this.#packsChecked++;
    }
  }

  async #followReferences(snapshots: readonly Snapshot[], wanted: Set<number>): Promise<ReferenceChecker> {
    const { fetcher } = this.#parts;
    const checker = new ReferenceChecker({
      has: (id) => {
        const ordinal = fetcher.locate(id);
        if (ordinal >= 0) wanted.add(ordinal);
        return ordinal >= 0;
      },
      read: ({ kind, id, length }) => {
        this.#checkCancelled();
        return fetcher.get(kind, id, length);
      },
      references,
      contents: false,
    });
    for (const { name, header } of snapshots) {
      const before = checker.report.problems.length;
      await checker.check({ kind: 2, id: header.root.id, length: header.root.length });
      // one that was removed meanwhile need not be whole
      if (checker.report.problems.length > before && !(await this.#exists(name)))
        checker.report.problems.splice(before);
      this.#report();
    }
    for (const { object, text } of checker.report.problems) this.#problem(object, text);
    return checker;
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
    await Promise.all(Array.from({ length: AHEAD }, work));
  }

  async #verifySegment(ordinal: number): Promise<void> {
    const { fetcher } = this.#parts;
    try {
      const segment = await fetcher.segment(ordinal);
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
      this.#damagedSegments.set(ordinal, describe(error));
      this.#problem(`packs/${this.#packs[ordinal] ?? '?'}`, `segment ${ordinal}: ${describe(error)}`);
    }
  }

  /** Says which paths the damage touches. */
  async #namePaths(snapshots: readonly Snapshot[], missing: ReadonlySet<string>): Promise<void> {
    const { fetcher, onProblem } = this.#parts;
    if (missing.size === 0 && this.#damagedSegments.size === 0) return;
    const isDamaged = (id: Buffer): boolean =>
      missing.has(id.toString('hex')) || this.#damagedSegments.has(fetcher.locate(id));
    for (const { name, header } of snapshots) {
      for await (const path of damagedPaths(fetcher, header.root, isDamaged)) {
        this.#checkCancelled();
        const object = `${name}:`;
        onProblem({ object, text: 'cannot be restored', paths: [path] });
      }
    }
  }

  #problem(object: string, text: string): void {
    this.#problems++;
    if (this.#problems > PROBLEMS_TOLD_MAX) return;
    this.#parts.onProblem({ object: object.slice(0, 4096), text: text.slice(0, 4096), paths: undefined });
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
      problems: this.#problems,
    });
  }
}
