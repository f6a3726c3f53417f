import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Failure } from '../../src/error.ts';
import { TreeBuilder } from '../../src/snapshot/builder.ts';
import { Bytes } from '../../src/snapshot/bytes.ts';
import { CHUNK_TREE, type ChunkRef, type ChunkStore, MemoryChunks } from '../../src/snapshot/chunks.ts';
import { findEntry, readRoot } from '../../src/snapshot/directory.ts';
import * as scan from '../../src/snapshot/scanlog.ts';
import { beginEntry, EntryReader, endEntry, FLAG_UNREADABLE } from '../../src/snapshot/tree.ts';
import { appendEnter, appendEntryRecord, plant, statOf } from './plant.ts';
import { Random } from './random.ts';
import { describeBatch } from './take.ts';

interface Built {
  readonly builder: TreeBuilder;
  readonly chunks: MemoryChunks;
  readonly discarded: number[];
}

function builder(chunks = new MemoryChunks(), store: ChunkStore = chunks): Built {
  const discarded: number[] = [];
  const built = new TreeBuilder({
    source: chunks,
    store,
    readFile: () => 0,
    discard: (fd) => discarded.push(fd),
    onEvent: () => undefined,
  });
  return { builder: built, chunks, discarded };
}

function appendFifo(out: Bytes, name: string): void {
  appendEntryRecord(out, scan.SPECIAL, 0, statOf(0o010600), name);
}

function appendLeave(out: Bytes, name: string): void {
  appendEntryRecord(out, scan.LEAVE, 0, statOf(0o040755), name);
}

type Write = (out: Bytes) => void;

function batch(...writes: Write[]): Buffer {
  const out = new Bytes();
  for (const write of writes) write(out);
  return Buffer.from(out.since(0));
}

const enter =
  (name: string, old?: ChunkRef): Write =>
  (out) =>
    appendEnter(out, name, old);
const leave =
  (name: string): Write =>
  (out) =>
    appendLeave(out, name);
const fifo =
  (name: string): Write =>
  (out) =>
    appendFifo(out, name);
const file =
  (name: string, flags: number): Write =>
  (out) =>
    appendEntryRecord(out, scan.FILE_TO_READ, flags, statOf(0o100600), name);
const copy =
  (part: number, from: number, to: number): Write =>
  (out) =>
    scan.appendCopy(out, part, from, to);
const end =
  (same: boolean): Write =>
  (out) =>
    scan.appendEnd(out, same, scan.noCounts());

