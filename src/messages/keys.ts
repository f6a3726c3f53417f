/**
 * What is said about keys: by clients to control, which passes it on to the
 * parent, and by the parent to the keys process and to storage. A new
 * credential travels as a sealed memory file that the keys process alone maps.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, nothing, oneOf, optional, real, record, text } from '../ipc/shape.ts';
import { NAME_MAX_CHARS } from './client.ts';

const name = text(NAME_MAX_CHARS);
const key = bytes(32, 32);
const epoch = integer(1, 0xffff_ffff);
const slotName = text(16);
const label = text(128);
/** Key slots and keyrings of one repository. */
export const KEY_OBJECTS_MAX = 64;
/** The largest of them. */
const KEY_OBJECT_MAX_BYTES = 64 << 10;
const CONFIG_OBJECT_MAX_BYTES = 64 << 10;
/** The longest passphrase or key file. */
export const CREDENTIAL_MAX_BYTES = 64 << 10;
const EPOCHS_MAX = 64;

const keyObject = record({ name: slotName, data: bytes(KEY_OBJECT_MAX_BYTES) });
const keyObjects = list(keyObject, KEY_OBJECTS_MAX);
const credentialType = oneOf('passphrase', 'key file');

// ---- clients and control, control and parent

const job = integer(1);
/** Lists the slots and epochs of a repository. */
export const KEYS = message(104, 'keys', record({ repository: optional(name) }));
/** The same, control → parent, for a job that the repository is up for. */
export const PARENT_KEYS = message(105, 'parent keys', record({ job, repository: name }));
export const KEYS_LISTED = message(
  106,
  'keys listed',
  record({
    repository: name,
    slots: list(
      record({
        slot: slotName,
        /** empty where it cannot be read */
        type: text(16),
        label,
        created: real,
        argon2: optional(record({ lanes: integer(), memoryKiB: integer(), passes: integer() })),
        /** it opened the repository */
        opened: boolean,
        /** why it cannot be read */
        why: optional(text(1024)),
      }),
      KEY_OBJECTS_MAX,
    ),
    /** what is sealed under each; the last is the newest */
    epochs: list(
      record({ epoch, created: real, segments: integer(), bytes: integer(), objects: integer() }),
      EPOCHS_MAX,
    ),
  }),
);

const changeFields = {
  change: oneOf('add', 'passwd', 'rm', 'rotate', 'forget'),
  /** add and passwd: what the descriptor has */
  type: optional(credentialType),
  /** add, passwd: of the new slot */
  label: optional(label),
  /** passwd, rm: the slot, or an unambiguous beginning of its name */
  slot: optional(slotName),
  /** forget: which */
  epoch: optional(epoch),
  /** rm: also the slot that the configuration uses */
  force: boolean,
  /** rotate: under a new root key, so that no other slot opens what follows */
  revoke: boolean,
};
/** One descriptor with add and passwd: a sealed memory file, the credential. */
export const CHANGE_KEYS = message(
  107,
  'change keys',
  record({ repository: optional(name), ...changeFields }),
  { maxDescriptors: 1 },
);
/** The same, control → parent: only the parent may start who reads the credential. */
export const PARENT_CHANGE_KEYS = message(
  108,
  'parent change keys',
  record({ job, repository: name, ...changeFields }),
  { maxDescriptors: 1 },
);
export const KEYS_CHANGED = message(
  109,
  'keys changed',
  record({
    repository: name,
    /** the slot that was made */
    slot: optional(slotName),
    /** the slots that were removed */
    removed: list(slotName, KEY_OBJECTS_MAX),
    /** the newest, after rotate; the one that was forgotten, after forget */
    epoch: optional(epoch),
    /** the slot that the configuration uses was replaced, by one that its file may not open */
    configured: boolean,
  }),
);

// ---- parent and keys

