/**
 * From the master key to the key of each purpose, and from the id key to chunk
 * ids. Called where keys are opened (derivation) and by the chunker and every
 * reader (ids). Owns the labels: no two purposes share a key.
 */
import type { Hash } from 'node:crypto';
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

const BLOCK_BYTES = 64; // of SHA-256, FIPS 180-4 section 1

function keyedState(key: Buffer, pad: number): Hash {
  const block = Buffer.alloc(BLOCK_BYTES, pad);
  for (let i = 0; i < key.length; i++) block[i] = (key[i] ?? 0) ^ pad;
  return crypto().createHash('sha256').update(block);
}

/**
 * Computes chunk ids: HMAC-SHA-256(id key, kind ‖ plaintext), RFC 2104. The
 * states after the key block (and the kind) are kept and copied, which costs a
 * third of a new HMAC per chunk; digests pass as binary strings, which Node makes
 * faster than a Buffer.
 */
export class ChunkHasher {
  readonly #inner: readonly Hash[];
  readonly #outer: Hash;

  constructor(idKey: Buffer) {
    if (idKey.length !== KEY_BYTES)
      throw new Failure('derive keys', '', { cause: `id key has ${idKey.length} bytes, not 32` });
    const inner = keyedState(idKey, 0x36);
    this.#inner = [0, CHUNK_DATA, CHUNK_TREE, CHUNK_LIST].map((kind) => inner.copy().update(Buffer.of(kind)));
    this.#outer = keyedState(idKey, 0x5c);
  }

  /** Writes the id of `data` as a chunk of `kind` to 32 bytes of `out` at `outOffset`. */
  id(kind: ChunkKind, data: Buffer, out: Buffer, outOffset: number): void {
    const state = this.#inner[kind] as Hash;
    const inner = state.copy().update(data).digest('binary');
    const digest = this.#outer.copy().update(inner, 'binary').digest('binary');
    out.write(digest, outOffset, CHUNK_ID_BYTES, 'latin1');
  }
}
