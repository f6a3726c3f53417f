/**
 * `plakarctl cleanup`, as far as it takes the keys: finds what all snapshots
 * use, and leads storage through a cleanup's steps (cleanup.ts of the
 * repository). Runs in the chunker. Invariant: nothing is marked or removed
 * unless everything that snapshots refer to could be followed.
 */
import { describe, Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { CLEANED_UP } from '../../messages/client.ts';
import { CLEAN, CLEANED, TOTALS, TOTALS_ARE } from '../../messages/data.ts';
import { ReferenceChecker } from '../../repository/check.ts';
import type { Journal } from '../../repository/journal.ts';
import { references } from '../../snapshot/references.ts';
import type { Catalog } from './catalog.ts';
import type { SegmentFetcher } from './fetch.ts';
import { repack } from './repack.ts';
import { resealObjects } from './reseal.ts';
import type { SegmentStore } from './store.ts';
import { Usage } from './usage.ts';

/** How often what is in use is looked up again because others have changed the table. */
const LOOKS_MAX = 64;
/** Of a cleanup that seals anew: each rewrites a gigabyte at least, if there is so much. */
const ROUNDS_MAX = 1 << 16;
const NOTES_MAX = 16;
const NOTE_MAX_CHARS = 1024;

type Step = PayloadOf<typeof CLEAN.shape>;
type Cleaned = PayloadOf<typeof CLEANED.shape>;

export interface CleanParts {
  readonly repository: string;
  readonly fetcher: SegmentFetcher;
  readonly store: SegmentStore;
  readonly catalog: Catalog;
  readonly journal: Journal;
  readonly storage: Channel;
  readonly crypto: Channel;
  readonly now: () => number;
}

export interface CleanOptions {
  /** only find out what would be done */
  readonly dryRun: boolean;
  /** also seal anew what is under older epochs */
  readonly reseal: boolean;
}

export class Clean {
  readonly #parts: CleanParts;
  readonly #walked = new Set<string>();
  readonly #checker: ReferenceChecker;
  #cancelled = false;

  constructor(parts: CleanParts) {
    this.#parts = parts;
    const { fetcher } = parts;
    this.#checker = new ReferenceChecker({
      has: (id) => fetcher.locate(id) >= 0,
      read: ({ kind, id, length }) => {
        this.#checkCancelled();
        return fetcher.get(kind, id, length);
      },
      references,
      contents: false,
    });
  }

  /** Ends it where that does no harm: before anything is removed. */
  cancel(): void {
    this.#cancelled = true;
  }

  #checkCancelled(): void {
    if (this.#cancelled) throw new Failure('cleanup', '', { cause: 'interrupted', kind: 'interrupted' });
  }

  /**
   * Cleans up. With `reseal` what is sealed under older epochs than the newest
   * is sealed anew: round after round, each a whole cleanup, so that one that is
   * cut short has done what it has done; and then all objects beside packs.
   */
  async run({ dryRun, reseal }: CleanOptions): Promise<PayloadOf<typeof CLEANED_UP.shape>> {
    const { now, repository, storage } = this.#parts;
    const startedMs = now();
    let cleaned = await this.#round(dryRun, reseal);
    for (let left = cleaned.oldPacks, round = 1; reseal && !dryRun && left > 0; round++) {
      const next = await this.#round(dryRun, reseal);
      cleaned = together(cleaned, next);
      if (next.oldPacks >= left || round >= ROUNDS_MAX) break;
      left = next.oldPacks;
    }
    if (reseal && !dryRun) {
      await this.#step({ step: 'reindex' });
      await resealObjects(cleaned.epoch, { ...this.#parts, onObject: () => this.#checkCancelled() });
    }
    const shortened = dryRun ? undefined : await this.#shortenLog();
    const { payload: totals } = await storage.query(TOTALS, {}, TOTALS_ARE);
    const { packs, removedPacks, removedBytes, rewrittenPacks, copiedBytes, oldPacks } = cleaned;
    const { waitingPacks, waitingBytes, writers, givenUp, leftovers, notes } = cleaned;
    return {
      repository,
      dryRun,
      oldPacks: reseal ? oldPacks : 0,
      packs,
      removedPacks,
      removedBytes,
      rewrittenPacks,
      copiedBytes,
      waitingPacks,
      waitingBytes,
      writers,
      givenUp,
      leftovers,
      notes: noted(notes, shortened),
      storedBytes: totals.storedBytes,
      durationMs: now() - startedMs,
    };
  }

  /** One cleanup from its beginning to its end; or, of a dry run, what it would come to. */
  async #round(dryRun: boolean, reseal: boolean): Promise<Cleaned> {
    await this.#step({ step: 'begin' });
    await this.#walk();
    const { live, thin } = this.#usage();
    const plan = await this.#step({ step: 'plan', live, thin, reseal });
    return dryRun ? wouldBe(plan) : await this.#clean();
  }

  /** Has the log stay short; what fails does no harm, and is noted. */
  async #shortenLog(): Promise<string | undefined> {
    try {
      await this.#parts.journal.compact();
      return undefined;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return describe(new Failure('shorten the log', '', { cause: error }));
    }
  }

  async #clean(): Promise<Cleaned> {
    this.#checkCancelled();
    const { repack: ordinals } = await this.#step({ step: 'mark' });
    const { bytes, note } = await this.#repack(ordinals);
    let state = await this.#step({ step: 'settle' });
    await this.#walk();
    for (let look = 0; look < LOOKS_MAX; look++) {
      state = await this.#step({ step: 'remove', live: this.#usage().live, learned: state.learned });
      if (!state.done) continue;
      return { ...state, copiedBytes: state.copiedBytes + bytes, notes: noted(state.notes, note) };
    }
    throw new Failure('cleanup', '', { cause: 'others keep changing the repository', kind: 'busy' });
  }

  /**
   * Opens these segments, and stores what is in use of them again. Where that
   * fails, as on a full disk, their packs stay.
   */
  async #repack(ordinals: readonly number[]): Promise<{ bytes: number; note?: string }> {
    const { fetcher, store } = this.#parts;
    if (ordinals.length === 0) return { bytes: 0 };
    const { generation } = store;
    try {
      // what was stored a while ago may be in packs that are marked now: the table alone knows
      await store.flush(generation);
      store.idle();
      const { bytes } = await repack(ordinals, {
        fetcher,
        store,
        isWanted: (id) => this.#checker.seen.has(id),
        onSegment: () => this.#checkCancelled(),
      });
      await store.flush(generation);
      return { bytes };
    } catch (error) {
      if (!(error instanceof Failure) || error.kind === 'interrupted') throw error;
      return { bytes: 0, note: describe(new Failure('pack again what is in use', '', { cause: error })) };
    }
  }

  async #step(step: Pick<Step, 'step'> & Partial<Step>): Promise<Cleaned> {
    const { live, thin, learned, reseal } = step;
    const asked = { step: step.step, live, thin, learned, reseal };
    return (await this.#parts.storage.query(CLEAN, asked, CLEANED)).payload;
  }

  /** Follows the snapshots that have not been followed yet. */
  async #walk(): Promise<void> {
    const { catalog } = this.#parts;
    const { problems } = this.#checker.report;
    const snapshots = await catalog.list();
    for (const [name, why] of catalog.damaged) throw this.#refusal(`snapshots/${name}`, why);
    for (const { name, header } of snapshots) {
      if (this.#walked.has(name)) continue;
      const before = problems.length;
      await this.#checker.check({ kind: 2, id: header.root.id, length: header.root.length });
      this.#walked.add(name);
      if (problems.length === before) continue;
      // one that was removed meanwhile need not be whole
      const exists = (await catalog.list()).some((snapshot) => snapshot.name === name);
      if (exists) throw this.#refusal(`snapshot ${name}`, problems[before]?.text ?? '');
    }
  }

  #refusal(object: string, cause: string): Failure {
    return new Failure('follow', object, {
      cause,
      kind: 'damaged',
      remedy: 'plakarctl check names what is damaged, repair mends it',
    });
  }

  /** What is in use of each segment, as the table is now. */
  #usage(): Usage {
    return new Usage(this.#parts.fetcher, this.#checker.seen);
  }
}

