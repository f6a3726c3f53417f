/**
 * The keys of one repository, as the parent sees them: it reads what the
 * configuration names as credential, starts the process that opens a slot with
 * it, and gives each process the keys that it alone may hold. Called by the
 * repository's group. Owns the order in which slots and keyrings change: what
 * is new is durable before anything old goes, so that whoever is stopped in
 * between can open everything.
 */
import type { Repository } from '../../config/config.ts';
import { Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { isKeyring, type KeyObject } from '../../keys/keyring.ts';
import { type Credential, inspectSlot } from '../../keys/slot.ts';
import {
  ADD_SLOT,
  type CHANGE_KEYS,
  CHUNKER_KEYS,
  COUNT_EPOCHS,
  CRYPTO_KEYS,
  DELETE_KEY,
  EPOCHS_COUNTED,
  KEY_NAMES,
  KEY_NAMES_ARE,
  KEY_PUT,
  KEYRING_MADE,
  KEYS_ARE,
  type KEYS_CHANGED,
  type KEYS_LISTED,
  MAKE_KEYRING,
  MAKE_SLOT,
  PUT_KEY,
  READ_KEYS,
  SLOT_MADE,
  STORAGE_EPOCH,
  UNLOCK,
  UNLOCKED,
} from '../../messages/keys.ts';
import { PARENT_DONE } from '../../messages/parent.ts';
import { child } from '../../privsep/declare.ts';
import type { Supervisor, ToChild } from '../../privsep/supervise.ts';
import type { User } from '../../privsep/user.ts';
import { decodeConfig, type RepositoryConfig } from '../../repository/config.ts';
import { readCredential, wipe } from './credential.ts';
import { EMPTY_DIRECTORY } from './empty.ts';

/** Argon2 on a slow machine, at the highest cost that slots allow, for each slot. */
const KEYS_TIMEOUT_MS = 600_000;
const SLOT_NAME_BYTES = 8;
/** Of a process that passes none on. */
export const WORKER_DESCRIPTORS_MAX = 256;

type Changed = PayloadOf<typeof KEYS_CHANGED.shape>;
type Listed = PayloadOf<typeof KEYS_LISTED.shape>;
type Unlocked = PayloadOf<typeof UNLOCKED.shape>;
/** What is asked of the keys, and the descriptor of a new credential. */
export type KeyChange = Omit<PayloadOf<typeof CHANGE_KEYS.shape>, 'repository'>;

export interface KeyTools {
  readonly supervisor: Supervisor;
  readonly now: () => number;
  readonly random: (bytes: number) => Buffer;
  readonly cryptoUser: User;
}

/** The names of the processes that get keys. */
export interface KeyHolders {
  readonly storage: string;
  readonly workers: readonly string[];
  readonly chunker: string;
}

/** What was last unlocked. */
interface State {
  readonly config: RepositoryConfig;
  /** names of all slots and keyrings there were */
  readonly names: ReadonlySet<string>;
  /** the slot that opened it */
  readonly slot: string;
  /** ascending */
  readonly epochs: readonly { readonly epoch: number; readonly created: number }[];
}

export class RepositoryKeys {
  readonly #repository: Repository;
  readonly #tools: KeyTools;
  readonly #holders: KeyHolders;
  #state: State | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(repository: Repository, tools: KeyTools, holders: KeyHolders) {
    this.#repository = repository;
    this.#tools = tools;
    this.#holders = holders;
  }

  get #storage(): ToChild {
    return this.#tools.supervisor.channel(this.#holders.storage);
  }

  /** One after another: the keys process has room for one question. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** Opens the repository and hands out its keys; what it is, and the epoch of what is written. */
  open(): Promise<{ config: RepositoryConfig; epoch: number }> {
    return this.#inTurn(async () => {
      this.#state = undefined;
      const state = await this.#unlock(async (opened, unlocked) => {
        const given = { id: unlocked.chunkId, chunking: unlocked.chunking };
        const chunker = this.#tools.supervisor.channel(this.#holders.chunker);
        await chunker.query(CHUNKER_KEYS, given, PARENT_DONE);
        await this.#giveEpochs(opened, unlocked);
      });
      this.#state = state;
      return { config: state.config, epoch: newestOf(state) };
    });
  }

  /** Learns of rotations that others have made since; without any this costs a listing. */
  notice(): Promise<void> {
    return this.#inTurn(() => this.#notice());
  }

  async #notice(): Promise<void> {
    const before = this.#state;
    if (before === undefined) return;
    const { names } = (await this.#storage.query(KEY_NAMES, {}, KEY_NAMES_ARE)).payload;
    if (names.every((name) => before.names.has(name))) return;
    const { payload } = await this.#storage.query(READ_KEYS, {}, KEYS_ARE);
    const isNew = ({ name, data }: KeyObject) => !before.names.has(name) && isKeyring(data);
    if (!payload.objects.some(isNew)) {
      this.#state = { ...before, names: new Set(names) };
      return;
    }
    const state = await this.#unlock((opened, unlocked) => this.#giveEpochs(opened, unlocked));
    await this.#storage.query(STORAGE_EPOCH, { epoch: newestOf(state) }, PARENT_DONE);
    this.#state = state;
  }

  async #giveEpochs({ config }: State, { epochs }: Unlocked): Promise<void> {
    const { supervisor } = this.#tools;
    for (const name of this.#holders.workers) {
      const payload = { repository: config.repository, epochs };
      await supervisor.channel(name).query(CRYPTO_KEYS, payload, PARENT_DONE);
    }
  }

  /** Opens a slot, and has `give` hand on what was behind it, which is wiped then. */
  async #unlock(give: (state: State, unlocked: Unlocked) => Promise<void>): Promise<State> {
    const { asked, credential, names, config } = await this.#question();
    const { payload } = await this.#ask(credential, (keys) => keys.query(UNLOCK, asked, UNLOCKED));
    const epochs = payload.epochs.map(({ epoch }, i) => ({ epoch, created: payload.created[i] ?? 0 }));
    const state = { config, names, slot: payload.slot, epochs };
    try {
      await give(state, payload);
    } finally {
      const { chunkId, chunking } = payload;
      for (const { segment, index, snapshot, log } of payload.epochs)
        for (const key of [segment, index, snapshot, log, chunkId, chunking]) key.fill(0);
    }
    return state;
  }

  /** What the keys process is asked with: everything that it opens the repository by. `#ask` wipes it. */
  async #question() {
    const { payload } = await this.#storage.query(READ_KEYS, {}, KEYS_ARE);
    const config = decodeConfig(payload.config);
    const credential = readCredential(this.#repository.encryption);
    const asked = {
      repository: config.repository,
      config: payload.config,
      created: config.created,
      objects: payload.objects,
      // last, so that encoding what is before it never has to copy it
      credential: secretOf(credential),
    };
    return { asked, config, credential, names: new Set(payload.objects.map(({ name }) => name)) };
  }

  /** Asks a process that is there for this question only. The credential is wiped. */
  async #ask<T>(credential: Credential, ask: (keys: ToChild) => Promise<T>): Promise<T> {
    try {
      return await this.#askOne(credential.type, ask);
    } finally {
      wipe(credential);
    }
  }

  async #askOne<T>(type: Credential['type'], ask: (keys: ToChild) => Promise<T>): Promise<T> {
    const { supervisor, cryptoUser } = this.#tools;
    const name = `keys ${this.#repository.name}`;
    supervisor.declare(
      child('keys')
        .instance(this.#repository.name)
        .user(cryptoUser)
        .chroot(EMPTY_DIRECTORY)
        .profile('worker')
        .limit('nofile', WORKER_DESCRIPTORS_MAX)
        .mayComputeFor(KEYS_TIMEOUT_MS)
        .startsAtOnce()
        .settings({ type }),
    );
    await supervisor.start([name]);
    try {
      return await ask(supervisor.channel(name));
    } finally {
      await supervisor.stop([name]);
      supervisor.forget(name);
    }
  }

  /** The first slot of a new repository, whose root key nobody else has seen. */
  async firstSlot(repository: Buffer, label: string): Promise<{ name: string; data: Buffer }> {
    const credential = readCredential(this.#repository.encryption);
    const payload = { repository, credential: secretOf(credential), label, created: this.#tools.now() };
    const made = await this.#ask(credential, (keys) => keys.query(MAKE_SLOT, payload, SLOT_MADE));
    return { name: this.#newName(), data: made.payload.slot };
  }

  #newName(): string {
    return this.#tools.random(SLOT_NAME_BYTES).toString('hex');
  }

  // ---- what plakarctl key asks

  list(): Promise<Listed> {
    return this.#inTurn(async () => {
      await this.#notice();
      const state = this.#opened();
      const { payload } = await this.#storage.query(READ_KEYS, {}, KEYS_ARE);
      const counts = (await this.#storage.query(COUNT_EPOCHS, {}, EPOCHS_COUNTED)).payload.epochs;
      const none = { segments: 0, bytes: 0, objects: 0 };
      return {
        repository: this.#repository.name,
        slots: slotsIn(payload.objects).map((object) => describeSlot(object, state.slot)),
        epochs: state.epochs.map(({ epoch, created }) => ({
          ...none,
          ...counts.find((count) => count.epoch === epoch),
          epoch,
          created,
        })),
      };
    });
  }

  #opened(): State {
    if (this.#state === undefined)
      throw new Failure('use keys', this.#repository.name, { cause: 'it is not open' });
    return this.#state;
  }

  /** Changes slots or epochs; the descriptors stay the caller's. */
  change(change: KeyChange, [fd]: readonly number[]): Promise<Changed> {
    return this.#inTurn(async () => {
      if (this.#repository.encryption.kind === 'none')
        throw new Failure('change keys', this.#repository.name, {
          cause: 'it is not encrypted: nothing would be protected',
        });
      const changed = await this.#change(change, fd);
      await this.#notice();
      return { ...nothingChanged, ...changed, repository: this.#repository.name };
    });
  }

  async #change(change: KeyChange, fd: number | undefined): Promise<Partial<Changed>> {
    switch (change.change) {
      case 'add':
        return { slot: await this.#add(change, fd) };
      case 'passwd':
        return await this.#replace(change, fd);
      case 'rm':
        return await this.#remove(change);
      case 'rotate':
        return await this.#rotate(change.revoke);
      case 'forget':
        return await this.#forget(change.epoch);
    }
  }

  async #add({ type, label = '' }: KeyChange, fd: number | undefined): Promise<string> {
    if (type === undefined || fd === undefined)
      throw new Failure('add key slot', '', { cause: 'no credential came' });
    const { asked, credential } = await this.#question();
    const payload = { type, label, now: this.#tools.now(), ...asked };
    const made = await this.#ask(credential, (keys) =>
      keys.query(ADD_SLOT, payload, SLOT_MADE, { fds: [fd] }),
    );
    const name = this.#newName();
    await this.#put({ name, data: made.payload.slot });
    return name;
  }

  /** A new slot in the place of an old one, which goes when the new one is durable. */
  async #replace(change: KeyChange, fd: number | undefined): Promise<Partial<Changed>> {
    const state = this.#opened();
    const old = await this.#find('passwd', change.slot ?? state.slot);
    const label = change.label ?? describeSlot(old, '').label;
    const slot = await this.#add({ ...change, label }, fd);
    await this.#delete(old.name);
    const configured = old.name === state.slot;
    if (configured) this.#state = { ...state, slot };
    return { slot, removed: [old.name], configured };
  }

  async #remove({ slot, force }: KeyChange): Promise<Partial<Changed>> {
    const { payload } = await this.#storage.query(READ_KEYS, {}, KEYS_ARE);
    const { name } = findSlot('rm', payload.objects, slot ?? '');
    if (slotsIn(payload.objects).length === 1)
      throw new Failure('remove key slot', name, {
        cause: 'it is the last: nobody could open the repository any more',
      });
    if (name === this.#opened().slot && !force)
      throw new Failure('remove key slot', name, {
        cause: 'the configuration uses it: plakard could not open the repository any more',
        remedy: '-force removes it',
      });
    await this.#delete(name);
    return { removed: [name] };
  }

  async #find(operation: string, slot: string): Promise<KeyObject> {
    const { payload } = await this.#storage.query(READ_KEYS, {}, KEYS_ARE);
    return findSlot(operation, payload.objects, slot);
  }

  /** A new epoch; with `revoke` a new root key too, which only the slot of the configuration has. */
  async #rotate(revoke: boolean): Promise<Partial<Changed>> {
    const { asked, credential } = await this.#question();
    const ours = asked.objects.find(({ name }) => name === this.#opened().slot);
    const label = revoke && ours !== undefined ? describeSlot(ours, '').label : undefined;
    if (revoke && label === undefined) {
      wipe(credential);
      throw new Failure('rotate keys', '', { cause: 'the slot of the configuration is gone' });
    }
    const payload = { now: this.#tools.now(), forget: undefined, revoke: label, ...asked };
    const made = await this.#ask(credential, (keys) => keys.query(MAKE_KEYRING, payload, KEYRING_MADE));
    const { keyring, slot, epoch } = made.payload;
    await this.#putKeyring(keyring);
    if (slot === undefined) {
      await this.#removeKeyrings(asked.objects);
      return { epoch };
    }
    const name = this.#newName();
    await this.#put({ name, data: slot });
    const removed = slotsIn(asked.objects).map((old) => old.name);
    for (const old of removed) await this.#delete(old);
    await this.#removeKeyrings(asked.objects);
    return { epoch, slot: name, removed };
  }

  async #forget(epoch: number | undefined): Promise<Partial<Changed>> {
    const fail = (cause: string, remedy?: string) =>
      new Failure('forget epoch', String(epoch), { cause, ...(remedy === undefined ? {} : { remedy }) });
    if (epoch === undefined) throw fail('which is not said');
    const counted = (await this.#storage.query(COUNT_EPOCHS, {}, EPOCHS_COUNTED)).payload;
    const left = counted.epochs.find((each) => each.epoch === epoch);
    if (left !== undefined && left.segments + left.objects > 0)
      throw fail(
        `${left.segments} segments and ${left.objects} objects are sealed under it`,
        'plakarctl cleanup -reseal',
      );
    // one that began before the rotation writes under the old epoch to its end
    if (counted.writers > 0) throw fail(`${counted.writers} writers are at work, which may use it`);
    const { asked, credential } = await this.#question();
    const payload = { now: this.#tools.now(), forget: epoch, revoke: undefined, ...asked };
    const made = await this.#ask(credential, (keys) => keys.query(MAKE_KEYRING, payload, KEYRING_MADE));
    await this.#putKeyring(made.payload.keyring);
    await this.#removeKeyrings(asked.objects);
    return { epoch };
  }

  /** Under both of its names; the first decides who made it. */
  async #putKeyring(keyring: readonly KeyObject[]): Promise<void> {
    const [first, second] = keyring;
    if (first === undefined || second === undefined)
      throw new Failure('write keyring', '', { cause: 'none was made' });
    await this.#put(first);
    await this.#storage.query(PUT_KEY, second, KEY_PUT);
  }

  async #put(object: KeyObject): Promise<void> {
    if ((await this.#storage.query(PUT_KEY, object, KEY_PUT)).payload.made) return;
    throw new Failure('write', `keys/${object.name}`, {
      cause: 'somebody else changes the keys at the same time',
      kind: 'busy',
    });
  }

  async #delete(name: string): Promise<void> {
    await this.#storage.query(DELETE_KEY, { name }, PARENT_DONE);
  }

  async #removeKeyrings(objects: readonly KeyObject[]): Promise<void> {
    for (const { name, data } of objects) if (isKeyring(data)) await this.#delete(name);
  }
}

