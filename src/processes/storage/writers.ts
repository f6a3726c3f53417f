/**
 * What storage does for pushes and cleanups beyond packs: it keeps their
 * leases alive, commits, and takes a cleanup's steps as the chunker tells it
 * to, which knows what is in use. Owns which leases are of this process.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { Received } from '../../ipc/message.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import {
  BEGIN,
  BEGUN,
  CLEAN,
  CLEANED,
  COMMIT,
  END,
  OK,
  PUT_IS,
  THIN_ENTRY_BYTES,
} from '../../messages/data.ts';
import { COMMIT_COPY } from '../../messages/sync.ts';
import { Cleanup, type Settled } from '../../repository/cleanup.ts';
import type { CleanupPlan } from '../../repository/plan.ts';
import { commitCopy } from '../../repository/provisional.ts';
import type { Store } from '../../repository/store.ts';
import { LEASE_BEAT_MS, WriterLease } from '../../repository/writer.ts';

const NOTES_MAX = 16;
const NOTE_MAX_CHARS = 1024;

type Step = PayloadOf<typeof CLEAN.shape>;

/** Answers what the chunker asks of it. */
export function serveWriters(store: Store, chunker: Channel): void {
  const leases = new Leases(store);
  chunker.handler(BEGIN, async (message) => {
    chunker.reply(message, BEGUN, { snapshot: await leases.begin() });
  });
  chunker.handler(COMMIT, async (message) => {
    const { snapshot, data } = message.payload;
    await leases.get(snapshot).commit(data);
    chunker.reply(message, OK, {});
  });
  chunker.handler(COMMIT_COPY, async (message) => {
    const { lease, ...headers } = message.payload;
    const made = await commitCopy(leases.get(lease), store.backend, headers);
    chunker.reply(message, PUT_IS, { made });
  });
  chunker.handler(END, async (message) => {
    await leases.end(message.payload.snapshot);
    chunker.reply(message, OK, {});
  });
  const steps = new CleanupSteps(store, leases);
  chunker.handler(CLEAN, async (message: Received<Step>) => {
    const done = await steps.take(message.payload);
    chunker.reply(message, CLEANED, steps.state(done));
  });
}

class Leases {
  readonly #store: Store;
  /** by the snapshot they are for */
  readonly #leases = new Map<string, WriterLease>();
  #timer: NodeJS.Timeout | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  async begin(): Promise<string> {
    const lease = await WriterLease.begin(this.#store, randomBytes);
    this.#leases.set(lease.snapshot, lease);
    this.#timer ??= setInterval(() => this.#renew(), LEASE_BEAT_MS);
    return lease.snapshot;
  }

  #renew(): void {
    // a lease that cannot be renewed may be taken away, and then its commit says so
    for (const lease of this.#leases.values()) lease.renew().catch(() => undefined);
  }

  get(snapshot: string): WriterLease {
    const lease = this.#leases.get(snapshot);
    if (lease === undefined) throw new Failure('use lease', snapshot, { cause: 'there is none' });
    return lease;
  }

  async end(snapshot: string): Promise<void> {
    const lease = this.get(snapshot);
    this.#leases.delete(snapshot);
    if (this.#leases.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    await lease.end();
  }

  has(name: string): boolean {
    for (const lease of this.#leases.values()) if (lease.name === name) return true;
    return false;
  }
}

/** One cleanup at a time, from `begin` to `end`. */
class CleanupSteps {
  readonly #store: Store;
  readonly #leases: Leases;
  #cleanup: Cleanup | undefined;
  #plan: CleanupPlan | undefined;
  #settled: Settled | undefined;
  #reseal = false;

  constructor(store: Store, leases: Leases) {
    this.#store = store;
    this.#leases = leases;
  }

  /** Takes a step; false where it has to be taken again. */
  async take({ step, live, thin, learned, reseal }: Step): Promise<boolean> {
    if (step === 'begin') {
      this.#cleanup = new Cleanup({
        store: this.#store,
        random: randomBytes,
        pause,
        isOurs: (lease) => this.#leases.has(lease),
      });
      await this.#cleanup.begin();
      return true;
    }
    const cleanup = this.#begun();
    if (step === 'plan') {
      this.#reseal = reseal === true;
      this.#plan = cleanup.plan({
        isLive: isLiveIn(live),
        thinBytes: thinBytesIn(thin),
        ...(this.#reseal ? { mustReseal: (ordinal) => this.#isOld(ordinal) } : {}),
      });
    } else if (step === 'reindex') await this.#store.reindex(new Set(), this.#store.epoch);
    else if (step === 'mark' && this.#plan !== undefined) await cleanup.mark(this.#plan);
    else if (step === 'settle') this.#settled = await cleanup.settle();
    else if (step === 'remove' && this.#settled !== undefined)
      return cleanup.remove({ ...this.#settled, learned: learned ?? -1 }, isLiveIn(live));
    return true;
  }

  /** Whether a segment is sealed under an older epoch than new ones are. */
  #isOld(ordinal: number): boolean {
    const place = this.#store.segments.place(ordinal);
    return place !== undefined && place.keyEpoch < this.#store.epoch;
  }

  /** Packs with segments of older epochs that no mark names yet. */
  #oldPacks(): number {
    const { segments, marks, epoch } = this.#store;
    const old = new Set<number>();
    for (const { pack, keyEpoch } of segments.places()) if (keyEpoch < epoch) old.add(pack);
    const isThere = (name: string) => !marks.marked.has(name) && !marks.doomed.has(name);
    return [...old].filter((pack) => isThere(segments.packName(pack))).length;
  }

  #begun(): Cleanup {
    if (this.#cleanup === undefined) throw new Failure('clean up', '', { cause: 'it has not begun' });
    return this.#cleanup;
  }

  state(done: boolean): PayloadOf<typeof CLEANED.shape> {
    const { report, toRepack } = this.#begun();
    const { notes, ...counts } = report;
    const plan = this.#plan;
    return {
      ...counts,
      done,
      learned: this.#store.learned,
      epoch: this.#store.epoch,
      oldPacks: this.#reseal ? this.#oldPacks() : 0,
      notes: notes.slice(0, NOTES_MAX).map((note) => note.slice(0, NOTE_MAX_CHARS)),
      deadPacks: plan?.dead.length ?? 0,
      deadBytes: plan?.deadBytes ?? 0,
      sparsePacks: plan?.moves.length ?? 0,
      sparseBytes: plan?.movedPackBytes ?? 0,
      sparseLiveBytes: plan?.copiedBytes ?? 0,
      repack: [...toRepack],
    };
  }
}

/** Reads the bits that the chunker has set for segments in use. */
function isLiveIn(live: Buffer | undefined): (ordinal: number) => boolean {
  if (live === undefined) throw new Failure('clean up', '', { cause: 'nobody has said what is in use' });
  return (ordinal) => ((live[ordinal >>> 3] ?? 0) & (1 << (ordinal & 7))) !== 0;
}

/** The bytes in use of segments of which little is. */
function thinBytesIn(thin: Buffer | undefined): (ordinal: number) => number | undefined {
  const bytes = new Map<number, number>();
  for (let at = 0; thin !== undefined && at + THIN_ENTRY_BYTES <= thin.length; at += THIN_ENTRY_BYTES)
    bytes.set(thin.readUInt32LE(at), thin.readUInt32LE(at + 4));
  return (ordinal) => bytes.get(ordinal);
}
