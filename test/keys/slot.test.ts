import assert from 'node:assert/strict';
import { argon2Sync, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { argon2id } from '@noble/hashes/argon2.js';
import { encodePlain, MAGIC } from '../../src/keys/frame.ts';
import { type Credential, createSlot, inspectSlot, openSlot } from '../../src/keys/slot.ts';

const repositoryId = Buffer.alloc(16, 9);
const root = { key: randomBytes(32), generation: 3 };
const cost = { memoryKiB: 8192, passes: 1, lanes: 1 };
const passphrase: Credential = { type: 'passphrase', secret: Buffer.from('correct horse') };
const keyFile: Credential = { type: 'key file', secret: randomBytes(64) };

function slotFor(credential: Credential): Buffer {
  return createSlot({
    repositoryId,
    root,
    credential,
    label: 'first',
    createdMs: 1.5e12,
    random: randomBytes,
    cost,
  });
}

describe('key slots', () => {
  for (const credential of [passphrase, keyFile, { type: 'none' } as const]) {
    test(`${credential.type}: what was put in comes out`, () => {
      const slot = slotFor(credential);
      assert.deepEqual(openSlot(slot, 'a', repositoryId, credential), root);
      const { type, label, created } = inspectSlot(slot, 'a');
      assert.deepEqual({ type, label, created }, { type: credential.type, label: 'first', created: 1.5e12 });
    });
  }

  test('the wrong secret, or another type of credential, is a wrong key', () => {
    const slot = slotFor(passphrase);
    const wrong: Credential[] = [
      { type: 'passphrase', secret: Buffer.from('wrong') },
      keyFile,
      { type: 'none' },
    ];
    for (const credential of wrong)
      assert.throws(() => openSlot(slot, 'a', repositoryId, credential), {
        name: 'Failure',
        kind: 'wrong-key',
      });
    const other: Credential = { type: 'key file', secret: randomBytes(64) };
    assert.throws(() => openSlot(slotFor(keyFile), 'a', repositoryId, other), { kind: 'wrong-key' });
  });

  test('a slot of another repository does not open', () => {
    assert.throws(() => openSlot(slotFor(keyFile), 'a', Buffer.alloc(16, 8), keyFile), { kind: 'wrong-key' });
  });

  test('every flipped bit and every truncation is damage', () => {
    const slot = slotFor(keyFile);
    for (let bit = 0; bit < slot.length * 8; bit++) {
      const flipped = Buffer.from(slot);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.throws(() => openSlot(flipped, 'a', repositoryId, keyFile), {
        name: 'Failure',
        kind: 'damaged',
      });
    }
    for (let length = 0; length < slot.length; length++)
      assert.throws(() => openSlot(slot.subarray(0, length), 'a', repositoryId, keyFile), {
        kind: 'damaged',
      });
  });

  test('a forger who mends the digest still opens nothing', () => {
    const slot = slotFor(keyFile);
    for (let at = 16; at < slot.length - 32; at++) {
      const content = Buffer.from(slot.subarray(16, slot.length - 32));
      content[at - 16] = (content[at - 16] ?? 0) ^ 0x10;
      const forged = encodePlain(MAGIC.slot, content);
      assert.throws(() => openSlot(forged, 'a', repositoryId, keyFile), { name: 'Failure' });
    }
  });

  test('Argon2 parameters outside the bounds are refused before any work', () => {
    for (const bad of [
      { memoryKiB: 8191, passes: 1, lanes: 1 },
      { memoryKiB: (1 << 20) + 1, passes: 1, lanes: 1 },
      { memoryKiB: 8192, passes: 17, lanes: 1 },
      { memoryKiB: 8192, passes: 1, lanes: 0 },
    ])
      assert.throws(
        () =>
          createSlot({
            repositoryId,
            root,
            credential: passphrase,
            label: '',
            createdMs: 0,
            random: randomBytes,
            cost: bad,
          }),
        { name: 'Failure' },
      );
  });

  test('an empty passphrase and a short key file are refused', () => {
    for (const type of ['passphrase', 'key file'] as const)
      assert.throws(() => slotFor({ type, secret: Buffer.alloc(0) }), { kind: 'wrong-key' });
  });

  test('Argon2id is that of RFC 9106', () => {
    const message = Buffer.from('correct horse');
    const nonce = Buffer.alloc(32, 2);
    const ours = argon2Sync('argon2id', {
      message,
      nonce,
      memory: 256,
      passes: 2,
      parallelism: 1,
      tagLength: 64,
    });
    assert.deepEqual(ours, Buffer.from(argon2id(message, nonce, { m: 256, t: 2, p: 1, dkLen: 64 })));
  });
});
