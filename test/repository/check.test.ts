import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../../src/backends/memory.ts';
import { Failure } from '../../src/error.ts';
import { CHUNK_DATA, CHUNK_TREE, type ChunkKind } from '../../src/keys/derive.ts';
import {
  type ChunkReference,
  checkListing,
  type PackTools,
  ReferenceChecker,
  unreferenced,
  verifyPack,
} from '../../src/repository/check.ts';
import { decodeIndex, unframeIndex } from '../../src/repository/index.ts';
import { CLASS_METADATA } from '../../src/repository/segment.ts';
import type { Store } from '../../src/repository/store.ts';
import { codec, hasher, openStore, readChunk, type Segment, sealSegment, segmentCodec } from './rig.ts';

function toolsFor(backend: MemoryBackend): PackTools {
  return {
    backend,
    hasher,
    openIndex: (kind, name, sealed, epoch) => codec.openIndex(kind, name, sealed, epoch),
    openSegment: async (sealed, _epoch, out) => segmentCodec.unpack(sealed, out),
  };
}

async function storeWith(backend: MemoryBackend, segments: readonly Segment[]): Promise<Store> {
  const store = await openStore(backend);
  for (const { sealed, kind, ids } of segments) await store.append(sealed, kind, 1, ids);
  await store.flush();
  return store;
}

const onlyPack = (backend: MemoryBackend) => [...backend.objects.packs.entries()][0] as [string, Buffer];

describe('verifying a pack', () => {
  async function filled() {
    const backend = new MemoryBackend();
    await storeWith(backend, [
      sealSegment([randomBytes(90), randomBytes(80)]),
      sealSegment([randomBytes(70)]),
    ]);
    const [indexName, index] = [...backend.objects.index.entries()][0] as [string, Buffer];
    const plaintext = await codec.openIndex('index', indexName, unframeIndex(index, indexName), 1);
    return { backend, indexed: decodeIndex(plaintext, indexName)[0] };
  }

  test('a whole one has no problems', async () => {
    const { backend, indexed } = await filled();
    const report = await verifyPack(onlyPack(backend)[0], toolsFor(backend), indexed);
    assert.deepEqual(report, { segments: 2, chunks: 3, bytes: 240, problems: [] });
  });

  test('trees and lists are told by trying both', async () => {
    const backend = new MemoryBackend();
    await storeWith(backend, [sealSegment([randomBytes(90)], CLASS_METADATA)]);
    assert.deepEqual((await verifyPack(onlyPack(backend)[0], toolsFor(backend))).problems, []);
  });

  test('every flipped byte of a pack is named', async () => {
    const { backend, indexed } = await filled();
    const [name, good] = onlyPack(backend);
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 4;
      backend.objects.packs.set(name, bad);
      const { problems } = await verifyPack(name, toolsFor(backend), indexed);
      assert.ok(problems.length >= 1, `byte ${at}`);
      assert.ok(problems.every(({ object }) => object.startsWith(`packs/${name}`)));
    }
  });

  test('every truncation is named, and what is left is verified by the index', async () => {
    const { backend, indexed } = await filled();
    const [name, good] = onlyPack(backend);
    for (let length = 0; length < good.length; length++) {
      backend.objects.packs.set(name, good.subarray(0, length));
      const { problems, segments } = await verifyPack(name, toolsFor(backend), indexed);
      assert.ok(problems.length >= 1);
      const first = indexed?.segments[0];
      assert.ok(first);
      if (length >= first.offset + first.sealedLength) assert.ok(segments >= 1, `${length}`);
    }
  });

  test('a footer that lists chunks the segments do not have', async () => {
    const backend = new MemoryBackend();
    const segment = sealSegment([randomBytes(50), randomBytes(60)]);
    await storeWith(backend, [{ ...segment, ids: randomBytes(64) }]);
    const { problems } = await verifyPack(onlyPack(backend)[0], toolsFor(backend));
    assert.match(problems[0]?.text ?? '', /chunk 0 does not have its id/);
  });

  test('an index that says otherwise', async () => {
    const { backend, indexed } = await filled();
    assert.ok(indexed);
    const changed = { ...indexed, packBytes: indexed.packBytes + 1 };
    const { problems } = await verifyPack(onlyPack(backend)[0], toolsFor(backend), changed);
    assert.deepEqual(
      problems.map(({ text }) => text),
      ['its footer and the index disagree'],
    );
  });

  test('a missing pack is a problem, a failing backend a failure', async () => {
    const backend = new MemoryBackend();
    const name = 'ab'.repeat(16);
    assert.deepEqual((await verifyPack(name, toolsFor(backend))).problems, [
      { object: `packs/${name}`, text: 'pack is missing' },
    ]);
    backend.setHook(() => {
      throw new Error('connection reset');
    });
    await assert.rejects(verifyPack(name, toolsFor(backend)), { kind: 'failed' });
  });
});

