import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { cmac, gcm } from '@noble/ciphers/aes.js';
import { shake128 } from '@noble/hashes/sha3.js';
import { SEAL_OVERHEAD_BYTES } from '../../src/keys/overhead.ts';
import { Sealer } from '../../src/keys/seal.ts';

/** Each message with the given nonce: the specification's vectors fix it. */
function sealed(key: Buffer, nonce: Buffer, plaintext: Buffer, aad: Buffer): Buffer {
  const out = Buffer.alloc(plaintext.length + SEAL_OVERHEAD_BYTES);
  assert.equal(new Sealer(key, () => nonce).sealInto(plaintext, aad, out, 0), out.length);
  return out;
}

/** XAES-256-GCM from its definition, on an independent implementation of AES. */
function oracle(key: Buffer, nonce: Buffer, plaintext: Buffer, aad: Buffer): Buffer {
  const block = (i: number) => cmac(Buffer.concat([Buffer.of(0, i, 0x58, 0), nonce.subarray(0, 12)]), key);
  const derived = Buffer.concat([block(1), block(2)]);
  return Buffer.concat([nonce, gcm(derived, nonce.subarray(12), aad).encrypt(plaintext)]);
}

describe('XAES-256-GCM', () => {
  const nonce = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWX');

  // https://c2sp.org/XAES-256-GCM, "Test vectors"
  test('vector with MSB(L) = 0', () => {
    const result = sealed(Buffer.alloc(32, 1), nonce, Buffer.from('XAES-256-GCM'), Buffer.alloc(0));
    assert.equal(
      result.subarray(24).toString('hex'),
      'ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271',
    );
  });

  test('vector with MSB(L) = 1', () => {
    const result = sealed(
      Buffer.alloc(32, 3),
      nonce,
      Buffer.from('XAES-256-GCM'),
      Buffer.from('c2sp.org/XAES-256-GCM'),
    );
    assert.equal(
      result.subarray(24).toString('hex'),
      '986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d',
    );
  });

  test('accumulated vectors, 10,000 iterations', () => {
    const rng = shake128.create({});
    const total = shake128.create({ dkLen: 32 });
    const draw = (bytes: number) => Buffer.from(rng.xof(bytes));
    for (let i = 0; i < 10_000; i++) {
      const key = draw(32);
      const nonce = draw(24);
      const plaintext = draw(draw(1)[0] ?? 0);
      const aad = draw(draw(1)[0] ?? 0);
      total.update(sealed(key, nonce, plaintext, aad).subarray(24));
    }
    assert.equal(
      Buffer.from(total.digest()).toString('hex'),
      'e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939',
    );
  });

  test('agrees with the oracle at every length of its last block, and at large ones', () => {
    for (const length of [...Array(34).keys(), 4095, 600_001]) {
      const [key, nonce, plaintext, aad] = [
        randomBytes(32),
        randomBytes(24),
        randomBytes(length),
        randomBytes(9),
      ];
      assert.deepEqual(sealed(key, nonce, plaintext, aad), oracle(key, nonce, plaintext, aad));
    }
  });
});

describe('opening', () => {
  const sealer = new Sealer(Buffer.alloc(32, 7), randomBytes);
  const aad = Buffer.from('about');
  const plaintext = randomBytes(300);
  const message = Buffer.alloc(plaintext.length + SEAL_OVERHEAD_BYTES);
  sealer.sealInto(plaintext, aad, message, 0);

  test('gives back what was sealed, in pieces or whole, at an offset', () => {
    const out = Buffer.alloc(1000);
    const bytes = sealer.sealPiecesInto([plaintext, Buffer.alloc(0), plaintext], aad, out, 10);
    const opened = Buffer.alloc(700);
    assert.equal(sealer.openInto(out.subarray(10, 10 + bytes), aad, opened, 50), 600);
    assert.deepEqual(opened.subarray(50, 650), Buffer.concat([plaintext, plaintext]));
  });

  test('two messages never share a nonce', () => {
    const other = Buffer.alloc(message.length);
    sealer.sealInto(plaintext, aad, other, 0);
    assert.notDeepEqual(other.subarray(0, 24), message.subarray(0, 24));
  });

  test('every flipped bit and every truncation is refused, and leaves nothing behind', () => {
    const out = Buffer.alloc(plaintext.length);
    const refused = (bytes: Buffer) =>
      assert.throws(() => sealer.openInto(bytes, aad, out, 0), { name: 'Failure', kind: 'damaged' });
    for (let bit = 0; bit < message.length * 8; bit++) {
      const flipped = Buffer.from(message);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      refused(flipped);
    }
    for (let length = 0; length < message.length; length++) refused(message.subarray(0, length));
    assert.deepEqual(out, Buffer.alloc(plaintext.length));
  });

  test('other associated data or another key is refused', () => {
    const out = Buffer.alloc(plaintext.length);
    assert.throws(() => sealer.openInto(message, Buffer.from('abouT'), out, 0), { kind: 'damaged' });
    assert.throws(() => new Sealer(Buffer.alloc(32), randomBytes).openInto(message, aad, out, 0), {
      kind: 'damaged',
    });
  });

  test('an output that is too small is refused before anything is written', () => {
    const small = Buffer.alloc(plaintext.length - 1);
    assert.throws(() => sealer.openInto(message, aad, small, 0), { name: 'Failure', kind: 'failed' });
    assert.throws(() => sealer.sealInto(plaintext, aad, small, 0), { name: 'Failure', kind: 'failed' });
    assert.deepEqual(small, Buffer.alloc(small.length));
  });
});
