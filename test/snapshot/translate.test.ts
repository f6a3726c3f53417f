import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { Failure } from '../../src/error.ts';
import type { ChunkRef } from '../../src/snapshot/chunks.ts';
import { IdMap } from '../../src/snapshot/idmap.ts';
import { translateTree } from '../../src/snapshot/translate.ts';
import type { TwinRefs } from '../../src/snapshot/twin.ts';
import { verifyWhole } from '../../src/snapshot/whole.ts';
import { Random } from './random.ts';
import { Repository, type Sparse, type Tree } from './repository.ts';

interface Told {
  readonly root: ChunkRef;
  readonly bytes: number;
}

/** Copies a tree between two repositories. */
async function copy(
  from: Repository,
  to: Repository,
  root: ChunkRef,
  base?: TwinRefs,
  onDamage: (path: Buffer, failure: Failure) => void = (_, failure) => assert.fail(failure),
): Promise<Told> {
  let bytes = 0;
  const copied = await translateTree(root, base, {
    theirs: from.chunks,
    ours: to.chunks,
    store: to.chunks,
    splitter: to.splitter,
    ids: new IdMap(64),
    onBytes: (more) => {
      bytes += more;
    },
    check: () => undefined,
    onDamage,
  });
  return { root: copied, bytes };
}

/** Contents, the same for the same seed. */
function noise(random: Random, bytes: number): Buffer {
  return createHash('shake256', { outputLength: bytes })
    .update(`${random.below(1e9)}`)
    .digest();
}

const isWhole = (repository: Repository, root: ChunkRef): Promise<void> =>
  verifyWhole(root, {
    source: repository.chunks,
    holds: (id) => repository.chunks.has(id),
    check: () => undefined,
  });

function randomContents(random: Random): Buffer | Sparse {
  const bytes = () => noise(random, random.pick([0, 1, 63, 64, 65, 300, 3000, 20_000]));
  if (!random.chance(0.2)) return bytes();
  const some = () => noise(random, 1 + random.below(3000));
  return random.pick<Sparse>([[4096], [some(), 4096], [4096, some()], [some(), 1 << 20, some(), 512]]);
}

function randomTree(random: Random, depth: number): Tree {
  const tree: Record<string, Tree | Buffer | Sparse> = {};
  for (let i = random.below(12); i > 0; i--) {
    const name = `${random.below(1000)}`;
    tree[name] = depth > 0 && random.chance(0.4) ? randomTree(random, depth - 1) : randomContents(random);
  }
  return tree;
}

/** The tree with a few things other than they were. */
function changed(random: Random, tree: Tree): Tree {
  const next: Record<string, Tree | Buffer | Sparse> = {};
  for (const [name, what] of Object.entries(tree)) {
    if (random.chance(0.1)) continue;
    if (random.chance(0.1)) next[name] = randomContents(random);
    else if (Buffer.isBuffer(what) || Array.isArray(what)) next[name] = what;
    else next[name] = random.chance(0.3) ? changed(random, what as Tree) : what;
  }
  if (random.chance(0.5)) next[`${random.below(1000)}`] = randomContents(random);
  return next;
}

