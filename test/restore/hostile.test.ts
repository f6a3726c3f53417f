/** Trees that no file system has, and targets that somebody else changes: nothing is written outside. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { CHUNK_TREE, type ChunkRef, ID_BYTES, MemoryChunks } from '../../src/snapshot/chunks.ts';
import { HEIGHT_ROOT, NODE_HEAD_BYTES, NODE_VERSION } from '../../src/snapshot/tree.ts';
import { Node, pullTree, scan, scratch } from './plant.ts';

const DATA = Buffer.from('written by restore');

/** A directory with a target in it, and whatever else there is, which must stay as it is. */
function place(t: { after: (fn: () => void) => void }) {
  const base = scratch(t);
  const target = path.join(base, 'target');
  const outside = path.join(base, 'outside');
  fs.mkdirSync(target);
  fs.mkdirSync(outside);
  fs.writeFileSync(path.join(outside, 'file'), 'untouched');
  const before = scan(outside);
  return {
    base,
    target,
    outside,
    check() {
      assert.deepEqual(scan(outside), before);
      assert.deepEqual(fs.readdirSync(base).sort(), ['outside', 'target']);
    },
  };
}

/** Changes `from` to `to` in every node, as who holds the keys could. */
function forge(chunks: MemoryChunks, node: ChunkRef, change: (node: Buffer) => void): ChunkRef {
  const copy = Buffer.from(chunks.chunks.get(node.id.toString('hex'))?.data ?? '');
  change(copy);
  const id = Buffer.alloc(ID_BYTES);
  chunks.put(CHUNK_TREE, copy, id);
  return { id, length: copy.length };
}

