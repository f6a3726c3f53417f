/**
 * From the master key to the key of each purpose. Called where keys are opened.
 * Owns the labels: no two purposes share a key.
 */
import { crypto } from '../builtin.ts';
import { Failure } from '../error.ts';

export const MASTER_KEY_BYTES = 32;
export const KEY_BYTES = 32;
export const CHUNK_ID_BYTES = 32;
/** Epochs count the master keys of a repository, from 1. */
export const FIRST_EPOCH = 1;
export const EPOCH_MAX = 0xffff_ffff;

/** What a chunk holds; it is part of the id, so that no kind can pass for another. */
export const CHUNK_DATA = 1;
export const CHUNK_TREE = 2;
export const CHUNK_LIST = 3;
export type ChunkKind = typeof CHUNK_DATA | typeof CHUNK_TREE | typeof CHUNK_LIST;

/** One 32-byte key per purpose. */
export interface PurposeKeys {
  readonly chunkId: Buffer;
  readonly chunking: Buffer;
  readonly segment: Buffer;
  /** index objects and pack footers */
  readonly index: Buffer;
  readonly snapshot: Buffer;
  readonly log: Buffer;
}

function derive(masterKey: Buffer, salt: Buffer, label: string, epoch: number): Buffer {
  return Buffer.from(crypto().hkdfSync('sha256', masterKey, salt, `plakard 1 ${label} ${epoch}`, KEY_BYTES));
}

/**
 * The keys of one epoch (RFC 5869): HKDF-SHA-256 with the master key, the
 * SHA-256 of the configuration object as salt (so that a changed configuration
 * opens nothing), and "plakard 1 LABEL EPOCH" as info.
 */
export function derivePurposeKeys(masterKey: Buffer, epoch: number, configObject: Buffer): PurposeKeys {
  if (masterKey.length !== MASTER_KEY_BYTES)
    throw new Failure('derive keys', '', { cause: `master key has ${masterKey.length} bytes, not 32` });
  const salt = crypto().createHash('sha256').update(configObject).digest();
  return {
    chunkId: derive(masterKey, salt, 'chunk id', epoch),
    chunking: derive(masterKey, salt, 'chunking', epoch),
    segment: derive(masterKey, salt, 'segment', epoch),
    index: derive(masterKey, salt, 'index', epoch),
    snapshot: derive(masterKey, salt, 'snapshot', epoch),
    log: derive(masterKey, salt, 'log', epoch),
  };
}

/** The splitter's gear table: 256 words drawn from the chunking key by HKDF-Expand. */
export function gearTable(chunkingKey: Buffer): Int32Array {
  const drawn = Buffer.from(
    crypto().hkdfSync('sha256', chunkingKey, Buffer.alloc(0), 'plakard 1 gear', 256 * 4),
  );
  const gear = new Int32Array(256);
  for (let i = 0; i < 256; i++) gear[i] = drawn.readInt32LE(4 * i);
  return gear;
}