const nothingChanged = { slot: undefined, removed: [], epoch: undefined, configured: false };

function newestOf({ epochs }: State): number {
  return epochs.at(-1)?.epoch ?? 1;
}

function slotsIn(objects: readonly KeyObject[]): KeyObject[] {
  return objects.filter(({ data }) => !isKeyring(data));
}

/** The slot whose name begins so. */
function findSlot(operation: string, objects: readonly KeyObject[], wanted: string): KeyObject {
  const found = wanted === '' ? [] : slotsIn(objects).filter(({ name }) => name.startsWith(wanted));
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  throw new Failure(`key ${operation}`, wanted, {
    cause: only === undefined ? 'no such slot' : `${found.length} slots begin so`,
    remedy: 'plakarctl key list shows them',
    kind: 'usage',
  });
}

function describeSlot({ name, data }: KeyObject, opened: string): Listed['slots'][number] {
  try {
    const { type, label, created, argon2 } = inspectSlot(data, name);
    return { slot: name, type, label, created, argon2, opened: name === opened, why: undefined };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const why = String(error.cause).slice(0, 1024);
    return { slot: name, type: '', label: '', created: 0, argon2: undefined, opened: false, why };
  }
}

function secretOf(credential: Credential): Buffer | undefined {
  return credential.type === 'none' ? undefined : credential.secret;
}
