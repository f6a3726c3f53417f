/** What comes with a snapshot's header: all that a client needs for a short file, and no more than is bounded. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { writeContents } from '../../src/client/contents.ts';
import { NEAR_ALL_MAX_BYTES, NEAR_MAX, NEAR_MAX_BYTES } from '../../src/messages/reader.ts';
import { nearTo } from '../../src/processes/chunker/near.ts';
import {
  type ChunkKind,
  type ChunkRequests,
  type ChunkSource,
  MemoryChunks,
} from '../../src/snapshot/chunks.ts';
import { findEntry, readRoot } from '../../src/snapshot/directory.ts';
import { plant } from '../snapshot/plant.ts';

const LONG = randomBytes(NEAR_MAX_BYTES + 1).toString('latin1');
const deep = (depth: number): object => (depth === 0 ? { end: 'x' } : { d: deep(depth - 1) });
const planted = await plant({
  a: 'short',
  b: { c: { d: 'deeper', e: '' } },
  long: LONG,
  deep: deep(40),
} as Parameters<typeof plant>[0]);
const { chunks, root } = planted;

/** As a client has it: what came, and what it has to ask for. */
class Client implements ChunkSource {
  readonly #near: ReadonlyMap<string, Buffer>;
  asked = 0;

  constructor(near: Awaited<ReturnType<typeof nearTo>>) {
    this.#near = new Map(near.map(({ id, node }) => [id.toString('hex'), node]));
  }

  async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    const near = this.#near.get(id.toString('hex'));
    if (near?.length === length) return near;
    this.asked++;
    return chunks.get(kind, id, length);
  }

  async readInOrder(
    requests: ChunkRequests,
    onChunk: (index: number, data: Buffer) => unknown,
  ): Promise<void> {
    for (let i = 0; i < requests.count; i++) {
      const id = Buffer.from(requests.ids.subarray(32 * i, 32 * (i + 1)));
      await onChunk(i, await this.get(requests.kind, id, requests.lengths[i] ?? 0));
    }
  }

  async cat(...names: string[]): Promise<string> {
    let entry = await readRoot(this, root);
    for (const name of names) {
      const directory = entry.directory();
      const found = directory && (await findEntry(this, directory, Buffer.from(name)));
      assert.ok(found, name);
      entry = found;
    }
    const parts: Buffer[] = [];
    await writeContents(this, entry, async (bytes) => void parts.push(Buffer.from(bytes)));
    return Buffer.concat(parts).toString('latin1');
  }
}

const near = (path: string) => nearTo(chunks, root, Buffer.from(path));

describe('what is near to a path', () => {
  for (const [path, names, contents] of [
    ['/a', ['a'], 'short'],
    ['b/./c//d', ['b', 'c', 'd'], 'deeper'],
    ['/b/c/e', ['b', 'c', 'e'], ''],
  ] as const)
    test(`is all that it takes to read ${path}`, async () => {
      const client = new Client(await near(path));
      assert.equal(await client.cat(...names), contents);
      assert.equal(client.asked, 0);
    });

  test('is the root and its directory without a path, and where it names nothing', async () => {
    for (const path of ['', '/', 'missing', '../a', 'a/b']) assert.equal((await near(path)).length, 2, path);
    assert.equal((await near('/b')).length, 3);
  });

  test('is bounded, and the rest is asked for', async () => {
    const client = new Client(await near('/long'));
    assert.equal(Buffer.from(await client.cat('long'), 'latin1').toString(), LONG);
    assert.equal(client.asked, 1);
    const all = await near(`/deep/${'d/'.repeat(40)}end`);
    assert.equal(all.length, NEAR_MAX);
    const bytes = all.reduce((sum, { node }) => sum + node.length, 0);
    assert.ok(bytes <= NEAR_ALL_MAX_BYTES);
  });

  test('leaves out what cannot be read', async () => {
    const damaged = new MemoryChunks();
    for (const [id, chunk] of chunks.chunks) if (chunk.kind === 2) damaged.chunks.set(id, chunk);
    assert.equal((await nearTo(damaged, root, Buffer.from('/a'))).length, 2);
    assert.equal((await nearTo(new MemoryChunks(), root, Buffer.from('/a'))).length, 0);
  });
});
