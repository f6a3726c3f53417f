/**
 * chunker: the process that sees plaintext and decides what is new. It holds
 * the id and chunking keys of one repository, reads the files whose
 * descriptors walkers send, splits them, and lays new chunks in segments for
 * crypto; the other way round it serves verified chunks to reader sessions. It
 * opens no file and reaches nothing but its peers.
 */

import { closeSync } from 'node:fs';
import { hostname } from 'node:os';
import { Reader } from '../client/reader.ts';
import { Failure } from '../error.ts';
import { Channel, channelPair } from '../ipc/channel.ts';
import type { MessageType, Received } from '../ipc/message.ts';
import { openRing, type Ring, SlotPool } from '../ipc/ring.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { gearTable } from '../keys/derive.ts';
import { ChunkHasher } from '../keys/ids.ts';
import {
  CHECKED,
  CLEANED_UP,
  KEEP_MAX,
  KEPT,
  OPENED,
  PROBLEM,
  PROGRESS,
  PUSH_OPENED,
  PUSHED,
  REMOVED,
  REPAIRED,
} from '../messages/client.ts';
import {
  DELETE,
  FETCH_FAILED,
  FETCHED,
  OK,
  SEALED,
  STORE_FAILED,
  STORED,
  TABLE,
  TOTALS,
  TOTALS_ARE,
} from '../messages/data.ts';
import {
  CANCEL,
  CHECK_REPOSITORY,
  CLEAN_REPOSITORY,
  HOLDINGS,
  HOLDINGS_ARE,
  JOB_OVER,
  KEEP_SNAPSHOTS,
  PUSH_CLIENT,
  PUSH_SOURCE,
  REMOVE_SNAPSHOTS,
  REPAIR_REPOSITORY,
  SESSION,
} from '../messages/jobs.ts';
import { CHUNKER_KEYS } from '../messages/keys.ts';
import { MEMORY } from '../messages/memory.ts';
import { PARENT_DONE, RINGS } from '../messages/parent.ts';
import { READER_RING_BYTES } from '../messages/reader.ts';
import { BATCH, NODES_USED, SCAN_BEGUN, SCAN_FAILED } from '../messages/scan.ts';
import { ALLOW, FORBID, GIVE, SYNCED, TAKE } from '../messages/sync.ts';
import type { ChildContext } from '../privsep/child.ts';
import { chainOf, type Journal } from '../repository/journal.ts';
import { snapshotId } from '../repository/snapshot.ts';
import { IdTable } from '../repository/table.ts';
import { Splitter } from '../snapshot/splitter.ts';
import { mapShared, unmap } from '../sys/memory.ts';
import { Catalog, type Snapshot } from './chunker/catalog.ts';
import { Check } from './chunker/check.ts';
import { Clean } from './chunker/clean.ts';
import { SegmentFetcher } from './chunker/fetch.ts';
import { Giver } from './chunker/give.ts';
import { openJournal } from './chunker/journal.ts';
import { judge } from './chunker/keep.ts';
import { Memory } from './chunker/memory.ts';
import { Push, type PushRequest, type Summary } from './chunker/push.ts';
import { Repair } from './chunker/repair.ts';
import { Session } from './chunker/session.ts';
import { SegmentStore } from './chunker/store.ts';
import { survey, Take, type TakeRequest } from './chunker/take.ts';
import { slotRange } from './rings.ts';

export interface ChunkerSettings {
  /** crypto workers of this repository */
  readonly workers: number;
  /** the first slots of the ring, which segments are read into */
  readonly reads: number;
}

/** Pushes that may wait for the one that is at work. */
const PUSHES_WAITING_MAX = 64;
const SESSIONS_MAX = 256;

/** The table of chunks, as storage last gave it. */
class SharedTable {
  #table: IdTable | undefined;
  #mapping: Buffer | undefined;

