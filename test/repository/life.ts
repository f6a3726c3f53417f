/**
 * The life of a repository in one process, from a seed: machines that push,
 * remove, read and clean up on one backend (stage.ts), that are cut down, fall
 * asleep and come back, with operations that fail and a disk that fills up.
 * After every step that removes a pack, each chunk of each snapshot must be in
 * a pack; every so often everything is read by a machine that comes new to it.
 */
import assert from 'node:assert/strict';
import { describe as describeError, Failure } from '../../src/error.ts';
import { CHUNK_DATA, CHUNK_TREE } from '../../src/keys/derive.ts';
import { Cleanup, type CleanupReport, putMark } from '../../src/repository/cleanup.ts';
import { Journal } from '../../src/repository/journal.ts';
import { isVoid } from '../../src/repository/lease.ts';
import { frameLogEntry, unframeLogEntry } from '../../src/repository/log.ts';
import { readFooter } from '../../src/repository/pack.ts';
import type { InUse } from '../../src/repository/plan.ts';
import { commitCopy, provisionalHeader } from '../../src/repository/provisional.ts';
import { CLASS_DATA, CLASS_METADATA, type SegmentClass } from '../../src/repository/segment.ts';
import {
  decodeSnapshot,
  encodeSnapshot,
  frameSnapshot,
  type SnapshotHeader,
  snapshotId,
  snapshotName,
  unframeSnapshot,
} from '../../src/repository/snapshot.ts';
import type { Store } from '../../src/repository/store.ts';
import { TABLE_ID_BYTES } from '../../src/repository/table.ts';
import { WriterLease } from '../../src/repository/writer.ts';
import { codec, hasher, openStore, readChunk, sealSegment, seeded } from './rig.ts';
import { Actor, Stage } from './stage.ts';

const ID_BYTES = 32;
const CONTENTS = 60;
const TASKS_MAX = 3;
const MACHINES = ['one', 'two', 'three', 'four'];

interface Machine {
  readonly actor: Actor;
  readonly store: Store;
  readonly journal: Journal;
  readonly leases: Map<string, WriterLease>;
  tasks: number;
  cleaning: boolean;
}

const NOTHING = {
  steps: 0,
  pushes: 0,
  copies: 0,
  failedPushes: 0,
  removals: 0,
  cleanups: 0,
  failedCleanups: 0,
  removedPacks: 0,
  rewrittenPacks: 0,
  repackedSegments: 0,
  setAside: 0,
  givenUp: 0,
  kills: 0,
  reads: 0,
};
/** What happened, for whoever runs many. */
export type LifeTotals = typeof NOTHING;

function contentOf(number: number): Buffer {
  return seeded(`content ${number}`)(40 + ((number * 37) % 300));
}

function idOf(kind: typeof CHUNK_DATA | typeof CHUNK_TREE, data: Buffer): Buffer {
  const id = Buffer.alloc(ID_BYTES);
  hasher.id(kind, data, id, 0);
  return id;
}

const short = (id: Buffer) => id.toString('hex', 0, TABLE_ID_BYTES);

export class Life {
  readonly totals: LifeTotals = { ...NOTHING };
  readonly #stage: Stage;
  readonly #machines = new Map<string, Machine>();
  readonly #booting = new Set<string>();
  /** acknowledged, and nobody has asked to remove it: the ids of its chunks */
  readonly #acknowledged = new Map<string, readonly string[]>();
  /** removed, or about to be: whoever copies one of these at the same time is told of it, and it may be gone */
  readonly #removed = new Set<string>();
  /** of all whose commit was tried */
  readonly #ids = new Map<string, readonly string[]>();
  readonly #packs = new Map<string, ReadonlySet<string>>();
  /** snapshots made elsewhere that some machine has begun to copy, and the contents of each */
  readonly #copying = new Map<string, readonly number[]>();
  readonly #violations: string[] = [];
  #packRemoved = false;
  #atRest = false;
  #time = 1e12;

