import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Names } from '../../src/snapshot/names.ts';
import { Random } from './random.ts';

function add(names: Names, name: Buffer, type = 0): boolean {
  return names.add(name, 0, name.length, type);
}

function all(names: Names, from: number): Buffer[] {
  return Array.from({ length: names.count - from }, (_, i) => {
    names.at(from + i);
    return Buffer.from(names.buffer.subarray(names.start, names.end));
  });
}

describe('names', () => {
  test('are sorted by their bytes, each once', () => {
    for (let seed = 0; seed < 40; seed++) {
      const random = new Random(seed);
      const names = new Names();
      const given: Buffer[] = [];
      const alphabet = random.pick([2, 3, 255]);
      for (let i = random.below(2000); i > 0; i--) {
        const name = random.bytes(1 + random.below(20)).map((byte) => 1 + (byte % alphabet));
        if (!name.includes(0x2f)) given.push(Buffer.from(name));
      }
      for (const name of given) add(names, name);
      names.sort(0);
      const unique = new Map(given.map((name) => [name.toString('latin1'), name]));
      assert.deepEqual(all(names, 0), [...unique.values()].sort(Buffer.compare));
    }
  });

  test('of a directory are forgotten when it is left, those around it stay', () => {
    const names = new Names();
    for (const name of ['c', 'a', 'b']) add(names, Buffer.from(name));
    names.sort(0);
    const { count, bytes } = names;
    // more than two blocks
    for (let i = 0; i < 100_000; i++) add(names, Buffer.from(String(i).padStart(100, 'x')));
    names.sort(count);
    assert.equal(names.count, count + 100_000);
    names.truncate(count, bytes);
    add(names, Buffer.from('z'), 4);
    assert.deepEqual(all(names, 0).map(String), ['a', 'b', 'c', 'z']);
    assert.equal(names.type, 4);
  });

  test('that no file can have are left out', () => {
    const names = new Names();
    assert.ok(add(names, Buffer.from('a/b')));
    assert.ok(add(names, Buffer.alloc(256, 0x61)));
    assert.ok(add(names, Buffer.alloc(255, 0x61)));
    assert.equal(names.count, 1);
  });

  test('sorting is no slower for names made to be slow', () => {
    // relative to random names; a sort of n² comparisons would take thousands of times as long
    const sortMs = (name: (i: number) => string): number => {
      const names = new Names();
      for (let i = 0; i < 60_000; i++) add(names, Buffer.from(name(i)));
      const before = performance.now();
      names.sort(0);
      return performance.now() - before;
    };
    const random = new Random(1);
    const usualMs = sortMs(() => random.bytes(10).toString('hex'));
    const organPipe = (i: number): string => String(Math.min(i, 60_000 - i)).padStart(20, '0') + (i & 1);
    for (const name of [(i: number) => String(i).padStart(20, '0'), organPipe, () => 'same'])
      assert.ok(sortMs(name) < 50 * usualMs);
  });

  test('end when there is no more room', () => {
    const names = new Names(2);
    const name = Buffer.alloc(255, 0x61);
    let added = 0;
    while (added < 100_000 && add(names, name)) added++;
    assert.equal(added, 2 * Math.floor(2 ** 22 / 258));
    names.truncate(0, 0);
    assert.ok(add(names, name));
  });
});
