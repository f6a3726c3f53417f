/** Shared memory between mappings, seals, and mappings made and ended many times. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Failure } from '../../src/error.ts';
import { checkSealed, mapShared, memfdCreate, unmap } from '../../src/sys/memory.ts';

const SIZE_BYTES = 1 << 16;

describe('shared memory', () => {
  test('two mappings of one file are the same memory', () => {
    const fd = memfdCreate('test', SIZE_BYTES);
    const writer = mapShared(fd, SIZE_BYTES, 'write');
    const reader = mapShared(fd, SIZE_BYTES, 'read');
    fs.closeSync(fd);
    writer.write('seen', SIZE_BYTES - 4);
    assert.equal(reader.toString('latin1', SIZE_BYTES - 4), 'seen');
    assert.equal(reader.length, SIZE_BYTES);
    unmap(writer);
    assert.equal(reader.toString('latin1', SIZE_BYTES - 4), 'seen');
    unmap(reader);
  });

  test('a sealed file cannot change its size', () => {
    const fd = memfdCreate('test', SIZE_BYTES);
    assert.equal(checkSealed(fd, SIZE_BYTES), SIZE_BYTES);
    assert.throws(() => fs.ftruncateSync(fd, 0), { code: 'EPERM' });
    assert.throws(() => fs.ftruncateSync(fd, SIZE_BYTES * 2), { code: 'EPERM' });
    assert.throws(() => checkSealed(fd, SIZE_BYTES + 1), /map descriptor/);
    fs.closeSync(fd);
  });

  test('a file that is not sealed, or no memory file, is refused', () => {
    const fd = memfdCreate('test', SIZE_BYTES, { seal: false });
    assert.throws(() => checkSealed(fd, SIZE_BYTES), Failure);
    fs.closeSync(fd);
    const other = fs.openSync('/proc/self/exe', 'r');
    assert.throws(() => checkSealed(other, 1), Failure);
    fs.closeSync(other);
  });

  test('lengths that make no sense are refused', () => {
    const fd = memfdCreate('test', SIZE_BYTES);
    for (const length of [0, -1, 1.5, Number.NaN, 2 ** 40])
      assert.throws(() => mapShared(fd, length, 'read'));
    fs.closeSync(fd);
    assert.throws(() => mapShared(fd, SIZE_BYTES, 'read'), /mmap descriptor/);
  });

  test('views of an ended mapping are empty, and ending it twice is refused', () => {
    const fd = memfdCreate('test', SIZE_BYTES);
    const buffer = mapShared(fd, SIZE_BYTES, 'write');
    const view = buffer.subarray(10, 20);
    unmap(buffer);
    assert.equal(buffer.length, 0);
    assert.equal(view.length, 0);
    assert.throws(() => unmap(buffer), Failure);
    fs.closeSync(fd);
  });

  test('a mapping of more than 4 GiB, of which next to nothing is in use, is one like others', () => {
    const sizeBytes = 2 ** 32 + SIZE_BYTES;
    const fd = memfdCreate('test', sizeBytes);
    const writer = mapShared(fd, sizeBytes, 'write');
    const reader = mapShared(fd, sizeBytes, 'read');
    fs.closeSync(fd);
    assert.equal(reader.length, sizeBytes);
    for (const at of [0, 2 ** 32 + 5, sizeBytes - 4]) {
      writer.writeUInt32LE(at % 1_000_003, at);
      assert.equal(reader.readUInt32LE(at), at % 1_000_003);
    }
    const view = reader.subarray(2 ** 32, 2 ** 32 + 8);
    for (const each of [writer, reader]) unmap(each);
    assert.deepEqual([writer.length, reader.length, view.length], [0, 0, 0]);
    assert.throws(() => unmap(reader), Failure);
  });

  test('no mapping counts for more than it is, which the runtime would collect everything for', () => {
    const fd = memfdCreate('test', SIZE_BYTES);
    const before = process.memoryUsage().external;
    const mapped = Array.from({ length: 16 }, () => mapShared(fd, SIZE_BYTES, 'read'));
    fs.closeSync(fd);
    const counted = process.memoryUsage().external - before;
    for (const each of mapped) unmap(each);
    assert.ok(counted < 64 << 20, `${counted} bytes are counted for 16 mappings of ${SIZE_BYTES}`);
  });

  test('two hundred mappings come and go, with and without collection between', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const fd = memfdCreate('test', SIZE_BYTES);
    const mappings = (): number =>
      fs
        .readFileSync('/proc/self/maps', 'latin1')
        .split('\n')
        .filter((line) => line.includes('memfd:test')).length;
    const before = mappings();
    for (let i = 0; i < 200; i++) {
      const buffer = mapShared(fd, SIZE_BYTES, 'write');
      buffer.writeUInt32LE(i, 8);
      const again = mapShared(fd, i % 2 === 0 ? 4096 : SIZE_BYTES, 'read');
      assert.equal(again.readUInt32LE(8), i);
      unmap(buffer);
      unmap(again);
      if (i === 0) assert.equal(mappings(), before);
      if (i % 20 === 0) collect();
    }
    fs.closeSync(fd);
    assert.equal(mappings(), before);
  });
});
