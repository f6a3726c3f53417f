import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { FsBackend } from '../../src/backends/fs.ts';
import { MemoryBackend } from '../../src/backends/memory.ts';
import type { Failure } from '../../src/error.ts';
import { PACK_TARGET_BYTES, SEGMENT_SEALED_MAX_BYTES } from '../../src/repository/constants.ts';
import { CLASS_DATA, CLASS_METADATA } from '../../src/repository/segment.ts';
import type { Store } from '../../src/repository/store.ts';
import { openStore, readChunk, type Segment, sealSegment, seeded } from './rig.ts';

const noSpace = () =>
  Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });

function append(store: Store, segment: Segment): Promise<number> {
  return store.append(Buffer.from(segment.sealed), segment.kind, 1, Buffer.from(segment.ids));
}

async function assertReads(store: Store, segment: Segment): Promise<void> {
  for (const [i, chunk] of segment.chunks.entries())
    assert.deepEqual(await readChunk(store, segment.ids, 32 * i), chunk);
}

function assertUnknown(store: Store, segment: Segment): void {
  for (let at = 0; at < segment.ids.length; at += 32) assert.equal(store.table.lookup(segment.ids, at), -1);
}

const small = (kind: typeof CLASS_DATA | typeof CLASS_METADATA = CLASS_DATA) =>
  sealSegment([randomBytes(100), randomBytes(2000)], kind);

describe('store', () => {
  test('what was flushed is there for the next store, data and metadata in packs of their own', async () => {
    const backend = new MemoryBackend();
    const first = await openStore(backend);
    const segments = [small(), small(CLASS_METADATA), small(), small(CLASS_METADATA)];
    for (const segment of segments) await append(first, segment);
    const stored = await first.flush();
    assert.equal(
      stored,
      [...backend.objects.packs.values()].reduce((sum, pack) => sum + pack.length, 0),
    );
    for (const store of [first, await openStore(backend)]) {
      for (const segment of segments) await assertReads(store, segment);
      assert.deepEqual(store.totals, { packs: 2, segments: 4, chunks: 8, storedBytes: stored });
      assert.deepEqual([store.problems, store.orphans], [[], []]);
      for (const pack of store.segments.packNumbers()) {
        const kinds = store.segments.segmentsOf(pack).map((ordinal) => store.segments.place(ordinal)?.kind);
        assert.equal(kinds.length, 2);
        assert.equal(kinds[0], kinds[1]);
      }
    }
  });

  test('packs are closed at their size, on the way', async () => {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    const megabyte = sealSegment([randomBytes(1 << 20)]);
    const enough = Math.ceil(PACK_TARGET_BYTES / megabyte.sealed.length);
    const ordinals = new Set<number>();
    for (let i = 0; i < enough * 4; i++)
      ordinals.add(await append(store, { ...megabyte, ids: randomBytes(32) }));
    assert.equal(ordinals.size, enough * 4);
    assert.ok(backend.objects.packs.size >= 1);
    await store.flush();
    assert.equal(backend.objects.packs.size, 4);
    assert.equal(backend.objects.index.size, 1);
  });

  test('flushing nothing writes nothing', async () => {
    const backend = new MemoryBackend();
    await (await openStore(backend)).flush();
    assert.deepEqual([backend.objects.packs.size, backend.objects.index.size], [0, 0]);
  });

  test('the order is packs, then the index', async () => {
    const calls: string[] = [];
    const backend = new MemoryBackend(({ call, when, kind }) => {
      if (call === 'put' && when === 'after') calls.push(kind);
    });
    const store = await openStore(backend);
    await append(store, small());
    await append(store, small(CLASS_METADATA));
    await store.flush();
    assert.deepEqual(calls, ['packs', 'packs', 'index']);
  });

  test('a segment of a pack that is still open can be read', async () => {
    const store = await openStore(new MemoryBackend());
    const segment = small();
    await append(store, segment);
    await assertReads(store, segment);
  });

  test('many appends and flushes at once', async () => {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    const segments = Array.from({ length: 60 }, (_, i) => small(i % 2 === 0 ? CLASS_DATA : CLASS_METADATA));
    await Promise.all(
      segments.map(async (segment, i) => {
        await append(store, segment);
        if (i % 7 === 0) await store.flush();
      }),
    );
    await store.flush();
    const again = await openStore(backend);
    for (const segment of segments) await assertReads(again, segment);
    assert.equal(again.totals.segments, 60);
  });

  test('the table moves to larger buffers and the reader is told', async () => {
    const buffers: Buffer[] = [];
    const store = await openStore(new MemoryBackend(), { onTable: (buffer) => buffers.push(buffer) });
    const all = Array.from({ length: 30 }, () =>
      sealSegment(Array.from({ length: 100 }, () => randomBytes(10))),
    );
    for (const segment of all) await append(store, segment);
    assert.ok(buffers.length > 1);
    assert.equal(buffers.at(-1), store.table.buffer);
    for (const segment of all)
      for (let at = 0; at < segment.ids.length; at += 32) assert.ok(store.table.lookup(segment.ids, at) >= 0);
  });

  test('what another writer has indexed is seen after a refresh', async () => {
    const backend = new MemoryBackend();
    const [one, other] = [await openStore(backend), await openStore(backend)];
    const segment = small();
    await append(other, segment);
    await other.flush();
    assertUnknown(one, segment);
    await append(one, small());
    await one.refresh();
    await assertReads(one, segment);
    assert.equal(one.totals.segments, 2);
  });

  test('nonsense is refused before anything happens', async () => {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    const { sealed, ids } = small();
    for (const [bytes, list] of [
      [sealed, Buffer.alloc(0)],
      [sealed, Buffer.alloc(33)],
      [sealed, Buffer.alloc(32 * 8193)],
      [Buffer.alloc(10), ids],
      [Buffer.alloc(SEGMENT_SEALED_MAX_BYTES + 1), ids],
    ] as const)
      await assert.rejects(store.append(bytes, CLASS_DATA, 1, list), { name: 'Failure' });
    await store.flush();
    assert.equal(backend.objects.packs.size, 0);
    await assert.rejects(store.readSealed(0, Buffer.alloc(SEGMENT_SEALED_MAX_BYTES)), { kind: 'damaged' });
    await assert.rejects(store.readSealed(-1, Buffer.alloc(SEGMENT_SEALED_MAX_BYTES)), { kind: 'damaged' });
  });
});

