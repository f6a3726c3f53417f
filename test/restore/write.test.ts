/** What goes past the page cache, and what does not: the two descriptors are of two files here, which tells. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { DataWriter, DIRECT_MIN_BYTES } from '../../src/snapshot/restore-write.ts';
import { addressOf } from '../../src/sys/foreign.ts';
import { noise } from '../processes/tree.ts';
import { scratch } from './plant.ts';

const BLOCK = 4096;
const MIB = 1 << 20;

function rig(t: { after: (fn: () => void) => void }) {
  const directory = scratch(t);
  const [cached, direct] = ['cached', 'direct'].map((name) => path.join(directory, name)) as [string, string];
  const fds = [fs.openSync(cached, 'w'), fs.openSync(direct, 'w')] as const;
  t.after(() => {
    for (const fd of fds) fs.closeSync(fd);
  });
  const data = Buffer.alloc(3 * MIB + 777);
  noise('data', data.length).copy(data);
  return { cached, direct, fds, data, address: addressOf(data) };
}

test('whole blocks of a part go past the page cache, what is before and behind them does not', (t) => {
  const { cached, direct, fds, data, address } = rig(t);
  const writer = new DataWriter(() => 0);
  const offset = 5 * BLOCK - 100;
  assert.equal(writer.part(...fds, address, data.length, offset), 0);
  const end = offset + data.length;
  const tail = end - (end % BLOCK);
  const past = fs.readFileSync(direct);
  assert.equal(past.length, tail);
  assert.ok(past.subarray(5 * BLOCK).equals(data.subarray(100, tail - offset)));
  const rest = fs.readFileSync(cached);
  assert.equal(rest.length, end);
  assert.ok(rest.subarray(offset, 5 * BLOCK).equals(data.subarray(0, 100)));
  assert.ok(rest.subarray(5 * BLOCK, tail).every((byte) => byte === 0));
  assert.ok(rest.subarray(tail).equals(data.subarray(tail - offset)));
});

test('what is short, or has nowhere else to go, does not', (t) => {
  const { cached, direct, fds, data, address } = rig(t);
  const writer = new DataWriter(() => 0);
  assert.equal(writer.part(...fds, address, DIRECT_MIN_BYTES - 1, 0), 0);
  assert.equal(writer.part(fds[0], -1, address, data.length, DIRECT_MIN_BYTES - 1), 0);
  assert.equal(fs.statSync(direct).size, 0);
  const whole = Buffer.concat([data.subarray(0, DIRECT_MIN_BYTES - 1), data]);
  assert.ok(fs.readFileSync(cached).equals(whole));
});

test('where it cannot be written past the page cache, all of it goes there', (t) => {
  const { cached, direct, fds, data, address } = rig(t);
  const writer = new DataWriter(() => 0);
  const readOnly = fs.openSync(direct, 'r');
  assert.equal(writer.part(fds[0], readOnly, address, data.length, 0), 0);
  fs.closeSync(readOnly);
  assert.ok(fs.readFileSync(cached).equals(data));
  // and it is not tried again
  assert.equal(writer.part(...fds, address, data.length, 0), 0);
  assert.equal(fs.statSync(direct).size, 0);
});

test('a disk that is slow is left to the page cache, one that is slow at times is not', (t) => {
  const { direct, fds, data, address } = rig(t);
  let ms = 0;
  let stepMs = 1;
  let calls = 0;
  let stallMs = 0;
  const writer = new DataWriter(() => {
    // the end of every third write
    ms += ++calls % 6 === 0 ? stepMs + stallMs : stepMs;
    return ms;
  });
  const grows = () => {
    fs.ftruncateSync(fds[1], 0);
    assert.equal(writer.part(...fds, address, data.length, 0), 0);
    return fs.statSync(direct).size > 0;
  };
  // three writes a part
  for (let i = 0; i < 30; i++) assert.ok(grows(), `${i}`);
  stallMs = 500;
  for (let i = 0; i < 60; i++) assert.ok(grows(), `${i} with stalls`);
  stallMs = 0;
  stepMs = 20;
  let more = 0;
  while (more < 60 && grows()) more++;
  assert.ok(more > 10 && more < 60, `${more} more`);
});

test('a new file is what was to be written, whatever its length', (t) => {
  const directory = scratch(t);
  const { data, address } = rig(t);
  const writer = new DataWriter(() => 0);
  for (const length of [0, 1, DIRECT_MIN_BYTES - 1, DIRECT_MIN_BYTES, DIRECT_MIN_BYTES + 1, data.length]) {
    const file = path.join(directory, `${length}`);
    const fd = fs.openSync(file, 'w');
    assert.equal(writer.whole(fd, address, length), 0);
    fs.closeSync(fd);
    assert.ok(fs.readFileSync(file).equals(data.subarray(0, length)), `${length}`);
  }
});

test('an error is told', (t) => {
  const { direct, data, address } = rig(t);
  const readOnly = fs.openSync(direct, 'r');
  t.after(() => fs.closeSync(readOnly));
  const writer = new DataWriter(() => 0);
  assert.equal(writer.whole(readOnly, address, data.length), -9);
  assert.equal(writer.part(readOnly, readOnly, address, data.length, 1), -9);
});
