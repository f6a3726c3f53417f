import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { derivePurposeKeys, gearTable } from '../../src/keys/derive.ts';

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