describe('store: losses', () => {
  test('a pack that cannot be written takes its chunks out of the table, and flush says so', async () => {
    const backend = new MemoryBackend();
    const losses: Failure[] = [];
    const store = await openStore(backend, { onLoss: (failure) => losses.push(failure) });
    const [kept, lost, meta] = [small(), small(), small(CLASS_METADATA)];
    await append(store, kept);
    await store.flush();
    const since = store.generation;
    await append(store, lost);
    backend.setHook(({ call, kind }) => {
      if (call === 'put' && kind === 'packs') throw noSpace();
    });
    await assert.rejects(store.flush(), { name: 'Failure' });
    assert.equal(losses.length, 1);
    assert.equal(store.generation, since + 1);
    assertUnknown(store, lost);
    await assertReads(store, kept);
    backend.setHook(undefined);
    await append(store, meta);
    await assert.rejects(store.flush(since), { name: 'Failure' });
    await append(store, lost);
    await store.flush();
    for (const each of [store, await openStore(backend)])
      for (const segment of [kept, lost, meta]) await assertReads(each, segment);
  });

  test('a chunk of a lost pack that is elsewhere too stays', async () => {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    const segment = small();
    await append(store, segment);
    await store.flush();
    await append(store, segment);
    backend.setHook(({ kind }) => {
      if (kind === 'packs') throw noSpace();
    });
    await assert.rejects(store.flush());
    backend.setHook(undefined);
    await assertReads(store, segment);
  });

  test('an index that cannot be written fails the flush and is written by the next', async () => {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    const segment = small();
    await append(store, segment);
    backend.setHook(({ call, kind }) => {
      if (call === 'put' && kind === 'index') throw noSpace();
    });
    await assert.rejects(store.flush(), { name: 'Failure' });
    assert.equal(store.generation, 0);
    backend.setHook(undefined);
    await store.flush();
    await assertReads(await openStore(backend), segment);
  });

  test('a failing listing or read fails the opening: nothing is taken for empty', async () => {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    await append(store, small());
    await store.flush();
    for (const failing of ['list', 'get', 'stat'] as const) {
      backend.setHook(({ call }) => {
        if (call === failing) throw new Error('connection reset');
      });
      await assert.rejects(openStore(backend), { name: 'Failure', kind: 'failed' });
    }
  });
});

