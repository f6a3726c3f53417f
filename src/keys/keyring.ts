/**
 * The keyring: what the root key of a repository opens, which its slots hold.
 * Called by the keys process alone. Owns which keys there are: the master key
 * of each epoch, and the two keys that last for the repository's life, since
 * with others nothing would be found again.
 *
 * A repository that was never rotated has no keyring: its root key is the
 * master key of the first epoch, and those two are derived from that.
 *
 * A keyring is a plain object (frame.ts) of the kind `keys` with this content:
 *
 *   offset size
 *        0    4  generation of the root key
 *        4    4  epoch, the newest
 *        8   24  nonce
 *       32    n  sealed: XChaCha20-Poly1305 of a msgpack map, with its tag
 *
 * The sealing key is HKDF-SHA-256(root key, SHA-256(configuration object),
 * "plakard 1 keyring GENERATION"). Associated data = repository id (16) ‖
 * header ‖ generation ‖ epoch. It is stored twice, as nothing else has what it
 * has. Its names follow from generation and epoch, so that of two rotations at
 * the same time one comes to be.
 */
import { createHash, hash, hkdfSync } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { Failure } from '../error.ts';
import { bytes, integer, list, real, record } from '../ipc/shape.ts';
import {
  derivePurposeKeys,
  EPOCH_MAX,
  FIRST_EPOCH,
  KEY_BYTES,
  MASTER_KEY_BYTES,
  type PurposeKeys,
} from './derive.ts';
import { decodePlain, encodeHeader, encodePlain, HEADER_BYTES, MAGIC } from './frame.ts';
import { decodeMsgpack, encodeMsgpack } from './msgpack.ts';
import { FIRST_GENERATION, type RootKey } from './slot.ts';

/** Epochs whose keys are kept at once; old ones are forgotten when nothing is left under them. */
export const EPOCHS_MAX = 64;
export const KEYRING_MAX_BYTES = 16 << 10;
const NONCE_BYTES = 24;
const NONCE_AT = 8;
const SEALED_AT = NONCE_AT + NONCE_BYTES;
const NAME_CHARS = 16;

const key = bytes(KEY_BYTES, KEY_BYTES);
const shape = record({
  chunkId: key,
  chunking: key,
  epochs: list(
    record({
      /** ms since 1970 */
      created: real,
      epoch: integer(FIRST_EPOCH, EPOCH_MAX),
      key: bytes(MASTER_KEY_BYTES, MASTER_KEY_BYTES),
    }),
    EPOCHS_MAX,
  ),
  version: integer(1, 1),
});

/** The master key of an epoch, and when it was made (ms since 1970). */
export interface Epoch {
  readonly epoch: number;
  readonly created: number;
  readonly key: Buffer;
}

export interface Keyring {
  /** of chunk ids, for the life of the repository */
  readonly chunkId: Buffer;
  /** of the splitter, likewise */
  readonly chunking: Buffer;
  /** ascending; the last is what new data is sealed with */
  readonly epochs: readonly Epoch[];
}

/** An object of the kind `keys`. */
export interface KeyObject {
  readonly name: string;
  readonly data: Buffer;
}

/** The repository that a keyring is of. */
export interface KeyringOf {
  readonly repositoryId: Buffer;
  /** the configuration object, as stored */
  readonly config: Buffer;
}

/** What a repository has that was never rotated. `createdMs` is the repository's. */
export function firstKeyring(root: RootKey, config: Buffer, createdMs: number): Keyring {
  const { chunkId, chunking } = derivePurposeKeys(root.key, FIRST_EPOCH, config);
  return { chunkId, chunking, epochs: [{ epoch: FIRST_EPOCH, created: createdMs, key: root.key }] };
}

/** The keyring with one more epoch, of `key`. Throws a Failure where it is full. */
export function rotated(keyring: Keyring, key: Buffer, created: number): Keyring {
  const newest = newestEpoch(keyring);
  if (keyring.epochs.length >= EPOCHS_MAX || newest >= EPOCH_MAX)
    throw new Failure('rotate keys', '', {
      cause: `${keyring.epochs.length} epochs have keys`,
      remedy: 'plakarctl cleanup -reseal, then key forget the old ones',
    });
  return { ...keyring, epochs: [...keyring.epochs, { epoch: newest + 1, created, key }] };
}

export function newestEpoch({ epochs }: Keyring): number {
  return epochs.at(-1)?.epoch ?? FIRST_EPOCH;
}

/** The keys of each purpose in an epoch. The two that last come from the keyring. */
export function purposeKeysOf(keyring: Keyring, epoch: Epoch, config: Buffer): PurposeKeys {
  const { chunkId, chunking } = keyring;
  return { ...derivePurposeKeys(epoch.key, epoch.epoch, config), chunkId, chunking };
}

/**
 * The names of a generation's keyring with so many epochs, of which that is the
 * newest. The first name decides who made it: rotating and forgetting give
 * every keyring a name that none had before.
 */
