/**
 * keys: a process that lives for one question. It gets the credential that the
 * configuration names from the parent, opens a key slot and the keyring behind
 * it, and hands out the keys of each purpose; or makes a slot or a keyring. It
 * is stopped then: the memory and time that Argon2 wants are nobody else's, and
 * root and master keys never leave it in the clear. A new credential comes in a
 * memory file that no other process of ours looks into.
 */
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { Failure } from '../error.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { FIRST_EPOCH, MASTER_KEY_BYTES } from '../keys/derive.ts';
import {
  findKeyring,
  isKeyring,
  type Keyring,
  type KeyringOf,
  keyringNames,
  keyringsGeneration,
  newestEpoch,
  purposeKeysOf,
  rotated,
  sealKeyring,
} from '../keys/keyring.ts';
import {
  type Credential,
  createSlot,
  FIRST_GENERATION,
  inspectSlot,
  openSlot,
  type RootKey,
} from '../keys/slot.ts';
import {
  ADD_SLOT,
  CREDENTIAL_MAX_BYTES,
  KEYRING_MADE,
  MAKE_KEYRING,
  MAKE_SLOT,
  SLOT_MADE,
  UNLOCK,
  UNLOCKED,
} from '../messages/keys.ts';
import type { ChildContext } from '../privsep/child.ts';
import { checkSealed, mapShared, unmap } from '../sys/memory.ts';

/** What the parent says that the credential is. */
export interface KeysSettings {
  readonly type: Credential['type'];
}

type Unlock = PayloadOf<typeof UNLOCK.shape>;

/** What a credential opened. */
interface Opened {
  readonly slot: string;
  readonly root: RootKey;
  readonly keyring: Keyring;
}

function credentialOf(type: Credential['type'], secret: Buffer | undefined): Credential {
  if (type === 'none') return { type };
  if (secret === undefined) throw new Failure('use credential', type, { cause: 'it is missing' });
  return { type, secret };
}

function ofRepository({ repository, config }: Unlock): KeyringOf {
  return { repositoryId: repository, config };
}

/**
 * Opens a slot that the credential fits, of the latest generation there is;
 * slots of other types are passed over, and those of a generation that never
 * came to be.
 */
function unlock(asked: Unlock, credential: Credential): Opened {
  const { objects, repository, created } = asked;
  const slots = objects.filter(({ data }) => !isKeyring(data));
  const latest = keyringsGeneration(objects);
  const refused: unknown[] = [];
  let best: Opened | undefined;
  for (const { name, data } of slots) {
    try {
      if (inspectSlot(data, name).type !== credential.type) continue;
      const root = openSlot(data, name, repository, credential);
      const keyring = findKeyring(objects, root, ofRepository(asked), created);
      if (keyring === undefined) continue;
      if (best === undefined || root.generation > best.root.generation) best = { slot: name, root, keyring };
      if (root.generation >= latest) break;
    } catch (error) {
      refused.push(error);
    }
  }
  if (best !== undefined) return best;
  throw refusal(slots.length, credential, refused);
}

function refusal(slots: number, { type }: Credential, refused: readonly unknown[]): Failure {
  const wrong = refused.find((error) => error instanceof Failure && error.kind === 'wrong-key');
  const cause = wrong ?? refused[0];
  if (wrong === undefined && cause !== undefined)
    return new Failure('unlock', `${slots} key slots`, { cause });
  return new Failure('unlock', `${slots} key slots`, {
    cause: cause ?? `no slot is for a ${type}`,
    kind: 'wrong-key',
    remedy: 'is it the right passphrase or key file in the configuration?',
  });
}

/** A slot of the root key, as stored, opened again to see that it can be. */
function makeSlot(
  root: RootKey,
  credential: Credential,
  of: { readonly repository: Buffer; readonly label: string; readonly createdMs: number },
): Buffer {
  const { repository, label, createdMs } = of;
  const slot = createSlot({
    repositoryId: repository,
    root,
    credential,
    label,
    createdMs,
    random: randomBytes,
  });
  const opened = openSlot(slot, 'new', repository, credential);
  if (!opened.key.equals(root.key))
    throw new Failure('make key slot', label, {
      cause: 'it does not open to what was sealed',
      remedy: 'test this machine’s memory',
    });
  return slot;
}

