/**
 * Cleanup: returns the space of what no snapshot refers to. Called by the
 * storage process, which the chunker tells what is in use, and by simulations.
 * Nothing blocks: writers, readers and other cleanups go on meanwhile.
 *
 *   begin   learns of everything there is
 *           — the caller finds what all snapshots use
 *   mark    copies what is in use out of packs that are mostly not, and marks
 *           those and the ones that are not used at all
 *           — the caller opens the segments of `toRepack`, and stores what is in
 *             use of them again: being marked, it counts as new
 *   settle  finds the marks that every writer knows of; writers that give no
 *           sign of life are given up, so that they cannot commit any more
 *           — the caller finds what all snapshots use now, and does so again
 *             where that has changed under it
 *   remove  decides on those marks for good, and carries it out
 *
 * Owns what makes it safe:
 *
 * - A writer refers to no pack whose mark it knows of, and a mark is decided on
 *   only when all leases name it: from then on nothing new refers to its packs.
 *   Snapshots are listed after that, so nothing that does is overlooked.
 * - A marked pack goes only if each of its chunks that is in use is also in a
 *   pack that no mark names: two cleanups cannot rely on each other's packs.
 * - A pack in quarantine (lease.ts) goes by the same rule, and stays in
 *   quarantine otherwise: what is damaged in it is never referred to again.
 * - A verdict is put where there is none: one for each mark, whoever makes it,
 *   and it counts only while its mark is there. Everything behind it can be
 *   done by anybody, any number of times.
 */
import { describe, Failure } from '../error.ts';
import { copySegments } from './copy.ts';
import {
  decodeLease,
  decodeVerdict,
  encodeMark,
  encodeVerdict,
  kindOfLease,
  leasedSnapshot,
  MARK_PACKS_MAX,
  MARKS_MAX,
  type Verdict,
  VOID_SNAPSHOT,
  verdictName,
} from './lease.ts';
import { type CleanupPlan, type InUse, planCleanup } from './plan.ts';
import type { Store } from './store.ts';
import { LEASE_BEAT_MS } from './writer.ts';

/** A lease that does not change for so many looks belongs to nobody any more. */
const LOOKS = 20;
const LOOK_MS = (4 * LEASE_BEAT_MS) / LOOKS;
/** Objects that are removed at once. */
const PARALLEL = 8;

export interface CleanupOptions {
  readonly store: Store;
  readonly random: (bytes: number) => Buffer;
  /** Resolves after so many ms by a clock that does not jump. */
  readonly pause: (ms: number) => Promise<void>;
  /** Whether this process holds the lease: its writer lives. */
  readonly isOurs: (lease: string) => boolean;
}

/** What a cleanup came to. */
export interface CleanupReport {
  /** packs that were looked at */
  packs: number;
  removedPacks: number;
  /** of what was removed, bytes */
  removedBytes: number;
  rewrittenPacks: number;
  /** of what was copied to other packs, bytes */
  copiedBytes: number;
  /** packs that wait for writers who do not know of their mark */
  waitingPacks: number;
  waitingBytes: number;
  /** writers that are waited for */
  writers: number;
  /** writers that were given up */
  givenUp: number;
  /** what writers that died left behind */
  leftovers: number;
  /** what could not be done, and does no harm */
  readonly notes: string[];
}

/** The marks that can be decided on, and what the table had learned when they were found. */
export interface Settled {
  readonly marks: readonly string[];
  readonly learned: number;
}
export type IsLive = (ordinal: number) => boolean;

export class Cleanup {
  readonly #options: CleanupOptions;
  readonly report: CleanupReport = {
    packs: 0,
    removedPacks: 0,
    removedBytes: 0,
    rewrittenPacks: 0,
    copiedBytes: 0,
    waitingPacks: 0,
    waitingBytes: 0,
    writers: 0,
    givenUp: 0,
    leftovers: 0,
    notes: [],
  };
  #leftovers: readonly string[] = [];
  /** Segments to open, of packs that `mark` has marked: only the chunks in use are stored again. */
  toRepack: readonly number[] = [];
  /** writers elsewhere may be at work */
  #strangers = true;

  constructor(options: CleanupOptions) {
    this.#options = options;
  }

  /** Takes in what others have done, and packs that writers who died have left. */
  async begin(): Promise<void> {
    const { store } = this.#options;
    await store.refresh();
    this.#leftovers = await store.backend.leftovers();
    await this.#try('index what was found', () => store.recover());
  }