export function keyringNames(generation: number, epoch: number, epochs: number): [string, string] {
  const digits = hash('sha256', `plakard 1 keyring ${generation} ${epoch} ${epochs}`, 'hex');
  return [digits.slice(0, NAME_CHARS), digits.slice(NAME_CHARS, 2 * NAME_CHARS)];
}

/** Whether an object of the kind `keys` is a keyring; any other is a slot. */
export function isKeyring(object: Buffer): boolean {
  return object.toString('latin1', 0, MAGIC.keyring.length) === MAGIC.keyring;
}

/** The latest generation that has a keyring. */
export function keyringsGeneration(objects: readonly KeyObject[]): number {
  const at = HEADER_BYTES;
  const generations = objects.map(({ data }) =>
    isKeyring(data) && data.length >= at + SEALED_AT ? data.readUInt32LE(at) : FIRST_GENERATION,
  );
  return Math.max(FIRST_GENERATION, ...generations);
}

function sealingKey(root: RootKey, config: Buffer): Buffer {
  const salt = createHash('sha256').update(config).digest();
  return Buffer.from(hkdfSync('sha256', root.key, salt, `plakard 1 keyring ${root.generation}`, KEY_BYTES));
}

function associatedData(repositoryId: Buffer, content: Buffer): Buffer {
  return Buffer.concat([repositoryId, encodeHeader(MAGIC.keyring), content.subarray(0, NONCE_AT)]);
}

/** A keyring as stored, opened again to see that it can be. */
export function sealKeyring(
  keyring: Keyring,
  root: RootKey,
  of: KeyringOf,
  random: (bytes: number) => Buffer,
): Buffer {
  const { chunkId, chunking } = keyring;
  const epochs = keyring.epochs.map(({ created, epoch, key }) => ({ created, epoch, key }));
  const map = encodeMsgpack({ chunkId, chunking, epochs, version: 1 });
  const open = Buffer.alloc(SEALED_AT);
  open.writeUInt32LE(root.generation, 0);
  open.writeUInt32LE(newestEpoch(keyring), 4);
  const nonce = random(NONCE_BYTES);
  nonce.copy(open, NONCE_AT);
  const cipher = xchacha20poly1305(sealingKey(root, of.config), nonce, associatedData(of.repositoryId, open));
  const sealed = cipher.encrypt(map);
  map.fill(0);
  const data = encodePlain(MAGIC.keyring, Buffer.concat([open, sealed]));
  if (openKeyring({ name: '', data }, root, of) === undefined)
    throw new Failure('seal keyring', '', {
      cause: 'it does not open',
      remedy: 'test this machine’s memory',
    });
  return data;
}

/**
 * Opens a keyring; undefined for one of another generation than the root key's.
 * Throws a Failure of kind 'damaged', or an UnknownVersion.
 */
export function openKeyring({ name, data }: KeyObject, root: RootKey, of: KeyringOf): Keyring | undefined {
  const object = `keys/${name}`;
  const fail = (cause: unknown) => new Failure('open keyring', object, { cause, kind: 'damaged' });
  const content = decodePlain(data, MAGIC.keyring, object, KEYRING_MAX_BYTES);
  if (content.length < SEALED_AT) throw fail('truncated');
  if (content.readUInt32LE(0) !== root.generation) return undefined;
  const nonce = content.subarray(NONCE_AT, SEALED_AT);
  const aad = associatedData(of.repositoryId, content);
  let map: Buffer;
  try {
    const cipher = xchacha20poly1305(sealingKey(root, of.config), nonce, aad);
    map = Buffer.from(cipher.decrypt(content.subarray(SEALED_AT)));
  } catch (cause) {
    throw fail(cause);
  }
  const { chunkId, chunking, epochs } = decodeMsgpack(map, shape, object);
  const ascending = epochs.every((each, i) => i === 0 || each.epoch > (epochs[i - 1]?.epoch ?? 0));
  if (epochs.length === 0 || !ascending || epochs.at(-1)?.epoch !== content.readUInt32LE(4))
    throw fail('epochs out of order');
  return { chunkId, chunking, epochs };
}

function isLater(a: Keyring, b: Keyring): boolean {
  const difference = newestEpoch(a) - newestEpoch(b);
  return difference > 0 || (difference === 0 && a.epochs.length < b.epochs.length);
}

/**
 * What a root key opens: the keyring of its generation with the newest epoch
 * (and of two such, the one that has forgotten more), or, without any, what a repository that was never rotated has. Undefined
 * where a later generation has none: the rotation that made it was cut short.
 * One that is damaged is passed over where another is whole.
 */
export function findKeyring(
  objects: readonly KeyObject[],
  root: RootKey,
  of: KeyringOf,
  createdMs: number,
): Keyring | undefined {
  let best: Keyring | undefined;
  let damage: unknown;
  for (const object of objects) {
    if (!isKeyring(object.data)) continue;
    try {
      const found = openKeyring(object, root, of);
      if (found !== undefined && (best === undefined || isLater(found, best))) best = found;
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
      damage = error;
    }
  }
  if (best === undefined && damage !== undefined) throw damage;
  if (best !== undefined || root.generation > FIRST_GENERATION) return best;
  return firstKeyring(root, of.config, createdMs);
}
