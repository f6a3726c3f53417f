/**
 * Checks the plain objects: configuration, key slots, keyrings and leases, which
 * are read when a repository is opened or a cleanup runs, and whose damage would
 * not show before. Called by storage for a check. It opens nothing: what slots
 * and keyrings seal is authenticated when they are used.
 */
import type { Backend } from '../backends/objects.ts';
import { decodePlain, MAGIC } from '../keys/frame.ts';
import { isKeyring, KEYRING_MAX_BYTES } from '../keys/keyring.ts';
import { SLOT_MAX_BYTES } from '../keys/slot.ts';
import { CONFIG_NAME, decodeConfig } from './config.ts';
import { decodeLease, decodeMark, decodeVerdict, kindOfLease } from './lease.ts';
import { isUnreadable, type Problem, problemOf } from './problem.ts';

const DECODE_LEASE = { lease: decodeLease, mark: decodeMark, verdict: decodeVerdict } as const;

/** What is wrong with them; `config` is the configuration object that the repository was opened with. */
export async function checkPlain(backend: Backend, config: Buffer): Promise<Problem[]> {
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
  if (now === undefined)
    problems.push({ object: CONFIG_NAME, text: 'it is missing: put it back from a copy' });
  else if (attempt(CONFIG_NAME, () => decodeConfig(now)) && !now.equals(config))
    problems.push({ object: CONFIG_NAME, text: 'it is not the one that this repository was opened with' });
  let slots = 0;
  for (const name of await backend.list('keys')) {
    const object = await backend.get('keys', name);
    if (object === undefined) continue;
    const [magic, maxBytes] = isKeyring(object)
      ? ([MAGIC.keyring, KEYRING_MAX_BYTES] as const)
      : ([MAGIC.slot, SLOT_MAX_BYTES] as const);
    if (attempt(`keys/${name}`, () => decodePlain(object, magic, `keys/${name}`, maxBytes)))
      slots += Number(magic === MAGIC.slot);
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