  /** What could be done, given what is in use. */
  plan(use: InUse): CleanupPlan {
    const plan = planCleanup(this.#options.store, use);
    this.report.packs = plan.packs;
    return plan;
  }

  /** On a full disk, and where an object cannot be read, cleaning goes on with what can be done. */
  async #try(operation: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.report.notes.push(describe(new Failure(operation, '', { cause: error })));
      return false;
    }
  }

  async mark(plan: CleanupPlan): Promise<void> {
    const { store, random } = this.#options;
    const names = [...plan.dead];
    await this.#try('copy what is in use', async () => {
      const { bytes, packs } = await copySegments(store, plan.moves);
      this.report.copiedBytes = bytes;
      this.report.rewrittenPacks = packs.length;
      names.push(...packs);
    });
    if (names.length === 0) return;
    await putMark(store, random, names);
    const { segments, marks } = store;
    this.toRepack = plan.repack.filter((ordinal) =>
      marks.marked.has(segments.packName(segments.packOf(ordinal))),
    );
  }

  /** Waits until every lease is known to belong to somebody, or is given up. */
  async settle(): Promise<Settled> {
    const { store, pause, isOurs } = this.#options;
    const pending = store.marks.heeded.filter((mark) => store.marks.verdictOn(mark) === undefined);
    const first = new Map<string, Buffer>();
    let leases = await this.#leases();
    const isSilent = (name: string, { object }: Held) =>
      !isOurs(name) && first.get(name)?.equals(object) === true;
    for (let look = 0; look < LOOKS; look++) {
      for (const [name, { object }] of leases) if (!first.has(name)) first.set(name, object);
      if (![...leases].some(([name, held]) => isSilent(name, held))) break;
      await pause(LOOK_MS);
      leases = await this.#leases();
    }
    for (const [name, held] of leases) {
      if (!isSilent(name, held)) continue;
      await this.#giveUp(name);
      leases.delete(name);
    }
    this.#strangers = [...leases.keys()].some((name) => !isOurs(name));
    const blocks = ({ seen }: Held, mark: string) => !seen.has(mark);
    this.report.writers = [...leases.values()].filter((held) =>
      pending.some((mark) => blocks(held, mark)),
    ).length;
    const marks = pending.filter((mark) => ![...leases.values()].some((held) => blocks(held, mark)));
    await store.refresh();
    return { marks, learned: store.learned };
  }

  async #leases(): Promise<Map<string, Held>> {
    const { backend } = this.#options.store;
    const found = new Map<string, Held>();
    for (const name of await backend.list('leases')) {
      const object = await backend.get('leases', name);
      if (object === undefined || kindOfLease(object) !== 'lease') continue;
      found.set(name, { object, seen: new Set(seenBy(object, name)) });
    }
    return found;
  }

  /** From now on the writer cannot commit; it may have done so just before. */
  async #giveUp(lease: string): Promise<void> {
    const { backend } = this.#options.store;
    const options = { ifAbsent: true, urgent: true };
    if (await backend.put('snapshots', leasedSnapshot(lease), [VOID_SNAPSHOT], options))
      this.report.givenUp++;
    await backend.delete('leases', lease);
  }

  /**
   * Decides on marks that are settled, given what is in use now, and carries
   * out whatever has been decided. False, and nothing done, where chunks have
   * come to be found elsewhere since: what is in use has to be looked up again,
   * with what `learned` is now.
   */
  async remove(settled: Settled, isLive: IsLive): Promise<boolean> {
    const { store } = this.#options;
    if (settled.learned !== store.learned) return false;
    const needed = store.needed(isLive);
    for (const mark of store.marks.names) {
      const verdict = await this.#verdict(mark, settled, needed);
      if (verdict !== undefined) await this.#carryOut(verdict);
      else this.#countWaiting(mark);
    }
    await this.#removeStrayVerdicts();
    if (!this.#strangers) await this.#removeLeftovers();
    await store.reindexAbsent();
    await store.backend.reserve();
    return true;
  }

  get learned(): number {
    return this.#options.store.learned;
  }

  #countWaiting(mark: string): void {
    const { segments, marks } = this.#options.store;
    if (marks.isQuarantine(mark)) return;
    for (const name of marks.packsOf(mark)) {
      const pack = segments.packNumber(name);
      if (pack === undefined) continue;
      this.report.waitingPacks++;
      this.report.waitingBytes += segments.packBytes(pack);
    }
  }

  /** The verdict on a mark: somebody's, or ours. Undefined where there is none yet, or nothing left to decide. */
  async #verdict(mark: string, settled: Settled, needed: ReadonlySet<string>): Promise<Verdict | undefined> {
    const { marks, backend } = this.#options.store;
    const known = marks.verdictOn(mark);
    if (known !== undefined) return known;
    const isUnreadable = !marks.heeded.includes(mark);
    if (!isUnreadable && !settled.marks.includes(mark)) return undefined;
    const packs = [...marks.packsOf(mark)];
    const verdict = { mark, remove: packs.filter((pack) => !needed.has(pack)) };
    if (marks.isQuarantine(mark) && !(await this.#keepQuarantine(packs, verdict.remove))) return undefined;
    const name = verdictName(mark);
    const options = { ifAbsent: true, urgent: true };
    if (await backend.put('leases', name, [encodeVerdict(verdict)], options)) {
      if ((await backend.stat('leases', mark)) !== undefined) return verdict;
      // it was decided and carried out long ago
      await backend.delete('leases', name);
      return undefined;
    }
    const object = await backend.get('leases', name);
    return object === undefined ? undefined : decodeVerdict(object, name);
  }

  /** Packs that stay remain in quarantine: another mark names them, before the verdict. False where all stay. */
  async #keepQuarantine(packs: readonly string[], remove: readonly string[]): Promise<boolean> {
    if (remove.length === 0) return false;
    const goes = new Set(remove);
    const stay = packs.filter((pack) => !goes.has(pack));
    const { store, random } = this.#options;
    if (stay.length > 0) await putMark(store, random, stay, true);
    return true;
  }

  async #carryOut({ mark, remove }: Verdict): Promise<void> {
    const { store } = this.#options;
    const { backend, segments } = store;
    const packs = store.marks.packsOf(mark);
    const goes = new Set(remove);
    const sizes = new Map<string, number>();
    for (const name of remove) {
      const pack = segments.packNumber(name);
      if (pack !== undefined) sizes.set(name, segments.packBytes(pack));
    }
    store.forget(remove);
    await inParallel(remove, async (name) => {
      const bytes = sizes.get(name) ?? (await backend.stat('packs', name)) ?? 0;
      if (!(await backend.delete('packs', name))) return;
      this.report.removedPacks++;
      this.report.removedBytes += bytes;
    });
    await store.reindex(goes);
    const { quarantined } = store.marks;
    await store.reclaim(new Set([...packs].filter((pack) => !goes.has(pack) && !quarantined.has(pack))));
    await backend.delete('leases', mark);
    await backend.delete('leases', verdictName(mark));
    await store.refresh();
  }

  /** Of a cleanup that was cut short at its very end, or woke up too late. */
  async #removeStrayVerdicts(): Promise<void> {
    const { backend, marks } = this.#options.store;
    for (const name of await backend.list('leases')) {
      const object = await backend.get('leases', name);
      if (object === undefined || kindOfLease(object) !== 'verdict') continue;
      if (marks.names.some((mark) => verdictName(mark) === name)) continue;
      const { mark } = decodeVerdict(object, name);
      if ((await backend.stat('leases', mark)) === undefined) await backend.delete('leases', name);
    }
  }

  /** What was there at the beginning, and was nobody's when all who live had been found. */
  async #removeLeftovers(): Promise<void> {
    const { backend } = this.#options.store;
    const still = new Set(await backend.leftovers());
    for (const name of this.#leftovers) {
      if (!still.has(name)) continue;
      await backend.removeLeftover(name);
      this.report.leftovers++;
    }
  }
}

/** Marks packs; in quarantine, they stay marked as long as something in use is in them alone. Space is found on a full disk. */
export async function putMark(
  store: Store,
  random: (bytes: number) => Buffer,
  packs: readonly string[],
  quarantine = false,
): Promise<void> {
  if (store.marks.names.length >= MARKS_MAX)
    throw new Failure('mark packs', '', { cause: `${MARKS_MAX} marks wait for writers`, kind: 'busy' });
  const object = encodeMark(packs.slice(0, MARK_PACKS_MAX), quarantine);
  await store.backend.put('leases', random(16).toString('hex'), [object], { urgent: true });
  await store.refresh();
}

interface Held {
  /** the lease as it is stored */
  readonly object: Buffer;
  /** the marks that it names */
  readonly seen: ReadonlySet<string>;
}

/** The marks that a lease names; one that is damaged names none. */
function seenBy(object: Buffer, name: string): readonly string[] {
  try {
    return decodeLease(object, name).seen;
  } catch (error) {
    if (error instanceof Failure && error.kind === 'damaged') return [];
    throw error;
  }
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const run = async () => {
    for (let at = next++; at < items.length; at = next++) await work(items[at] as T);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, run));
}