describe('store: recovery', () => {
  async function filled(): Promise<{ backend: MemoryBackend; segments: Segment[] }> {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    const segments = [small(), small(CLASS_METADATA)];
    for (const segment of segments) await append(store, segment);
    await store.flush();
    return { backend, segments };
  }
  const only = (objects: Map<string, Buffer>) => [...objects.entries()][0] as [string, Buffer];

  test('a lost index is rebuilt from the packs, and equal', async () => {
    const { backend, segments } = await filled();
    const before = (await openStore(backend)).totals;
    backend.objects.index.clear();
    const store = await openStore(backend);
    assert.equal(store.totals.chunks, 0);
    assert.equal(store.orphans.length, 2);
    await store.recover();
    for (const each of [store, await openStore(backend)]) {
      for (const segment of segments) await assertReads(each, segment);
      assert.deepEqual(each.totals, before);
      assert.deepEqual(each.orphans, []);
    }
  });

  test('every damaged byte of an index is noticed, and mended', async () => {
    const { backend, segments } = await filled();
    const [name, good] = only(backend.objects.index);
    for (let at = 0; at < good.length; at += 7) {
      backend.objects.index.clear();
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 1;
      backend.objects.index.set(name, bad);
      const store = await openStore(backend);
      assert.deepEqual(
        store.problems.map(({ object }) => object),
        [`index/${name}`],
      );
      await store.recover();
      for (const segment of segments) await assertReads(store, segment);
      assert.deepEqual((await openStore(backend)).problems, []);
    }
  });

  test('an index that goes, or is damaged, while it is in use is noticed and made again', async () => {
    const { backend, segments } = await filled();
    const store = await openStore(backend);
    const [name, good] = only(backend.objects.index);
    backend.objects.index.delete(name);
    await store.refresh();
    assert.equal((await store.unnamed()).length, 2);
    await store.recover();
    assert.deepEqual(await store.unnamed(), []);
    for (const segment of segments) await assertReads(await openStore(backend), segment);
    const [again, bytes] = only(backend.objects.index);
    backend.objects.index.set(again, Buffer.concat([bytes.subarray(0, -1), good.subarray(0, 1)]));
    await store.indexes.readAgain(store.problems);
    assert.deepEqual(
      store.problems.map(({ object }) => object),
      [`index/${again}`],
    );
    await store.recover();
    assert.deepEqual(store.problems, []);
    assert.ok(!backend.objects.index.has(again));
    for (const segment of segments) await assertReads(await openStore(backend), segment);
    assert.deepEqual((await openStore(backend)).problems, []);
  });

  test('a pack that is there again is no problem any more', async () => {
    const { backend, segments } = await filled();
    const store = await openStore(backend);
    const [name, object] = only(backend.objects.packs);
    backend.objects.packs.delete(name);
    await store.refresh();
    assert.deepEqual(
      store.problems.map((problem) => problem.object),
      [`packs/${name}`],
    );
    backend.objects.packs.set(name, object);
    await store.refresh();
    await store.recover();
    assert.deepEqual(store.problems, []);
    for (const segment of segments) await assertReads(store, segment);
  });

  test('a pack whose footer is torn or flipped anywhere is named, and its index kept', async () => {
    const { backend } = await filled();
    const [name, good] = only(backend.objects.packs);
    backend.objects.index.clear();
    const footerLength = good.readUInt32LE(good.length - 12);
    const places = [0, 9, 15, ...Array.from({ length: footerLength + 12 }, (_, i) => good.length - 1 - i)];
    const variants = [
      ...places.map((at) => {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] ?? 0) ^ 0x80;
        return bad;
      }),
      ...[0, 1, 16, 28, 100, good.length - 1].map((length) => good.subarray(0, length)),
      Buffer.concat([good, Buffer.alloc(1)]),
    ];
    for (const bad of variants) {
      backend.objects.packs.set(name, bad);
      backend.objects.index.clear();
      const store = await openStore(backend);
      await store.recover();
      assert.deepEqual(
        store.problems.map(({ object }) => object),
        [`packs/${name}`],
      );
      assert.deepEqual(store.orphans, [name]);
      assert.equal(store.totals.packs, 1);
    }
  });

  test('chunks of a missing pack are not found, so that they are stored again', async () => {
    const { backend, segments } = await filled();
    const [name] = only(backend.objects.packs);
    backend.objects.packs.delete(name);
    const store = await openStore(backend);
    assert.deepEqual(store.problems, [{ object: `packs/${name}`, text: 'pack is missing' }]);
    assert.equal(store.totals.chunks, 2);
    assert.equal(segments.filter((segment) => store.table.lookup(segment.ids, 0) < 0).length, 1);
  });

  test('a pack that is swapped for another is refused when its footer is read', async () => {
    const { backend } = await filled();
    const [[one, first], [other, second]] = [...backend.objects.packs.entries()] as [
      [string, Buffer],
      [string, Buffer],
    ];
    backend.objects.packs.set(one, second);
    backend.objects.packs.set(other, first);
    backend.objects.index.clear();
    const store = await openStore(backend);
    await store.recover();
    assert.deepEqual(
      store.problems.map(({ object }) => object).sort(),
      [`packs/${one}`, `packs/${other}`].sort(),
    );
    assert.equal(store.totals.chunks, 0);
  });

  test('an index that names a pack twice counts it once', async () => {
    const { backend } = await filled();
    const before = (await openStore(backend)).totals;
    const index = new Map(backend.objects.index);
    backend.objects.index.clear();
    await (await openStore(backend)).recover();
    for (const [name, object] of index) backend.objects.index.set(name, object);
    assert.equal(backend.objects.index.size, 2);
    assert.deepEqual((await openStore(backend)).totals, before);
  });
});

