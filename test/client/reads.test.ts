/** The queue of chunks that a session reads: batching, order, failures, and that the ring is never reused too early. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ReadQueue, type ReadTransport } from '../../src/client/reads.ts';
import { Failure, kindOf, describe as textOf } from '../../src/error.ts';
import { READ_ENTRY_BYTES, READ_MAX, READS_OPEN_MAX } from '../../src/messages/reader.ts';
import { CHUNK_DATA, CHUNK_TREE, type ChunkRequests, ID_BYTES } from '../../src/snapshot/chunks.ts';

/** The byte that the chunk with this id is full of. */
const fillOf = (id: Buffer) => id.readUInt32LE(0) % 251;

function idOf(number: number): Buffer {
  const id = Buffer.alloc(ID_BYTES);
  id.writeUInt32LE(number, 0);
  return id;
}

function requestsOf(lengths: readonly number[], first = 0): ChunkRequests {
  const ids = Buffer.concat(lengths.map((_, i) => idOf(first + i)));
  return { kind: CHUNK_DATA, ids, lengths: Uint32Array.from(lengths), count: lengths.length };
}

interface Read {
  readonly chunks: readonly { number: number; length: number; offset: number }[];
  readonly answer: () => void;
  readonly fail: (error: Error) => void;
}

/** A daemon in memory: READs wait until the test answers them. */
class Peer implements ReadTransport {
  readonly ring: Buffer;
  readonly reads: Read[] = [];
  readonly damaged = new Set<number>();
  mostOpen = 0;
  #open = 0;
  #arrived: (() => void) | undefined;

  constructor(ringBytes = 16 << 20) {
    this.ring = Buffer.alloc(ringBytes);
  }