describe('checking the listing', () => {
  test('missing and short packs are named', async () => {
    const backend = new MemoryBackend();
    const store = await storeWith(backend, [
      sealSegment([randomBytes(9)]),
      sealSegment([randomBytes(9)], CLASS_METADATA),
    ]);
    assert.deepEqual(await checkListing(store), []);
    const [[one, bytes], [other]] = [...backend.objects.packs.entries()] as [
      [string, Buffer],
      [string, Buffer],
    ];
    backend.objects.packs.set(one, bytes.subarray(1));
    backend.objects.packs.delete(other);
    const problems = await checkListing(store);
    assert.deepEqual(
      new Set(problems.map(({ object }) => object)),
      new Set([`packs/${one}`, `packs/${other}`]),
    );
  });
});

describe('following references', () => {
  /** A tree chunk of this test is a list of kind and id. */
  const treeOf = (children: readonly ChunkReference[]) =>
    Buffer.concat(children.map(({ kind, id, length }) => Buffer.concat([Buffer.of(kind, length), id])));
  const references = (
    _: ChunkKind,
    chunk: Buffer,
    visit: (kind: ChunkKind, id: Buffer, length: number) => void,
  ) => {
    if (chunk.length % 34 !== 0) throw new Failure('read', 'tree', { cause: 'malformed', kind: 'damaged' });
    for (let at = 0; at < chunk.length; at += 34)
      visit(chunk[at] as ChunkKind, chunk.subarray(at + 2, at + 34), chunk[at + 1] ?? 0);
  };
  const referenceTo = (kind: ChunkKind, chunk: Buffer): ChunkReference => {
    const id = Buffer.alloc(32);
    hasher.id(kind, chunk, id, 0);
    return { kind, id, length: chunk.length };
  };

  async function repository() {
    const backend = new MemoryBackend();
    const contents = [randomBytes(10), randomBytes(20), randomBytes(30)];
    const [a, b, c] = contents.map((chunk) => referenceTo(CHUNK_DATA, chunk)) as [
      ChunkReference,
      ChunkReference,
      ChunkReference,
    ];
    const inner = treeOf([a, b]);
    const root = treeOf([referenceTo(CHUNK_TREE, inner), b]);
    const store = await storeWith(backend, [
      sealSegment(contents),
      sealSegment([inner, root], CLASS_METADATA),
    ]);
    return {
      backend,
      store,
      root: referenceTo(CHUNK_TREE, root),
      inner: referenceTo(CHUNK_TREE, inner),
      a,
      b,
      c,
    };
  }

  function checkerFor(store: Store, contents: boolean, reads: string[] = []): ReferenceChecker {
    return new ReferenceChecker({
      contents,
      has: (id) => store.table.lookup(id, 0) >= 0,
      read: async ({ id }) => {
        reads.push(id.toString('hex'));
        return (await readChunk(store, id, 0)) ?? assert.fail();
      },
      references,
    });
  }

  test('each chunk is visited once, contents only when asked', async () => {
    const { store, root, inner, a, b, c } = await repository();
    for (const contents of [false, true]) {
      const reads: string[] = [];
      const checker = checkerFor(store, contents, reads);
      await checker.check(root);
      await checker.check(root);
      const { chunks, bytes, problems } = checker.report;
      assert.deepEqual(
        { chunks, bytes, problems },
        { chunks: 4, bytes: root.length + inner.length + 30, problems: [] },
      );
      const expected = contents ? [root, inner, a, b] : [root, inner];
      assert.deepEqual(reads.sort(), expected.map(({ id }) => id.toString('hex')).sort());
      const { chunks: orphans, segments } = unreferenced(store.table, checker.seen);
      assert.equal(orphans, 1);
      assert.deepEqual([...segments], [store.table.lookup(c.id, 0)]);
    }
  });

  test('a missing chunk is named, and the rest is checked', async () => {
    const { store, root, a, b } = await repository();
    store.table.remove(a.id, 0, store.table.lookup(a.id, 0));
    const checker = checkerFor(store, false);
    await checker.check(root);
    assert.deepEqual([...checker.report.damaged], [a.id.toString('hex')]);
    assert.equal(checker.report.chunks, 4);
    assert.equal(checker.seen.has(b.id), true);
  });

  test('a node that is damaged is named', async () => {
    const { backend, store, root, inner } = await repository();
    const place = store.segments.place(store.table.lookup(inner.id, 0));
    assert.ok(place);
    const pack = backend.objects.packs.get(store.segments.packName(place.pack));
    assert.ok(pack);
    pack[place.offset + 30] = (pack[place.offset + 30] ?? 0) ^ 1;
    const checker = checkerFor(store, false);
    await checker.check(root);
    assert.deepEqual(
      checker.report.problems.map(({ object }) => object),
      [`chunk ${root.id.toString('hex')}`],
    );
  });
});
