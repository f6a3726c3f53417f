/**
 * Chunk ids: HMAC-SHA-256(id key, kind ‖ plaintext), RFC 2104. Called by the
 * chunker for all that it stores and all that it reads. Invariant: one at a
 * time or many at once, a chunk's id is the same.
 */
import type { Hash } from 'node:crypto';
import { crypto } from '../builtin.ts';
import { Failure } from '../error.ts';
import { BLOCK_BYTES, lanesHere } from '../sys/sha256.ts';
import { CHUNK_DATA, CHUNK_ID_BYTES, CHUNK_LIST, CHUNK_TREE, type ChunkKind, KEY_BYTES } from './derive.ts';
import { LaneHmac, type Pieces } from './lanes.ts';

/** A message for each way through LaneHmac, ending in the middle of a block and at its end. */
const PROBES = Uint32Array.of(0, 54, 55, 4096, 8191);

function keyedState(key: Buffer, pad: number): Hash {
  const block = Buffer.alloc(BLOCK_BYTES, pad);
  for (let i = 0; i < key.length; i++) block[i] = (key[i] ?? 0) ^ pad;
  return crypto().createHash('sha256').update(block);
}

/**
 * Computes ids. One at a time, the states after the key block (and the kind) are
 * kept and copied, which costs a third of a new HMAC per chunk; digests pass as
 * binary strings, which Node makes faster than a Buffer. Many at once take half
 * of that for each byte, where the processor can (sys/sha256.ts).
 */
export class ChunkHasher {
  readonly #inner: readonly Hash[];
  readonly #outer: Hash;
  readonly #lanes: LaneHmac | undefined;

  /** `lanes` says how many messages the processor takes at once; 0 takes each by itself. */
  constructor(idKey: Buffer, lanes = lanesHere) {
    if (idKey.length !== KEY_BYTES)
      throw new Failure('derive keys', '', { cause: `id key has ${idKey.length} bytes, not 32` });
    const inner = keyedState(idKey, 0x36);
    this.#inner = [0, CHUNK_DATA, CHUNK_TREE, CHUNK_LIST].map((kind) => inner.copy().update(Buffer.of(kind)));
    this.#outer = keyedState(idKey, 0x5c);
    this.#lanes = lanes === 0 ? undefined : new LaneHmac(idKey, lanes);
    if (this.#lanes !== undefined) this.#prove(this.#lanes);
  }

  /** Throws where both ways differ: a wrong id would be found when it is too late. */
  #prove(lanes: LaneHmac): void {
    const buffer = Buffer.alloc(Math.max(...PROBES), 0x5a);
    const pieces = { buffer, starts: new Uint32Array(PROBES.length), lengths: PROBES, count: PROBES.length };
    const ids = Buffer.alloc(PROBES.length * CHUNK_ID_BYTES);
    lanes.digest(CHUNK_DATA, pieces, ids);
    const expected = Buffer.alloc(ids.length);
    this.#oneByOne(CHUNK_DATA, pieces, expected, 0);
    if (!ids.equals(expected))
      throw new Failure('compute chunk ids', '', {
        cause: 'SHA-256 of several chunks at once is not that of each',
        remedy: 'test this machine’s processor and memory',
      });
  }

  /** Writes the id of `data` as a chunk of `kind` to 32 bytes of `out` at `outOffset`. */
  id(kind: ChunkKind, data: Buffer, out: Buffer, outOffset: number): void {
    const state = this.#inner[kind] as Hash;
    const inner = state.copy().update(data).digest('binary');
    const digest = this.#outer.copy().update(inner, 'binary').digest('binary');
    out.write(digest, outOffset, CHUNK_ID_BYTES, 'latin1');
  }

  /** Writes the ids of `chunks`, all of `kind`, one behind the other to `out` at `outOffset`. */
  ids(kind: ChunkKind, chunks: Pieces, out: Buffer, outOffset = 0): void {
    if (this.#lanes !== undefined && chunks.count > 1) this.#lanes.digest(kind, chunks, out, outOffset);
    else this.#oneByOne(kind, chunks, out, outOffset);
  }

  #oneByOne(
    kind: ChunkKind,
    { buffer, starts, lengths, count }: Pieces,
    out: Buffer,
    outOffset: number,
  ): void {
    for (let i = 0; i < count; i++) {
      const start = starts[i] as number;
      const data = buffer.subarray(start, start + (lengths[i] as number));
      this.id(kind, data, out, outOffset + i * CHUNK_ID_BYTES);
    }
  }
}
