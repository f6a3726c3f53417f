/**
 * storage: the process that holds one repository's objects: packs, index,
 * headers, as ciphertext. Its root directory is the repository. It appends the
 * sealed segments that crypto lays in its slots, reads them back, keeps the
 * table of chunks in memory that the chunker can read, and makes things
 * durable when it is told to. It never maps plaintext and never holds a key.
 */

import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { FsBackend, type FsOptions } from '../backends/fs.ts';
import { Pace, type Rate } from '../backends/pace.ts';
import { describe, Failure, fromWire, toWire } from '../error.ts';
import type { Channel } from '../ipc/channel.ts';
import type { Received } from '../ipc/message.ts';
import { openRing, type Ring, SlotPool } from '../ipc/ring.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import {
  DELETE,
  FETCH,
  FETCH_FAILED,
  FLUSH,
  FLUSHED,
  GET,
  NAMES,
  NAMES_ARE,
  OBJECT,
  OBJECTS,
  OBJECTS_REPLY_BYTES,
  OK,
  OPEN_OBJECTS,
  PUT,
  PUT_IS,
  REPLACE,
  SEAL_OBJECT,
  STORE,
  STORE_DONE,
  STORE_FAILED,
  STORED,
  TABLE,
  TOTALS,
  TOTALS_ARE,
  UNSEAL,
  UNSEAL_DONE,
} from '../messages/data.ts';
import { INITIALIZE, LOAD, LOADED, PARENT_DONE, RINGS } from '../messages/parent.ts';
import type { ChildContext } from '../privsep/child.ts';
import { CONFIG_NAME } from '../repository/config.ts';
import { SEGMENT_SEALED_MAX_BYTES } from '../repository/constants.ts';
import type { IndexCodec } from '../repository/indexes.ts';
import type { SegmentClass } from '../repository/segment.ts';
import { Store } from '../repository/store.ts';
import { mapShared, memfdCreate, unmap } from '../sys/memory.ts';
import { SEALED_READ_SLOTS, slotRange } from './rings.ts';
import { serveChecks } from './storage/check.ts';
import { serveKeys } from './storage/keys.ts';
import { serveRepairs } from './storage/repair.ts';
import { serveWriters } from './storage/writers.ts';

const ID_BYTES = 32;
const PAGE_BYTES = 4096;
/** Objects that a listing may name in one message. */
const NAMES_MAX = 65536;

export interface StorageSettings {
  /** crypto workers of this repository */
  readonly workers: number;
  /** packs that may be on their way to the disk */
  readonly packs: number;
  /** how much may be read and written, at which times of the day */
  readonly read: readonly Rate[];
  readonly write: readonly Rate[];
}

/** A clock on the wall, for limits that hold at times of the day: local time. */
function minuteOfDay(): number {
  const now = new Date();
  return now.getHours() * 60 + now.getMinutes();
}

function optionsOf({ read, write }: StorageSettings): FsOptions {
  const tools = { nowMs: () => performance.now(), minuteOfDay, wait: (ms: number) => pause(ms) };
  return { random: randomBytes, pace: { read: new Pace(read, tools), write: new Pace(write, tools) } };
}

/** Footers and indexes are sealed where the keys are. */
class RemoteCodec implements IndexCodec {
  readonly #crypto: Channel;

  constructor(crypto: Channel) {
    this.#crypto = crypto;
  }

  async openIndex(kind: 'footer' | 'index', name: string, sealed: Buffer, epoch: number): Promise<Buffer> {
    const request = {
      kind: kind === 'footer' ? 'packs' : 'index',
      objects: [{ name, data: sealed, epoch }],
    } as const;
    const { payload } = await this.#crypto.query(
      OPEN_OBJECTS,
      { ...request, objects: [...request.objects] },
      OBJECTS,
    );
    const [opened] = payload.objects;
    if (opened?.data === undefined)
      throw fromWire({ kind: 'damaged', text: opened?.why ?? `open ${request.kind}/${name}` });
    return opened.data;
  }

  async sealIndex(kind: 'footer' | 'index', name: string, plaintext: Buffer, epoch: number): Promise<Buffer> {
    const request = { kind: kind === 'footer' ? 'packs' : 'index', name, data: plaintext, epoch } as const;
    const { payload } = await this.#crypto.query(SEAL_OBJECT, request, OBJECT);
    return payload.data;
  }
}

