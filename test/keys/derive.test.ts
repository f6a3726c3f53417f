import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import {
  CHUNK_DATA,
  CHUNK_LIST,
  CHUNK_TREE,
  ChunkHasher,
  derivePurposeKeys,
  gearTable,
} from '../../src/keys/derive.ts';

describe('chunk ids', () => {
  test('are HMAC-SHA-256 of kind and plaintext', () => {
    const key = randomBytes(32);
    const hasher = new ChunkHasher(key);
    const out = Buffer.alloc(40);
    for (const length of [0, 1, 55, 64, 1000, 70_000]) {
      for (const kind of [CHUNK_DATA, CHUNK_TREE, CHUNK_LIST] as const) {
        const data = randomBytes(length);
        hasher.id(kind, data, out, 8);
        const expected = hmac(sha256, key, Buffer.concat([Buffer.of(kind), data]));
        assert.deepEqual(out.subarray(8), Buffer.from(expected));
      }
    }
    assert.deepEqual(out.subarray(0, 8), Buffer.alloc(8));
  });
});

describe('purpose keys', () => {
  const master = Buffer.alloc(32, 5);
  const config = Buffer.from('configuration');
  const keys = derivePurposeKeys(master, 1, config);

  test('are HKDF-SHA-256 of the labels, salted by the configuration', () => {
    const labels = { chunkId: 'chunk id', chunking: 'chunking', segment: 'segment', index: 'index' };
    const all = { ...labels, snapshot: 'snapshot', log: 'log' };
    for (const [name, label] of Object.entries(all)) {
      const expected = hkdf(sha256, master, sha256(config), Buffer.from(`plakard 1 ${label} 1`), 32);
      assert.deepEqual(keys[name as keyof typeof keys], Buffer.from(expected));
    }
  });

  test('differ by purpose, epoch, configuration and master key', () => {
    const others = [
      keys,
      derivePurposeKeys(master, 2, config),
      derivePurposeKeys(master, 1, Buffer.from('configuratioN')),
      derivePurposeKeys(Buffer.alloc(32, 6), 1, config),
    ];
    const distinct = new Set(
      others.flatMap((set) => Object.values(set).map((key: Buffer) => key.toString('hex'))),
    );
    assert.equal(distinct.size, 4 * 6);
  });

  test('a master key of another length is refused', () => {
    assert.throws(() => derivePurposeKeys(Buffer.alloc(31), 1, config), { name: 'Failure' });
  });

  test('the gear table depends on the chunking key alone', () => {
    assert.deepEqual(gearTable(keys.chunking), gearTable(Buffer.from(keys.chunking)));
    assert.notDeepEqual(gearTable(keys.chunking), gearTable(keys.chunkId));
    assert.equal(new Set(gearTable(keys.chunking)).size, 256);
  });
});
