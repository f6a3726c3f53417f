import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../../src/backends/memory.ts';
import {
  decodeLease,
  decodeMark,
  decodeVerdict,
  encodeLease,
  encodeMark,
  encodeVerdict,
  isVoid,
  kindOfLease,
  leasedSnapshot,
  VOID_SNAPSHOT,
  verdictName,
} from '../../src/repository/lease.ts';
import { Marks } from '../../src/repository/marks.ts';
import { CLASS_DATA } from '../../src/repository/segment.ts';
import { WriterLease } from '../../src/repository/writer.ts';
import { openStore, sealSegment } from './rig.ts';

const name = () => randomBytes(16).toString('hex');
const damaged = { name: 'Failure', kind: 'damaged' };

describe('leases, marks and verdicts', () => {
  const lease = { beat: 2 ** 40, seen: [name(), name()] };
  const packs = [name(), name(), name()];
  const verdict = { mark: name(), remove: packs };
  const kinds = [
    ['lease', encodeLease(lease), (object: Buffer) => decodeLease(object, 'x'), lease],
    ['mark', encodeMark(packs), (object: Buffer) => decodeMark(object, 'x'), { packs, quarantine: false }],
    ['verdict', encodeVerdict(verdict), (object: Buffer) => decodeVerdict(object, 'x'), verdict],
  ] as const;

  for (const [kind, object, decode, value] of kinds)
    test(`a ${kind}: round trip, every truncation and every flipped bit`, () => {
      assert.deepEqual(decode(object), value);
      assert.equal(kindOfLease(object), kind);
      for (let length = 0; length < object.length; length++)
        assert.throws(() => decode(object.subarray(0, length)), damaged);
      for (let bit = 0; bit < object.length * 8; bit++) {
        const bad = Buffer.from(object);
        bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.throws(() => decode(bad), damaged);
      }
    });

  test('what stands in the place of a snapshot is told from one', () => {
    assert.equal(isVoid(VOID_SNAPSHOT, 'x'), true);
    assert.equal(isVoid(encodeLease(lease), 'x'), false);
    assert.equal(isVoid(Buffer.alloc(0), 'x'), false);
  });
});

describe('marks', () => {
  test('a mark marks until there is a verdict; a verdict without its mark counts for nothing', async () => {
    const backend = new MemoryBackend();
    const marks = new Marks();
    const [mark, stays, goes] = [name(), name(), name()];
    await backend.put('leases', mark, [encodeMark([stays, goes])]);
    assert.equal(await marks.refresh(backend), true);
    assert.deepEqual([...marks.marked].sort(), [stays, goes].sort());
    assert.equal(await marks.refresh(backend), false);
    await backend.put('leases', verdictName(mark), [encodeVerdict({ mark, remove: [goes] })]);
    assert.equal(await marks.refresh(backend), true);
    assert.deepEqual([[...marks.marked], [...marks.doomed]], [[], [goes]]);
    await backend.delete('leases', mark);
    const late = new Marks();
    await late.refresh(backend);
    assert.deepEqual([...late.doomed], []);
  });

  test('a failure in the middle loses nothing', async () => {
    const backend = new MemoryBackend();
    const marks = new Marks();
    const [mark, pack] = [name(), name()];
    await backend.put('leases', mark, [encodeMark([pack])]);
    await backend.put('leases', name(), [encodeLease({ beat: 0, seen: [] })]);
    backend.setHook(({ call, kind, name: object }) => {
      if (call === 'get' && kind === 'leases' && object !== mark) throw new Error('connection reset');
    });
    await assert.rejects(marks.refresh(backend), { name: 'Failure' });
    backend.setHook(undefined);
    assert.equal(await marks.refresh(backend), true);
    assert.deepEqual([...marks.marked], [pack]);
  });

  test('marked chunks can be read, but are not there to stay; other copies are', async () => {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    const { sealed, ids } = sealSegment([randomBytes(100)], CLASS_DATA);
    await store.append(sealed, CLASS_DATA, 1, ids);
    await store.flush();
    const [pack = ''] = backend.objects.packs.keys();
    await backend.put('leases', name(), [encodeMark([pack])]);
    await store.refresh();
    assert.equal(store.table.holds(ids, 0), false);
    assert.ok(store.table.lookup(ids, 0) >= 0);
    await store.append(sealed, CLASS_DATA, 1, ids);
    assert.equal(store.table.holds(ids, 0), false, 'not before it is durable');
    await store.flush();
    for (const each of [store, await openStore(backend)]) assert.equal(each.table.holds(ids, 0), true);
  });
});

describe('writers', () => {
  test('a lease names the marks that its writer heeds, and goes at the end', async () => {
    const backend = new MemoryBackend();
    const store = await openStore(backend);
    const mark = name();
    await backend.put('leases', mark, [encodeMark([name()])]);
    const lease = await WriterLease.begin(store, randomBytes);
    assert.equal(leasedSnapshot(lease.name), lease.snapshot);
    const object = backend.objects.leases.get(lease.name) ?? Buffer.alloc(0);
    assert.deepEqual(decodeLease(object, lease.name), { beat: 0, seen: [mark] });
    await lease.renew();
    assert.equal(decodeLease(backend.objects.leases.get(lease.name) ?? object, lease.name).beat, 1);
    await lease.commit(Buffer.from('header'));
    await lease.end();
    await lease.renew();
    assert.deepEqual([...backend.objects.leases.keys()], [mark]);
  });

  test('who was given up cannot commit, and a lease that was taken is not taken back', async () => {
    const backend = new MemoryBackend();
    const lease = await WriterLease.begin(await openStore(backend), randomBytes);
    await backend.put('snapshots', lease.snapshot, [VOID_SNAPSHOT], { ifAbsent: true });
    await backend.delete('leases', lease.name);
    await lease.renew();
    await assert.rejects(lease.commit(Buffer.from('header')), { name: 'Failure', operation: 'commit' });
    await lease.end();
    assert.deepEqual([...backend.objects.leases.keys()], []);
    assert.deepEqual(backend.objects.snapshots.get(lease.snapshot), VOID_SNAPSHOT);
  });

  test('where nobody knows what came of a commit, the lease stays', async () => {
    const backend = new MemoryBackend();
    const lease = await WriterLease.begin(await openStore(backend), randomBytes);
    backend.setHook(({ call, kind, when }) => {
      if (call === 'put' && kind === 'snapshots' && when === 'after') throw new Error('connection reset');
    });
    await assert.rejects(lease.commit(Buffer.from('header')));
    backend.setHook(undefined);
    await lease.end();
    assert.deepEqual([...backend.objects.leases.keys()], [lease.name]);
  });
});
