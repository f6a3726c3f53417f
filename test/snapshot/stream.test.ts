import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { UnknownVersion } from '../../src/keys/frame.ts';
import { CHUNK_TREE, MemoryChunks } from '../../src/snapshot/chunks.ts';
import { LeafCursor, ShardReader } from '../../src/snapshot/directory.ts';
import { NodeStream, streamTree } from '../../src/snapshot/stream.ts';
import { EntryReader } from '../../src/snapshot/tree.ts';
import { plant } from './plant.ts';

async function piecesOf(planted: Awaited<ReturnType<typeof plant>>, pieceBytes: number): Promise<Buffer[]> {
  const parts: Buffer[] = [];
  await streamTree(planted.chunks, planted.root, {
    write: (bytes) => {
      parts.push(Buffer.from(bytes));
      return undefined;
    },
  });
  const whole = Buffer.concat(parts);
  const pieces: Buffer[] = [];
  for (let at = 0; at < whole.length; at += pieceBytes) pieces.push(whole.subarray(at, at + pieceBytes));
  return pieces;
}

function items(stream: NodeStream): string[] {
  const list: string[] = [];
  for (let item = stream.next(); item !== undefined; item = stream.next()) {
    const reader = new EntryReader();
    const names: string[] = [];
    if (item.node.length > 0) {
      reader.load(item.node, item.depth === 0);
      while (reader.next()) names.push(reader.name().toString('latin1'));
    }
    const some = names.length > 3 ? `${names.at(0)}..${names.at(-1)}` : names.join(' ');
    list.push(`${item.depth} ${item.node.length === 0 ? 'damaged' : some}${item.last ? ' last' : ''}`);
  }
  return list;
}

const TREE = { a: { x: {}, y: { z: 'file' } }, b: 'file', c: {} };

describe('the stream of old nodes', () => {
  test('is in pre-order, whatever the pieces', async () => {
    const planted = await plant(TREE);
    for (const pieceBytes of [1, 7, 64, 1 << 18]) {
      const pieces = await piecesOf(planted, pieceBytes);
      const used: number[] = [];
      const stream = new NodeStream((bytes) => used.push(bytes));
      const got: string[] = [];
      for (const piece of pieces) {
        stream.push(piece);
        got.push(...items(stream));
      }
      assert.deepEqual(got, ['0  last', '1 a b c last', '2 x y last', '3  last', '3 z last', '2  last']);
      assert.equal(
        used.reduce((sum, bytes) => sum + bytes, 0),
        pieces.reduce((sum, piece) => sum + piece.length, 0),
      );
    }
  });

  test('a node that began in a short piece goes on in a longer one', async () => {
    const planted = await plant(TREE);
    const whole = Buffer.concat(await piecesOf(planted, 1 << 18));
    for (let cut = 1; cut < whole.length; cut++) {
      const stream = new NodeStream(() => undefined);
      stream.push(Buffer.from(whole.subarray(0, cut)));
      const got = items(stream);
      stream.push(Buffer.from(whole.subarray(cut)));
      got.push(...items(stream));
      assert.deepEqual(got, ['0  last', '1 a b c last', '2 x y last', '3  last', '3 z last', '2  last']);
    }
  });

  test('a big directory comes as its leaves, each followed by what is below it', async () => {
    const big: Record<string, object | string> = {};
    for (let i = 0; i < 9000; i++) big[`${i}`.padStart(6, '0')] = i % 1000 === 0 ? { below: 'file' } : 'file';
    const planted = await plant({ big });
    const stream = new NodeStream(() => undefined);
    for (const piece of await piecesOf(planted, 1 << 18)) stream.push(piece);
    const got = items(stream);
    const leaves = got.filter((item) => item.startsWith('2 '));
    assert.ok(leaves.length > 1);
    assert.deepEqual(
      leaves.map((item) => item.endsWith(' last')),
      leaves.map((_, i) => i === leaves.length - 1),
    );
    assert.equal(got.filter((item) => item === '3 below last').length, 9);
    assert.equal(got[3], '3 below last');
  });

  test('a damaged directory is told, and the rest comes', async () => {
    const planted = await plant(TREE);
    const { chunks, root } = planted;
    for (const [name, chunk] of chunks.chunks)
      if (chunk.kind === CHUNK_TREE && chunk.data.includes('y') && !chunk.data.includes('b'))
        chunks.chunks.delete(name);
    const errors: unknown[] = [];
    const stream = new NodeStream(() => undefined);
    await streamTree(chunks, root, {
      write: (bytes) => {
        stream.push(Buffer.from(bytes));
        return undefined;
      },
      onDamage: (error) => errors.push(error),
    });
    assert.deepEqual(items(stream), ['0  last', '1 a b c last', '2 damaged last', '2  last']);
    assert.equal(errors.length, 1);
    await assert.rejects(piecesOf(planted, 100), { kind: 'damaged' });
  });

  test('the receiver waits, and learns of the end and of failures', async () => {
    const stream = new NodeStream(() => undefined);
    const waiting = stream.wait();
    stream.push(Buffer.alloc(1));
    await waiting;
    assert.equal(stream.next(), undefined);
    const again = stream.wait();
    stream.fail(new Error('gone'));
    await assert.rejects(again, /gone/);
    await assert.rejects(stream.wait(), /gone/);
    const ended = new NodeStream(() => undefined);
    ended.end();
    await assert.rejects(ended.wait(), { name: 'Failure' });
  });

  test('malformed items are refused', () => {
    for (const [length, depth, last] of [
      [5 << 20, 1, 1],
      [10, 2 ** 30, 1],
      [10, 1, 2],
    ] as const) {
      const head = Buffer.alloc(12);
      head.writeUInt32LE(length, 0);
      head.writeUInt32LE(depth, 4);
      head.writeUInt32LE(last, 8);
      const stream = new NodeStream(() => undefined);
      stream.push(head);
      assert.throws(() => stream.next(), { name: 'Failure' });
    }
  });
});