describe('the tree builder', () => {
  test('refuses records that make no tree', async () => {
    const { chunks, directory } = await plant({ a: 'x', b: {}, c: 'y' });
    const wrong: Record<string, Write[]> = {
      'an entry outside of any directory': [fifo('a')],
      'a file outside of any directory': [file('a', 1)],
      'leaving what was not entered': [leave('')],
      'a root with a name': [enter('a')],
      'a directory without name': [enter(''), enter('')],
      'a second root': [enter(''), leave(''), enter('')],
      'leaving the root by a name': [enter(''), leave('a')],
      'names out of order': [enter(''), fifo('b'), fifo('a')],
      'a name twice': [enter(''), fifo('a'), fifo('a')],
      'a directory out of order': [enter(''), fifo('b'), enter('a'), leave('a')],
      'a run of no old directory': [enter(''), copy(0, 0, 1)],
      'a run beyond the leaf': [enter('', directory), copy(0, 2, 4)],
      'a run that begins beyond the leaf': [enter('', directory), copy(0, 3, 4)],
      'a run beyond the leaves': [enter('', directory), copy(1, 0, 1)],
      'a run that goes back': [enter('', directory), copy(0, 1, 2), copy(0, 0, 1)],
      'a run again': [enter('', directory), copy(0, 1, 2), copy(0, 1, 2)],
      'a run behind a greater name': [enter('', directory), fifo('z'), copy(0, 0, 1)],
      'an empty run': [enter('', directory), copy(0, 1, 1)],
      'a file without its descriptor': [enter(''), file('a', 1), file('b', 1)],
      'the end inside a directory': [enter(''), end(false)],
      'the end without a tree': [end(false)],
      'a tree that is said to be the same': [enter(''), leave(''), end(true)],
      'a record after the end': [end(true), enter('')],
      'a second end': [end(true), end(true)],
    };
    for (const [name, writes] of Object.entries(wrong)) {
      const built = builder(chunks);
      await assert.rejects(built.builder.feed(batch(...writes), [7]), Failure, name);
    }
  });

  test('an old node that is none of ours is damaged, not copied', async () => {
    const { builder: built } = builder();
    const id = Buffer.alloc(32, 5);
    await assert.rejects(built.feed(batch(enter('', { id, length: 100 }), copy(0, 0, 1)), []), {
      kind: 'damaged',
    });
  });

  test('descriptors that no file took are closed', async () => {
    const first = builder();
    await assert.rejects(first.builder.feed(batch(enter(''), file('a', 1), fifo('a')), [3, 4, 5]), Failure);
    assert.deepEqual(first.discarded, [4, 5]);
    const second = builder();
    await assert.rejects(second.builder.feed(batch(enter('')), [3]), Failure);
    assert.deepEqual(second.discarded, [3]);
  });

  test('truncated, flipped and random batches fail as Failures', async () => {
    const { chunks, directory } = await plant({ a: 'x', b: {}, c: 'y' });
    const whole = batch(
      enter('', directory),
      copy(0, 0, 1),
      enter('b'),
      fifo('q'),
      leave('b'),
      file('bb', 1),
      (out) => scan.appendEvent(out, scan.EVENT_VANISHED, 'text', Buffer.from('/path')),
      copy(0, 2, 3),
      leave(''),
      end(false),
    );
    const attempt = async (bytes: Buffer): Promise<void> => {
      try {
        describeBatch(bytes);
        await builder(chunks).builder.feed(bytes, [3]);
      } catch (error) {
        assert.ok(error instanceof Failure, String(error));
      }
    };
    const good = builder(chunks);
    await good.builder.feed(whole, [3]);
    assert.ok(good.builder.result?.root);
    for (let length = 0; length < whole.length; length++) await attempt(whole.subarray(0, length));
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const flipped = Buffer.from(whole);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      await attempt(flipped);
    }
    for (let seed = 0; seed < 500; seed++) {
      const random = new Random(seed);
      const bytes = random.bytes(random.below(200));
      if (bytes.length >= 8) {
        bytes.writeUInt32LE(8 + random.below(bytes.length), 0);
        bytes.set([1 + random.below(7), random.below(2), 0, 0], 4);
      }
      await attempt(bytes);
    }
  });

  test('a store that waits gives the same tree as one that does not', async () => {
    const chunks = new MemoryChunks();
    const slow: ChunkStore = {
      put: async (kind, data, idOut) => {
        await new Promise((resolve) => setImmediate(resolve));
        chunks.put(kind, data, idOut);
      },
    };
    const names = Array.from({ length: 9000 }, (_, i) => String(i).padStart(6, '0'));
    const records = batch(
      enter(''),
      enter('d'),
      ...names.map(fifo),
      leave('d'),
      fifo('e'),
      leave(''),
      end(false),
    );
    const fast = builder();
    await fast.builder.feed(records, []);
    const waited = builder(chunks, slow);
    await waited.builder.feed(records, []);
    assert.deepEqual(waited.builder.result, fast.builder.result);
    assert.deepEqual([...chunks.chunks.keys()].sort(), [...fast.chunks.chunks.keys()].sort());
  });

  test('entries of a big directory are found', async () => {
    const { builder: built, chunks } = builder();
    const names = Array.from({ length: 20_000 }, (_, i) => `n${i}`).sort();
    await built.feed(batch(enter(''), ...names.map(fifo), leave(''), end(false)), []);
    const root = built.result?.root;
    assert.ok(root);
    const directory = (await readRoot(chunks, root)).directory();
    assert.ok(directory);
    for (const name of [names[0], names[7777], names.at(-1)]) {
      const entry = await findEntry(chunks, directory, Buffer.from(name ?? ''));
      assert.equal(entry?.name().toString(), name);
    }
    for (const name of ['', 'm', 'n0a', 'o', 'n77777'])
      assert.equal(await findEntry(chunks, directory, Buffer.from(name)), undefined);
  });

  test('an unreadable directory is named, without contents', async () => {
    const { builder: built, chunks } = builder();
    const unreadable: Write = (out) => {
      const record = scan.beginRecord(out, scan.LEAVE, 0);
      const at = beginEntry(out, statOf(0o040700), 0, FLAG_UNREADABLE, Buffer.from('d'), 0, 1);
      endEntry(out, at);
      scan.endRecord(out, record);
    };
    await built.feed(batch(enter(''), enter('d'), unreadable, leave(''), end(false)), []);
    const root = built.result?.root;
    assert.ok(root);
    const directory = (await readRoot(chunks, root)).directory();
    assert.ok(directory);
    const reader = new EntryReader().load(await chunks.get(CHUNK_TREE, directory.id, directory.length));
    assert.ok(reader.next());
    assert.equal(reader.hasDirectory, false);
    assert.equal(reader.flags, FLAG_UNREADABLE);
    await assert.rejects(
      builder().builder.feed(batch(enter(''), enter('d'), fifo('x'), unreadable), []),
      Failure,
    );
  });

  test('what a walker makes it hold is bounded', async () => {
    const { builder: built } = builder();
    // entries that stay pending, as none of the directories is ever left: 1 MiB of names each
    const names = Array.from({ length: 3000 }, (_, i) => String(i).padStart(250, '0'));
    const one = batch(...names.map(fifo));
    const dive = async (): Promise<void> => {
      await built.feed(batch(enter('')), []);
      for (let depth = 0; depth < 2000; depth++) {
        await built.feed(one, []);
        await built.feed(batch(enter('x')), []);
      }
    };
    await assert.rejects(dive(), /grow buffer/);
  });
});
