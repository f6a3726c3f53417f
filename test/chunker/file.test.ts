import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { CHUNK_DATA, gearTable } from '../../src/keys/derive.ts';
import { FileReader } from '../../src/processes/chunker/file.ts';
import { Bytes } from '../../src/snapshot/bytes.ts';
import { ContentWriter, extents } from '../../src/snapshot/content.ts';
import { Splitter } from '../../src/snapshot/splitter.ts';
import { connectPeers } from './peers.ts';

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
const peers = connectPeers(2);
const splitter = new Splitter(gearTable(Buffer.alloc(32, 3)));
after(() => {
  peers.close();
  fs.rmSync(directory, { recursive: true });
});

/** Reads a file as a push would, and back again from its chunks. */
async function roundTrip(file: string, sizeBytes: number, sparse: boolean) {
  const content = new ContentWriter(peers.store);
  const reader = new FileReader(peers.store, splitter);
  const fd = fs.openSync(file, 'r');
  content.begin(0);
  await reader.read(fd, sizeBytes, sparse, content);
  fs.closeSync(fd);
  const out = new Bytes();
  const { size } = content;
  await content.finish(out);
  await peers.store.flush(peers.store.generation);
  const parts: { data: Buffer | undefined; length: number }[] = [];
  for await (const { id, length } of extents(peers.fetcher, Buffer.from(out.since(0))))
    parts.push({ data: id && (await peers.fetcher.get(CHUNK_DATA, id, length)), length });
  return { size, parts, bytes: Buffer.concat(parts.map(({ data, length }) => data ?? Buffer.alloc(length))) };
}

/** What tells random parts apart. */
const textOf = ({ data, length }: { data: Buffer | undefined; length: number }): string =>
  `${length} ${data?.toString('latin1', 0, 64)}`;

function write(name: string, data: Buffer): string {
  const file = path.join(directory, name);
  fs.writeFileSync(file, data);
  return file;
}