/** What two rounds came to: what was done adds up, what there is now is as the second has it. */
function together(before: Cleaned, after: Cleaned): Cleaned {
  return {
    ...after,
    removedPacks: before.removedPacks + after.removedPacks,
    removedBytes: before.removedBytes + after.removedBytes,
    rewrittenPacks: before.rewrittenPacks + after.rewrittenPacks,
    copiedBytes: before.copiedBytes + after.copiedBytes,
    givenUp: before.givenUp + after.givenUp,
    leftovers: before.leftovers + after.leftovers,
    notes: [...new Set([...before.notes, ...after.notes])].slice(0, NOTES_MAX),
  };
}

/** The notes, and one more if there is one. */
function noted(notes: readonly string[], note: string | undefined): string[] {
  if (note === undefined) return [...notes];
  return [...notes.slice(0, NOTES_MAX - 1), note.slice(0, NOTE_MAX_CHARS)];
}

/** What a plan comes to if it is carried out. */
function wouldBe(plan: Cleaned): Cleaned {
  return {
    ...plan,
    removedPacks: plan.deadPacks + plan.sparsePacks,
    removedBytes: plan.deadBytes + plan.sparseBytes,
    rewrittenPacks: plan.sparsePacks,
    copiedBytes: plan.sparseLiveBytes,
  };
}
