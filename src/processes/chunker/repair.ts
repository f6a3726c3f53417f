/**
 * `plakarctl repair`, as far as it takes the keys: checks everything, has the
 * index made again, sets damaged packs aside and stores again what of them can
 * be read. What is lost then comes back with the next push of a source that
 * still has it: lost chunks count as new. Runs in the chunker. Invariant:
 * nothing is removed but snapshots that cannot be restored whole, and those
 * only when it is told to.
 */
import { Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { CHUNK_TREE } from '../../keys/derive.ts';
import type { REPAIRED } from '../../messages/client.ts';
import { OK, QUARANTINE, REINDEX, REINDEXED, SALVAGED, SCAN_IS, SCAN_PACK } from '../../messages/data.ts';
import type { REPAIR_REPOSITORY } from '../../messages/jobs.ts';
import { ReferenceChecker } from '../../repository/check.ts';
import { references } from '../../snapshot/references.ts';
import type { Snapshot } from './catalog.ts';
import { Check, type CheckParts, type Damage } from './check.ts';
import { damagedPaths } from './damage.ts';
import { repack } from './repack.ts';
import type { SegmentStore } from './store.ts';

type Request = PayloadOf<typeof REPAIR_REPOSITORY.shape>;
export type Repaired = PayloadOf<typeof REPAIRED.shape>;

const SOURCES_MAX = 256;
const SNAPSHOTS_TOLD_MAX = 4096;
const PACKS_MAX = 16_384;

export interface RepairParts extends CheckParts {
  readonly store: SegmentStore;
  /** segments that cannot be read, by ordinal: known from one repair to the next */
  readonly unreadable: Set<number>;
  /** Removes snapshots, and has the log say so. */
  readonly remove: (snapshots: readonly string[]) => Promise<void>;
}

/** What is lost: live chunks that nobody can read. */
interface Lost {
  readonly chunks: number;
  /** names of the snapshots that cannot be restored whole, and the sources of those */
  readonly snapshots: string[];
  readonly sources: Set<string>;
}

export class Repair {
  readonly #parts: RepairParts;
  readonly #check: Check;
  #cancelled = false;

  constructor(parts: RepairParts) {
    this.#parts = parts;
    this.#check = new Check(parts);
  }

  cancel(): void {
    this.#cancelled = true;
    this.#check.cancel();
  }

  async run({ step, dryRun, accept, remove }: Request): Promise<Repaired> {
    const { now } = this.#parts;
    const startedMs = now();
    const repaired = step === 'mend' ? await this.#mend(dryRun, accept) : this.#nothing(false);
    const lost = dryRun ? this.#found() : await this.#lost();
    repaired.lostChunks = lost.chunks;
    repaired.broken = lost.snapshots.slice(0, SNAPSHOTS_TOLD_MAX);
    repaired.sources = [...lost.sources].slice(0, SOURCES_MAX);
    if (step === 'end' && remove && lost.snapshots.length > 0) {
      await this.#parts.remove(lost.snapshots);
      repaired.removed = lost.snapshots.length;
    }
    repaired.durationMs = now() - startedMs;
    return repaired;
  }

  #nothing(dryRun: boolean): Repaired {
    return {
      repository: this.#parts.repository,
      dryRun,
      problems: 0,
      indexed: 0,
      missing: 0,
      putBack: 0,
      unmended: 0,
      quarantined: 0,
      salvagedChunks: 0,
      salvagedBytes: 0,
      unreadableSegments: 0,
      lostChunks: 0,
      broken: [],
      sources: [],
      removed: 0,
      accepted: 0,
      unaccepted: 0,
      durationMs: 0,
    };
  }

  async #mend(dryRun: boolean, accept: boolean): Promise<Repaired> {
    const { journal } = this.#parts;
    const repaired = this.#nothing(dryRun);
    const check = this.#check;
    const { problems } = await check.run({ depth: 'full', snapshots: [], runs: undefined });
    repaired.problems = problems;
    if (dryRun) {
      repaired.quarantined = check.damage.packs.size;
      repaired.unaccepted = (await journal.verify(true)).length;
      return repaired;
    }
    if (accept) repaired.accepted = (await journal.accept()).length;
    repaired.unaccepted = (await journal.verify(true)).length;
    await this.#reindex(repaired, [...check.damage.disagreeing], false);
    const scanned = await this.#scan();
    const packs = new Map<string, readonly number[]>(scanned);
    for (const name of check.damage.packs) packs.set(name, check.segments.get(name) ?? []);
    if (packs.size > 0) await this.#salvage(packs, check.damage, repaired);
    await this.#reindex(repaired, [], true);
    return repaired;
  }

  async #reindex(repaired: Repaired, disagreeing: string[], forgetMissing: boolean): Promise<void> {
    const { storage } = this.#parts;
    const { payload } = await storage.query(REINDEX, { disagreeing, forgetMissing }, REINDEXED);
    repaired.indexed += payload.indexed;
    repaired.missing += payload.missing;
    repaired.putBack += payload.putBack;
    repaired.unmended = payload.unmended;
  }

  /** Packs that nothing describes any more, and the segments that were found in them. */
  async #scan(): Promise<Map<string, readonly number[]>> {
    const { storage } = this.#parts;
    const found = new Map<string, readonly number[]>();
    for (let number = 0; number < PACKS_MAX; number++) {
      this.#checkCancelled();
      const { payload } = await storage.query(SCAN_PACK, { number }, SCAN_IS);
      if (payload.name === '') break;
      found.set(payload.name, payload.segments);
    }
    return found;
  }

  #checkCancelled(): void {
    if (this.#cancelled) throw new Failure('repair', '', { cause: 'interrupted', kind: 'interrupted' });
  }

  /** Sets packs aside, and stores again what is in use of them. */
  async #salvage(
    packs: ReadonlyMap<string, readonly number[]>,
    damage: Damage,
    repaired: Repaired,
  ): Promise<void> {
    const { storage, store, fetcher, unreadable } = this.#parts;
    const names = [...packs.keys()].slice(0, PACKS_MAX);
    await storage.query(QUARANTINE, { packs: names }, OK);
    repaired.quarantined = names.length;
    const { generation } = store;
    const { seen } = this.#check;
    // what is below a directory that cannot be read is not known to be in use
    const isAll = damage.chunks.size > 0;
    const salvaged = await repack(
      names.flatMap((name) => [...(packs.get(name) ?? [])]),
      {
        fetcher,
        store,
        isWanted: (id) => isAll || seen.has(id),
        onSegment: () => this.#checkCancelled(),
      },
    );
    await store.flush(generation);
    for (const ordinal of salvaged.damaged.keys()) unreadable.add(ordinal);
    await storage.query(SALVAGED, { packs: names }, OK);
    repaired.salvagedChunks = salvaged.chunks;
    repaired.salvagedBytes = salvaged.bytes;
    repaired.unreadableSegments = salvaged.damaged.size;
  }

  /** What the check has found, as far as it was told by the first chunk of each path. */
  #found(): Lost {
    const { chunks, snapshots } = this.#check.damage;
    return { chunks: chunks.size, snapshots: [...snapshots], sources: new Set() };
  }

  /** Follows all snapshots, and finds what of them cannot be read. */
  async #lost(): Promise<Lost> {
    const { fetcher, catalog, unreadable } = this.#parts;
    const isLost = (id: Buffer): boolean => {
      const ordinal = fetcher.locate(id);
      return ordinal < 0 || (!fetcher.holds(id) && unreadable.has(ordinal));
    };
    const checker = new ReferenceChecker({
      has: (id) => !isLost(id),
      read: ({ kind, id, length }) => {
        this.#checkCancelled();
        return fetcher.get(kind, id, length);
      },
      references,
      contents: false,
    });
    const snapshots = await catalog.list();
    for (const { header } of snapshots)
      await checker.check({ kind: CHUNK_TREE, id: header.root.id, length: header.root.length });
    const { damaged } = checker.report;
    const lost: Lost = { chunks: damaged.size, snapshots: [...catalog.damaged.keys()], sources: new Set() };
    const isDamaged = (id: Buffer) => damaged.has(id.toString('hex'));
    for (const snapshot of damaged.size > 0 ? snapshots : []) {
      if (!(await this.#isBroken(snapshot, isDamaged))) continue;
      lost.snapshots.push(snapshot.name);
      if (snapshot.header.source !== '') lost.sources.add(snapshot.header.source);
    }
    return lost;
  }

  async #isBroken({ header }: Snapshot, isDamaged: (id: Buffer) => boolean): Promise<boolean> {
    for await (const _ of damagedPaths(this.#parts.fetcher, header.root, isDamaged)) return true;
    return false;
  }
}