describe('FileReader', () => {
  test('small files are one chunk, empty ones none', async () => {
    for (const length of [1, 100, 4096, 256 << 10]) {
      const data = randomBytes(length);
      const { parts, bytes } = await roundTrip(write(`small ${length}`, data), length, false);
      assert.equal(parts.length, 1);
      assert.ok(bytes.equals(data));
    }
    assert.equal((await roundTrip(write('empty', Buffer.alloc(0)), 0, false)).parts.length, 0);
  });

  /** Reads files as a push would that knows the whole batch; `between` is called before each. */
  async function batch(
    files: readonly string[],
    claimed: readonly number[],
    between: (index: number) => void = () => undefined,
  ): Promise<(Buffer | string)[]> {
    const content = new ContentWriter(peers.store);
    const reader = new FileReader(peers.store, splitter);
    const fds = files.map((file) => fs.openSync(file, 'r'));
    reader.expect(fds, Float64Array.from(claimed));
    const lists: (Buffer | string)[] = [];
    for (const [i, fd] of fds.entries()) {
      between(i);
      content.begin(0);
      const out = new Bytes();
      try {
        await reader.read(fd, claimed[i] ?? 0, false, content);
        await content.finish(out);
        lists.push(Buffer.from(out.since(0)));
      } catch (error) {
        lists.push((error as NodeJS.ErrnoException).code ?? '');
      }
    }
    for (const fd of fds) fs.closeSync(fd);
    await peers.store.flush(peers.store.generation);
    return lists;
  }

  async function contents(list: Buffer | string | undefined): Promise<Buffer> {
    assert.ok(Buffer.isBuffer(list), String(list));
    const parts: Buffer[] = [];
    for await (const { id, length } of extents(peers.fetcher, list))
      parts.push(id === undefined ? Buffer.alloc(length) : await peers.fetcher.get(CHUNK_DATA, id, length));
    return Buffer.concat(parts);
  }

  async function idsOf(lists: readonly (Buffer | string)[]): Promise<Set<string>> {
    const ids = new Set<string>();
    for (const list of lists)
      if (Buffer.isBuffer(list))
        for await (const { id } of extents(peers.fetcher, list))
          if (id !== undefined) ids.add(id.toString('hex'));
    return ids;
  }

  test('small files of a batch are read together; known ones, empty, short, long and refused ones among them', async () => {
    const same = randomBytes(3000);
    const data = [
      ...[randomBytes(100), same, randomBytes(70_000), same, Buffer.alloc(0), randomBytes(200_000)],
      ...[randomBytes(1), same, randomBytes(900_000), randomBytes(5000), randomBytes(250_000)],
      ...Array.from({ length: 60 }, (_, i) => randomBytes(1 + i * 1500)),
    ];
    const files = data.map((bytes, i) => write(`batch ${i}`, bytes));
    const claimed = data.map(({ length }) => length);
    // longer than it is, without a size, shorter, and what is no file
    claimed[2] = 90_000;
    claimed[6] = 0;
    claimed[9] = 4000;
    files[20] = directory;
    const { chunks } = peers.store.totals;
    const lists = await batch(files, claimed);
    assert.equal(lists[20], 'EISDIR');
    for (const [i, bytes] of data.entries())
      if (i !== 20)
        assert.ok((await contents(lists[i])).equals(i === 9 ? bytes.subarray(0, 4000) : bytes), `${i}`);
    assert.equal(peers.store.totals.chunks - chunks, (await idsOf(lists)).size);
    // and all of it is known the second time
    const again = peers.store.totals.chunks;
    assert.deepEqual(await batch(files, claimed), lists);
    assert.equal(peers.store.totals.chunks, again);
  });

  test('files of several sizes are read together, split or not; those that have changed among them', async () => {
    const sizes = [300_000, 1 << 20, 10, 700_000, 262_145, 900_000, 2_000_000, 500_000, 1000, 1_000_000];
    const data = sizes.map((length) => randomBytes(length));
    const files = data.map((bytes, i) => write(`sizes ${i}`, bytes));
    const claimed = [...sizes];
    // each of them has more than that by now, or less
    claimed[3] = 400_000;
    claimed[5] = 950_000;
    claimed[7] = 300_000;
    const lists = await batch(files, claimed);
    for (const [i, bytes] of data.entries()) assert.ok((await contents(lists[i])).equals(bytes), `${i}`);
    // by itself each is the same
    for (const [i, file] of files.entries())
      assert.deepEqual((await batch([file], [claimed[i] as number]))[0], lists[i], `${i}`);
  });

  test('a long file whose chunks all have nearly the least length is read whole', async () => {
    // the end of a chunk depends on nothing before its least length, so what lies there may differ
    const { min } = splitter.sizes;
    let block = randomBytes(min);
    for (let length = 0; length === 0 || length > min + min / 32; ) {
      block = randomBytes(2 * min);
      length = splitter.cut(block, 0, block.length);
      if (length < block.length) block = block.subarray(0, length);
      else length = 0;
    }
    // each fifth is the same, so that what follows does not stay where it was read to
    const blocks = Array.from({ length: 60 }, (_, i) => {
      const each = Buffer.from(block);
      if (i % 5 > 0) randomBytes(1000).copy(each);
      return each;
    });
    const data = Buffer.concat(blocks);
    const { parts, bytes } = await roundTrip(write('short chunks', data), data.length, false);
    assert.ok(bytes.equals(data));
    assert.deepEqual(new Set(parts.map(({ length }) => length)), new Set([block.length]));
  });

  test('what was read ahead is read again where another push has come between', async () => {
    const data = Array.from({ length: 12 }, () => randomBytes(20_000));
    const files = data.map((bytes, i) => write(`between ${i}`, bytes));
    const other = new FileReader(peers.store, splitter);
    const content = new ContentWriter(peers.store);
    const between = randomBytes(3000);
    const known = fs.openSync(write('known', between), 'r');
    const unknown = write('unknown', Buffer.alloc(0));
    const lists = await batch(
      files,
      data.map(({ length }) => length),
      (i) => {
        content.begin(0);
        if (i === 3 || i === 5) assert.equal(other.read(known, 3000, false, content), undefined);
        if (i === 9) assert.equal(peers.store.put(CHUNK_DATA, randomBytes(100), Buffer.alloc(32)), undefined);
        if (i !== 7) return;
        fs.writeFileSync(unknown, randomBytes(30_000));
        const fd = fs.openSync(unknown, 'r');
        assert.equal(other.read(fd, 30_000, false, content), undefined);
        fs.closeSync(fd);
      },
    );
    fs.closeSync(known);
    for (const [i, bytes] of data.entries()) assert.ok((await contents(lists[i])).equals(bytes), `${i}`);
  });

  test('large files are split where their contents say, and come back', async () => {
    const data = randomBytes(21_000_000);
    const first = await roundTrip(write('large', data), data.length, false);
    assert.ok(first.bytes.equals(data));
    assert.ok(first.parts.length > 5);
    // an insertion near the beginning leaves most of the chunks as they were
    const { chunks } = peers.store.totals;
    const inserted = Buffer.concat([data.subarray(0, 1000), Buffer.from('inserted'), data.subarray(1000)]);
    const second = await roundTrip(write('inserted', inserted), inserted.length, false);
    assert.ok(second.bytes.equals(inserted));
    assert.ok(peers.store.totals.chunks - chunks <= 3);
  });

  test('large files are split as a splitter does that sees all of them, wherever in a segment they begin', async () => {
    const sizes = [300_000, 1 << 20, 3 << 20, 4 << 20, 5_000_000, 9_999_999, 25 << 20];
    // in front of each: nothing, much of a segment, and all but what no chunk fits into
    const before = [0, 100, 1_500_000, 2_900_000, (3 << 20) - 100];
    for (const [i, length] of sizes.entries()) {
      // zeros among them are chunks of the greatest size
      const data = Buffer.concat([randomBytes(length), Buffer.alloc((i % 2) * 9_000_000), randomBytes(10)]);
      const file = write(`split ${i}`, data);
      for (const bytes of before) {
        await peers.store.flush(peers.store.generation);
        for (let rest = bytes; rest > 0; rest -= 250_000)
          await peers.store.put(CHUNK_DATA, randomBytes(Math.min(rest, 250_000)), Buffer.alloc(32));
        const { parts, bytes: back } = await roundTrip(file, data.length, false);
        const expected: number[] = [];
        for (let at = 0; at < data.length; ) {
          const end = splitter.cut(data, at, data.length);
          expected.push(end - at);
          at = end;
        }
        assert.ok(back.equals(data));
        assert.deepEqual(
          parts.map((part) => part.length),
          expected,
        );
      }
    }
  });

  test('of a large file that is known in part, the rest is stored once', async () => {
    const data = randomBytes(20 << 20);
    const part = data.subarray(3_000_000, 18_000_000);
    const known = new Set((await roundTrip(write('some', part), part.length, false)).parts.map(textOf));
    const { addedBytes } = peers.store.totals;
    const { bytes, parts } = await roundTrip(write('all', data), data.length, false);
    assert.ok(bytes.equals(data));
    const unknown = parts.filter((each) => !known.has(textOf(each)));
    assert.ok(unknown.length < parts.length);
    assert.equal(
      peers.store.totals.addedBytes - addedBytes,
      unknown.reduce((sum, { length }) => sum + length, 0),
    );
    const { chunks } = peers.store.totals;
    assert.ok((await roundTrip(write('again', data), data.length, false)).bytes.equals(data));
    assert.equal(peers.store.totals.chunks, chunks);
  });

  test('a file that grew after it was looked at is read to its end', async () => {
    const data = randomBytes(900_000);
    const { bytes } = await roundTrip(write('grown', data), 300_000, false);
    assert.ok(bytes.equals(data));
  });

  test('a file that shrank is read as far as it goes', async () => {
    for (const claimed of [5000, 5_000_000]) {
      const data = randomBytes(1000);
      const { bytes, size } = await roundTrip(write('shrunk', data), claimed, false);
      assert.ok(bytes.equals(data));
      assert.equal(size, 1000);
    }
  });

  test('holes stay holes', async () => {
    const file = write('sparse', Buffer.alloc(0));
    const fd = fs.openSync(file, 'r+');
    const data = randomBytes(8192);
    fs.writeSync(fd, data, 0, data.length, 4 << 20);
    fs.ftruncateSync(fd, 64 << 20);
    fs.closeSync(fd);
    const { parts, size, bytes } = await roundTrip(file, 64 << 20, true);
    assert.equal(size, 64 << 20);
    assert.deepEqual(
      parts.map((part) => (part.data === undefined ? 'hole' : 'data')),
      ['hole', 'data', 'hole'],
    );
    assert.ok(bytes.subarray(4 << 20, (4 << 20) + 8192).equals(data));
    assert.ok(fs.readFileSync(file).equals(bytes));
  });

  test('a file that is all hole costs no chunk', async () => {
    const file = write('hollow', Buffer.alloc(0));
    fs.truncateSync(file, 2 ** 43);
    const { chunks } = peers.store.totals;
    const content = new ContentWriter(peers.store);
    content.begin(0);
    const fd = fs.openSync(file, 'r');
    await new FileReader(peers.store, splitter).read(fd, 2 ** 43, true, content);
    fs.closeSync(fd);
    assert.equal(content.size, 2 ** 43);
    assert.equal(peers.store.totals.chunks, chunks);
  });

  test('files without a size are read all the same', async () => {
    const { bytes } = await roundTrip('/proc/cpuinfo', 0, false);
    assert.match(bytes.toString(), /processor/);
  });

  test('what cannot be read throws with the call', async () => {
    const content = new ContentWriter(peers.store);
    content.begin(0);
    const fd = fs.openSync(directory, 'r');
    assert.throws(() => new FileReader(peers.store, splitter).read(fd, 100, false, content), {
      code: 'EISDIR',
    });
    fs.closeSync(fd);
  });
});
