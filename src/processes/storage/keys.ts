/**
 * What storage does for the parent about keys: it keeps key slots and keyrings,
 * which it cannot open, and counts what is sealed under which epoch. Owns the
 * order that a repository is opened in: its keys are read before anything else.
 */
import { FsBackend, type FsOptions } from '../../backends/fs.ts';
import type { ObjectKind } from '../../backends/objects.ts';
import { Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { HEADER_BYTES, headerEpoch, MAGIC } from '../../keys/frame.ts';
import { SLOT_MAX_BYTES } from '../../keys/slot.ts';
import {
  COUNT_EPOCHS,
  DELETE_KEY,
  EPOCHS_COUNTED,
  KEY_NAMES,
  KEY_NAMES_ARE,
  KEY_OBJECTS_MAX,
  KEY_PUT,
  KEYS_ARE,
  PUT_KEY,
  READ_KEYS,
  STORAGE_EPOCH,
} from '../../messages/keys.ts';
import { PARENT_DONE } from '../../messages/parent.ts';
import type { ChildContext } from '../../privsep/child.ts';
import { CONFIG_NAME } from '../../repository/config.ts';
import { CONFIG_MAX_BYTES } from '../../repository/constants.ts';
import { kindOfLease } from '../../repository/lease.ts';
import { checkKey, type Plain } from '../../repository/plain.ts';
import { isUnreadable } from '../../repository/problem.ts';
import type { Store } from '../../repository/store.ts';

/** Kinds of sealed objects that are neither packs nor index, which the store knows. */
const SEALED_KINDS: readonly ObjectKind[] = ['snapshots', 'log'];

/** The repository of the process, as the parent has had it opened. */
export interface Opening {
  /** Throws before READ_KEYS. */
  backend(): FsBackend;
  /** What the parent opened it with. Throws before READ_KEYS. */
  plain(): Plain;
  /** From now on epochs are those of this store. */
  loaded(store: Store): void;
}

export function serveKeys({ parent }: Pick<ChildContext, 'parent'>, options: FsOptions): Opening {
  let backend: FsBackend | undefined;
  let config: Buffer | undefined;
  const keys = new Map<string, Buffer>();
  let store: Store | undefined;
  const opened = (): FsBackend => {
    if (backend === undefined) throw new Failure('use repository', '', { cause: 'it is not open yet' });
    return backend;
  };
  const loaded = (): Store => {
    if (store === undefined) throw new Failure('use repository', '', { cause: 'it is not loaded yet' });
    return store;
  };
  parent.handler(READ_KEYS, async (message) => {
    backend ??= await FsBackend.open('/', options);
    const read = await readKeys(backend);
    config ??= read.config;
    keepWhole(read.objects, keys);
    parent.reply(message, KEYS_ARE, read);
  });
  parent.handler(KEY_NAMES, async (message) => {
    parent.reply(message, KEY_NAMES_ARE, { names: await keyNames(opened()) });
  });
  parent.handler(PUT_KEY, async (message) => {
    const { name, data } = message.payload;
    const names = await keyNames(opened());
    if (names.length >= KEY_OBJECTS_MAX && !names.includes(name))
      throw new Failure('write', `keys/${name}`, {
        cause: `there are ${KEY_OBJECTS_MAX} key slots and keyrings`,
        remedy: 'plakarctl key rm',
      });
    const made = await opened().put('keys', name, [data], { ifAbsent: true });
    parent.reply(message, KEY_PUT, { made });
  });
  parent.handler(DELETE_KEY, async (message) => {
    await opened().delete('keys', message.payload.name);
    parent.reply(message, PARENT_DONE, {});
  });
  parent.handler(STORAGE_EPOCH, (message) => {
    loaded().epoch = message.payload.epoch;
    parent.reply(message, PARENT_DONE, {});
  });
  parent.handler(COUNT_EPOCHS, async (message) => {
    const epochs = await countEpochs(loaded());
    parent.reply(message, EPOCHS_COUNTED, { epochs, writers: await countWriters(loaded()) });
  });
  return {
    backend: opened,
    plain: () => {
      if (config === undefined) throw new Failure('use repository', '', { cause: 'it is not open yet' });
      return { config, keys };
    },
    loaded: (opening) => {
      store = opening;
    },
  };
}

/** Remembers slots and keyrings as they are, but for those that are damaged. */
function keepWhole(objects: readonly { name: string; data: Buffer }[], keys: Map<string, Buffer>): void {
  const names = new Set(objects.map(({ name }) => name));
  for (const name of keys.keys()) if (!names.has(name)) keys.delete(name);
  for (const { name, data } of objects) {
    try {
      checkKey(name, data);
      keys.set(name, Buffer.from(data));
    } catch (error) {
      if (!isUnreadable(error)) throw error;
    }
  }
}

async function keyNames(backend: FsBackend): Promise<string[]> {
  return (await backend.list('keys')).sort().slice(0, KEY_OBJECTS_MAX);
}

/** The configuration object, key slots and keyrings; a place without the first is no repository. */
async function readKeys(backend: FsBackend): Promise<PayloadOf<typeof KEYS_ARE.shape>> {
  const config = await backend.get('config', CONFIG_NAME);
  if (config === undefined)
    throw new Failure('open repository', '', {
      cause: 'it is not a repository: there is no config object',
      kind: 'no-repository',
      remedy: 'plakarctl create makes one',
    });
  if (config.length > CONFIG_MAX_BYTES)
    throw new Failure('open repository', '', { cause: 'config object is too long', kind: 'damaged' });
  const objects: { name: string; data: Buffer }[] = [];
  for (const name of await keyNames(backend)) {
    const data = await backend.get('keys', name);
    if (data !== undefined && data.length <= SLOT_MAX_BYTES) objects.push({ name, data });
  }
  return { config, objects };
}

type Counted = PayloadOf<typeof EPOCHS_COUNTED.shape>['epochs'];

/** What is sealed under each epoch: segments by the index, and other objects by their headers. */
async function countEpochs(store: Store): Promise<Counted> {
  await store.refresh();
  const counted = new Map<number, Counted[number]>();
  const under = (epoch: number): Counted[number] => {
    const known = counted.get(epoch) ?? { epoch, segments: 0, bytes: 0, objects: 0 };
    counted.set(epoch, known);
    return known;
  };
  for (const { keyEpoch, sealedLength } of store.segments.places()) {
    const count = under(keyEpoch);
    count.segments++;
    count.bytes += sealedLength;
  }
  for (const epoch of store.indexes.epochs.values()) under(epoch).objects++;
  for (const kind of SEALED_KINDS)
    for (const name of await store.backend.list(kind)) {
      const epoch = await epochOf(store, kind, name);
      if (epoch !== undefined) under(epoch).objects++;
    }
  return [...counted.values()].sort((a, b) => a.epoch - b.epoch).slice(0, 4096);
}

/** Leases, those of writers that died too: a cleanup finds out. */
async function countWriters({ backend }: Store): Promise<number> {
  let writers = 0;
  for (const name of await backend.list('leases')) {
    const object = await backend.get('leases', name);
    if (object !== undefined && kindOfLease(object) === 'lease') writers++;
  }
  return writers;
}

/** The epoch that an object's header names; undefined of one that is gone, too short, or sealed with nothing. */
async function epochOf(store: Store, kind: ObjectKind, name: string): Promise<number | undefined> {
  const bytes = await store.backend.stat(kind, name);
  if (bytes === undefined || bytes < HEADER_BYTES) return undefined;
  const header = await store.backend.get(kind, name, { offset: 0, length: HEADER_BYTES });
  const isVoid = header?.toString('latin1', 0, MAGIC.void.length) === MAGIC.void;
  return header === undefined || isVoid ? undefined : headerEpoch(header);
}