describe('store: simulation', () => {
  /** Random appends, flushes and restarts with failing operations; what was flushed must always be readable. */
  async function run(seed: string): Promise<void> {
    const random = seeded(seed);
    const backend = new MemoryBackend();
    const flaky = (share: number) =>
      backend.setHook(({ call, when }) => {
        const byte = random(2);
        if (call === 'put' && byte.readUInt16LE(0) < share * 65_536) throw new Error(`lost ${when}`);
      });
    let store = await openStore(backend, { random });
    const durable: Segment[] = [];
    let pending: Segment[] = [];
    let since = store.generation;
    for (let step = 0; step < 120; step++) {
      const dice = random(1)[0] ?? 0;
      if (dice < 150) {
        const segment = sealSegment([random(50), random(700)], dice & 1 ? CLASS_DATA : CLASS_METADATA);
        const taken = await append(store, segment).then(
          () => true,
          () => false,
        );
        if (taken) pending.push(segment);
      } else if (dice < 220) {
        flaky(0.3);
        const flushed = await store.flush(since).then(
          () => true,
          () => false,
        );
        backend.setHook(undefined);
        if (flushed) durable.push(...pending);
        if (flushed || store.generation !== since) pending = [];
        since = store.generation;
      } else {
        store = await openStore(backend, { random });
        if (dice & 1) await store.recover();
        assert.deepEqual(store.problems, []);
        pending = [];
        since = store.generation;
      }
    }
    for (const each of [store, await openStore(backend)])
      for (const segment of durable) await assertReads(each, segment);
    const last = await openStore(backend);
    await last.recover();
    for (const segment of durable) await assertReads(last, segment);
  }

  for (let seed = 0; seed < 20; seed++) test(`seed ${seed}`, () => run(`simulation ${seed}`));
});

describe('store on the fs backend', () => {
  test('round trip through files', async () => {
    const root = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
    try {
      const backend = await FsBackend.create(root, { random: randomBytes });
      const store = await openStore(backend);
      const segments = Array.from({ length: 40 }, () => sealSegment([randomBytes(1 << 20), randomBytes(5)]));
      for (const segment of segments) await append(store, segment);
      await store.flush();
      const again = await FsBackend.open(root, { random: randomBytes });
      const opened = await openStore(again);
      for (const segment of segments) await assertReads(opened, segment);
      assert.equal(opened.totals.packs, 2);
      again.close();
      backend.close();
    } finally {
      fs.rmSync(root, { recursive: true });
    }
  });
});
