import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { Sealer } from '../../src/keys/seal.ts';
import { isZero, padme } from '../../src/repository/padding.ts';
import {
  associatedData,
  openPadded,
  SEALED_FOOTER,
  SEALED_INDEX,
  sealPadded,
} from '../../src/repository/sealed.ts';

describe('Padmé', () => {
  test('examples from the definition', () => {
    const examples = [
      [0, 0],
      [1, 1],
      [9, 10],
      [100, 104],
      [1000, 1024],
      [1_000_000, 1_015_808],
    ];
    for (const [bytes, padded] of examples) assert.equal(padme(bytes ?? 0), padded);
  });

  test('never shrinks, is monotonic and idempotent, costs at most 12 %', () => {
    let last = 0;
    for (let bytes = 0; bytes < 200_000; bytes += 1 + (bytes >> 9)) {
      const padded = padme(bytes);
      assert.ok(padded >= bytes && padded >= last && padded <= bytes * 1.12 + 1);
      assert.equal(padme(padded), padded);
      last = padded;
    }
  });

  test('zeros are told from the rest at any place', () => {
    const bytes = Buffer.alloc(600_000);
    assert.equal(isZero(bytes), true);
    for (const at of [0, 262_143, 262_144, 599_999]) {
      bytes[at] = 1;
      assert.equal(isZero(bytes), false);
      bytes[at] = 0;
    }
  });
});

describe('sealed objects', () => {
  const sealer = new Sealer(Buffer.alloc(32, 7), randomBytes);
  const repository = Buffer.alloc(16, 1);
  const aad = associatedData(repository, SEALED_INDEX, 'ab'.repeat(16));

  test('round trip, with padded lengths', () => {
    for (const length of [0, 1, 100, 5000, 3 << 20]) {
      const plaintext = randomBytes(length);
      const sealed = sealPadded(sealer, plaintext, aad);
      assert.equal(padme(sealed.length), sealed.length);
      assert.deepEqual(openPadded(sealer, sealed, aad), plaintext);
    }
  });

  test('bound to repository, kind and name', () => {
    const sealed = sealPadded(sealer, Buffer.from('x'), aad);
    for (const other of [
      associatedData(Buffer.alloc(16, 2), SEALED_INDEX, 'ab'.repeat(16)),
      associatedData(repository, SEALED_FOOTER, 'ab'.repeat(16)),
      associatedData(repository, SEALED_INDEX, 'ba'.repeat(16)),
    ])
      assert.throws(() => openPadded(sealer, sealed, other), { name: 'Failure', kind: 'damaged' });
  });

  test('every flipped byte and every truncation is damage', () => {
    const sealed = sealPadded(sealer, randomBytes(50), aad);
    for (let at = 0; at < sealed.length; at++) {
      const flipped = Buffer.from(sealed);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      assert.throws(() => openPadded(sealer, flipped, aad), { name: 'Failure', kind: 'damaged' });
      assert.throws(() => openPadded(sealer, sealed.subarray(0, at), aad), { kind: 'damaged' });
    }
  });

  test('lengths that a holder of the key forges are refused', () => {
    for (const length of [0, 3, 5, 4000, 0xffff_ffff]) {
      const content = Buffer.alloc(8);
      content.writeUInt32LE(length);
      const sealed = Buffer.alloc(48);
      sealer.sealInto(content, aad, sealed, 0);
      if (length === 3) assert.equal(openPadded(sealer, sealed, aad).length, 3);
      else if (padme(44 + length) !== 48)
        assert.throws(() => openPadded(sealer, sealed, aad), { kind: 'damaged' });
    }
    const short = Buffer.alloc(42);
    sealer.sealInto(Buffer.alloc(2), aad, short, 0);
    assert.throws(() => openPadded(sealer, short, aad), { kind: 'damaged' });
  });
});