  constructor(seed: string) {
    this.#stage = new Stage(seeded(seed));
    this.#stage.onDelete = (kind) => {
      if (kind === 'packs') this.#packRemoved = true;
    };
  }

  /** Lives for so many steps, then comes to rest; throws at the first broken promise. */
  async run(steps: number): Promise<LifeTotals> {
    const stage = this.#stage;
    for (let i = 0; i < steps; i++) {
      this.#direct();
      await stage.next();
      await this.#checkStep(i % 200 === 199);
    }
    await this.#rest();
    this.totals.steps += stage.step;
    return this.totals;
  }

  // ---- the director

  #direct(): void {
    const stage = this.#stage;
    const dice = stage.below(1000);
    const name = MACHINES[stage.below(MACHINES.length)] ?? '';
    const machine = this.#machines.get(name);
    if (machine === undefined) {
      if (dice < 50 && !this.#booting.has(name)) this.#boot(name);
      return;
    }
    if (dice < 4) this.#kill(name, machine);
    else if (dice < 9) machine.actor.asleepUntil = stage.step + stage.below(600);
    else if (dice < 12) stage.faults = stage.below(3) === 0 ? stage.below(30) : 0;
    else if (dice < 14) stage.full = stage.below(3) === 0;
    else if (dice < 20) this.#time += stage.below(2) === 0 ? -1e9 : 1e9;
    else if (dice < 220 && machine.tasks < TASKS_MAX) this.#begin(machine);
  }

  #begin(machine: Machine): void {
    const dice = this.#stage.below(100);
    const renews = [...machine.leases.values()];
    if (dice < 30) this.#task(machine, () => this.#push(machine));
    else if (dice < 42) this.#task(machine, () => this.#remove(machine));
    else if (dice < 55) this.#task(machine, () => this.#clean(machine));
    else if (dice < 57) this.#task(machine, () => this.#setAside(machine));
    else if (dice < 70) this.#task(machine, () => this.#read(machine));
    else for (const lease of renews) this.#task(machine, () => lease.renew());
  }

  /** Failures end a task and nothing else; anything else breaks a promise. */
  #task(machine: Machine, work: () => Promise<void>): void {
    machine.tasks++;
    work()
      .catch((error: unknown) => {
        if (!(error instanceof Failure) || error.kind === 'damaged') this.#violate(error);
      })
      .finally(() => machine.tasks--);
  }

  #violate(what: unknown): void {
    this.#violations.push(what instanceof Error ? `${describeError(what)}\n${what.stack}` : String(what));
  }

  #kill(name: string, machine: Machine): void {
    this.totals.kills++;
    machine.actor.dead = true;
    this.#machines.delete(name);
  }

  #boot(name: string): void {
    const actor = new Actor(name);
    this.#booting.add(name);
    this.#machineOf(actor)
      .then((machine) => this.#machines.set(name, machine))
      .catch((error: unknown) => {
        if (!(error instanceof Failure) || error.kind === 'damaged') this.#violate(error);
      })
      .finally(() => this.#booting.delete(name));
  }

  async #machineOf(actor: Actor): Promise<Machine> {
    const stage = this.#stage;
    const backend = stage.backendOf(actor);
    const store = await openStore(backend, { random: stage.random });
    await store.recover();
    const journal = new Journal(actor.name.padEnd(32, '0').replace(/[^0-9a-f]/g, 'a'), {
      list: (kind) => backend.list(kind),
      open: async (names) => {
        const entries: { data?: Buffer }[] = [];
        for (const name of names) {
          const object = await backend.get('log', name);
          entries.push(object === undefined ? {} : { data: unframeLogEntry(object, name) });
        }
        return entries;
      },
      add: (name, plaintext) =>
        backend.put('log', name, [frameLogEntry(plaintext)], { ifAbsent: true, urgent: true }),
      remove: async (names) => {
        for (const name of names) await backend.delete('log', name);
      },
      remember: async () => undefined,
      now: () => this.#time,
      entriesMax: 12,
    });
    return { actor, store, journal, leases: new Map(), tasks: 0, cleaning: false };
  }

  // ---- what machines do

  async #push(machine: Machine): Promise<void> {
    const { store, leases } = machine;
    const lease = await WriterLease.begin(store, this.#stage.random);
    leases.set(lease.name, lease);
    try {
      const since = store.generation;
      const copied = this.#stage.below(4) === 0 ? this.#toCopy() : undefined;
      const ids = await this.#storeContents(machine, copied?.contents);
      const root = Buffer.concat(ids);
      const rootId = idOf(CHUNK_TREE, root);
      if (!store.table.holds(rootId, 0)) await this.#append(store, [root], CLASS_METADATA);
      await store.flush(since);
      this.#ids.set(lease.snapshot, [rootId, ...ids].map(short));
      const name = copied?.name ?? lease.snapshot;
      const header = this.#header(name, rootId, root.length);
      if (copied !== undefined) await this.#commitCopy(machine, lease, header);
      else await lease.commit(frameSnapshot(encodeSnapshot(header)));
      await machine.journal.append('made', [snapshotId(name)]);
      if (!this.#removed.has(name)) this.#acknowledged.set(name, this.#ids.get(lease.snapshot) ?? []);
      this.totals.pushes++;
    } catch (error) {
      this.totals.failedPushes++;
      throw error;
    } finally {
      leases.delete(lease.name);
      await lease.end();
    }
  }

  /** A snapshot of elsewhere: one that somebody copies now, or has failed to copy, or another. */
  #toCopy(): { name: string; contents: readonly number[] } {
    const stage = this.#stage;
    const begun = [...this.#copying.keys()];
    const again = stage.below(2) === 0 ? begun[stage.below(Math.max(1, begun.length))] : undefined;
    const name = again ?? snapshotName(stage.random(16));
    const contents =
      this.#copying.get(name) ?? Array.from({ length: 1 + stage.below(8) }, () => stage.below(CONTENTS));
    this.#copying.set(name, contents);
    return { name, contents };
  }

  async #commitCopy({ store }: Machine, lease: WriterLease, header: SnapshotHeader): Promise<void> {
    const snapshot = snapshotName(header.id);
    this.#ids.set(snapshot, this.#ids.get(lease.snapshot) ?? []);
    const provisional = frameSnapshot(encodeSnapshot(provisionalHeader(header, lease.snapshot)));
    const data = frameSnapshot(encodeSnapshot(header));
    await commitCopy(lease, store.backend, { provisional, snapshot, data });
    this.#copying.delete(snapshot);
    this.totals.copies++;
  }

  /** Ids of some chunks: of a parent's that are taken over, and of what is read and stored; or of exactly these. */
  async #storeContents({ store }: Machine, contents?: readonly number[]): Promise<Buffer[]> {
    const stage = this.#stage;
    if (contents !== undefined) {
      const wanted = new Map(contents.map((number) => [short(idOf(CHUNK_DATA, contentOf(number))), number]));
      const missing = [...wanted.values()]
        .map(contentOf)
        .filter((data) => !store.table.holds(idOf(CHUNK_DATA, data), 0));
      if (missing.length > 0) await this.#append(store, missing, CLASS_DATA);
      return [...wanted.values()].map((number) => idOf(CHUNK_DATA, contentOf(number)));
    }
    const ids: Buffer[] = [];
    const [parent] = [...this.#acknowledged.keys()].slice(stage.below(4));
    if (parent !== undefined && stage.below(2) === 0)
      for (const id of (await this.#contentsOf(store, parent))?.slice(1) ?? [])
        if (store.table.holds(id, 0) && stage.below(4) > 0) ids.push(id);
    const batch: Buffer[] = [];
    const pending = new Set<string>();
    const first = stage.below(CONTENTS);
    for (let i = stage.below(10) + 1; i > 0; i--) {
      const data = contentOf((first + stage.below(12)) % CONTENTS);
      const id = idOf(CHUNK_DATA, data);
      ids.push(id);
      if (store.table.holds(id, 0) || pending.has(short(id))) continue;
      pending.add(short(id));
      batch.push(data);
      if (stage.below(2) === 0) await this.#append(store, batch.splice(0), CLASS_DATA);
    }
    if (batch.length > 0) await this.#append(store, batch, CLASS_DATA);
    return ids;
  }

  async #append(
    store: Store,
    chunks: readonly Buffer[],
    kind: typeof CLASS_DATA | typeof CLASS_METADATA,
  ): Promise<void> {
    const { sealed, ids } = sealSegment(chunks, kind);
    await store.append(sealed, kind, 1, ids);
  }

  #header(name: string, id: Buffer, length: number): SnapshotHeader {
    const counts = {
      addedBytes: 0,
      bytes: 0,
      changed: 0,
      directories: 0,
      files: 0,
      inconsistent: 0,
      new: 0,
      others: 0,
      storedBytes: 0,
      unchanged: 0,
      unreadable: 0,
    };
    return {
      counts,
      end: this.#time,
      errors: [],
      host: '',
      id: snapshotId(name),
      parent: undefined,
      paths: [],
      program: '',
      root: { id, length },
      source: '',
      tags: [],
      time: this.#time,
      user: '',
      version: 1,
    };
  }

  async #remove({ store, journal }: Machine): Promise<void> {
    const names = [...this.#acknowledged.keys()];
    const name = names[this.#stage.below(Math.max(1, names.length))];
    if (name === undefined) return;
    this.#acknowledged.delete(name);
    this.#removed.add(name);
    await journal.append('removed', [snapshotId(name)]);
    await store.backend.delete('snapshots', name);
    this.totals.removals++;
  }

  /** The ids that a snapshot names, as a machine's store finds them; undefined where there is no such snapshot. */
  async #contentsOf(store: Store, name: string): Promise<Buffer[] | undefined> {
    const object = await store.backend.get('snapshots', name);
    if (object === undefined || isVoid(object, name)) return undefined;
    const { root } = decodeSnapshot(unframeSnapshot(object, name), name);
    const list = await this.#readChunk(store, root.id, name);
    if (list === undefined) return undefined;
    assert.equal(list.length, root.length);
    const ids: Buffer[] = [root.id];
    for (let at = 0; at < list.length; at += ID_BYTES) ids.push(list.subarray(at, at + ID_BYTES));
    return ids;
  }

  /** A chunk of a snapshot; undefined if the snapshot has gone meanwhile. */
  async #readChunk(store: Store, id: Buffer, snapshot: string): Promise<Buffer | undefined> {
    for (let again = 0; ; again++) {
      try {
        const chunk = await readChunk(store, id, 0);
        if (chunk !== undefined) return chunk;
      } catch (error) {
        if (!(error instanceof Failure) || error.kind !== 'damaged' || again > 0) {
          if ((await store.backend.stat('snapshots', snapshot)) === undefined) return undefined;
          throw error;
        }
      }
      if ((await store.backend.stat('snapshots', snapshot)) === undefined) return undefined;
      if (again > 0) throw new Failure('read', short(id), { cause: `of ${snapshot}: lost`, kind: 'damaged' });
      await store.refresh();
    }
  }

  async #read({ store }: Machine): Promise<void> {
    const names = [...this.#acknowledged.keys()];
    const name = names[this.#stage.below(Math.max(1, names.length))];
    if (name === undefined) return;
    for (const id of (await this.#contentsOf(store, name)) ?? []) await this.#readChunk(store, id, name);
    this.totals.reads++;
  }

  async #clean(machine: Machine): Promise<void> {
    if (machine.cleaning) return;
    machine.cleaning = true;
    try {
      const { givenUp, removedPacks, rewrittenPacks } = await this.#cleanup(machine);
      this.totals.cleanups++;
      this.totals.givenUp += givenUp;
      this.totals.removedPacks += removedPacks;
      this.totals.rewrittenPacks += rewrittenPacks;
    } catch (error) {
      this.totals.failedCleanups++;
      throw error;
    } finally {
      machine.cleaning = false;
    }
  }

  async #cleanup({ store, actor, leases, journal }: Machine): Promise<CleanupReport> {
    const stage = this.#stage;
    const cleanup = new Cleanup({
      store,
      random: stage.random,
      isOurs: (lease) => leases.has(lease),
      pause: async () => {
        for (let i = 0; i < 3; i++) await stage.turn(actor);
      },
    });
    const walked = new Set<string>();
    const seen = new Map<string, Buffer>();
    const walk = async () => {
      for (const name of await store.backend.list('snapshots')) {
        if (walked.has(name)) continue;
        for (const id of (await this.#contentsOf(store, name)) ?? []) seen.set(short(id), id);
        walked.add(name);
      }
    };
    const locate = () => {
      const live = new Set<number>();
      for (const id of seen.values()) live.add(store.table.lookup(id, 0));
      return (ordinal: number) => live.has(ordinal);
    };
    const inUse = () => this.#inUse(store, seen);
    await cleanup.begin();
    await walk();
    await journal.compact();
    await cleanup.mark(cleanup.plan(inUse()));
    await this.#repack(store, cleanup.toRepack, seen);
    const settled = await cleanup.settle();
    await walk();
    for (let { learned } = settled; ; learned = cleanup.learned) {
      const isLive = locate();
      // what is looked up takes a while, and others learn meanwhile
      if (stage.below(4) === 0) await stage.turn(actor);
      if (await cleanup.remove({ ...settled, learned }, isLive)) break;
    }
    return cleanup.report;
  }

  /** As a repair does with a pack that is damaged: sets it aside, and stores again what is in use of it. */
  async #setAside({ store }: Machine): Promise<void> {
    const packs = [...store.segments.packNumbers()].filter((pack) => store.segments.packBytes(pack) > 0);
    const pack = packs[this.#stage.below(Math.max(1, packs.length))];
    if (pack === undefined) return;
    await putMark(store, this.#stage.random, [store.segments.packName(pack)], true);
    this.totals.setAside++;
    await this.#salvage(store);
  }

  /** Stores again what is in use of packs in quarantine. */
  async #salvage(store: Store): Promise<void> {
    const seen = new Map<string, Buffer>();
    for (const name of await store.backend.list('snapshots'))
      for (const id of (await this.#contentsOf(store, name)) ?? []) seen.set(short(id), id);
    const ordinals = [...store.marks.quarantined].flatMap((name) => {
      const pack = store.segments.packNumber(name);
      return pack === undefined ? [] : store.segments.segmentsOf(pack);
    });
    await this.#repack(store, ordinals, seen);
  }

  /** What a plan needs to know: which segments are in use, and of which only a little is. */
  #inUse(store: Store, seen: ReadonlyMap<string, Buffer>): InUse {
    const live = new Map<number, number>();
    const all = new Map<number, number>();
    for (const id of seen.values()) {
      const ordinal = store.table.lookup(id, 0);
      live.set(ordinal, (live.get(ordinal) ?? 0) + 1);
    }
    store.table.each((_, ordinal) => {
      all.set(ordinal, (all.get(ordinal) ?? 0) + 1);
    });
    return {
      isLive: (ordinal) => live.has(ordinal),
      thinBytes: (ordinal) => {
        const count = live.get(ordinal) ?? 0;
        return 2 * count <= (all.get(ordinal) ?? 0) ? count * 100 : undefined;
      },
      mustReseal: () => !this.#atRest && this.#stage.below(50) === 0,
    };
  }

  /** Stores what is in use of these segments again. */
  async #repack(store: Store, ordinals: readonly number[], seen: ReadonlyMap<string, Buffer>): Promise<void> {
    const since = store.generation;
    for (const ordinal of ordinals) {
      const chunks: Buffer[] = [];
      let kind: SegmentClass = CLASS_DATA;
      for (const id of seen.values()) {
        if (store.table.lookup(id, 0) !== ordinal || store.table.holds(id, 0)) continue;
        const chunk = await readChunk(store, id, 0);
        if (chunk === undefined) continue;
        if (idOf(CHUNK_TREE, chunk).equals(id)) kind = CLASS_METADATA;
        chunks.push(Buffer.from(chunk));
      }
      if (chunks.length > 0) await this.#append(store, chunks, kind);
      this.totals.repackedSegments++;
    }
    await store.flush(since);
  }

  // ---- what must hold

  async #checkStep(read: boolean): Promise<void> {
    if (this.#packRemoved) await this.#checkPresence();
    this.#packRemoved = false;
    if (read) await this.#readEverything();
    if (this.#violations.length > 0)
      throw new Error(`step ${this.#stage.step}: ${this.#violations.join('\n')}`);
  }

  /** The snapshots that exist, acknowledged or not. */
  #present(): string[] {
    const present: string[] = [];
    for (const [name, object] of this.#stage.objects.objects.snapshots)
      if (!isVoid(object, name)) present.push(name);
    for (const name of this.#acknowledged.keys())
      if (!present.includes(name)) this.#violate(`acknowledged snapshot ${name} does not exist`);
    return present;
  }

  async #checkPresence(): Promise<void> {
    const { objects } = this.#stage;
    const held = new Set<string>();
    for (const name of objects.objects.packs.keys()) {
      const ids = this.#packs.get(name) ?? (await this.#idsOf(name));
      this.#packs.set(name, ids);
      for (const id of ids) held.add(id);
    }
    for (const name of this.#present())
      for (const id of this.#ids.get(name) ?? [])
        if (!held.has(id)) this.#violate(`chunk ${id} of snapshot ${name} is in no pack`);
  }

  async #idsOf(pack: string): Promise<ReadonlySet<string>> {
    const record = await readFooter(this.#stage.objects, codec, pack);
    const ids = new Set<string>();
    for (const segment of record?.segments ?? [])
      for (let at = 0; at < segment.ids.length; at += ID_BYTES) ids.add(short(segment.ids.subarray(at)));
    return ids;
  }

  /** As a machine that comes new to the repository, without faults and turns. */
  async #readEverything(atRest = false): Promise<void> {
    const store = await openStore(this.#stage.objects.clone(), { random: this.#stage.random });
    await store.recover();
    // what an index names that is gone, and that nothing needs, is dropped by the next cleanup
    for (const { object, text } of store.problems)
      if (atRest || text !== 'pack is missing') this.#violate(`${object}: ${text}`);
    for (const name of this.#present())
      for (const [i, id] of ((await this.#contentsOf(store, name)) ?? []).entries())
        assert.deepEqual(idOf(i === 0 ? CHUNK_TREE : CHUNK_DATA, (await readChunk(store, id, 0)) ?? id), id);
  }

  /** Everybody finishes; then cleanups return all that nobody refers to. */
  async #rest(): Promise<void> {
    const stage = this.#stage;
    this.#atRest = true;
    stage.faults = 0;
    stage.full = false;
    for (const { actor } of this.#machines.values()) actor.asleepUntil = 0;
    while (await stage.next()) await this.#checkStep(false);
    for (const [name, machine] of [...this.#machines]) this.#kill(name, machine);
    let done = false;
    const last = (async () => {
      const machine = await this.#machineOf(new Actor('last'));
      await this.#cleanup(machine);
      await this.#salvage(machine.store);
      for (let i = 0; i < 3; i++) await this.#cleanup(machine);
      // what there is to do has been done
      const { removedPacks, rewrittenPacks } = await this.#cleanup(machine);
      assert.deepEqual({ removedPacks, rewrittenPacks }, { removedPacks: 0, rewrittenPacks: 0 });
      assert.deepEqual(await machine.journal.verify(), []);
    })().finally(() => {
      done = true;
    });
    while (!done) {
      await stage.next();
      await this.#checkStep(false);
    }
    await last;
    await this.#readEverything(true);
    await this.#checkStep(false);
    this.#checkRest();
  }

  #checkRest(): void {
    const { objects } = this.#stage.objects;
    assert.deepEqual([...objects.leases.keys()], []);
    const used = new Set(this.#present().flatMap((name) => this.#ids.get(name) ?? []));
    for (const name of objects.packs.keys()) {
      const ids = this.#packs.get(name);
      if (ids !== undefined)
        assert.ok(
          [...ids].some((id) => used.has(id)),
          `pack ${name} is used`,
        );
    }
  }
}