  replace(fd: number, bytes: number): void {
    const mapping = mapShared(fd, bytes, 'read');
    closeSync(fd);
    this.#table = new IdTable(mapping);
    if (this.#mapping !== undefined) unmap(this.#mapping);
    this.#mapping = mapping;
  }

  get(): IdTable {
    if (this.#table === undefined)
      throw new Failure('look up chunk', '', { cause: 'the index is not loaded' });
    return this.#table;
  }
}

class Chunker {
  readonly #context: ChildContext;
  readonly #table = new SharedTable();
  readonly #store: SegmentStore;
  readonly #fetcher: SegmentFetcher;
  readonly #catalog: Catalog;
  readonly #memory: Memory;
  readonly #journal: Journal;
  readonly #splitter: Splitter;
  readonly #giver: Giver;
  readonly #storage: Channel;
  readonly #crypto: Channel;
  readonly #slots: SlotPool;
  readonly #pushes = new Map<number, Push>();
  readonly #cancels = new Map<number, () => void>();
  #pushing: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  /** ordinals of segments that a repair could not read */
  readonly #unreadable = new Set<number>();
  #cleaning = false;

  constructor(
    context: ChildContext,
    settings: ChunkerSettings,
    keys: PayloadOf<typeof CHUNKER_KEYS.shape>,
    ring: Ring,
    peers: { storage: Channel; workers: readonly Channel[] },
  ) {
    this.#context = context;
    this.#storage = peers.storage;
    const [first] = peers.workers;
    if (first === undefined) throw new Failure('take keys', '', { cause: 'no crypto worker' });
    this.#crypto = first;
    const hasher = new ChunkHasher(keys.id);
    const table = () => this.#table.get();
    this.#slots = new SlotPool(slotRange(settings.reads, ring.slots - settings.reads));
    this.#store = new SegmentStore({
      ring,
      slots: this.#slots,
      hasher,
      workers: peers.workers,
      storage: peers.storage,
      table,
    });
    this.#fetcher = new SegmentFetcher({
      ring,
      slots: new SlotPool(slotRange(0, settings.reads)),
      hasher,
      workers: settings.workers,
      storage: peers.storage,
      table,
    });
    this.#catalog = new Catalog(peers.storage, first);
    this.#giver = new Giver(context.instance, this.#catalog, this.#fetcher);
    this.#memory = new Memory(context.parent);
    const chain = chainOf(keys.id, hostname());
    this.#journal = openJournal(chain, { storage: peers.storage, crypto: first }, Date.now, (heads, accept) =>
      this.#memory.remember(heads, accept),
    );
    this.#splitter = new Splitter(gearTable(keys.chunking));
    this.#serveStorage(peers.storage);
    for (const worker of peers.workers) this.#serveWorker(worker);
  }

  /** What this host has remembered of the repository. */
  recall({ heads, turns, found }: PayloadOf<typeof MEMORY.shape>): void {
    this.#memory.recall(heads, turns);
    this.#journal.recall(heads, found);
  }

  #serveStorage(storage: Channel): void {
    storage.handler(TABLE, ({ payload, fds }) => this.#table.replace(fds[0] ?? -1, payload.bytes));
    storage.handler(STORED, ({ payload }) => this.#store.stored(payload.sequence, payload.sealedBytes));
    storage.handler(STORE_FAILED, ({ payload }) => this.#storeFailed(payload));
    storage.handler(FETCH_FAILED, ({ payload }) =>
      this.#fetcher.failed(payload.request, payload.kind, payload.text),
    );
  }

  #serveWorker(worker: Channel): void {
    worker.handler(SEALED, ({ payload }) => {
      if (!this.#slots.isTaken(payload.slot)) throw new Failure('release slot', String(payload.slot));
      this.#slots.release(payload.slot);
    });
    worker.handler(FETCHED, ({ payload }) => this.#fetcher.fetched(payload.request, payload.length));
    worker.handler(FETCH_FAILED, ({ payload }) =>
      this.#fetcher.failed(payload.request, payload.kind, payload.text),
    );
    worker.handler(STORE_FAILED, ({ payload }) => this.#storeFailed(payload));
  }

  #storeFailed({ kind, text }: PayloadOf<typeof STORE_FAILED.shape>): void {
    const failure = new Failure('store', '', {
      cause: text,
      kind: kind === 'damaged' ? 'damaged' : 'failed',
    });
    this.#store.fail(failure);
    for (const push of this.#pushes.values()) push.fail(failure);
  }

  // ---- walkers

  /** Registers what a walker may say: about pushes that it walks for. */
  serveWalker(walker: Channel, mine: (job: number) => boolean): void {
    const pushOf = (job: number): Push | undefined => (mine(job) ? this.#pushes.get(job) : undefined);
    walker.handler(BATCH, ({ payload, fds }) => {
      const push = pushOf(payload.job);
      // a push that failed has told the walker; what was on its way is dropped
      if (push === undefined) for (const fd of fds) closeSync(fd);
      else push.batch(payload.data, fds);
    });
    walker.handler(SCAN_BEGUN, ({ payload }) => pushOf(payload.job)?.begun(payload.visits));
    walker.handler(NODES_USED, ({ payload }) => pushOf(payload.job)?.nodesUsed(payload.bytes));
    walker.handler(SCAN_FAILED, ({ payload }) => {
      const { kind, text } = payload;
      pushOf(payload.job)?.fail(
        new Failure('scan', '', { cause: text, kind: kind === 'interrupted' ? 'interrupted' : 'failed' }),
      );
    });
  }

  /** A scanner is gone, and with it the walks that it was at. */
  scannerLost(source: string, why: unknown): void {
    const failure = new Failure('scan', source, { cause: why ?? 'its scanner ended' });
    for (const push of this.#pushes.values()) if (push.source === source) push.fail(failure);
  }

  /** One push after another: what each added and stored is then its own. */
  #push(request: PushRequest, walker: Channel, control: Channel): Promise<Summary> {
    if (this.#waiting >= PUSHES_WAITING_MAX)
      throw new Failure('push', request.source, {
        cause: `${this.#waiting} pushes are waiting`,
        kind: 'busy',
      });
    const push = new Push(request, {
      repository: this.#context.instance,
      store: this.#store,
      fetcher: this.#fetcher,
      catalog: this.#catalog,
      journal: this.#journal,
      storage: this.#storage,
      splitter: this.#splitter,
      walker,
      now: Date.now,
      onProgress: (progress) => tell(control, PROGRESS, progress),
      onProblem: (problem) => tell(control, PROBLEM, { job: request.job, more: undefined, ...problem }),
    });
    this.#pushes.set(request.job, push);
    return this.#inTurn(() => push.run().finally(() => this.#pushes.delete(request.job)));
  }

  /** Runs `work` when all that came before it is done with the store. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const run = async (): Promise<T> => {
      try {
        return await work();
      } finally {
        this.#waiting--;
        if (this.#waiting === 0) this.#store.idle();
      }
    };
    const done = this.#pushing.then(run);
    this.#pushing = done.catch(() => undefined);
    return done;
  }

  // ---- control

  serveControl(control: Channel): void {
    control.handler(SESSION, (message) => this.#session(message, control));
    control.handler(PUSH_SOURCE, (message) => this.#pushSource(message, control));
    control.handler(PUSH_CLIENT, (message) => this.#pushClient(message, control));
    control.handler(CHECK_REPOSITORY, (message) => this.#check(message, control));
    control.handler(REPAIR_REPOSITORY, (message) => this.#repair(message, control));
    control.handler(REMOVE_SNAPSHOTS, (message) => this.#remove(message, control));
    control.handler(KEEP_SNAPSHOTS, (message) => this.#keep(message, control));
    control.handler(TAKE, (message) => this.#take(message, control));
    control.handler(ALLOW, (message) => {
      const { job, to, sources } = message.payload;
      this.#giver.allow(job, to, sources);
      control.reply(message, OK, {});
    });
    control.handler(FORBID, ({ payload }) => this.#giver.forbid(payload.job));
    control.handler(CLEAN_REPOSITORY, (message) => this.#clean(message, control));
    control.handler(HOLDINGS, async (message) => {
      const { payload } = await this.#storage.query(TOTALS, {}, TOTALS_ARE);
      control.reply(message, HOLDINGS_ARE, { snapshots: (await this.#catalog.list()).length, ...payload });
    });
    control.handler(CANCEL, ({ payload }) => {
      const { job } = payload;
      this.#pushes.get(job)?.fail(new Failure('push', '', { cause: 'interrupted', kind: 'interrupted' }));
      this.#cancels.get(job)?.();
    });
  }

  /** Control is gone, and its clients with it: nobody waits for what they asked for. */
  controlLost(): void {
    const failure = new Failure('push', '', { cause: 'control died', kind: 'interrupted' });
    for (const push of this.#pushes.values()) push.fail(failure);
    for (const cancel of this.#cancels.values()) cancel();
    this.#giver.forbidAll();
  }

  #session(message: Received<PayloadOf<typeof SESSION.shape>>, control: Channel): void {
    const { job, sources } = message.payload;
    if (this.#cancels.size >= SESSIONS_MAX)
      throw new Failure('open session', '', { cause: `${SESSIONS_MAX} are open`, kind: 'busy' });
    const { fds, over, close } = Session.open(this.#catalog, this.#fetcher, sources);
    try {
      control.reply(
        message,
        OPENED,
        { repository: this.#context.instance, ringBytes: READER_RING_BYTES },
        fds,
      );
    } finally {
      for (const fd of fds) closeSync(fd);
    }
    this.#cancels.set(job, close);
    // a client that broke the rules has lost its session; that is all there is to it
    over
      .catch(() => undefined)
      .then(() => {
        this.#cancels.delete(job);
        tell(control, JOB_OVER, { job });
      });
  }

  async #pushSource(message: Received<PayloadOf<typeof PUSH_SOURCE.shape>>, control: Channel): Promise<void> {
    const { source } = message.payload;
    const walker = this.#context.peer('scanner', source);
    if (walker === undefined) throw new Failure('push', source, { cause: 'its scanner is not running' });
    control.reply(message, PUSHED, await this.#push(message.payload, walker, control));
  }

  #pushClient(message: Received<PayloadOf<typeof PUSH_CLIENT.shape>>, control: Channel): void {
    const { job } = message.payload;
    const [ours, theirs] = channelPair();
    const walker = new Channel(ours, { name: 'walking client' });
    this.serveWalker(walker, (asked) => asked === job);
    const fds = [theirs.stream, theirs.descriptors];
    try {
      control.reply(message, PUSH_OPENED, { repository: this.#context.instance, job }, fds);
    } finally {
      for (const fd of fds) closeSync(fd);
    }
    const gone = walker.dispatch().then(
      () => new Failure('push', '', { cause: 'the client went away', kind: 'interrupted' }),
      (error: unknown) => new Failure('push', '', { cause: error }),
    );
    gone.then((failure) => this.#pushes.get(job)?.fail(failure));
    const request = { ...message.payload, source: '' };
    this.#push(request, walker, control)
      // the client has been told by SCAN_FAILED
      .catch(() => undefined)
      .then(async () => {
        tell(control, JOB_OVER, { job });
        await walker.drained();
        walker.close();
      })
      .catch(() => walker.close());
  }

  async #check(message: Received<PayloadOf<typeof CHECK_REPOSITORY.shape>>, control: Channel): Promise<void> {
    const { job, ...request } = message.payload;
    const check = new Check({
      repository: this.#context.instance,
      job,
      fetcher: this.#fetcher,
      catalog: this.#catalog,
      journal: this.#journal,
      memory: this.#memory,
      storage: this.#storage,
      now: Date.now,
      onProgress: (progress) => tell(control, PROGRESS, progress),
      onFinding: (finding) => tell(control, PROBLEM, { job, ...finding }),
    });
    this.#cancels.set(job, () => check.cancel());
    try {
      control.reply(message, CHECKED, await check.run(request));
    } finally {
      this.#cancels.delete(job);
    }
  }

  async #repair(
    message: Received<PayloadOf<typeof REPAIR_REPOSITORY.shape>>,
    control: Channel,
  ): Promise<void> {
    const { job } = message.payload;
    const repair = new Repair({
      repository: this.#context.instance,
      job,
      fetcher: this.#fetcher,
      store: this.#store,
      catalog: this.#catalog,
      journal: this.#journal,
      memory: this.#memory,
      storage: this.#storage,
      unreadable: this.#unreadable,
      remove: (names) => this.#removeAll(names),
      now: Date.now,
      onProgress: (progress) => tell(control, PROGRESS, progress),
      onFinding: (finding) => tell(control, PROBLEM, { job, ...finding }),
    });
    this.#cancels.set(job, () => repair.cancel());
    try {
      control.reply(message, REPAIRED, await repair.run(message.payload));
    } finally {
      this.#cancels.delete(job);
    }
  }

  async #remove(
    message: Received<PayloadOf<typeof REMOVE_SNAPSHOTS.shape>>,
    control: Channel,
  ): Promise<void> {
    const { snapshots, sources } = message.payload;
    const allowed = ({ header }: Snapshot): boolean =>
      sources === undefined || sources.includes(header.source);
    // all are found before any is removed
    const found = new Set<string>();
    for (const name of snapshots) found.add((await this.#catalog.resolve(name, allowed)).name);
    const names = [...found];
    await this.#removeAll(names);
    control.reply(message, REMOVED, { repository: this.#context.instance, snapshots: names });
  }

  async #keep(message: Received<PayloadOf<typeof KEEP_SNAPSHOTS.shape>>, control: Channel): Promise<void> {
    const judged = judge(await this.#catalog.list(), message.payload, Date.now());
    if (judged.length > KEEP_MAX)
      throw new Failure('keep', '', { cause: `${judged.length} snapshots, more than ${KEEP_MAX}` });
    const gone = judged.filter(({ reasons }) => reasons.length === 0);
    if (!message.payload.dryRun) await this.#removeAll(gone.map(({ snapshot }) => snapshot));
    control.reply(message, KEPT, { repository: this.#context.instance, snapshots: judged });
  }

  async #clean(message: Received<PayloadOf<typeof CLEAN_REPOSITORY.shape>>, control: Channel): Promise<void> {
    const { job, dryRun, reseal } = message.payload;
    if (this.#cleaning) throw new Failure('cleanup', '', { cause: 'one is at work', kind: 'busy' });
    const clean = new Clean({
      repository: this.#context.instance,
      fetcher: this.#fetcher,
      store: this.#store,
      catalog: this.#catalog,
      journal: this.#journal,
      storage: this.#storage,
      crypto: this.#crypto,
      now: Date.now,
    });
    this.#cleaning = true;
    this.#cancels.set(job, () => clean.cancel());
    try {
      control.reply(message, CLEANED_UP, await clean.run({ dryRun, reseal }));
    } finally {
      this.#cleaning = false;
      this.#cancels.delete(job);
    }
  }

  // ---- other repositories

  /** Registers what the chunker of another repository may ask. */
  serveChunker(channel: Channel, repository: string): void {
    this.#giver.serve(channel, repository);
  }

  /** Takes snapshots over from another repository; of this one itself, says what there is to take. */
  async #take(message: Received<TakeRequest>, control: Channel): Promise<void> {
    const request = message.payload;
    const { job, from } = request;
    if (from === this.#context.instance) {
      control.reply(message, SYNCED, await survey(request, this.#catalog, Date.now));
      return;
    }
    const theirs = await this.#openReader(from, job);
    const take = new Take(request, {
      repository: this.#context.instance,
      theirs,
      store: this.#store,
      fetcher: this.#fetcher,
      catalog: this.#catalog,
      journal: this.#journal,
      storage: this.#storage,
      splitter: this.#splitter,
      now: Date.now,
      inTurn: (work) => this.#inTurn(work),
      onProgress: (progress) => tell(control, PROGRESS, progress),
      onProblem: (problem) => tell(control, PROBLEM, { job, more: undefined, ...problem }),
    });
    this.#cancels.set(job, () => take.cancel());
    try {
      control.reply(message, SYNCED, await take.run());
    } finally {
      this.#cancels.delete(job);
      theirs.dispose();
    }
  }

  /** A session on another repository, which its chunker gives for this job. */
  async #openReader(repository: string, job: number): Promise<Reader> {
    const giver = this.#context.peer('chunker', repository);
    if (giver === undefined)
      throw new Failure('read from', `repository ${repository}`, { cause: 'it is not connected' });
    const { payload, fds } = await giver.query(GIVE, { job }, OPENED);
    const [stream, descriptors, ring] = fds;
    if (stream === undefined || descriptors === undefined || ring === undefined) {
      for (const fd of fds) closeSync(fd);
      throw new Failure('read from', `repository ${repository}`, { cause: 'no session came' });
    }
    return new Reader(repository, payload.ringBytes, { stream, descriptors, ring });
  }

  /** Removes snapshots, once the log says so: what goes without that has vanished. */
  async #removeAll(names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    await this.#journal.append('removed', names.map(snapshotId));
    await Promise.all(names.map((name) => this.#storage.query(DELETE, { kind: 'snapshots', name }, OK)));
  }
}

/** Tells control what it may hear or miss: it may have died. */
function tell<T>(control: Channel, type: MessageType<T>, payload: T): void {
  if (!control.closed) control.message(type, payload);
}

/** The process: waits for its ring and keys, then serves control, walkers and clients. */
export function chunker(context: ChildContext): void {
  const settings = context.settings as ChunkerSettings;
  const { parent } = context;
  let ring: Ring | undefined;
  let running: Chunker | undefined;
  parent.handler(RINGS, (message) => {
    const [plain] = message.payload.rings;
    if (plain === undefined) throw new Failure('map rings', '', { cause: 'one is needed' });
    ring = openRing(message.fds[0] ?? -1, plain.slots, plain.slotBytes, 'write');
    parent.reply(message, PARENT_DONE, {});
  });
  parent.handler(CHUNKER_KEYS, (message) => {
    const storage = context.peer('storage');
    const workers = slotRange(0, settings.workers)
      .map((i) => context.peer('crypto', `${context.instance}/${i}`))
      .filter((channel) => channel !== undefined);
    if (ring === undefined || storage === undefined || workers.length !== settings.workers)
      throw new Failure('take keys', '', { cause: 'ring, storage or crypto is missing' });
    running = new Chunker(context, settings, message.payload, ring, { storage, workers });
    message.payload.id.fill(0);
    message.payload.chunking.fill(0);
    parent.reply(message, PARENT_DONE, {});
  });
  parent.handler(MEMORY, (message) => {
    started().recall(message.payload);
    parent.reply(message, PARENT_DONE, {});
  });
  const started = (): Chunker => {
    if (running === undefined) throw new Failure('serve', '', { cause: 'no keys yet' });
    return running;
  };
  context.onPeer('storage', () => undefined);
  context.onPeer('crypto', () => undefined);
  context.onPeerLost('control', () => running?.controlLost());
  context.onPeer('control', (channel) => started().serveControl(channel));
  context.onPeer('chunker', (channel, repository) => started().serveChunker(channel, repository));
  context.onPeer('scanner', (channel) => started().serveWalker(channel, () => true));
  context.onPeerLost('scanner', (source, why) => running?.scannerLost(source, why));
}
