import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { describe as describeError, Failure } from '../../src/error.ts';
import { CHUNK_DATA, CHUNK_TREE, type ChunkKind } from '../../src/keys/derive.ts';
import { SEGMENT_TARGET_BYTES } from '../../src/repository/constants.ts';
import { connectPeers, WRITE_SLOTS } from './peers.ts';

/** Bytes that nothing deduplicates, from a seed. */
function bytesOf(seed: string, length: number): Buffer {
  const digest = createHash('sha256').update(seed).digest();
  const data = Buffer.alloc(length);
  for (let i = 0; i < length; i++) data[i] = (digest[i & 31] ?? 0) ^ (i >> 5) ^ (i * 31);
  return data;
}

function hash(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

/** How many chunks of a length are in a segment: the last may be a quarter too long for it. */
function chunksOfSegment(length: number): number {
  return Math.floor(SEGMENT_TARGET_BYTES / length + 1 / 4);
}

async function putAll(
  peers: ReturnType<typeof connectPeers>,
  count: number,
  length: number,
): Promise<Buffer[]> {
  const ids: Buffer[] = [];
  for (let i = 0; i < count; i++) {
    const id = Buffer.alloc(32);
    const waiting = peers.store.put(CHUNK_DATA, bytesOf(`chunk ${i}`, length), id);
    if (waiting !== undefined) await waiting;
    ids.push(id);
  }
  return ids;
}

describe('SegmentStore', () => {
  const peers = connectPeers(2);
  after(() => peers.close());

  test('stores each chunk once, waiting for slots, and all of it by the flush', async () => {
    const ids = await putAll(peers, 64, 200_000);
    const again = await putAll(peers, 64, 200_000);
    assert.deepEqual(again, ids);
    await peers.store.flush(peers.store.generation);
    assert.equal(peers.store.totals.chunks, 64);
    assert.equal(peers.store.totals.addedBytes, 64 * 200_000);
    assert.equal(peers.segments.length, Math.ceil(64 / chunksOfSegment(200_000)));
    assert.equal(
      peers.segments.reduce((sum, raw) => sum + raw.readUInt32LE(raw.length - 4), 0),
      64,
    );
    for (const id of ids) assert.ok(peers.store.has(id));
  });

  test('kinds do not pass for each other, and classes do not share segments', async () => {
    const before = peers.segments.length;
    const data = Buffer.from('the same bytes');
    const [asData, asTree] = [Buffer.alloc(32), Buffer.alloc(32)];
    await peers.store.put(CHUNK_DATA, data, asData);
    await peers.store.put(CHUNK_TREE, data, asTree);
    assert.notDeepEqual(asData, asTree);
    await peers.store.flush(peers.store.generation);
    assert.equal(peers.segments.length, before + 2);
  });

  test('memory does not grow with what is on its way: without slots it waits', async () => {
    const release = peers.hold();
    let done = false;
    const putting = (async () => {
      // twice what all slots hold
      for (let i = 0; i < 2 * WRITE_SLOTS * chunksOfSegment(400_000); i++)
        await peers.store.put(CHUNK_DATA, bytesOf(`held ${i}`, 400_000), Buffer.alloc(32));
      done = true;
    })();
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(done, false);
    release();
    await putting;
    await peers.store.flush(peers.store.generation);
  });

  test('what was on its way is forgotten when storing fails, and no commit comes after it', async () => {
    const release = peers.hold();
    const { generation } = peers.store;
    const id = Buffer.alloc(32);
    await peers.store.put(CHUNK_DATA, bytesOf('lost', 1000), id);
    assert.ok(peers.store.has(id));
    peers.store.fail(new Failure('write pack', 'x', { cause: 'no space left on device' }));
    assert.equal(peers.store.has(id), false);
    await assert.rejects(peers.store.flush(generation), (error) =>
      /no space left on device/.test(describeError(error)),
    );
    release();
    // the next push begins under the new generation, and succeeds
    await peers.store.put(CHUNK_DATA, bytesOf('lost', 1000), id);
    await peers.store.flush(peers.store.generation);
    assert.ok(peers.store.has(id));
  });
});

describe('SegmentFetcher', () => {
  test('many readers share few slots, and each gets its own bytes', async (t) => {
    const peers = connectPeers(2);
    t.after(() => peers.close());
    const ids = await putAll(peers, 60, 300_000);
    await peers.store.flush(peers.store.generation);
    const order = ids.map((_, i) => (i * 37) % ids.length);
    const got = await Promise.all(
      order.map((i) => peers.fetcher.get(CHUNK_DATA, ids[i] ?? Buffer.alloc(32), 300_000)),
    );
    for (const [at, i] of order.entries()) assert.ok(got[at]?.equals(bytesOf(`chunk ${i}`, 300_000)));
  });

  test('a segment that cannot be had fails its readers, and gives the slot back', async (t) => {
    const peers = connectPeers(1);
    t.after(() => peers.close());
    const ids = await putAll(peers, 2 * chunksOfSegment(300_000), 300_000);
    await peers.store.flush(peers.store.generation);
    peers.broken.add(0);
    const results = await Promise.allSettled(ids.map((id) => peers.fetcher.get(CHUNK_DATA, id, 300_000)));
    const failed = results.filter(({ status }) => status === 'rejected').length;
    assert.equal(failed, chunksOfSegment(300_000));
    peers.broken.clear();
    for (const id of ids) await peers.fetcher.get(CHUNK_DATA, id, 300_000);
  });

  test('bytes that are not what their id says do not leave', async (t) => {
    const peers = connectPeers(1);
    t.after(() => peers.close());
    const [id = Buffer.alloc(32)] = await putAll(peers, 1, 5000);
    await peers.store.flush(peers.store.generation);
    const [segment] = peers.segments;
    assert.ok(segment !== undefined);
    segment[1234] = (segment[1234] ?? 0) ^ 1;
    await assert.rejects(peers.fetcher.get(CHUNK_DATA, id, 5000), { kind: 'damaged' });
    segment[1234] ^= 1;
    await assert.rejects(peers.fetcher.get(CHUNK_TREE, id, 5000), { kind: 'damaged' });
    await assert.rejects(peers.fetcher.get(CHUNK_DATA, id, 4999), { kind: 'damaged' });
  });

  test('of several at once, each is had or refused for itself', async (t) => {
    const peers = connectPeers(1);
    t.after(() => peers.close());
    const length = 5000;
    const ids = Buffer.concat([...(await putAll(peers, 5, length)), Buffer.alloc(32, 9)]);
    await peers.store.flush(peers.store.generation);
    const [stored] = peers.segments;
    assert.ok(stored !== undefined);
    // chunk 3 is not what it was any more
    stored[3 * length + 1234] = (stored[3 * length + 1234] ?? 0) ^ 1;
    const asked = (number: number, kind: ChunkKind = CHUNK_DATA, lengthOf = length) => ({
      kind,
      idOffset: 32 * number,
      length: lengthOf,
    });
    const wanted = [
      asked(4),
      asked(3),
      asked(1, CHUNK_TREE),
      asked(0),
      asked(2, CHUNK_DATA, length - 1),
      asked(5),
      asked(0),
    ];
    const segment = await peers.fetcher.segment(0);
    const found = peers.fetcher.extractAll(segment, wanted, ids);
    const shown = found.map((each) => (each instanceof Failure ? describeError(each) : hash(each)));
    peers.fetcher.release(segment);
    const [last, first] = [4, 0].map((number) => hash(bytesOf(`chunk ${number}`, length)));
    const refused = (number: number, why: string) =>
      `read chunk ${ids.toString('hex', 32 * number, 32 * number + 8)}: ${why}`;
    assert.deepEqual(shown, [
      last,
      refused(3, 'its bytes are not what its id says'),
      refused(1, 'its bytes are not what its id says'),
      first,
      refused(2, 'it has 5000 bytes, not 4999'),
      refused(5, 'segment 0 does not hold it'),
      first,
    ]);
    for (const each of found) if (each instanceof Failure) assert.equal(each.kind, 'damaged');
  });

  test('an answer that nobody asked for is refused', (t) => {
    const peers = connectPeers(1);
    t.after(() => peers.close());
    assert.throws(
      () => peers.fetcher.fetched(99, 10),
      (error) => /nobody asked/.test(describeError(error)),
    );
  });
});