const repositoryFields = {
  repository: bytes(16, 16),
  /** the configuration object, as stored */
  config: bytes(CONFIG_OBJECT_MAX_BYTES),
  /** ms since 1970, of the repository */
  created: real,
};
const unlockFields = {
  ...repositoryFields,
  /** what the configuration says opens it; none without encryption */
  credential: optional(bytes(CREDENTIAL_MAX_BYTES)),
  objects: keyObjects,
};
/** parent → keys: open a slot. */
export const UNLOCK = message(207, 'unlock', record(unlockFields), {
  maxBytes: 5 << 20,
  secret: true,
});
const epochKeys = record({ epoch, segment: key, index: key, snapshot: key, log: key });
export const UNLOCKED = message(
  208,
  'unlocked',
  record({
    slot: slotName,
    chunkId: key,
    chunking: key,
    /** ascending; the last is what new data is sealed with */
    epochs: list(epochKeys, EPOCHS_MAX),
    /** when each was made, ms since 1970 */
    created: list(real, EPOCHS_MAX),
  }),
  { maxBytes: 64 << 10, secret: true },
);
/** parent → keys: the first slot of a new repository. */
export const MAKE_SLOT = message(
  209,
  'make slot',
  record({
    repository: bytes(16, 16),
    credential: optional(bytes(CREDENTIAL_MAX_BYTES)),
    label,
    created: real,
  }),
  { maxBytes: 128 << 10, secret: true },
);
export const SLOT_MADE = message(210, 'slot made', record({ slot: bytes(KEY_OBJECT_MAX_BYTES) }), {
  maxBytes: 128 << 10,
});
/** parent → keys: a slot for one more credential, which is the descriptor's; answered by SLOT_MADE. */
export const ADD_SLOT = message(
  240,
  'add slot',
  record({ ...unlockFields, type: credentialType, label, now: real }),
  { maxBytes: 5 << 20, maxDescriptors: 1, secret: true },
);
/** parent → keys: a keyring with one more epoch, or without an old one. */
export const MAKE_KEYRING = message(
  241,
  'make keyring',
  record({
    ...unlockFields,
    now: real,
    /** the epoch to leave out; without it one is added */
    forget: optional(epoch),
    /** under a new root key, with a slot for the credential and this label */
    revoke: optional(label),
  }),
  { maxBytes: 5 << 20, secret: true },
);
export const KEYRING_MADE = message(
  242,
  'keyring made',
  record({
    /** the same, under its two names; the first decides */
    keyring: list(keyObject, 2),
    slot: optional(bytes(KEY_OBJECT_MAX_BYTES)),
    epoch,
  }),
  { maxBytes: 256 << 10 },
);

// ---- parent and crypto, chunker, storage

/** parent → chunker: the keys that last, and that it alone may hold. */
export const CHUNKER_KEYS = message(211, 'chunker keys', record({ id: key, chunking: key }), {
  secret: true,
});
/** parent → crypto: the sealing keys of all epochs; again, with more, after a rotation. */
export const CRYPTO_KEYS = message(
  212,
  'crypto keys',
  record({ repository: bytes(16, 16), epochs: list(epochKeys, EPOCHS_MAX) }),
  { maxBytes: 64 << 10, secret: true },
);
/** parent → storage: new packs and index objects are of this epoch from now on. */
export const STORAGE_EPOCH = message(243, 'storage epoch', record({ epoch }));

/** parent → storage: the configuration object, key slots and keyrings, as stored. */
export const READ_KEYS = message(202, 'read keys', nothing);
export const KEYS_ARE = message(
  203,
  'keys are',
  record({ config: bytes(CONFIG_OBJECT_MAX_BYTES), objects: keyObjects }),
  { maxBytes: 5 << 20 },
);
/** parent → storage: the names of key slots and keyrings. */
export const KEY_NAMES = message(244, 'key names', nothing);
export const KEY_NAMES_ARE = message(
  245,
  'key names are',
  record({ names: list(slotName, KEY_OBJECTS_MAX) }),
);
/** parent → storage: make a key slot or keyring, where there is none of that name. */
export const PUT_KEY = message(246, 'put key', keyObject, { maxBytes: 128 << 10 });
export const KEY_PUT = message(247, 'key put', record({ made: boolean }));
/** parent → storage: remove one; answered by parent.ts' PARENT_DONE. */
export const DELETE_KEY = message(248, 'delete key', record({ name: slotName }));
/** parent → storage: what is sealed under each epoch. */
export const COUNT_EPOCHS = message(249, 'count epochs', nothing);
export const EPOCHS_COUNTED = message(
  250,
  'epochs counted',
  record({
    epochs: list(record({ epoch, segments: integer(), bytes: integer(), objects: integer() }), 4096),
    /** that are at work */
    writers: integer(),
  }),
  { maxBytes: 256 << 10 },
);