/** The credential in a memory file, which is closed. */
function readCredential(fd: number | undefined): Buffer {
  if (fd === undefined) throw new Failure('read credential', '', { cause: 'no descriptor came' });
  try {
    const sizeBytes = checkSealed(fd, 1);
    if (sizeBytes > CREDENTIAL_MAX_BYTES)
      throw new Failure('read credential', '', { cause: `longer than ${CREDENTIAL_MAX_BYTES} bytes` });
    const mapping = mapShared(fd, sizeBytes, 'read');
    const secret = Buffer.from(mapping);
    unmap(mapping);
    return secret;
  } finally {
    closeSync(fd);
  }
}

type MakeKeyring = PayloadOf<typeof MAKE_KEYRING.shape>;

/** The keyring with one more epoch, or without an old one, and the root key that it is under. */
function nextKeyring(asked: MakeKeyring, { root, keyring }: Opened): { root: RootKey; keyring: Keyring } {
  const { forget, revoke, now } = asked;
  if (forget === undefined) {
    const next = rotated(keyring, randomBytes(MASTER_KEY_BYTES), now);
    if (revoke === undefined) return { root, keyring: next };
    const generation = root.generation + 1;
    return { root: { key: randomBytes(MASTER_KEY_BYTES), generation }, keyring: next };
  }
  const fail = (cause: string, remedy?: string) =>
    new Failure('forget epoch', String(forget), { cause, ...(remedy === undefined ? {} : { remedy }) });
  if (!keyring.epochs.some(({ epoch }) => epoch === forget)) throw fail('there is no such epoch');
  if (forget === newestEpoch(keyring)) throw fail('new data is sealed under it', 'plakarctl key rotate');
  if (root.generation === FIRST_GENERATION && forget === FIRST_EPOCH)
    throw fail('its key is the one in the slots', 'plakarctl key rotate -revoke');
  return { root, keyring: { ...keyring, epochs: keyring.epochs.filter(({ epoch }) => epoch !== forget) } };
}

export function keys(context: ChildContext): void {
  const { type } = context.settings as KeysSettings;
  const { parent } = context;
  parent.handler(UNLOCK, (message) => {
    const { config, credential } = message.payload;
    const { slot, keyring } = unlock(message.payload, credentialOf(type, credential));
    const epochs = keyring.epochs.map((each) => {
      const { segment, index, snapshot, log } = purposeKeysOf(keyring, each, config);
      return { epoch: each.epoch, segment, index, snapshot, log };
    });
    const created = keyring.epochs.map((each) => each.created);
    const { chunkId, chunking } = keyring;
    parent.reply(message, UNLOCKED, { slot, chunkId, chunking, epochs, created });
  });
  parent.handler(MAKE_SLOT, (message) => {
    const { repository, credential, label, created } = message.payload;
    const root = { key: randomBytes(MASTER_KEY_BYTES), generation: FIRST_GENERATION };
    const slot = makeSlot(root, credentialOf(type, credential), { repository, label, createdMs: created });
    parent.reply(message, SLOT_MADE, { slot });
  });
  parent.handler(ADD_SLOT, (message) => {
    const { payload, fds } = message;
    const secret = readCredential(fds[0]);
    const { root } = unlock(payload, credentialOf(type, payload.credential));
    const { repository, label, now } = payload;
    const slot = makeSlot(root, { type: payload.type, secret }, { repository, label, createdMs: now });
    secret.fill(0);
    parent.reply(message, SLOT_MADE, { slot });
  });
  parent.handler(MAKE_KEYRING, (message) => {
    const { payload } = message;
    const { repository, revoke, now } = payload;
    const credential = credentialOf(type, payload.credential);
    const { root, keyring } = nextKeyring(payload, unlock(payload, credential));
    const data = sealKeyring(keyring, root, ofRepository(payload), randomBytes);
    const epoch = newestEpoch(keyring);
    const names = keyringNames(root.generation, epoch, keyring.epochs.length);
    const slot =
      revoke === undefined
        ? undefined
        : makeSlot(root, credential, { repository, label: revoke, createdMs: now });
    parent.reply(message, KEYRING_MADE, { keyring: names.map((name) => ({ name, data })), slot, epoch });
  });
}
