import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { gearSource } from '../../scripts/gear.ts';
import { gearTable } from '../../src/keys/derive.ts';
import { CHUNK_SIZES, type ChunkSizes, cutMasks, Splitter } from '../../src/snapshot/splitter.ts';

const SMALL: ChunkSizes = { min: 64, normal: 256, max: 1024 };
const gear = gearTable(Buffer.alloc(32, 7));

/** Bytes that are the same on every run. */
function stream(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

function boundaries(splitter: Splitter, data: Buffer): number[] {
  const ends: number[] = [];
  for (let at = 0; at < data.length; ) {
    at = splitter.cut(data, at, data.length);
    ends.push(at);
  }
  return ends;
}

/** FastCDC as the header of splitter.ts words it, byte by byte and with exact integers. */
function reference(data: Buffer, sizes: ChunkSizes): number[] {
  const bits = Math.log2(sizes.normal);
  const mask = (count: number): bigint => ((1n << BigInt(count)) - 1n) << BigInt(32 - count);
  const ends: number[] = [];
  let start = 0;
  let hash = 0n;
  for (let i = 0; i < data.length; i++) {
    const length = i + 1 - start;
    if (length > sizes.min) {
      hash = (2n * hash + BigInt((gear[data[i] as number] as number) >>> 0)) % 2n ** 32n;
      const wanted = mask(length <= sizes.normal ? bits + 2 : bits - 2);
      if ((hash & wanted) !== 0n && length < sizes.max) continue;
      ends.push(i + 1);
      start = i + 1;
      hash = 0n;
    }
  }
  if (start < data.length) ends.push(data.length);
  return ends;
}

describe('splitter', () => {
  test('agrees with the slow reference, whatever the sizes', () => {
    const data = stream('reference', 200_000);
    for (const sizes of [SMALL, { min: 0, normal: 64, max: 64 }, { min: 256, normal: 256, max: 8192 }])
      assert.deepEqual(boundaries(new Splitter(gear, sizes), data), reference(data, sizes));
  });

  test('the module is what gear.wat assembles to', async () => {
    const written = fs.readFileSync(path.join(import.meta.dirname, '../../src/snapshot/gear.ts'), 'utf8');
    assert.equal(written, await gearSource(), 'run npm run gear');
  });

  test('agrees with it where it scans lanes beside each other, wherever the data begin', () => {
    const sizes = { min: 1000, normal: 32_768, max: 200_000 };
    const data = stream('lanes', 900_003);
    for (const skip of [0, 1, 2, 3, 4095])
      assert.deepEqual(
        boundaries(new Splitter(gear, sizes), data.subarray(skip)),
        reference(data.subarray(skip), sizes),
      );
  });

  test('cuts where it always cut', () => {
    const data = stream('golden', 12 << 20);
    const ends = boundaries(new Splitter(gear), data);
    assert.deepEqual(ends, GOLDEN);
  });

  test('keeps to the sizes', () => {
    const { min, max } = CHUNK_SIZES;
    const zeros = Buffer.alloc(9 << 20);
    const splitter = new Splitter(gear);
    assert.deepEqual(boundaries(splitter, zeros.subarray(0, min)), [min]);
    for (const data of [zeros, stream('sizes', 9 << 20)]) {
      const ends = boundaries(splitter, data);
      const lengths = ends.map((end, i) => end - (ends[i - 1] ?? 0));
      assert.ok(lengths.every((length) => length <= max));
      assert.ok(lengths.slice(0, -1).every((length) => length > min));
    }
  });

  test('an insertion moves few boundaries', () => {
    const splitter = new Splitter(gear, SMALL);
    const data = stream('insertion', 100_000);
    const edited = Buffer.concat([data.subarray(0, 50_000), Buffer.from('inserted'), data.subarray(50_000)]);
    const before = new Set(boundaries(splitter, data).map((end) => data.length - end));
    const after = boundaries(splitter, edited).map((end) => edited.length - end);
    const moved = after.filter((end) => end < 50_000 && !before.has(end));
    assert.ok(moved.length < 12, `${moved.length} boundaries moved`);
  });

  test('the end of the data so far is not mistaken for a boundary', () => {
    const splitter = new Splitter(gear, SMALL);
    const data = stream('more', 20_000);
    const ends: number[] = [];
    // as the chunker reads: 700 bytes more whenever the cut is where the data end
    for (let at = 0, fill = 700; at < data.length; ) {
      const end = splitter.cut(data, at, fill);
      if (end === fill && fill < data.length && end - at < SMALL.max)
        fill = Math.min(fill + 700, data.length);
      else {
        ends.push(end);
        at = end;
      }
    }
    assert.deepEqual(ends, boundaries(splitter, data));
  });

  test('what was seen need not be looked at again, wherever it ended', () => {
    const splitter = new Splitter(gear, SMALL);
    const data = stream('seen', 30_000);
    const expected = boundaries(splitter, data);
    // at a boundary, just before and behind one, by single bytes, and by more than a chunk
    for (const step of [1, 7, SMALL.min, 1000, 5000]) {
      const ends: number[] = [];
      for (let at = 0, filled = step, seen = 0, hash = 0; at < data.length; ) {
        // as another file that is cut between
        if (seen % 3 === 1) splitter.cut(stream('other', 5000), 0, 5000);
        const end = splitter.cut(data, at, filled, seen, hash);
        if (splitter.isOpen && filled < data.length) {
          seen = end - at;
          hash = splitter.hash;
          filled = Math.min(filled + step, data.length);
        } else {
          ends.push(end);
          at = end;
          seen = 0;
        }
      }
      assert.deepEqual(ends, expected, `${step} bytes at a time`);
    }
  });

  test('another key cuts elsewhere', () => {
    const data = stream('keys', 50_000);
    const other = new Splitter(gearTable(Buffer.alloc(32, 8)), SMALL);
    assert.notDeepEqual(boundaries(other, data), boundaries(new Splitter(gear, SMALL), data));
  });

  test('senseless sizes and tables are refused', () => {
    for (const sizes of [
      { min: 10, normal: 1000, max: 4000 },
      { min: 300, normal: 256, max: 1024 },
      { min: 64, normal: 256, max: 255 },
      { min: Number.NaN, normal: Number.NaN, max: 1 },
    ])
      assert.throws(() => new Splitter(gear, sizes), { name: 'Failure', cause: /chunk sizes/ });
    assert.throws(() => new Splitter(new Int32Array(255)), { name: 'Failure' });
  });

  test('the masks are upper bits, four more before the normal size', () => {
    assert.deepEqual(cutMasks(1 << 20), { before: 0xfffffc00 | 0, after: 0xffffc000 | 0 });
  });
});

const GOLDEN: readonly number[] = [
  734489, 1348861, 1691056, 2889606, 4052081, 5166075, 6261910, 7370599, 8529617, 9216716, 10450794, 11552131,
  12582912,
];
