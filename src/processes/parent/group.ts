/**
 * The processes of one repository, as the parent sees them: chunker, crypto
 * workers and storage, started together when they are first needed, given their
 * rings and keys, and ready when the index is loaded. As they share those, they
 * fall together too: when one dies the others are put down, and all come back.
 * Owns the order in which that happens; its keys are in keys.ts.
 */
import { closeSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Repository } from '../../config/config.ts';
import { describe, Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { FORMAT } from '../../keys/frame.ts';
import type { Log } from '../../log.ts';
import { MEMORY, type REMEMBER } from '../../messages/memory.ts';
import { INITIALIZE, LOAD, LOADED, PARENT_DONE, RINGS } from '../../messages/parent.ts';
import { Backoff } from '../../privsep/backoff.ts';
import { child } from '../../privsep/declare.ts';
import type { Exit } from '../../privsep/start.ts';
import type { Supervisor } from '../../privsep/supervise.ts';
import type { User } from '../../privsep/user.ts';
import { encodeConfig, newConfig, type RepositoryConfig } from '../../repository/config.ts';
import { snapshotName } from '../../repository/snapshot.ts';
import { memfdCreate } from '../../sys/memory.ts';
import { PLAIN_SLOT_BYTES, plainSlots, SEALED_SLOT_BYTES, sealedSlots, slotRange } from '../rings.ts';
import { checkRepository, makeRepositoryDirectory, repositoryExists } from './directory.ts';
import { EMPTY_DIRECTORY } from './empty.ts';
import { RepositoryKeys, WORKER_DESCRIPTORS_MAX } from './keys.ts';
import type { Means } from './means.ts';
import type { RepositoryMemory } from './memory.ts';

const DESCRIPTORS_MAX = 4096;
/** A job waits for processes that come back within this; else it fails and says so. */
const PATIENCE_MS = 5000;

export interface GroupTools {
  readonly supervisor: Supervisor;
  readonly log: Log;
  readonly memory: RepositoryMemory;
  readonly stopping: AbortSignal;
  readonly now: () => number;
  /** of a monotonic clock */
  readonly nowMs: () => number;
  readonly random: (bytes: number) => Buffer;
  /** before processes that keep dying are started again; Backoff's own where undefined */
  readonly longestPauseMs: number | undefined;
  /** what a repository's processes may use of the machine */
  readonly meansOf: (repository: Repository) => Means;
  readonly chunkerUser: User;
  readonly cryptoUser: User;
  readonly storageUser: User;
}

/** What the parent tells control of a repository that is ready. */
export interface ReadyRepository {
  readonly id: string;
  readonly format: number;
  readonly created: number;
  readonly encryption: boolean;
}

export class RepositoryGroup {
  readonly #repository: Repository;
  readonly #tools: GroupTools;
  readonly #means: Means;
  readonly keys: RepositoryKeys;
  #ready: Promise<ReadyRepository> | undefined;
  readonly #backoff: Backoff;
  readonly #retired = new AbortController();
  #creating = false;
  /** of the repository that was opened last */
  #id = '';
  /** the first death since the processes were last started */
  #fallen: Failure | undefined;
  /** when they come back, of the monotonic clock, while `state` is 'waiting' */
  #backMs = 0;
  state: 'idle' | 'starting' | 'ready' | 'waiting' = 'idle';

  constructor(repository: Repository, tools: GroupTools) {
    this.#repository = repository;
    this.#tools = tools;
    this.#backoff = new Backoff(tools.longestPauseMs);
    this.#means = tools.meansOf(repository);
    const [storage = '', ...others] = this.#names;
    this.keys = new RepositoryKeys(repository, tools, {
      storage,
      workers: others.filter((name) => name !== this.chunker),
      chunker: this.chunker,
    });
  }

  get chunker(): string {
    return `chunker ${this.#repository.name}`;
  }

  get #storage(): string {
    return `storage ${this.#repository.name}`;
  }

  /** Storage first: its root directory is what is most likely to be missing. */
  get #names(): string[] {
    const { name } = this.#repository;
    const workers = slotRange(0, this.#means.workers).map((i) => `crypto ${name}/${i}`);
    return [this.#storage, ...workers, this.chunker];
  }

  /** Brings the processes up, if they are not; whoever asks meanwhile waits for the same. */
  ready(): Promise<ReadyRepository> {
    const { name } = this.#repository;
    if (this.#creating)
      return Promise.reject(
        new Failure('open repository', name, { cause: 'it is being created', kind: 'busy' }),
      );
    const waitMs = this.#backMs - this.#tools.nowMs();
    if (this.state === 'waiting' && waitMs > PATIENCE_MS)
      return Promise.reject(
        new Failure('open repository', name, {
          cause: this.#fallen ?? 'its processes keep dying',
          remedy: `they are started again in ${Math.ceil(waitMs / 1000)} s`,
        }),
      );
    if (this.state === 'ready' && this.#ready !== undefined) return this.#noticed(this.#ready);
    this.#ready ??= this.#open();
    return this.#ready;
  }

  /** A job begins with what others have done to the keys since. */
  async #noticed(ready: Promise<ReadyRepository>): Promise<ReadyRepository> {
    const repository = await ready;
    await this.keys.notice();
    return repository;
  }

  async #open(): Promise<ReadyRepository> {
    try {
      return await this.#bringUp();
    } catch (error) {
      await this.#kill();
      this.#ready = undefined;
      throw new Failure('open repository', this.#repository.name, { cause: this.#fallen ?? error });
    }
  }

  /** One of the processes died unasked. */
  fell({ failure }: Exit): void {
    this.#fallen ??= failure;
    // what waits for an answer of the others gets none: they go too
    if (this.state === 'starting') void this.#tools.supervisor.kill(this.#names);
    if (this.state !== 'ready') return;
    this.state = 'waiting';
    this.#ready = this.#return();
    // whoever needs it meanwhile awaits the same; nobody has to
    this.#ready.catch(() => undefined);
  }

  /** Brings the processes back, until they stay up or cannot be brought up for a reason of their own. */
  async #return(): Promise<ReadyRepository> {
    const { log, nowMs, stopping } = this.#tools;
    const of = { process: `storage ${this.#repository.name}` };
    const signal = AbortSignal.any([stopping, this.#retired.signal]);
    try {
      for (;;) {
        await this.#kill();
        this.state = 'waiting';
        const pauseMs = this.#backoff.next(nowMs());
        this.#backMs = nowMs() + pauseMs;
        log.info(`starts again in ${pauseMs} ms, with the others of its repository`, of);
        await pause(pauseMs, undefined, { signal });
        try {
          const ready = await this.#bringUp();
          log.info('serves again', of);
          return ready;
        } catch (error) {
          if (this.#fallen === undefined) throw error;
          log.error(`not back: ${describe(this.#fallen)}`, of);
        }
      }
    } catch (error) {
      await this.#kill();
      this.#ready = undefined;
      if (!signal.aborted) log.error(`not back: ${describe(error)}`, of);
      throw new Failure('open repository', this.#repository.name, { cause: error });
    }
  }

  async #kill(): Promise<void> {
    const { supervisor } = this.#tools;
    await supervisor.kill(this.#names);
    for (const name of this.#names) supervisor.forget(name);
    this.state = 'idle';
  }

  async #bringUp(): Promise<ReadyRepository> {
    this.state = 'starting';
    this.#fallen = undefined;
    checkRepository(this.#repository.location.path);
    await this.#startProcesses();
    const { config, epoch } = await this.keys.open();
    const { supervisor, memory } = this.#tools;
    this.#id = snapshotName(config.repository);
    const recalled = await memory.recall(this.#id, this.#repository.location.path);
    await supervisor.channel(this.chunker).query(MEMORY, recalled, PARENT_DONE);
    await this.#tools.supervisor.channel(this.#storage).query(LOAD, { epoch }, LOADED);
    if (this.#fallen !== undefined) throw this.#fallen;
    this.state = 'ready';
    return describeConfig(config);
  }

  /** For its chunker. */
  async remember(what: PayloadOf<typeof REMEMBER.shape>): Promise<void> {
    if (this.#id !== '') await this.#tools.memory.remember(this.#id, this.#repository.location.path, what);
  }

  async #startProcesses(): Promise<void> {
    this.#declare();
    await this.#tools.supervisor.start(this.#names);
    await this.#shareRings();
  }

  #declare(): void {
    const { supervisor, chunkerUser, cryptoUser, storageUser } = this.#tools;
    const { name, location, compression } = this.#repository;
    const { workers, compressors, reads, packs, read, write } = this.#means;
    const level = compression.kind === 'none' ? 0 : compression.level;
    supervisor.declare(
      child('storage')
        .instance(name)
        .user(storageUser)
        .chroot(location.path)
        .profile('storage')
        .limit('nofile', DESCRIPTORS_MAX)
        .talksTo('crypto', 'chunker')
        .settings({ workers, packs, read, write }),
      ...slotRange(0, workers).map((worker) =>
        child('crypto')
          .instance(`${name}/${worker}`)
          .user(cryptoUser)
          .chroot(EMPTY_DIRECTORY)
          .profile('worker')
          .limit('nofile', WORKER_DESCRIPTORS_MAX)
          .poolThreads(compressors)
          .talksTo('chunker')
          .settings({ worker, level, compressors }),
      ),
      child('chunker')
        .instance(name)
        .user(chunkerUser)
        .chroot(EMPTY_DIRECTORY)
        .profile('worker')
        .limit('nofile', DESCRIPTORS_MAX)
        .mayTalkTo('control', 'scanner', 'chunker')
        .settings({ workers, reads }),
    );
  }

  /** Plaintext for chunker and crypto, ciphertext for crypto and storage; nobody else maps either. */
  async #shareRings(): Promise<void> {
    const { supervisor } = this.#tools;
    const { workers, reads, writes } = this.#means;
    const plain = { name: 'plain', slots: plainSlots(workers, reads, writes), slotBytes: PLAIN_SLOT_BYTES };
    const sealed = { name: 'sealed', slots: sealedSlots(workers), slotBytes: SEALED_SLOT_BYTES };
    // made here, but not mapped: the parent sees neither plaintext nor ciphertext
    const plainFd = memfdCreate('plakard plain', plain.slots * plain.slotBytes);
    const sealedFd = memfdCreate('plakard sealed', sealed.slots * sealed.slotBytes);
    try {
      const [storage, ...others] = this.#names;
      await supervisor
        .channel(storage ?? '')
        .query(RINGS, { rings: [sealed] }, PARENT_DONE, { fds: [sealedFd] });
      for (const name of others) {
        const isChunker = name === this.chunker;
        const rings = isChunker ? [plain] : [plain, sealed];
        const fds = isChunker ? [plainFd] : [plainFd, sealedFd];
        await supervisor.channel(name).query(RINGS, { rings }, PARENT_DONE, { fds });
      }
    } finally {
      closeSync(plainFd);
      closeSync(sealedFd);
    }
  }

  /** Makes the repository: its directory, configuration object and first key slot. Returns its id. */
  async create(): Promise<string> {
    const { name, location } = this.#repository;
    if (this.#ready !== undefined || this.#creating) throw repositoryExists(location.path);
    this.#creating = true;
    try {
      return await this.#create();
    } catch (error) {
      throw new Failure('create repository', name, { cause: error });
    } finally {
      await this.#putDown();
      this.#creating = false;
    }
  }

  async #create(): Promise<string> {
    const { supervisor, memory, random, now, storageUser } = this.#tools;
    const { location, name } = this.#repository;
    makeRepositoryDirectory(location.path, storageUser);
    memory.forgetPlace(location.path);
    const repository = random(16);
    // RFC 9562 section 5.4: version 4, variant 10
    repository[6] = ((repository[6] ?? 0) & 0x0f) | 0x40;
    repository[8] = ((repository[8] ?? 0) & 0x3f) | 0x80;
    const config = encodeConfig(newConfig(repository, now(), this.#repository.encryption.kind !== 'none'));
    const slot = await this.keys.firstSlot(repository, `created with ${name}`);
    this.#declare();
    await supervisor.start(this.#names.slice(0, 1));
    await supervisor
      .channel(this.#storage)
      .query(INITIALIZE, { config, slotName: slot.name, slot: slot.data }, PARENT_DONE);
    return snapshotName(repository);
  }

  async #putDown(): Promise<void> {
    this.state = 'idle';
    const { supervisor } = this.#tools;
    const running = this.#names.filter((name) => supervisor.running.includes(name));
    await supervisor.stop(running);
  }

  /** Stops the processes: the repository has left the configuration, or changed. */
  async retire(): Promise<void> {
    this.#retired.abort();
    // a start that is under way ends first, one way or the other
    await this.#ready?.catch(() => undefined);
    this.#ready = undefined;
    await this.#putDown();
    for (const name of this.#names) this.#tools.supervisor.forget(name);
  }
}

function describeConfig(config: RepositoryConfig): ReadyRepository {
  return {
    id: snapshotName(config.repository),
    format: FORMAT,
    created: config.created,
    encryption: config.encryption,
  };
}
