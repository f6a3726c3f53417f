import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { describe, test } from 'node:test';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { CHUNK_DATA, CHUNK_LIST, CHUNK_TREE } from '../../src/keys/derive.ts';
import { ChunkHasher } from '../../src/keys/ids.ts';
import { LANES_AVX2, LANES_SHA, lanesHere } from '../../src/sys/sha256.ts';

const key = Buffer.alloc(32, 9);
const data = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(300_000));
// one at a time, and as many as this processor can be given at once, and more
const WAYS = process.arch === 'x64' ? [0, LANES_SHA, LANES_AVX2] : [0];

/** As RFC 2104 says it, by another library. */
function expected(kind: number, start: number, length: number): string {
  const message = Buffer.concat([Buffer.of(kind), data.subarray(start, start + length)]);
  return Buffer.from(hmac(sha256, key, message)).toString('hex');
}

function idsOf(hasher: ChunkHasher, lengths: readonly number[], starts: readonly number[]): string[] {
  const out = Buffer.alloc(8 + lengths.length * 32);
  const pieces = {
    buffer: data,
    starts: Uint32Array.from(starts),
    lengths: Uint32Array.from(lengths),
    count: lengths.length,
  };
  hasher.ids(CHUNK_TREE, pieces, out, 8);
  assert.deepEqual(out.subarray(0, 8), Buffer.alloc(8));
  return lengths.map((_, i) => out.toString('hex', 8 + i * 32, 8 + (i + 1) * 32));
}

describe('chunk ids', () => {
  test('are HMAC-SHA-256 of kind and plaintext', () => {
    const hasher = new ChunkHasher(key);
    const out = Buffer.alloc(40);
    for (const length of [0, 1, 55, 64, 1000, 70_000])
      for (const kind of [CHUNK_DATA, CHUNK_TREE, CHUNK_LIST] as const) {
        hasher.id(kind, data.subarray(0, length), out, 8);
        assert.equal(out.toString('hex', 8), expected(kind, 0, length));
      }
    assert.deepEqual(out.subarray(0, 8), Buffer.alloc(8));
  });

  test('are the same of many at once: of each length about a block, and where messages are no longer copied', () => {
    const lengths = Array.from({ length: 200 }, (_, i) => i);
    lengths.push(...Array.from({ length: 140 }, (_, i) => 1975 + i), 5000, 262_144, 63, 100_000, 1);
    const starts = lengths.map((_, i) => (i * 7) % 1000);
    const wanted = lengths.map((length, i) => expected(CHUNK_TREE, starts[i] ?? 0, length));
    for (const lanes of WAYS) assert.deepEqual(idsOf(new ChunkHasher(key, lanes), lengths, starts), wanted);
  });

  test('are the same whatever number comes at once, and one much longer than the others anywhere', () => {
    for (const lanes of WAYS) {
      const hasher = new ChunkHasher(key, lanes);
      for (let count = 0; count <= 19; count++)
        for (const long of [0, 1, count - 1]) {
          const lengths = Array.from({ length: count }, (_, i) => (i === long ? 30_000 : 40 * i));
          const wanted = lengths.map((length, i) => expected(CHUNK_TREE, i, length));
          const starts = lengths.map((_, i) => i);
          assert.deepEqual(idsOf(hasher, lengths, starts), wanted);
        }
    }
  });

  test('this processor is given as many at once as it has instructions for', () => {
    assert.ok([0, LANES_SHA, LANES_AVX2].includes(lanesHere), String(lanesHere));
    if (process.arch !== 'x64') assert.equal(lanesHere, 0);
  });

  test('a key of another length is refused', () => {
    assert.throws(() => new ChunkHasher(Buffer.alloc(31)), { name: 'Failure' });
  });
});
