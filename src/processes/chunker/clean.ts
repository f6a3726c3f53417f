/**
 * `plakarctl cleanup`, as far as it takes the keys: finds what all snapshots
 * use, and leads storage through a cleanup's steps (cleanup.ts of the
 * repository). Runs in the chunker. Invariant: nothing is marked or removed
 * unless everything that snapshots refer to could be followed.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { CLEANED_UP } from '../../messages/client.ts';
import { CLEAN, CLEANED, OBJECT_MAX_BYTES, TOTALS, TOTALS_ARE } from '../../messages/data.ts';
import { ReferenceChecker } from '../../repository/check.ts';
import { references } from '../../snapshot/references.ts';
import type { Catalog } from './catalog.ts';
import type { SegmentFetcher } from './fetch.ts';

/** How often what is in use is looked up again because others have changed the table. */
const LOOKS_MAX = 64;

type Step = PayloadOf<typeof CLEAN.shape>;
type Cleaned = PayloadOf<typeof CLEANED.shape>;

export interface CleanParts {
  readonly repository: string;
  readonly fetcher: SegmentFetcher;
  readonly catalog: Catalog;
  readonly storage: Channel;
  readonly now: () => number;
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

  async run(dryRun: boolean): Promise<PayloadOf<typeof CLEANED_UP.shape>> {
    const { now, repository, storage } = this.#parts;
    const startedMs = now();
    await this.#step({ step: 'begin' });
    await this.#walk();
    const plan = await this.#step({ step: 'plan', live: this.#live() });
    const cleaned = dryRun ? wouldBe(plan) : await this.#clean();
    const { payload: totals } = await storage.query(TOTALS, {}, TOTALS_ARE);
    const { packs, removedPacks, removedBytes, rewrittenPacks, copiedBytes } = cleaned;
    const { waitingPacks, waitingBytes, writers, givenUp, leftovers, notes } = cleaned;
    return {
      repository,
      dryRun,
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
      notes,
      storedBytes: totals.storedBytes,
      durationMs: now() - startedMs,
    };
  }

  async #clean(): Promise<Cleaned> {
    this.#checkCancelled();
    await this.#step({ step: 'mark' });
    let state = await this.#step({ step: 'settle' });
    await this.#walk();
    for (let look = 0; look < LOOKS_MAX; look++) {
      state = await this.#step({ step: 'remove', live: this.#live(), learned: state.learned });
      if (state.done) return state;
    }
    throw new Failure('cleanup', '', { cause: 'others keep changing the repository', kind: 'busy' });
  }

  async #step(step: Pick<Step, 'step'> & Partial<Step>): Promise<Cleaned> {
    const { live, learned } = step;
    return (await this.#parts.storage.query(CLEAN, { step: step.step, live, learned }, CLEANED)).payload;
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
      remedy: 'plakarctl check names what is damaged; rm removes it',
    });
  }

  /** A bit for each segment that has a chunk in use, as the table is now. */
  #live(): Buffer {
    const { fetcher } = this.#parts;
    let bits = Buffer.alloc(1 << 12);
    this.#checker.seen.each((id) => {
      const ordinal = fetcher.locate(id);
      if (ordinal < 0) return;
      const at = ordinal >>> 3;
      if (at >= OBJECT_MAX_BYTES) throw new Failure('cleanup', '', { cause: 'too many segments' });
      if (at >= bits.length)
        bits = Buffer.concat([bits], Math.min(OBJECT_MAX_BYTES, Math.max(at + 1, 2 * bits.length)));
      bits[at] = (bits[at] ?? 0) | (1 << (ordinal & 7));
    });
    return bits;
  }
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
