/**
 * Checks the plain objects: configuration, key slots, keyrings and leases, which
 * are read when a repository is opened or a cleanup runs, and whose damage would
 * not show before; and puts back what opens the repository, from what was read
 * while it was whole. Called by storage for checks and repairs. It opens nothing:
 * what slots and keyrings seal is authenticated when they are used. Invariant:
 * nothing that is whole is replaced, and no slot that was removed comes back.
 */
import type { Backend } from '../backends/objects.ts';
import { Failure } from '../error.ts';
import { decodePlain, MAGIC } from '../keys/frame.ts';
import { isKeyring, KEYRING_MAX_BYTES } from '../keys/keyring.ts';
import { SLOT_MAX_BYTES } from '../keys/slot.ts';
import { CONFIG_NAME, decodeConfig } from './config.ts';
import { decodeLease, decodeMark, decodeVerdict, kindOfLease } from './lease.ts';
import { isUnreadable, type Problem, problemOf } from './problem.ts';

const DECODE_LEASE = { lease: decodeLease, mark: decodeMark, verdict: decodeVerdict } as const;

/** What opens a repository, as it was read. */
export interface Plain {
  /** the configuration object that the repository was opened with */
  readonly config: Buffer;
  /** key slots and keyrings, by name, as they last were when they were whole */
  readonly keys: ReadonlyMap<string, Buffer>;
}

/** Whether a key slot or a keyring is a slot; throws a Failure of kind 'damaged', or an UnknownVersion. */
export function checkKey(name: string, object: Buffer): boolean {
  const isRing = isKeyring(object);
  const [magic, maxBytes] = isRing ? [MAGIC.keyring, KEYRING_MAX_BYTES] : [MAGIC.slot, SLOT_MAX_BYTES];
  decodePlain(object, magic, `keys/${name}`, maxBytes);
  return !isRing;
}

function isDamaged(read: () => void): boolean {
  try {
    read();
    return false;
  } catch (error) {
    if (error instanceof Failure && error.kind === 'damaged') return true;
    if (isUnreadable(error)) return false;
    throw error;
  }
}

/** Puts the configuration back where it is missing or damaged, and slots and keyrings that are damaged; how many objects. */
export async function mendPlain(backend: Backend, { config, keys }: Plain): Promise<number> {
  let mended = 0;
  const now = await backend.get('config', CONFIG_NAME);
  if (now === undefined || isDamaged(() => decodeConfig(now))) {
    await backend.put('config', CONFIG_NAME, [config]);
    mended++;
  }
  for (const name of await backend.list('keys')) {
    const [object, known] = [await backend.get('keys', name), keys.get(name)];
    if (object === undefined || known === undefined || !isDamaged(() => checkKey(name, object))) continue;
    await backend.put('keys', name, [known]);
    mended++;
  }
  return mended;
}

/** What is wrong with plain objects. */
export async function checkPlain(backend: Backend, { config }: Plain): Promise<Problem[]> {
  const problems: Problem[] = [];
  const attempt = (object: string, read: () => void): boolean => {
    try {
      read();
      return true;
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      problems.push(problemOf(object, error));
      return false;
    }
  };
  const now = await backend.get('config', CONFIG_NAME);
  if (now === undefined) problems.push({ object: CONFIG_NAME, text: 'it is missing' });
  else if (attempt(CONFIG_NAME, () => decodeConfig(now)) && !now.equals(config))
    problems.push({ object: CONFIG_NAME, text: 'it is not the one that this repository was opened with' });
  let slots = 0;
  for (const name of await backend.list('keys')) {
    const object = await backend.get('keys', name);
    if (object === undefined) continue;
    attempt(`keys/${name}`, () => {
      if (checkKey(name, object)) slots++;
    });
  }
  if (slots === 0)
    problems.push({ object: 'keys', text: 'no key slot is whole: nothing opens the repository again' });
  for (const name of await backend.list('leases')) {
    const object = await backend.get('leases', name);
    if (object !== undefined)
      attempt(`leases/${name}`, () => DECODE_LEASE[kindOfLease(object)](object, name));
  }
  return problems;
}
