/** Walks over snapshots: order, damage, and trees that are large, deep or wide. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { browse } from '../../src/client/browse.ts';
import { compare } from '../../src/client/compare.ts';
import { Failure } from '../../src/error.ts';
import type { ChunkKind, ChunkRef, ChunkSource } from '../../src/snapshot/chunks.ts';
import { MemoryChunks } from '../../src/snapshot/chunks.ts';
import { readRoot } from '../../src/snapshot/directory.ts';
import { Node } from '../restore/plant.ts';
import { type Plan, plant } from '../snapshot/plant.ts';

/** A source whose answers take a turn of the event loop; counts how many turns somebody waited. */
class Distant implements ChunkSource {
  readonly #source: ChunkSource;
  rounds = 0;
  #batch: (() => void)[] = [];

  constructor(source: ChunkSource) {
    this.#source = source;
  }

  get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    if (this.#batch.length === 0)
      setImmediate(() => {
        this.rounds++;
        for (const answer of this.#batch.splice(0)) answer();
      });
    return new Promise((resolve, reject) => {
      this.#batch.push(() => this.#source.get(kind, id, length).then(resolve, reject));
    });
  }
}

async function directoryOf(source: ChunkSource, root: ChunkRef): Promise<ChunkRef> {
  const directory = (await readRoot(source, root)).directory();
  assert.ok(directory);
  return directory;
}

/** All paths of a walk, in its order, and the damage that was met. */
async function walk(source: ChunkSource, directory: ChunkRef, base = '/', recursive = true) {
  const paths: string[] = [];
  const damaged: string[] = [];
  await browse(source, directory, Buffer.from(base), {
    recursive,
    visit: (entry, path) => {
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
        if (String(path) === '/d/e') gone = entry.directory();
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

  test('wide trees are asked for ahead, not directory by directory', async () => {
    const plan: Record<string, Plan> = {};
    for (let i = 0; i < 2000; i++) plan[`d${i}`] = { f: `${i}` };
    const { chunks, directory } = await plant(plan);
    const distant = new Distant(chunks);
    const { paths } = await walk(distant, directory);
    assert.equal(paths.length, 4000);
    assert.ok(distant.rounds < 200, `${distant.rounds} rounds`);
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
