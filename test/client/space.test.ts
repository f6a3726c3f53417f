/** Room in a reader's ring: no two ranges overlap, and none is lost. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RingSpace } from '../../src/client/space.ts';

/** A generator of whole numbers below `limit`, from a seed (mulberry32). */
function numbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

describe('ring space', () => {
  test('ranges follow each other, and wrap where the end is too near', () => {
    const space = new RingSpace(100);
    assert.equal(space.take(40), 0);
    assert.equal(space.take(40), 40);
    assert.equal(space.take(30), undefined);
    space.release(0);
    assert.equal(space.take(30), 0);
    assert.equal(space.take(11), undefined);
    assert.equal(space.take(10), 30);
    assert.equal(space.take(1), undefined);
    space.release(40);
    assert.equal(space.take(60), 40);
  });

  test('what is given back out of order is used when the oldest is back', () => {
    const space = new RingSpace(100);
    assert.equal(space.take(50), 0);
    assert.equal(space.take(50), 50);
    space.release(50);
    assert.equal(space.take(50), undefined);
    space.release(0);
    assert.equal(space.take(100), 0);
  });

  test('a range that was not taken, or is back, cannot be given back', () => {
    const space = new RingSpace(100);
    space.take(10);
    space.take(10);
    space.release(10);
    assert.throws(() => space.release(10), /not taken/);
    assert.throws(() => space.release(5), /not taken/);
    assert.throws(() => space.take(101));
    assert.throws(() => space.take(0));
  });

  for (let seed = 1; seed <= 20; seed++)
    test(`random use, seed ${seed}`, () => {
      const below = numbers(seed);
      const space = new RingSpace(1000);
      const taken = new Map<number, number>();
      const used = new Uint8Array(1000);
      for (let step = 0; step < 5000; step++) {
        const bytes = 1 + below(400);
        const start = below(2) === 0 ? space.take(bytes) : undefined;
        if (start !== undefined) {
          assert.ok(start + bytes <= 1000);
          assert.ok(
            used.subarray(start, start + bytes).every((byte) => byte === 0),
            'ranges overlap',
          );
          used.fill(1, start, start + bytes);
          taken.set(start, bytes);
        } else if (taken.size > 0) {
          const [first] = [...taken].slice(below(taken.size));
          assert.ok(first);
          space.release(first[0]);
          used.fill(0, first[0], first[0] + first[1]);
          taken.delete(first[0]);
        }
        if (taken.size === 0) assert.equal(space.ranges, 0);
      }
      for (const start of taken.keys()) space.release(start);
      assert.equal(space.take(1000), 0, 'all of it is free again');
    });
});
