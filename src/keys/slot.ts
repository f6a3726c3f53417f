/**
 * Key slots: the root key of a repository, sealed for one credential. Called
 * where a repository is made or unlocked. Owns the bounds on Argon2id and the
 * rule that a slot opens only for the repository it was made for. What the root
 * key opens is in keyring.ts.
 *
 * A slot is a plain object (frame.ts) with this content:
 *
 *   offset size
 *        0    4  parameterBytes
 *        4    n  parameters, msgpack
 *      4+n   24  nonce
 *     28+n   32  commitment
 *     60+n   52  sealed: XChaCha20-Poly1305 of root key (32) ‖ generation (u32), with its tag
 *
 * The credential gives 64 bytes: the first 32 are the sealing key, the last 32
 * make the commitment, HMAC-SHA-256(those, "plakard 1 commitment" ‖ associated
 * data ‖ nonce). It is compared before anything is opened, so a slot opens for
 * one credential alone (Poly1305 does not promise that by itself). Associated
 * data = repository id (16) ‖ header ‖ parameterBytes ‖ parameters.
 */
import { argon2Sync, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { Failure } from '../error.ts';
import { bytes, integer, oneOf, optional, type PayloadOf, real, record, text } from '../ipc/shape.ts';
import { MASTER_KEY_BYTES } from './derive.ts';
import { decodePlain, encodeHeader, encodePlain, MAGIC } from './frame.ts';
import { decodeMsgpack, encodeMsgpack } from './msgpack.ts';

export const SLOT_MAX_BYTES = 16 << 10;
export const REPOSITORY_ID_BYTES = 16;
const LABEL_MAX_CHARS = 128;
const NONCE_BYTES = 24;
const SALT_BYTES = 32;
const COMMITMENT_BYTES = 32;
const TAG_BYTES = 16;
const SECRET_BYTES = MASTER_KEY_BYTES + 4;
const CREDENTIAL_MAX_BYTES = 64 << 10;
const KEY_FILE_MIN_BYTES = 32;

/** Parameters outside these are refused before any work: an attacker who writes slots chooses them. */
const ARGON2_MEMORY_MIN_KIB = 8 << 10;
const ARGON2_MEMORY_MAX_KIB = 1 << 20;
const ARGON2_PASSES_MAX = 16;
const ARGON2_LANES_MAX = 16;

export interface Argon2Cost {
  readonly memoryKiB: number;
  readonly passes: number;
  readonly lanes: number;
}
export const ARGON2_DEFAULT: Argon2Cost = { memoryKiB: 256 << 10, passes: 3, lanes: 1 };

/** What opens a slot. Without encryption the slot opens for everybody. */
export type Credential =
  | { readonly type: 'passphrase'; readonly secret: Buffer }
  | { readonly type: 'key file'; readonly secret: Buffer }
  | { readonly type: 'none' };

/** What a slot protects. */
export interface RootKey {
  readonly key: Buffer;
  /** counts the root keys of a repository, from FIRST_GENERATION */
  readonly generation: number;
}
export const FIRST_GENERATION = 1;

const parameters = record({
  argon2: optional(
    record({
      lanes: integer(1, ARGON2_LANES_MAX),
      memoryKiB: integer(ARGON2_MEMORY_MIN_KIB, ARGON2_MEMORY_MAX_KIB),
      passes: integer(1, ARGON2_PASSES_MAX),
    }),
  ),
  created: real,
  label: text(LABEL_MAX_CHARS),
  salt: bytes(SALT_BYTES, SALT_BYTES),
  type: oneOf('passphrase', 'key file', 'none'),
  version: integer(1, 1),
});
/** The public part of a slot: how it is opened, its label, and when it was made (ms). */
export type SlotParameters = PayloadOf<typeof parameters>;

export interface SlotOptions {
  readonly repositoryId: Buffer;
  readonly root: RootKey;
  readonly credential: Credential;
  readonly label: string;
  readonly createdMs: number;
  readonly random: (bytes: number) => Buffer;
  /** for passphrases; defaults to ARGON2_DEFAULT */
  readonly cost?: Argon2Cost;
}

/** A new slot, as stored. With the default cost a passphrase takes most of a second. */
export function createSlot(options: SlotOptions): Buffer {
  const { repositoryId, root, credential, random } = options;
  checkRepositoryId(repositoryId);
  if (root.key.length !== MASTER_KEY_BYTES) throw new Failure('make key slot', '', { cause: 'bad root key' });
  const { memoryKiB, passes, lanes } = options.cost ?? ARGON2_DEFAULT;
  const chosen: SlotParameters = {
    ...(credential.type === 'passphrase' ? { argon2: { lanes, memoryKiB, passes } } : {}),
    created: options.createdMs,
    label: options.label,
    salt: random(SALT_BYTES),
    type: credential.type,
    version: 1,
  } as SlotParameters;
  const encoded = encodeMsgpack(parameters(chosen, 'key slot'));
  const lengthBytes = Buffer.alloc(4);
  lengthBytes.writeUInt32LE(encoded.length);
  const open = Buffer.concat([lengthBytes, encoded]);
  const aad = associatedData(repositoryId, open);
  const nonce = random(NONCE_BYTES);
  const keys = slotKeys(chosen, credential, 'make key slot', options.label);
  const secret = Buffer.alloc(SECRET_BYTES);
  root.key.copy(secret);
  secret.writeUInt32LE(root.generation, MASTER_KEY_BYTES);
  const sealed = xchacha20poly1305(keys.sealing, nonce, aad).encrypt(secret);
  secret.fill(0);
  return encodePlain(
    MAGIC.slot,
    Buffer.concat([open, nonce, commitment(keys.committing, aad, nonce), sealed]),
  );
}

interface SlotParts {
  readonly parameters: SlotParameters;
  /** parameterBytes and parameters, as stored */
  readonly open: Buffer;
  readonly nonce: Buffer;
  readonly commitment: Buffer;
  readonly sealed: Buffer;
}

function decodeSlot(slot: Buffer, name: string): SlotParts {
  const object = `keys/${name}`;
  const content = decodePlain(slot, MAGIC.slot, object, SLOT_MAX_BYTES);
  const parameterBytes = content.length >= 4 ? content.readUInt32LE(0) : 0;
  const at = 4 + parameterBytes;
  if (content.length !== at + NONCE_BYTES + COMMITMENT_BYTES + SECRET_BYTES + TAG_BYTES)
    throw new Failure('read', object, { cause: 'lengths disagree', kind: 'damaged' });
  return {
    parameters: decodeMsgpack(content.subarray(4, at), parameters, object),
    open: content.subarray(0, at),
    nonce: content.subarray(at, at + NONCE_BYTES),
    commitment: content.subarray(at + NONCE_BYTES, at + NONCE_BYTES + COMMITMENT_BYTES),
    sealed: content.subarray(at + NONCE_BYTES + COMMITMENT_BYTES),
  };
}

/** The public part of a slot, unauthenticated; throws a Failure of kind 'damaged'. `name` is the object's. */
export function inspectSlot(slot: Buffer, name: string): SlotParameters {
  return decodeSlot(slot, name).parameters;
}

/**
 * Opens a slot. A credential of another type than the slot's, or of the right
 * type with the wrong secret, throws a Failure of kind 'wrong-key'; a slot
 * that is torn or flipped one of kind 'damaged'.
 */
export function openSlot(slot: Buffer, name: string, repositoryId: Buffer, credential: Credential): RootKey {
  checkRepositoryId(repositoryId);
  const object = `keys/${name}`;
  const parts = decodeSlot(slot, name);
  if (parts.parameters.type !== credential.type)
    throw new Failure('open key slot', object, {
      cause: `it wants ${parts.parameters.type === 'none' ? 'no credential' : `a ${parts.parameters.type}`}`,
      kind: 'wrong-key',
    });
  const aad = associatedData(repositoryId, parts.open);
  const keys = slotKeys(parts.parameters, credential, 'open key slot', object);
  if (!timingSafeEqual(commitment(keys.committing, aad, parts.nonce), parts.commitment))
    throw new Failure('open key slot', object, { cause: `wrong ${credential.type}`, kind: 'wrong-key' });
  let secret: Buffer;
  try {
    secret = Buffer.from(xchacha20poly1305(keys.sealing, parts.nonce, aad).decrypt(parts.sealed));
  } catch (cause) {
    throw new Failure('open key slot', object, { cause, kind: 'damaged' });
  }
  const generation = secret.readUInt32LE(MASTER_KEY_BYTES);
  if (generation < FIRST_GENERATION)
    throw new Failure('open key slot', object, { cause: `generation ${generation}`, kind: 'damaged' });
  return { key: secret.subarray(0, MASTER_KEY_BYTES), generation };
}

function checkRepositoryId(id: Buffer): void {
  if (id.length !== REPOSITORY_ID_BYTES)
    throw new Failure('use key slot', '', { cause: `repository id has ${id.length} bytes, not 16` });
}

function associatedData(repositoryId: Buffer, open: Buffer): Buffer {
  return Buffer.concat([repositoryId, encodeHeader(MAGIC.slot), open]);
}

function commitment(key: Buffer, aad: Buffer, nonce: Buffer): Buffer {
  return createHmac('sha256', key).update('plakard 1 commitment').update(aad).update(nonce).digest();
}

interface SlotKeys {
  readonly sealing: Buffer;
  readonly committing: Buffer;
}

function slotKeys(
  chosen: SlotParameters,
  credential: Credential,
  operation: string,
  object: string,
): SlotKeys {
  const stretched = stretch(chosen, credential, operation, object);
  return { sealing: stretched.subarray(0, 32), committing: stretched.subarray(32) };
}

function stretch(chosen: SlotParameters, credential: Credential, operation: string, object: string): Buffer {
  const secret = credential.type === 'none' ? Buffer.alloc(0) : credential.secret;
  if (secret.length > CREDENTIAL_MAX_BYTES)
    throw new Failure(operation, object, {
      cause: `more than ${CREDENTIAL_MAX_BYTES} bytes of ${credential.type}`,
    });
  if (credential.type === 'passphrase') {
    const { argon2 } = chosen;
    if (argon2 === undefined)
      throw new Failure(operation, object, { cause: 'no Argon2 parameters', kind: 'damaged' });
    if (secret.length === 0)
      throw new Failure(operation, object, { cause: 'empty passphrase', kind: 'wrong-key' });
    return argon2Sync('argon2id', {
      message: secret,
      nonce: chosen.salt,
      memory: argon2.memoryKiB,
      passes: argon2.passes,
      parallelism: argon2.lanes,
      tagLength: 64,
    });
  }
  if (credential.type === 'key file' && secret.length < KEY_FILE_MIN_BYTES)
    throw new Failure(operation, object, {
      cause: `key file has fewer than ${KEY_FILE_MIN_BYTES} bytes`,
      kind: 'wrong-key',
    });
  return Buffer.from(hkdfSync('sha256', secret, chosen.salt, `plakard 1 ${credential.type}`, 64));
}