describe('hostile trees', () => {
  for (const name of ['..', '.', 'a/b', '/etc', '../x', 'nul\0', ''])
    test(`a file named ${JSON.stringify(name)}`, async (t) => {
      const at = place(t);
      const chunks = new MemoryChunks();
      const root = new Node(chunks).file(name, DATA).root();
      const { problems, worst } = await pullTree(chunks, root, at.target);
      assert.equal(problems.length, 1);
      assert.equal(worst, 'damaged');
      assert.deepEqual(fs.readdirSync(at.target), []);
      at.check();
    });

  test('a directory named ..', async (t) => {
    const at = place(t);
    const chunks = new MemoryChunks();
    const inner = new Node(chunks).file('file', DATA).store();
    const { worst } = await pullTree(chunks, new Node(chunks).directory('..', inner).root(), at.target);
    assert.equal(worst, 'damaged');
    at.check();
  });

  test('names twice, or out of order', async (t) => {
    const at = place(t);
    const chunks = new MemoryChunks();
    const twice = new Node(chunks).file('a', DATA).file('a', Buffer.from('other')).store();
    const order = new Node(chunks).file('b', DATA).file('a', DATA).store(0, false);
    const root = new Node(chunks).directory('twice', twice).directory('order', order).root();
    const { problems } = await pullTree(chunks, root, at.target);
    assert.deepEqual(problems.map(({ path: name }) => name.toString()).sort(), ['order', 'twice']);
    assert.equal(fs.readFileSync(path.join(at.target, 'twice/a'), 'utf8'), DATA.toString());
    at.check();
  });

  for (const overwrite of [false, true])
    test(`a link, then a directory of the same name in another shard, overwrite ${overwrite}`, async (t) => {
      const at = place(t);
      const chunks = new MemoryChunks();
      const inner = new Node(chunks).file('file', DATA).store();
      const second = new Node(chunks).directory('m', inner).store();
      // a node of shards whose second leaf begins with the name that the first ends with
      const record = (leaf: ChunkRef, name: string) => {
        const bytes = Buffer.alloc(50 + name.length);
        bytes.writeUInt32LE(bytes.length, 0);
        leaf.id.copy(bytes, 4);
        bytes.writeUInt32LE(leaf.length, 36);
        bytes.writeUInt32LE(1, 40);
        bytes.writeUInt16LE(name.length, 48);
        bytes.write(name, 50);
        return bytes;
      };
      const head = Buffer.of(NODE_VERSION, 1, 0, 0, 2, 0, 0, 0);
      const leafA = new Node(chunks).file('a', DATA).symlink('m', at.outside).store();
      const a = record(leafA, 'a');
      a.writeUInt32LE(2, 40);
      const id = Buffer.alloc(ID_BYTES);
      const whole = Buffer.concat([head, a, record(second, 'm')]);
      chunks.put(CHUNK_TREE, whole, id);
      const root = new Node(chunks).directory('', { id, length: whole.length }).store(HEIGHT_ROOT);
      const { problems } = await pullTree(chunks, root, at.target, { overwrite });
      at.check();
      if (overwrite) assert.equal(fs.readFileSync(path.join(at.target, 'm/file'), 'utf8'), DATA.toString());
      else assert.equal(problems.length, 1);
    });

  test('times that no file system has', async (t) => {
    const at = place(t);
    const chunks = new MemoryChunks();
    const far = { mtimeSec: Number.MAX_SAFE_INTEGER };
    const node = new Node(chunks).file('far', DATA, far).store();
    const past = forge(chunks, node, (bytes) => bytes.writeBigInt64LE(-(2n ** 63n), NODE_HEAD_BYTES + 40));
    const future = forge(chunks, node, (bytes) =>
      bytes.writeBigInt64LE(2n ** 63n - 1n, NODE_HEAD_BYTES + 40),
    );
    const root = new Node(chunks).directory('a', node).directory('b', past).directory('c', future).root();
    const { counts } = await pullTree(chunks, root, at.target);
    assert.equal(counts.files, 3);
  });

  test('device numbers and xattrs that the kernel refuses are named, and the rest is there', async (t) => {
    const at = place(t);
    const chunks = new MemoryChunks();
    const xattrs = [{ name: Buffer.from('system.nonsense'), value: Buffer.from('v') }];
    const root = new Node(chunks)
      .add('device', { mode: 0o020600 }, (out) => {
        out.u32(0xffffffff);
        out.u32(0xffffffff);
      })
      .file('file', DATA, { xattrs })
      .file('rest', DATA)
      .root();
    const { problems, worst } = await pullTree(chunks, root, at.target);
    assert.deepEqual(problems.map(({ path: name }) => name.toString()).sort(), ['device', 'file']);
    assert.equal(worst, 'failed');
    assert.deepEqual(fs.readdirSync(at.target).sort(), ['file', 'rest']);
  });

  test('a link that leads out is restored, and nothing is written through it', async (t) => {
    const at = place(t);
    const chunks = new MemoryChunks();
    const root = new Node(chunks).symlink('out', at.outside).symlink('up', '..').root();
    assert.equal((await pullTree(chunks, root, at.target)).worst, undefined);
    // the second time there is a directory where the link is
    const inner = new Node(chunks).file('file', DATA).store();
    const second = new Node(chunks).directory('out', inner).directory('up', inner).root();
    const { problems } = await pullTree(chunks, second, at.target);
    assert.equal(problems.length, 2);
    at.check();
  });
});

/** Calls `between` before the first data chunks are handed on. */
class Meanwhile extends MemoryChunks {
  between: (() => void) | undefined;

  override async readMany(...args: Parameters<MemoryChunks['readMany']>): Promise<void> {
    this.between?.();
    this.between = undefined;
    await super.readMany(...args);
  }
}

