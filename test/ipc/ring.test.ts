/** Rings and who may use which slot. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { Failure } from '../../src/error.ts';
import { createRing, openRing, SLOTS_MAX, SlotPool } from '../../src/ipc/ring.ts';
import { memfdCreate } from '../../src/sys/memory.ts';

describe('ring', () => {
  test('what one process writes in a slot, another reads there', () => {
    const fd = createRing('test', 4, 8192);
    const writer = openRing(fd, 4, 8192, 'write');
    const reader = openRing(fd, 4, 8192, 'read');
    fs.closeSync(fd);
    for (let i = 0; i < 4; i++) writer.slot(i).fill(i + 1);
    for (let i = 0; i < 4; i++) assert.deepEqual(reader.slot(i), Buffer.alloc(8192, i + 1));
    for (const wrong of [-1, 4, 1.5, Number.NaN, 2 ** 32]) assert.throws(() => reader.slot(wrong), Failure);
    reader.close();
    assert.equal(reader.slot(0).length, 0);
    assert.equal(writer.slot(3)[0], 4);
    writer.close();
  });

  test('a ring that is smaller than declared, or could shrink, is refused', () => {
    const fd = createRing('test', 4, 4096);
    assert.throws(() => openRing(fd, 5, 4096, 'read'), /map/);
    fs.closeSync(fd);
    const unsealed = memfdCreate('test', 4 * 4096, { seal: false });
    assert.throws(() => openRing(unsealed, 4, 4096, 'read'), /map/);
    fs.closeSync(unsealed);
    assert.throws(() => openRing(-1, 4, 4096, 'read'), Failure);
  });

  test('sizes are bounded', () => {
    for (const [slots, slotBytes] of [
      [0, 4096],
      [SLOTS_MAX + 1, 4096],
      [4, 0],
      [4, 2 ** 40],
      [1.5, 4096],
    ] as const)
      assert.throws(() => createRing('test', slots, slotBytes), Failure);
  });
});

describe('slots', () => {
  test('each is given out once, and in the order of asking', async () => {
    const pool = new SlotPool([3, 4, 5]);
    assert.deepEqual([pool.take(), pool.take(), await pool.wait(), pool.take()], [3, 4, 5, undefined]);
    assert.deepEqual([pool.free, pool.size, pool.waiting], [0, 3, 0]);
    const order: string[] = [];
    const first = pool.wait().then((slot) => order.push(`first ${slot}`));
    const second = pool.wait().then((slot) => order.push(`second ${slot}`));
    assert.equal(pool.waiting, 2);
    pool.release(4);
    pool.release(3);
    await Promise.all([first, second]);
    assert.deepEqual(order, ['first 4', 'second 3']);
    assert.ok(pool.isTaken(4));
    pool.release(4);
    assert.ok(!pool.isTaken(4));
    assert.equal(pool.free, 1);
  });

  test('what is not taken cannot be released', () => {
    const pool = new SlotPool([0, 1]);
    assert.throws(() => pool.release(0), assert.AssertionError);
    const slot = pool.take() ?? -1;
    pool.release(slot);
    assert.throws(() => pool.release(slot), assert.AssertionError);
    assert.throws(() => pool.release(7), assert.AssertionError);
    assert.throws(() => new SlotPool([1, 1]), assert.AssertionError);
  });

  test('closing rejects those who wait, and those who ask later', async () => {
    const pool = new SlotPool([0]);
    const slot = await pool.wait();
    const waits = [pool.wait(), pool.wait()];
    const error = new Failure('test', 'over');
    pool.close(error);
    for (const wait of waits) await assert.rejects(wait, error);
    await assert.rejects(pool.wait(), error);
    assert.throws(() => pool.take(), error);
    pool.release(slot);
  });
});
