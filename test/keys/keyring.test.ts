import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { derivePurposeKeys } from '../../src/keys/derive.ts';
import { UnknownVersion } from '../../src/keys/frame.ts';
import {
  EPOCHS_MAX,
  findKeyring,
  firstKeyring,
  isKeyring,
  type KeyObject,
  keyringNames,
  keyringsGeneration,
  newestEpoch,
  openKeyring,
  purposeKeysOf,
  rotated,
  sealKeyring,
} from '../../src/keys/keyring.ts';
import { type Credential, createSlot } from '../../src/keys/slot.ts';

const config = Buffer.from('configuration');
const of = { repositoryId: Buffer.alloc(16, 9), config };
const root = { key: randomBytes(32), generation: 1 };
const first = firstKeyring(root, config, 1000);
const second = rotated(first, randomBytes(32), 2000);
const damaged = { name: 'Failure', kind: 'damaged' };

function object(keyring = second, under = root): KeyObject {
  return { name: 'a', data: sealKeyring(keyring, under, of, randomBytes) };
}

describe('keyrings', () => {
  test('what was put in comes out', () => {
    assert.deepEqual(openKeyring(object(), root, of), second);
    assert.ok(isKeyring(object().data));
    const none: Credential = { type: 'none' };
    const slot = { repositoryId: of.repositoryId, root, credential: none, label: '', createdMs: 0 };
    assert.equal(isKeyring(createSlot({ ...slot, random: randomBytes })), false);
  });

  test('a rotation changes every key but those that chunks are found by', () => {
    const [one, two] = second.epochs.map((epoch) => purposeKeysOf(second, epoch, config));
    assert.ok(one !== undefined && two !== undefined);
    assert.deepEqual(one, derivePurposeKeys(root.key, 1, config));
    for (const purpose of ['segment', 'index', 'snapshot', 'log'] as const)
      assert.notDeepEqual(one[purpose], two[purpose]);
    assert.deepEqual([two.chunkId, two.chunking], [one.chunkId, one.chunking]);
  });

  test('another root key, repository or configuration opens nothing', () => {
    const { data } = object();
    const open =
      (key: Buffer, id = of.repositoryId, configuration = config) =>
      () =>
        openKeyring({ name: 'a', data }, { key, generation: 1 }, { repositoryId: id, config: configuration });
    assert.throws(open(randomBytes(32)), damaged);
    assert.throws(open(root.key, Buffer.alloc(16, 8)), damaged);
    assert.throws(open(root.key, of.repositoryId, Buffer.from('configuratioN')), damaged);
  });

  test('hardy against every truncation and flipped bit', () => {
    const { data } = object();
    for (let length = 0; length < data.length; length++)
      assert.throws(() => openKeyring({ name: 'a', data: data.subarray(0, length) }, root, of), damaged);
    for (let bit = 0; bit < data.length * 8; bit++) {
      const flipped = Buffer.from(data);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.throws(() => openKeyring({ name: 'a', data: flipped }, root, of), damaged);
    }
  });

  test('an intact one of a later format is no damage', () => {
    const later = Buffer.from(object().data.subarray(0, -32));
    later.writeUInt16LE(2, 8);
    const data = Buffer.concat([later, Buffer.alloc(32)]);
    assert.throws(() => openKeyring({ name: 'a', data }, root, of), damaged);
    const digest = hash('sha256', later, 'buffer');
    const intact = { name: 'a', data: Buffer.concat([later, digest]) };
    assert.throws(() => openKeyring(intact, root, of), UnknownVersion);
    assert.throws(() => findKeyring([intact], root, of, 0), UnknownVersion);
  });

  test('the newest epoch counts; of two, what has forgotten more', () => {
    const third = rotated(second, randomBytes(32), 3000);
    const forgetful = { ...third, epochs: third.epochs.slice(1) };
    assert.deepEqual(findKeyring([object(third), object(second)], root, of, 0), third);
    assert.deepEqual(findKeyring([object(forgetful), object(third)], root, of, 0), forgetful);
    assert.deepEqual(findKeyring([], root, of, 1000), first);
  });

  test('a damaged one is passed over where another is whole', () => {
    const torn = { name: 'b', data: object().data.subarray(0, 100) };
    assert.deepEqual(findKeyring([torn, object()], root, of, 0), second);
    assert.throws(() => findKeyring([torn], root, of, 0), damaged);
  });

  test('a new root key opens what was made under it, and an old one what was before', () => {
    const next = { key: randomBytes(32), generation: 2 };
    const third = rotated(second, randomBytes(32), 3000);
    const both = [object(second), object(third, next)];
    assert.equal(keyringsGeneration(both), 2);
    assert.deepEqual(findKeyring(both, next, of, 0), third);
    assert.deepEqual(findKeyring(both, root, of, 0), second);
    // its slot came to be, and it did not
    assert.equal(findKeyring([object(second)], next, of, 0), undefined);
  });

  test('names say which keyring it is, and nothing else', () => {
    const names = [
      keyringNames(1, 2, 2),
      keyringNames(1, 3, 3),
      keyringNames(2, 3, 3),
      keyringNames(1, 3, 2),
    ];
    assert.equal(new Set(names.flat()).size, 8);
    for (const name of names.flat()) assert.match(name, /^[0-9a-f]{16}$/);
  });

  test('no more than so many epochs at once', () => {
    let keyring = first;
    for (let i = 1; i < EPOCHS_MAX; i++) keyring = rotated(keyring, randomBytes(32), i);
    assert.equal(newestEpoch(keyring), EPOCHS_MAX);
    assert.deepEqual(openKeyring(object(keyring), root, of), keyring);
    assert.throws(() => rotated(keyring, randomBytes(32), 0), { name: 'Failure' });
  });
});
