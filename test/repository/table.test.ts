import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { IdTable, PendingTable, tableSizeFor } from '../../src/repository/table.ts';
import { idFor } from './tableids.ts';

function tableFor(chunks: number): IdTable {
  return IdTable.create(Buffer.alloc(tableSizeFor(chunks)));
}

describe('IdTable', () => {
  test('finds what was inserted, and nothing else', () => {
    const ids = randomBytes(32 * 5000);
    const others = randomBytes(32 * 5000);
    const table = tableFor(5000);
    for (let i = 0; i < 5000; i++) assert.equal(table.insert(ids, 32 * i, i * 7), true);
    for (let i = 0; i < 5000; i++) {
      assert.equal(table.lookup(ids, 32 * i), i * 7);
      assert.equal(table.lookup(others, 32 * i), -1);
    }
    assert.equal(table.count, 5000);
  });

  test('another view of the same bytes sees the same', () => {
    const table = tableFor(10);
    const id = randomBytes(32);
    table.insert(id, 0, 0x7fff_fffd);
    const view = new IdTable(table.buffer);
    assert.equal(view.lookup(id, 0), 0x7fff_fffd);
    assert.equal(view.count, 1);
  });

  test('a second insertion changes nothing', () => {
    const table = tableFor(10);
    const id = randomBytes(32);
    assert.equal(table.insert(id, 0, 1), true);
    assert.equal(table.insert(id, 0, 2), false);
    assert.equal(table.lookup(id, 0), 1);
  });

  test('removal needs the right ordinal, and the id can come back', () => {
    const table = tableFor(10);
    const id = randomBytes(32);
    table.insert(id, 0, 5);
    assert.equal(table.remove(id, 0, 4), false);
    assert.equal(table.remove(id, 0, 5), true);
    assert.equal(table.remove(id, 0, 5), false);
    assert.equal(table.lookup(id, 0), -1);
    assert.equal(table.count, 0);
    assert.equal(table.insert(id, 0, 6), true);
    assert.equal(table.lookup(id, 0), 6);
  });

  test('a sweep takes out what is gone', () => {
    const table = tableFor(100);
    const ids = randomBytes(32 * 100);
    for (let i = 0; i < 100; i++) table.insert(ids, 32 * i, i);
    table.sweep((ordinal) => ordinal % 3 === 0);
    for (let i = 0; i < 100; i++) assert.equal(table.lookup(ids, 32 * i), i % 3 === 0 ? -1 : i);
    assert.equal(table.count, 66);
  });

  test('ids with the same first bits are told apart', () => {
    const table = tableFor(10);
    for (let i = 0; i < 256; i++) {
      const id = Buffer.alloc(32, 0xab);
      id[11] = i;
      table.insert(id, 0, i);
    }
    for (let i = 0; i < 256; i++) {
      const id = Buffer.alloc(32, 0xab);
      id[11] = i;
      assert.equal(table.lookup(id, 0), i);
    }
  });

  test('random operations agree with a Map, growing on the way', () => {
    let table = tableFor(0);
    const model = new Map<number, number>();
    const ids = randomBytes(32 * 4000);
    for (let step = 0; step < 40_000; step++) {
      const i = Math.floor(Math.random() * 4000);
      const known = model.get(i);
      if (Math.random() < 0.6) {
        if (table.needsGrowth()) table = table.grown(1, Buffer.alloc);
        assert.equal(table.insert(ids, 32 * i, step), known === undefined);
        if (known === undefined) model.set(i, step);
      } else if (known !== undefined) {
        assert.equal(table.remove(ids, 32 * i, known), true);
        model.delete(i);
      }
    }
    for (let i = 0; i < 4000; i++) assert.equal(table.lookup(ids, 32 * i), model.get(i) ?? -1);
    assert.equal(table.count, model.size);
  });

  test('growth is wanted before probing gets long', () => {
    const table = tableFor(0);
    const ids = randomBytes(32 * table.capacity);
    let inserted = 0;
    while (!table.needsGrowth()) table.insert(ids, 32 * inserted, inserted++);
    assert.ok(inserted >= table.capacity * 0.69 && inserted <= table.capacity * 0.71, `${inserted}`);
  });

  test('a size has the room it was asked for', () => {
    for (const chunks of [0, 1, 700, 1000, 100_000])
      assert.equal(tableFor(chunks).needsGrowth(chunks), false);
  });

  test('one that is full grows to twice its size', () => {
    const table = tableFor(1000);
    const ids = randomBytes(32 * table.capacity);
    let inserted = 0;
    while (!table.needsGrowth()) table.insert(ids, 32 * inserted, inserted++);
    const grown = table.grown(1, Buffer.alloc);
    assert.equal(grown.capacity, 2 * table.capacity);
    assert.equal(grown.count, inserted);
    for (let i = 0; i < inserted; i++) assert.equal(grown.lookup(ids, 32 * i), i);
  });

  test('buffers that hold no table are refused', () => {
    assert.throws(() => new IdTable(Buffer.alloc(10)), { name: 'Failure' });
    assert.throws(() => new IdTable(Buffer.alloc(tableSizeFor(0))), { name: 'Failure' });
    const table = tableFor(0);
    assert.throws(() => new IdTable(table.buffer.subarray(0, table.buffer.length - 16)), { name: 'Failure' });
    assert.throws(() => IdTable.create(Buffer.alloc(100)), { name: 'Failure' });
    for (let value = 0; value < 256; value++) {
      const bytes = Buffer.from(table.buffer);
      bytes[4] = value;
      if (value === 10) assert.equal(new IdTable(bytes).count, 0);
      else assert.throws(() => new IdTable(bytes), { name: 'Failure' });
    }
  });

  test('a full table ends a search and refuses an insertion', () => {
    const table = tableFor(0);
    const ids = randomBytes(32 * (table.capacity + 1));
    for (let i = 0; i < table.capacity; i++) table.insert(ids, 32 * i, i);
    assert.equal(table.lookup(ids, 32 * table.capacity), -1);
    assert.throws(() => table.insert(ids, 32 * table.capacity, 0), { name: 'Failure' });
  });

  test('a reader beside the writer never sees half an entry', async () => {
    const shared = new SharedArrayBuffer(tableSizeFor(60_000));
    const table = IdTable.create(Buffer.from(shared));
    const seed = 12_345;
    const reader = new Worker(new URL('./tablereader.ts', import.meta.url), { workerData: { shared, seed } });
    await new Promise((resolve) => reader.once('message', resolve));
    const id = Buffer.alloc(32);
    for (let i = 0; i < 60_000; i++) {
      idFor(seed, i, id);
      table.insert(id, 0, i);
    }
    const done = new Promise<{ wrong: number; seen: number }>((resolve, reject) => {
      reader.once('message', resolve);
      reader.once('error', reject);
    });
    assert.deepEqual(await done, { wrong: 0, seen: 60_000 });
  });
});

describe('PendingTable', () => {
  test('grows, and forgets nothing', () => {
    const pending = new PendingTable();
    const ids = randomBytes(32 * 20_000);
    for (let i = 0; i < 20_000; i++) assert.equal(pending.add(ids, 32 * i), true);
    assert.equal(pending.count, 20_000);
    for (let i = 0; i < 20_000; i++) assert.equal(pending.has(ids, 32 * i), true);
    assert.equal(pending.add(ids, 32 * 7), false);
    assert.equal(pending.has(randomBytes(32)), false);
  });

  test('has nothing of what was there when it is cleared, and takes as much again', () => {
    const pending = new PendingTable();
    const ids = randomBytes(32 * 2000);
    for (let i = 0; i < 2000; i++) pending.add(ids, 32 * i, i);
    pending.clear();
    assert.equal(pending.count, 0);
    for (let i = 0; i < 2000; i++) assert.equal(pending.has(ids, 32 * i), false);
    for (let i = 0; i < 2000; i++) assert.equal(pending.add(ids, 32 * i, i), true);
    assert.equal(pending.count, 2000);
  });
});