describe('a target that somebody else changes', () => {
  test('a directory that is swapped for a link', async (t) => {
    const at = place(t);
    const chunks = new Meanwhile();
    // more directories than stay open, so that the first must be opened again
    const root = new Node(chunks);
    for (let i = 0; i < 300; i++)
      root.directory(`d${String(i).padStart(3, '0')}`, new Node(chunks).file('file', DATA).store());
    chunks.between = () => {
      fs.renameSync(path.join(at.target, 'd000'), path.join(at.target, 'moved'));
      fs.symlinkSync(at.outside, path.join(at.target, 'd000'));
      fs.renameSync(path.join(at.target, 'd001'), path.join(at.target, 'moved1'));
      fs.mkdirSync(path.join(at.target, 'd001'));
    };
    const { problems, counts } = await pullTree(chunks, root.root(), at.target);
    assert.equal(counts.files, 298);
    // each names the file, and the directory whose metadata cannot be set
    assert.deepEqual([...new Set(problems.map(({ path: name }) => name.toString()))].sort(), [
      'd000',
      'd000/file',
      'd001',
      'd001/file',
    ]);
    assert.deepEqual(fs.readdirSync(path.join(at.target, 'd001')), []);
    at.check();
  });

  test('a file of several chunks whose temporary name is swapped for a link', async (t) => {
    const at = place(t);
    const chunks = new Meanwhile();
    const source = path.join(at.base, 'outside');
    fs.mkdirSync(path.join(source, 'd'));
    // more files than stay open
    for (let i = 0; i < 70; i++)
      fs.writeFileSync(path.join(source, `d/f${i}`), Buffer.alloc(300_000, `${i} `));
    const root = scan(path.join(source, 'd'), chunks);
    fs.rmSync(path.join(source, 'd'), { recursive: true });
    const victim = path.join(source, 'file');
    chunks.between = () => {
      for (const name of fs.readdirSync(at.target)) {
        if (!name.startsWith('.plakard-')) continue;
        fs.unlinkSync(path.join(at.target, name));
        fs.symlinkSync(victim, path.join(at.target, name));
      }
    };
    const { problems } = await pullTree(chunks, root, at.target);
    assert.ok(problems.length > 0);
    assert.equal(fs.readFileSync(victim, 'utf8'), 'untouched');
  });

  test('the first name of a file that is swapped: no other name becomes a link to what is there now', async (t) => {
    const at = place(t);
    const chunks = new MemoryChunks();
    const linked = { ino: 7, nlink: 2 };
    const below = new Node(chunks).file('c', Buffer.alloc(0), linked).store();
    const root = new Node(chunks).file('a', Buffer.alloc(0), linked).directory('b', below).root();
    const get = chunks.get.bind(chunks);
    chunks.get = (kind, id, length) => {
      const first = path.join(at.target, 'a');
      // an empty file is complete when the node of the next directory is asked for
      if (id.equals(below.id) && fs.existsSync(first)) {
        fs.unlinkSync(first);
        fs.linkSync(path.join(at.outside, 'file'), first);
      }
      return get(kind, id, length);
    };
    const { problems } = await pullTree(chunks, root, at.target);
    assert.deepEqual(
      problems.map(({ path: name }) => name.toString()),
      ['b/c'],
    );
    assert.deepEqual(fs.readdirSync(path.join(at.target, 'b')), []);
    fs.unlinkSync(path.join(at.target, 'a'));
  });
});

describe('depth', () => {
  test('a chain of 2,000 directories, with a file and a second branch at each level', async (t) => {
    const at = place(t);
    const chunks = new MemoryChunks();
    const leaf = new Node(chunks).file('leaf', DATA).store();
    let node = leaf;
    for (let i = 0; i < 2_000; i++)
      node = new Node(chunks)
        .directory('a', node, { mode: 0o040700 })
        .directory('b', leaf)
        .file('f', DATA)
        .store();
    const root = new Node(chunks).directory('', node).store(HEIGHT_ROOT);
    const { counts, worst } = await pullTree(chunks, root, at.target);
    assert.equal(worst, undefined);
    assert.equal(counts.directories, 4_000);
    assert.equal(counts.files, 4_001);
    // rmSync knows paths alone
    const { execFileSync } = await import('node:child_process');
    execFileSync('rm', ['-rf', at.target]);
    fs.mkdirSync(at.target);
  });
});
