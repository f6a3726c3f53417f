/**
 * keys: a process that lives for one question. It gets a credential from the
 * parent and opens a key slot with it, or makes one, and is stopped then: the
 * memory and time that Argon2 wants are nobody else's, and neither parent nor
 * crypto runs a passphrase through anything.
 */
import { randomBytes } from 'node:crypto';
import { Failure } from '../error.ts';
import { type Credential, createSlot, inspectSlot, openSlot } from '../keys/slot.ts';
import { MAKE_SLOT, SLOT_MADE, UNLOCK, UNLOCKED } from '../messages/parent.ts';
import type { ChildContext } from '../privsep/child.ts';

/** What the parent says that the credential is. */
export interface KeysSettings {
  readonly type: Credential['type'];
}

function credentialOf(type: Credential['type'], secret: Buffer | undefined): Credential {
  if (type === 'none') return { type };
  if (secret === undefined) throw new Failure('use credential', type, { cause: 'it is missing' });
  return { type, secret };
}

interface Slot {
  readonly name: string;
  readonly data: Buffer;
}

/** Opens the first slot that the credential fits; slots of other types are passed over. */
function unlock(slots: readonly Slot[], repository: Buffer, credential: Credential) {
  let refused: unknown;
  for (const { name, data } of slots) {
    try {
      if (inspectSlot(data, name).type !== credential.type) continue;
      const { key, epoch } = openSlot(data, name, repository, credential);
      return { master: key, epoch, slot: name };
    } catch (error) {
      refused ??= error;
    }
  }
  throw new Failure('unlock', `${slots.length} key slots`, {
    cause: refused ?? `no slot is for a ${credential.type}`,
    kind: 'wrong-key',
    remedy: 'is it the right passphrase file in the configuration?',
  });
}

export function keys(context: ChildContext): void {
  const { type } = context.settings as KeysSettings;
  const { parent } = context;
  parent.handler(UNLOCK, (message) => {
    const { repository, credential, slots } = message.payload;
    parent.reply(message, UNLOCKED, unlock(slots, repository, credentialOf(type, credential)));
  });
  parent.handler(MAKE_SLOT, (message) => {
    const { repository, credential, master, epoch, label, created } = message.payload;
    const slot = createSlot({
      repositoryId: repository,
      master: { key: master, epoch },
      credential: credentialOf(type, credential),
      label,
      createdMs: created,
      random: randomBytes,
    });
    parent.reply(message, SLOT_MADE, { slot });
  });
}
