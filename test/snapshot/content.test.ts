import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Failure, describe as told } from '../../src/error.ts';
import { UnknownVersion } from '../../src/keys/frame.ts';
import { Bytes } from '../../src/snapshot/bytes.ts';
import { CHUNK_LIST, MemoryChunks } from '../../src/snapshot/chunks.ts';
import {
  BlockReader,
  ContentWriter,
  type Extent,
  extents,
  INLINE_RECORDS_MAX,
  SPLITTER_FASTCDC1,
} from '../../src/snapshot/content.ts';
import { references } from '../../src/snapshot/references.ts';
import { Random } from './random.ts';

type Part = { length: number; id?: Buffer };

async function write(chunks: MemoryChunks, parts: Iterable<Part>): Promise<{ block: Buffer; size: number }> {
  const writer = new ContentWriter(chunks);
  writer.begin(SPLITTER_FASTCDC1);
  for (const { length, id } of parts) {
    if (id === undefined) writer.hole(length);
    else await writer.data(length, id);
  }
  const out = new Bytes();
  await writer.finish(out);
  return { block: Buffer.from(out.since(0)), size: writer.size };
}

async function read(chunks: MemoryChunks, block: Buffer, from = 0): Promise<Extent[]> {
  const list: Extent[] = [];
  for await (const extent of extents(chunks, block, from)) list.push(extent);
  return list;
}

/** What must be read again: adjacent holes are one. */
function expected(parts: readonly Part[]): Extent[] {
  const list: { offset: number; length: number; id: Buffer | undefined }[] = [];
  let offset = 0;
  for (const { length, id } of parts) {
    const last = list.at(-1);
    if (id === undefined && last !== undefined && last.id === undefined) last.length += length;
    else list.push({ offset, length, id });
    offset += length;
  }
  return list;
}

function* manyParts(count: number, seed: number): Generator<Part> {
  const random = new Random(seed);
  for (let i = 0; i < count; i++) {
    if (random.chance(0.2)) yield { length: 1 + random.below(2 ** 31) };
    else yield { length: 1 + random.below(4 << 20), id: random.bytes(32) };
  }
}

describe('file contents', () => {
  test('what is written is read again, in the entry or in lists', async () => {
    for (const count of [0, 1, 2, 63, 64, 65, 66, 200, 1000, 5000]) {
      const chunks = new MemoryChunks();
      const parts = [...manyParts(count, count + 1)];
      const { block, size } = await write(chunks, parts);
      const wanted = expected(parts);
      assert.deepEqual(await read(chunks, block), wanted);
      assert.equal(
        size,
        parts.reduce((sum, { length }) => sum + length, 0),
      );
      const reader = new BlockReader().load(block);
      assert.ok(reader.count <= INLINE_RECORDS_MAX);
      assert.equal(reader.depth > 0, wanted.length > INLINE_RECORDS_MAX, `${count} parts`);
    }
  });

  test('reading begins where it is asked to, and reads only the lists that it needs', async () => {
    const chunks = new MemoryChunks();
    const parts = [...manyParts(4000, 9)];
    const { block, size } = await write(chunks, parts);
    const wanted = expected(parts);
    for (const from of [0, 1, Math.floor(size / 2), size - 1, size]) {
      const got = await read(chunks, block, from);
      assert.deepEqual(
        got,
        wanted.filter(({ offset, length }) => offset + length > from),
      );
    }
    chunks.gets = 0;
    await read(chunks, block, size - 1);
    assert.ok(chunks.gets <= 3, `${chunks.gets} lists`);
  });

  test('a sparse file of 8 TiB is one record', async () => {
    const chunks = new MemoryChunks();
    const size = 8 * 2 ** 40;
    const { block } = await write(chunks, [{ length: size - 5 }, { length: 5 }]);
    assert.deepEqual(await read(chunks, block), [{ offset: 0, length: size, id: undefined }]);
    assert.ok(block.length < 32);
  });

  test('a big file costs bounded memory: the writer holds one list of each level', async () => {
    const chunks = new MemoryChunks();
    const id = Buffer.alloc(32, 1);
    const writer = new ContentWriter(chunks);
    writer.begin(SPLITTER_FASTCDC1);
    // 400 GB of chunks that never end a list by their id
    for (let i = 0; i < 100_000; i++) writer.data(4 << 20, id);
    const out = new Bytes();
    await writer.finish(out);
    assert.ok(out.length < 4096);
    for (const { kind, data } of chunks.chunks.values())
      assert.ok(kind === CHUNK_LIST && data.length < 80_000);
    let total = 0;
    for await (const { length } of extents(chunks, Buffer.from(out.since(0)))) total += length;
    assert.equal(total, 100_000 * (4 << 20));
  });

  test('an insertion changes few lists', async () => {
    const chunks = new MemoryChunks();
    const parts = [...manyParts(20_000, 3)];
    await write(chunks, parts);
    const before = chunks.chunks.size;
    await write(chunks, [{ length: 7, id: Buffer.alloc(32, 9) }, ...parts]);
    assert.ok(before > 20 && chunks.chunks.size - before <= 4, `${chunks.chunks.size - before} of ${before}`);
  });

  test('the same file gives the same block, whatever was written before it', async () => {
    const chunks = new MemoryChunks();
    const writer = new ContentWriter(chunks);
    const blocks = [];
    for (const seed of [1, 2, 1]) {
      writer.begin(SPLITTER_FASTCDC1);
      for (const { length, id } of manyParts(500, seed)) {
        if (id === undefined) writer.hole(length);
        else await writer.data(length, id);
      }
      const out = new Bytes();
      await writer.finish(out);
      blocks.push(out.since(0).toString('hex'));
    }
    assert.equal(blocks[0], blocks[2]);
    assert.notEqual(blocks[0], blocks[1]);
  });

  test('a splitter of a later version is told by its number, and is no damage', () => {
    const block = Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]);
    assert.throws(
      () => new BlockReader().load(block),
      (error) => {
        assert.ok(error instanceof UnknownVersion);
        assert.match(told(error), /list of chunks: splitter 2 is unknown to this version/);
        return true;
      },
    );
  });

  test('damage is refused: truncation, flipped bits, lists that cover something else', async () => {
    const chunks = new MemoryChunks();
    const { block } = await write(chunks, [...manyParts(20, 4)]);
    const readBlock = (bytes: Buffer): void => references(CHUNK_LIST, bytes, () => undefined);
    for (let length = 0; length < block.length; length++)
      assert.throws(() => readBlock(block.subarray(0, length)), { kind: 'damaged' });
    for (let bit = 0; bit < block.length * 8; bit++) {
      const flipped = Buffer.from(block);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      try {
        readBlock(flipped);
      } catch (error) {
        const isSplitter = bit < 8;
        assert.equal(error instanceof UnknownVersion, isSplitter, String(error));
        assert.ok(isSplitter || (error instanceof Failure && error.kind === 'damaged'), String(error));
      }
    }
    const big = await write(chunks, [...manyParts(500, 5)]);
    const wrong = Buffer.from(big.block);
    wrong[8 + 36] = (wrong[8 + 36] as number) ^ 1;
    await assert.rejects(read(chunks, wrong), { kind: 'damaged' });
    const wrongDepth = Buffer.from(big.block);
    wrongDepth[1] = 2;
    await assert.rejects(read(chunks, wrongDepth), { kind: 'damaged' });
  });
});
