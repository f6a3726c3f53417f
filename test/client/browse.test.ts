/** Walks over snapshots: order, damage, and trees that are large, deep or wide. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { browse } from '../../src/client/browse.ts';
import { compare } from '../../src/client/compare.ts';
import { TreeStream } from '../../src/client/treestream.ts';
import { describe as describeError, Failure } from '../../src/error.ts';
import { Channel, channelPair } from '../../src/ipc/channel.ts';
import {
  TREE,
  TREE_NODES,
  TREE_PIECE_BYTES,
  TREE_STOP,
  TREE_USED,
  TREE_WINDOW_BYTES,
} from '../../src/messages/reader.ts';
import { TreeAhead } from '../../src/processes/chunker/ahead.ts';
import type { ChunkKind, ChunkRef, ChunkSource, TreeSource } from '../../src/snapshot/chunks.ts';
import { MemoryChunks } from '../../src/snapshot/chunks.ts';
import { readRoot } from '../../src/snapshot/directory.ts';
import { Node } from '../restore/plant.ts';
import { type Plan, plant } from '../snapshot/plant.ts';

/** Both ends of a tree that is sent ahead, over a real channel; counts what was asked for by itself all the same. */
class Streamed implements TreeSource {
  readonly #chunks: MemoryChunks;
  readonly #near: Channel;
  readonly #far: Channel;
  #stream: TreeStream | undefined;
  readonly #stopped = Promise.withResolvers<void>();
  asked = 0;

  constructor(chunks: MemoryChunks) {
    this.#chunks = chunks;
    const [near, far] = channelPair();
    this.#near = new Channel(near, { name: 'chunker' });
    this.#far = new Channel(far, { name: 'client' });
    let tree: TreeAhead | undefined;
    this.#far.handler(TREE, ({ payload }) => {
      tree = new TreeAhead(this.#far, chunks, payload.stream);
      void tree.run({ id: payload.id, length: payload.length });
    });
    this.#far.handler(TREE_USED, ({ payload }) => tree?.used(payload.bytes));
    this.#far.handler(TREE_STOP, () => {
      tree?.stop();
      this.#stopped.resolve();
    });
    this.#near.handler(TREE_NODES, ({ payload }) => this.#stream?.push(payload.data, payload.last));
    for (const channel of [this.#near, this.#far]) void channel.dispatch();
  }

  get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    this.asked++;
    return this.#chunks.get(kind, id, length);
  }

  below({ id, length }: ChunkRef): TreeStream {
    this.#stream = new TreeStream(this, {
      used: (bytes) => this.#near.message(TREE_USED, { stream: 1, bytes }),
      stop: () => this.#near.message(TREE_STOP, { stream: 1 }),
    });
    this.#near.message(TREE, { stream: 1, id, length });
    return this.#stream;
  }

  /** Resolves once the far end has heard that the walk is over. */
  async close(): Promise<void> {
    await this.#stopped.promise;
    this.#near.close();
    this.#far.close();
  }
}

async function directoryOf(source: ChunkSource, root: ChunkRef): Promise<ChunkRef> {
  const directory = (await readRoot(source, root)).directory();
  assert.ok(directory);
  return directory;
}

const written = Buffer.alloc(8192);
const isPlain = (path: string): boolean => /^[\x20-\x5b\x5d-\x7e]*$/.test(path);

/** All paths of a walk, in its order, and the damage that was met. */
async function walk(source: ChunkSource, directory: ChunkRef, base = '/', recursive = true) {
  const paths: string[] = [];
  const damaged: string[] = [];
  await browse(source, directory, Buffer.from(base), {
    recursive,
    visit: (entry, at) => {
      const end = at.writePlain(written, 1);
      const { bytes: path } = at;
      if (end >= 0) assert.ok(written.subarray(1, end).equals(path));
      assert.equal(end >= 0, isPlain(path.toString('latin1')) && path.length < written.length);
      assert.ok(path.subarray(path.length - entry.name().length).equals(entry.name()));
      paths.push(path.toString('latin1'));
      return undefined;
    },
    damaged: (path) => damaged.push(String(path)),
  });
  return { paths, damaged };
}