describe('a tree in another repository', () => {
  test('is the one that a push gives there, with and without a base', async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = new Random(seed);
      const [a, b, pushed] = [new Repository(1), new Repository(2), new Repository(2)];
      let tree = randomTree(random, 4);
      let base: TwinRefs | undefined;
      for (let step = 0; step < 3; step++) {
        const theirs = await a.push(tree);
        const { root: ours } = await copy(a, b, theirs, base);
        const expected = await pushed.push(tree);
        assert.deepEqual(ours, expected, `seed ${seed}, step ${step}`);
        await isWhole(b, ours);
        if (random.chance(0.7)) base = { theirs, ours };
        tree = changed(random, tree);
      }
      // nothing is there that a push would not have stored
      for (const id of b.chunks.chunks.keys()) assert.ok(pushed.chunks.chunks.has(id), `seed ${seed}`);
    }
  });

  test('directories of many leaves, and files of many lists, come over', async () => {
    const many: Record<string, Buffer> = {};
    for (let i = 0; i < 9000; i++) many[`file with a longer name ${i}`] = Buffer.from(`${i}`);
    const long = noise(new Random(7), 250_000);
    const tree = { many, long, sub: { again: long } };
    const [a, b, pushed] = [new Repository(1), new Repository(2), new Repository(2)];
    const theirs = await a.push(tree);
    const { root: ours } = await copy(a, b, theirs);
    assert.deepEqual(ours, await pushed.push(tree));
    // one entry of a leaf changes: of the others nothing comes
    const next = { ...tree, many: { ...many, 'file with a longer name 4711': Buffer.from('changed') } };
    const { root, bytes } = await copy(a, b, await a.push(next), { theirs, ours });
    assert.deepEqual(root, await pushed.push(next));
    assert.equal(bytes, 'changed'.length);
  });

  test('what many files share comes over once, and what is the same as in the base not at all', async () => {
    const [a, b] = [new Repository(1), new Repository(2)];
    const same = Buffer.from('the same in all of them');
    const names = Array.from({ length: 500 }, (_, i) => `${i}`);
    const tree = Object.fromEntries(names.map((name) => [name, same]));
    const theirs = await a.push(tree);
    const { root: ours, bytes } = await copy(a, b, theirs);
    // those that were asked for before the first had come are read as well
    assert.ok(bytes < same.length * 400, `${bytes}`);
    const again = await copy(a, b, theirs, { theirs, ours });
    assert.deepEqual(again, { root: ours, bytes: 0 });
  });

  test('damage is named path by path, and there is no tree', async () => {
    const [a, b] = [new Repository(1), new Repository(2)];
    const random = new Random(3);
    const tree = {
      good: noise(random, 50),
      bad: noise(random, 51),
      sub: { long: noise(random, 5000) },
      gone: { x: noise(random, 9) },
    };
    const root = await a.push(tree);
    const [gone] = [...a.chunks.chunks].filter(
      ([, { kind, data }]) => kind === 2 && data[1] === 0 && data.length === 117,
    );
    for (const [id, { data }] of a.chunks.chunks)
      if (data.equals(tree.bad) || data.equals(tree.sub.long.subarray(0, data.length)))
        a.chunks.chunks.delete(id);
    a.chunks.chunks.delete(gone?.[0] ?? '');
    const paths: string[] = [];
    await assert.rejects(
      copy(a, b, root, undefined, (path) => paths.push(path.toString())),
      (error) => error instanceof Failure && error.kind === 'damaged',
    );
    assert.deepEqual(paths.sort(), ['/bad', '/gone', '/sub/long']);
  });

  test('a base that is damaged is the end of it, and its absence is not', async () => {
    const [a, b] = [new Repository(1), new Repository(2)];
    const random = new Random(5);
    const tree = { one: { x: noise(random, 40) }, two: { y: noise(random, 400) } };
    const theirs = await a.push(tree);
    const { root: ours } = await copy(a, b, theirs);
    const next = await a.push({ ...tree, three: noise(random, 10) });
    b.chunks.chunks.clear();
    await assert.rejects(copy(a, b, next, { theirs, ours }), /damaged|read chunk/);
    const { root } = await copy(a, b, next);
    await isWhole(b, root);
    for (const id of [...b.chunks.chunks.keys()]) {
      const chunk = b.chunks.chunks.get(id);
      assert.ok(chunk !== undefined);
      b.chunks.chunks.delete(id);
      await assert.rejects(isWhole(b, root), (error) => error instanceof Failure && error.kind === 'damaged');
      b.chunks.chunks.set(id, chunk);
    }
  });

  test('where the job must end, both loops end', async () => {
    const [a, b] = [new Repository(1), new Repository(2)];
    const files = Object.fromEntries(
      Array.from({ length: 3000 }, (_, i) => [`${i}`, noise(new Random(i), 100)]),
    );
    const root = await a.push(files);
    let checks = 0;
    const translating = translateTree(root, undefined, {
      theirs: a.chunks,
      ours: b.chunks,
      store: b.chunks,
      splitter: b.splitter,
      ids: new IdMap(),
      onBytes: () => undefined,
      check: () => {
        if (++checks === 3) throw new Failure('interrupted', '', { kind: 'interrupted' });
      },
      onDamage: () => assert.fail('nothing is damaged'),
    });
    await assert.rejects(translating, /interrupted/);
  });
});