describe('directories of many leaves', () => {
  test('a change in one leaves the other leaves as they are', async () => {
    const big: Record<string, object | string> = {};
    for (let i = 0; i < 30_000; i++) big[`file ${i}`] = 'x';
    const chunks = new MemoryChunks();
    await plant(big, chunks);
    const before = chunks.chunks.size;
    await plant({ ...big, 'file 12345 and a bit': 'x' }, chunks);
    // a leaf or two, the node above them, and the root
    assert.ok(before > 8 && chunks.chunks.size - before <= 4, `${chunks.chunks.size - before} of ${before}`);
  });

  test('damaged shards are refused', async () => {
    const big: Record<string, object | string> = {};
    for (let i = 0; i < 9000; i++) big[`file ${i}`] = 'x';
    const { chunks, directory } = await plant(big);
    const node = await chunks.get(CHUNK_TREE, directory.id, directory.length);
    const readAll = (bytes: Buffer): void => {
      const shards = new ShardReader().load(bytes);
      while (shards.next());
    };
    readAll(node);
    for (let length = 0; length < node.length; length++)
      assert.throws(() => readAll(node.subarray(0, length)), { kind: 'damaged' });
    for (let byte = 0; byte < node.length; byte++) {
      const wrong = Buffer.from(node);
      wrong[byte] = (wrong[byte] as number) ^ 0xff;
      const id = Buffer.alloc(32);
      chunks.put(CHUNK_TREE, wrong, id);
      const walk = async (): Promise<void> => {
        const leaves = new LeafCursor(chunks, { id, length: wrong.length });
        while (await leaves.next());
      };
      // the first byte is the version, and 254 would be a later one
      const refused = byte === 0 ? UnknownVersion : { kind: 'damaged' };
      await assert.rejects(walk(), refused, `byte ${byte}`);
    }
  });
});