const PLAN: Plan = { a: 'x', d: { e: { f: 'y' }, g: 'z' }, 'd.txt': 'w', h: {}, z: 'v' };

describe('browse', () => {
  test('directories come before what is in them, and that before what follows', async () => {
    const { chunks, directory } = await plant(PLAN);
    const expected = ['/a', '/d', '/d/e', '/d/e/f', '/d/g', '/d.txt', '/h', '/z'];
    assert.deepEqual((await walk(chunks, directory)).paths, expected);
    assert.deepEqual(
      (await walk(chunks, directory, '/home')).paths,
      expected.map((path) => `/home${path}`),
    );
    assert.deepEqual((await walk(chunks, directory, '/', false)).paths, ['/a', '/d', '/d.txt', '/h', '/z']);
  });

  test('a directory that is damaged costs what is in it', async () => {
    const { chunks, directory } = await plant(PLAN);
    let gone: ChunkRef | undefined;
    await browse(chunks, directory, Buffer.from('/'), {
      recursive: true,
      visit: (entry, path) => {
        if (String(path.bytes) === '/d/e') gone = entry.directory();
        return undefined;
      },
      damaged: () => assert.fail(),
    });
    chunks.chunks.delete(gone?.id.toString('hex') ?? '');
    const { paths, damaged } = await walk(chunks, directory);
    assert.deepEqual(paths, ['/a', '/d', '/d/e', '/d/g', '/d.txt', '/h', '/z']);
    assert.deepEqual(damaged, ['/d/e']);
  });

  test('what the visitor throws ends the walk, damage or not', async () => {
    const { chunks, directory } = await plant(PLAN);
    for (const kind of ['failed', 'damaged'] as const)
      await assert.rejects(
        browse(chunks, directory, Buffer.from('/'), {
          recursive: true,
          visit: () => {
            throw new Failure('write', 'x', { kind });
          },
          damaged: () => assert.fail(),
        }),
        /write x/,
      );
  });

  test('what is sent ahead is the same walk, with nothing left to ask for', async () => {
    const plan: Record<string, Plan> = {};
    for (let i = 0; i < 3000; i++) plan[`d${i}`] = { [`file of directory ${i}`]: `${i}`, e: { f: {} } };
    const { chunks, directory } = await plant(plan);
    const source = new Streamed(chunks);
    const { paths } = await walk(source, directory);
    assert.deepEqual(paths, (await walk(chunks, directory)).paths);
    assert.equal(source.asked, 0);
    await source.close();
  });

  test('a node that is longer than what may be under way is sent ahead too', async () => {
    const chunks = new MemoryChunks();
    const wide = new Node(chunks);
    for (let i = 0; i < 12_000; i++) wide.file(`${10_000 + i} ${'long '.repeat(30)}`, Buffer.alloc(0));
    const directory = wide.store();
    assert.ok(directory.length > TREE_WINDOW_BYTES);
    const top = new Node(chunks).directory('d', directory).directory('e', new Node(chunks).store()).store();
    const source = new Streamed(chunks);
    assert.equal((await walk(source, top)).paths.length, 12_002);
    assert.equal(source.asked, 0);
    await source.close();
  });

  for (const [what, bytes] of [
    ['more than the window', TREE_PIECE_BYTES],
    ['in very many pieces', 1],
  ] as const)
    test(`a chunker that sends ${what} is refused`, () => {
      const tree = new TreeStream(new MemoryChunks(), { used: () => assert.fail(), stop: () => undefined });
      let pieces = 0;
      assert.throws(
        () => {
          for (; ; pieces++) tree.push(Buffer.alloc(bytes), false);
        },
        (error) => error instanceof Failure && /^read tree: more came/.test(describeError(error)),
      );
      assert.ok(pieces > 0 && pieces * bytes <= TREE_WINDOW_BYTES && pieces <= 128, `${pieces}`);
    });

  test('damage is met in the same places when nodes are sent ahead', async () => {
    const plan: Record<string, Plan> = {};
    for (let i = 0; i < 200; i++) plan[`d${i}`] = { e: { f: `${i}` } };
    const { chunks, directory } = await plant(plan);
    const nodes = [...chunks.chunks].filter(([, { kind }]) => kind === 2).map(([id]) => id);
    for (let i = 5; i < nodes.length - 1; i += 7) {
      const id = nodes[i] ?? '';
      if (id !== directory.id.toString('hex')) chunks.chunks.delete(id);
    }
    const alone = await walk(chunks, directory);
    assert.ok(alone.damaged.length > 20);
    const source = new Streamed(chunks);
    assert.deepEqual(await walk(source, directory), alone);
    await source.close();
  });

  test('a chain of directories is walked without recursion', async () => {
    const chunks = new MemoryChunks();
    const DEPTH = 5000;
    let node = new Node(chunks).file('end', Buffer.from('x')).store();
    for (let i = 0; i < DEPTH; i++) node = new Node(chunks).directory('d', node).store();
    const { paths } = await walk(chunks, node);
    assert.equal(paths.length, DEPTH + 1);
    assert.equal(paths.at(-1), `${'/d'.repeat(DEPTH)}/end`);
  });

  test('a directory of many leaves is listed in order; one leaf that is lost costs itself', async () => {
    const plan: Record<string, string> = {};
    for (let i = 0; i < 30_000; i++) plan[`file-${String(i).padStart(6, '0')}`] = '';
    const { chunks, root } = await plant(plan);
    const directory = await directoryOf(chunks, root);
    const { paths } = await walk(chunks, directory);
    assert.deepEqual(
      paths,
      Object.keys(plan)
        .sort()
        .map((name) => `/${name}`),
    );
    const leaves = [...chunks.chunks].filter(([, { kind, data }]) => kind === 2 && data.length > 100_000);
    assert.ok(leaves.length > 2);
    chunks.chunks.delete(leaves[1]?.[0] ?? '');
    const after = await walk(chunks, directory);
    assert.deepEqual(after.damaged, ['/']);
    assert.ok(after.paths.length > 10_000 && after.paths.length < 30_000);
    assert.equal(after.paths.at(-1), '/file-029999');
  });
});