  read(entries: Buffer): ReturnType<ReadTransport['read']> {
    assert.ok(entries.length <= READ_MAX * READ_ENTRY_BYTES);
    this.mostOpen = Math.max(this.mostOpen, ++this.#open);
    assert.ok(this.#open <= READS_OPEN_MAX);
    const chunks: { number: number; length: number; offset: number }[] = [];
    for (let at = 0; at < entries.length; at += READ_ENTRY_BYTES) {
      const length = entries.readUInt32LE(at + 4);
      const offset = entries.readUInt32LE(at + 8);
      assert.ok(offset + length <= this.ring.length);
      chunks.push({ number: entries.readUInt32LE(at + 12), length, offset });
    }
    return new Promise((resolve, reject) => {
      const answer = () => {
        this.#open--;
        const failed: { index: number; kind: string; text: string }[] = [];
        chunks.forEach(({ number, length, offset }, index) => {
          if (this.damaged.has(number)) failed.push({ index, kind: 'damaged', text: 'it is missing' });
          else this.ring.fill(fillOf(idOf(number)), offset, offset + length);
        });
        resolve(failed);
      };
      this.reads.push({ chunks, answer, fail: reject });
      this.#arrived?.();
    });
  }

  /** The next READ, when it comes. */
  async next(): Promise<Read> {
    while (this.reads.length === 0)
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    return this.reads.shift() as Read;
  }

  /** Answers everything as it comes, until `done`. */
  async serve(done: Promise<unknown>): Promise<void> {
    let isOver = false;
    const over = () => {
      isOver = true;
      this.#arrived?.();
    };
    done.then(over, over);
    while (!isOver) {
      const waiting = this.reads.splice(0);
      // the last first: answers come in any order
      for (const read of waiting.reverse()) read.answer();
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }
}

function checkFill(data: Buffer, number: number): void {
  const expected = Buffer.alloc(data.length, fillOf(idOf(number)));
  assert.ok(data.equals(expected), `chunk ${number} is another's`);
}

describe('single chunks', () => {
  test('those of one turn share a READ, and are private copies', async () => {
    const peer = new Peer();
    const queue = new ReadQueue(peer);
    const all = Promise.all([1, 2, 3].map((number) => queue.get(CHUNK_TREE, idOf(number), 100 * number)));
    const read = await peer.next();
    assert.deepEqual(
      read.chunks.map(({ number }) => number),
      [1, 2, 3],
    );
    read.answer();
    const [first, second] = await all;
    peer.ring.fill(0xff);
    assert.equal(first?.length, 100);
    checkFill(first ?? Buffer.alloc(0), 1);
    checkFill(second ?? Buffer.alloc(0), 2);
  });

  test('one that is damaged is named; the others come', async () => {
    const peer = new Peer();
    peer.damaged.add(2);
    const queue = new ReadQueue(peer);
    const all = Promise.allSettled([1, 2].map((number) => queue.get(CHUNK_TREE, idOf(number), 10)));
    (await peer.next()).answer();
    const [good, bad] = await all;
    assert.equal(good?.status, 'fulfilled');
    assert.equal(bad?.status, 'rejected');
    assert.equal(textOf(bad.reason), 'read chunk 0200000000000000: it is missing');
    assert.equal(kindOf(bad.reason), 'damaged');
  });

  test('they go before bulk reads', async () => {
    const peer = new Peer(4 << 20);
    const queue = new ReadQueue(peer);
    const bulk = queue.readMany(requestsOf(Array<number>(64).fill(1 << 20)), () => {}, assert.fail);
    const first = await peer.next();
    const single = queue.get(CHUNK_TREE, idOf(1000), 10);
    let isThere = false;
    single.then(() => {
      isThere = true;
    });
    first.answer();
    const seen: number[] = [];
    while (!isThere) {
      const read = await peer.next();
      seen.push(...read.chunks.map(({ number }) => number));
      read.answer();
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(seen.length < 10, `${seen.length} chunks before it`);
    await peer.serve(bulk);
  });

  test('a length that no chunk has is damage, and is not asked for', async () => {
    const queue = new ReadQueue(new Peer());
    for (const length of [0, (4 << 20) + 1])
      await assert.rejects(queue.get(CHUNK_TREE, idOf(1), length), (error) => kindOf(error) === 'damaged');
  });
});

describe('bulk', () => {
  test('every request is delivered or failed once, whatever the order of answers', async () => {
    const peer = new Peer();
    const lengths = Array.from({ length: 5000 }, (_, i) => 1 + ((i * 7919) % 60_000));
    for (let i = 0; i < 5000; i += 97) peer.damaged.add(i);
    const queue = new ReadQueue(peer);
    const seen = new Uint8Array(5000);
    const done = queue.readMany(
      requestsOf(lengths),
      (index, data) => {
        assert.equal(data.length, lengths[index]);
        checkFill(data, index);
        seen[index] = (seen[index] ?? 0) + 1;
      },
      (index, failure) => {
        assert.equal(failure.kind, 'damaged');
        assert.ok(peer.damaged.has(index));
        seen[index] = (seen[index] ?? 0) + 1;
      },
    );
    await peer.serve(done);
    await done;
    assert.ok(seen.every((count) => count === 1));
    assert.ok(peer.mostOpen > 2, 'several READs are under way');
  });

  test('a READ holds at most READ_MAX chunks', async () => {
    const peer = new Peer();
    let count = 0;
    const done = new ReadQueue(peer).readMany(
      requestsOf(Array<number>(3000).fill(1)),
      () => void count++,
      assert.fail,
    );
    await peer.serve(done);
    assert.equal(count, 3000);
  });

  test('in order means in order, and a slow taker keeps its bytes', async () => {
    const peer = new Peer(8 << 20);
    const lengths = Array.from({ length: 200 }, (_, i) => 1 + ((i * 104_729) % (1 << 20)));
    const order: number[] = [];
    const done = new ReadQueue(peer).readInOrder(
      requestsOf(lengths),
      async (index, data) => {
        order.push(index);
        await new Promise((resolve) => setImmediate(resolve));
        // other chunks have come meanwhile
        checkFill(data, index);
      },
      assert.fail,
    );
    await peer.serve(done);
    await done;
    assert.deepEqual(
      order,
      lengths.map((_, i) => i),
    );
  });

  test('what a taker throws ends its job, and no other', async () => {
    const peer = new Peer();
    const queue = new ReadQueue(peer);
    let calls = 0;
    const bad = queue.readMany(
      requestsOf([10, 10, 10]),
      () => {
        calls++;
        throw new Failure('write', 'x');
      },
      assert.fail,
    );
    const good = queue.get(CHUNK_TREE, idOf(9), 10);
    const both = Promise.allSettled([bad, good]);
    await peer.serve(both);
    await assert.rejects(bad, /write x/);
    checkFill(await good, 9);
    assert.equal(calls, 1);
    const later = queue.get(CHUNK_TREE, idOf(8), 10);
    await peer.serve(later);
    checkFill(await later, 8);
  });

  test('nothing to read is done at once', async () => {
    await new ReadQueue(new Peer()).readMany(requestsOf([]), assert.fail, assert.fail);
  });
});

describe('the end', () => {
  test('a session that breaks fails everything, now and later', async () => {
    const peer = new Peer();
    const queue = new ReadQueue(peer);
    const all = Promise.allSettled([
      queue.get(CHUNK_TREE, idOf(1), 10),
      queue.readMany(requestsOf(Array<number>(100).fill(1 << 20)), () => {}, assert.fail),
    ]);
    (await peer.next()).fail(new Failure('read from', 'repository local'));
    for (const { status } of await all) assert.equal(status, 'rejected');
    await assert.rejects(queue.get(CHUNK_TREE, idOf(1), 10), /repository local/);
  });

  test('an answer to what was not asked breaks it', async () => {
    const ring = Buffer.alloc(1 << 20);
    const read = () => Promise.resolve([{ index: 1, kind: 'damaged', text: 'x' }]);
    await assert.rejects(new ReadQueue({ ring, read }).get(CHUNK_TREE, idOf(1), 10), (error) => {
      return textOf(error).endsWith('answer to what was not asked');
    });
  });
});