/** Memory for the table that the chunker can map too: descriptor by buffer. */
class TableMemory {
  readonly #fds = new Map<Buffer, number>();
  #current: Buffer | undefined;

  allocate(bytes: number): Buffer {
    const size = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
    const fd = memfdCreate('plakard table', size, { seal: true });
    const mapping = mapShared(fd, size, 'write');
    this.#fds.set(mapping, fd);
    return mapping;
  }

  /** Tells the chunker, and lets the former table go. */
  announce(buffer: Buffer, chunker: Channel): void {
    const fd = this.#fds.get(buffer);
    if (fd === undefined) throw new Error('a table from elsewhere');
    chunker.message(TABLE, { bytes: buffer.length }, [fd]);
    const former = this.#current;
    this.#current = buffer;
    if (former === undefined || former === buffer) return;
    const formerFd = this.#fds.get(former);
    this.#fds.delete(former);
    if (formerFd !== undefined) closeSync(formerFd);
    unmap(former);
  }
}

class Storage {
  readonly #store: Store;
  readonly #ring: Ring;
  readonly #reads = new SlotPool(slotRange(0, SEALED_READ_SLOTS));
  readonly #chunker: Channel;
  readonly #workers: readonly Channel[];

  constructor(store: Store, ring: Ring, chunker: Channel, workers: readonly Channel[]) {
    this.#store = store;
    this.#ring = ring;
    this.#chunker = chunker;
    this.#workers = workers;
    for (const worker of workers) this.#serveWorker(worker);
    chunker.handler(FETCH, ({ payload }) => this.#fetch(payload));
    chunker.handler(FLUSH, (message) => this.#flush(message));
    chunker.handler(NAMES, (message) => this.#names(message));
    chunker.handler(GET, (message) => this.#get(message));
    chunker.handler(PUT, async (message) => {
      const { kind, name, data } = message.payload;
      if (kind !== 'log') throw new Failure('write', kind, { kind: 'not-permitted' });
      const made = await store.backend.put(kind, name, [data], { ifAbsent: true, urgent: true });
      chunker.reply(message, PUT_IS, { made });
    });
    chunker.handler(DELETE, async (message) => {
      const { kind, name } = message.payload;
      if (kind !== 'snapshots' && kind !== 'log')
        throw new Failure('remove', kind, { kind: 'not-permitted' });
      await store.backend.delete(kind, name);
      chunker.reply(message, OK, {});
    });
    chunker.handler(REPLACE, async (message) => {
      const { kind, name, data } = message.payload;
      // what was removed meanwhile stays so
      if ((await store.backend.stat(kind, name)) !== undefined) await store.backend.put(kind, name, [data]);
      chunker.reply(message, OK, {});
    });
    serveWriters(store, chunker);
    chunker.handler(TOTALS, (message) => chunker.reply(message, TOTALS_ARE, { ...store.totals }));
  }

  #serveWorker(worker: Channel): void {
    worker.handler(STORE, async ({ payload }) => {
      const { sequence, slot, length, count, kind, epoch } = payload;
      try {
        if (length > SEGMENT_SEALED_MAX_BYTES)
          throw new Failure('store segment', '', { cause: 'length out of range' });
        const buffer = this.#ring.slot(slot);
        const ids = buffer.subarray(SEGMENT_SEALED_MAX_BYTES, SEGMENT_SEALED_MAX_BYTES + count * ID_BYTES);
        await this.#store.append(buffer.subarray(0, length), kind as SegmentClass, epoch, ids);
        this.#chunker.message(STORED, { sequence, sealedBytes: length });
      } catch (error) {
        this.#chunker.message(STORE_FAILED, toWire(error));
      }
      worker.message(STORE_DONE, { slot });
    });
    worker.handler(UNSEAL_DONE, ({ payload }) => {
      if (!this.#reads.isTaken(payload.sealed)) throw new Failure('release slot', String(payload.sealed));
      this.#reads.release(payload.sealed);
    });
  }

  async #fetch({ request, segment, slot, worker }: PayloadOf<typeof FETCH.shape>): Promise<void> {
    const sealed = await this.#reads.wait();
    try {
      const channel = this.#workers[worker];
      if (channel === undefined)
        throw new Failure('read segment', '', { cause: `no crypto worker ${worker}` });
      const { length, epoch } = await this.#store.readSealed(segment, this.#ring.slot(sealed));
      channel.message(UNSEAL, { request, sealed, length, slot, epoch });
    } catch (error) {
      this.#reads.release(sealed);
      this.#chunker.message(FETCH_FAILED, { request, ...toWire(error) });
    }
  }

  async #flush(message: Received<unknown>): Promise<void> {
    await this.#store.flush();
    this.#chunker.reply(message, FLUSHED, {});
  }

  async #names(message: Received<PayloadOf<typeof NAMES.shape>>): Promise<void> {
    const { kind } = message.payload;
    const names = await this.#store.backend.list(kind);
    if (names.length > NAMES_MAX)
      throw new Failure('list', kind, { cause: `${names.length} objects, more than ${NAMES_MAX}` });
    this.#chunker.reply(message, NAMES_ARE, { names });
  }

  /** As many of the asked as fit in one answer, at least one. */
  async #get(message: Received<PayloadOf<typeof GET.shape>>): Promise<void> {
    const { kind, names } = message.payload;
    const objects: PayloadOf<typeof OBJECTS.shape>['objects'] = [];
    let bytes = 0;
    for (const name of names) {
      if (bytes >= OBJECTS_REPLY_BYTES) break;
      try {
        const data = await this.#store.backend.get(kind, name);
        objects.push({ data, why: undefined });
        bytes += data?.length ?? 0;
      } catch (error) {
        objects.push({ data: undefined, why: describe(error).slice(0, 1024) });
      }
    }
    this.#chunker.reply(message, OBJECTS, { objects });
  }
}