describe('compare', () => {
  /** Letters and paths of what differs. */
  async function differences(before: Plan, after: Plan): Promise<string[]> {
    const chunks = new MemoryChunks();
    const a = await plant(before, chunks);
    const b = await plant(after, chunks);
    const list: string[] = [];
    await compare(chunks, a.directory, b.directory, {
      differs: ({ change, path }) => {
        list.push(`${change} ${path}`);
        return undefined;
      },
      damaged: () => assert.fail(),
    });
    return list;
  }

  test('equal trees do not differ, and are not read', async () => {
    assert.deepEqual(await differences(PLAN, PLAN), []);
  });

  test('what was added, removed and changed, below directories too', async () => {
    const after: Plan = { a: 'changed', d: { e: { f: 'y', new: '1' } }, h: 'now a file', z: 'v' };
    assert.deepEqual(await differences(PLAN, after), [
      'contents /a',
      'removed /d.txt',
      'contents /h',
      'removed /d/g',
      'added /d/e/new',
    ]);
  });

  test('a directory that is only on one side is told with all that is in it', async () => {
    assert.deepEqual(await differences({}, { d: { e: { f: 'y' } } }), [
      'added /d',
      'added /d/e',
      'added /d/e/f',
    ]);
    assert.deepEqual(await differences({ d: { f: '' } }, {}), ['removed /d', 'removed /d/f']);
  });
});