/** The process: answers the parent about keys, and loads the index once they are in place. */
export function storage(context: ChildContext): void {
  const settings = context.settings as StorageSettings;
  const { workers, packs } = settings;
  const options = optionsOf(settings);
  const { parent } = context;
  let ring: Ring | undefined;
  parent.handler(RINGS, (message) => {
    const [sealed] = message.payload.rings;
    if (sealed === undefined) throw new Failure('map rings', '', { cause: 'one is needed' });
    ring = openRing(message.fds[0] ?? -1, sealed.slots, sealed.slotBytes, 'write');
    parent.reply(message, PARENT_DONE, {});
  });
  const opening = serveKeys(context, options);
  parent.handler(INITIALIZE, async (message) => {
    const { config, slotName, slot } = message.payload;
    const backend = await FsBackend.create('/', options);
    // the configuration last: a repository without it is none
    await backend.put('keys', slotName, [slot], { ifAbsent: true });
    if (!(await backend.put('config', CONFIG_NAME, [config], { ifAbsent: true })))
      throw new Failure('create repository', '', { cause: 'there is one already' });
    await backend.reserve();
    parent.reply(message, PARENT_DONE, {});
  });
  parent.handler(LOAD, async (message) => {
    if (ring === undefined) throw new Failure('load index', '', { cause: 'no ring yet' });
    const chunker = context.peer('chunker');
    const crypto = slotRange(0, workers).map((i) => context.peer('crypto', `${context.instance}/${i}`));
    const connected = crypto.filter((channel) => channel !== undefined);
    const [first] = connected;
    if (chunker === undefined || first === undefined || connected.length !== workers)
      throw new Failure('load index', '', { cause: 'chunker or crypto is not connected' });
    const codec = new RemoteCodec(first);
    const memory = new TableMemory();
    const store = await Store.open({
      backend: opening.backend(),
      codec,
      random: randomBytes,
      packsMax: packs,
      allocate: (bytes) => memory.allocate(bytes),
      onTable: (buffer) => memory.announce(buffer, chunker),
      onLoss: (failure) => chunker.message(STORE_FAILED, toWire(failure)),
      epoch: message.payload.epoch,
    });
    opening.loaded(store);
    if (store.orphans.length > 0 || store.problems.length > 0) await store.recover();
    await store.backend.reserve();
    new Storage(store, ring, chunker, connected);
    serveChecks(store, opening.plain(), chunker);
    serveRepairs(store, opening.plain(), chunker, first);
    const { totals } = store;
    parent.reply(message, LOADED, { chunks: totals.chunks, packs: totals.packs });
  });
  context.onPeer('chunker', () => undefined);
  context.onPeer('crypto', () => undefined);
}
