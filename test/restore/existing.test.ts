/** What is in the target already; damage; full targets; others than root; interruption. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Failure } from '../../src/error.ts';
import { MemoryChunks } from '../../src/snapshot/chunks.ts';
import { findEntry, readRoot } from '../../src/snapshot/directory.ts';
import { FLAG_UNREADABLE } from '../../src/snapshot/tree.ts';
import { mounted, Node, pullEntries, pullTree, scan, scratch } from './plant.ts';

interface Rig {
  readonly chunks: MemoryChunks;
  readonly root: ReturnType<typeof scan>;
  readonly original: string;
  readonly copy: string;
}

/** A small tree of every kind, in chunks, and an empty directory. */
function rig(t: { after: (fn: () => void) => void }): Rig {
  const base = scratch(t);
  const original = path.join(base, 'original');
  const copy = path.join(base, 'copy');
  fs.mkdirSync(path.join(original, 'd/e'), { recursive: true });
  fs.mkdirSync(copy);
  fs.writeFileSync(path.join(original, 'small'), 'small');
  fs.writeFileSync(path.join(original, 'empty'), '');
  fs.writeFileSync(path.join(original, 'd/large'), Buffer.alloc(1_000_000, 'large'));
  fs.writeFileSync(path.join(original, 'd/e/deep'), 'deep', { mode: 0o4755 });
  fs.linkSync(path.join(original, 'd/large'), path.join(original, 'd/e/link'));
  fs.symlinkSync('small', path.join(original, 'symlink'));
  execFileSync('mkfifo', [path.join(original, 'd/fifo')]);
  execFileSync('truncate', ['-s', '2M', path.join(original, 'd/sparse')]);
  fs.chmodSync(path.join(original, 'd/e'), 0o555);
  const chunks = new MemoryChunks();
  return { chunks, root: scan(original, chunks), original, copy };
}

const texts = (problems: readonly { failure: Failure }[]) => problems.map(({ failure }) => String(failure));
const names = (problems: readonly { path: Buffer }[]) =>
  problems.map((problem) => problem.path.toString()).sort();

describe('a target that is not empty', () => {
  test('the second restore finds everything there, and changes nothing', async (t) => {
    const { chunks, root, copy } = rig(t);
    await pullTree(chunks, root, copy);
    const inodes = execFileSync('find', [copy, '-printf', '%i %C@ %p\n'], { encoding: 'utf8' });
    const { counts, worst, problems } = await pullTree(chunks, root, copy);
    assert.deepEqual(texts(problems), []);
    assert.equal(worst, undefined);
    assert.equal(counts.files, 0);
    assert.equal(counts.kept, 8);
    const strip = (text: string) => text.split('\n').filter((line) => !/\/(d|d\/e)$/.test(line));
    assert.deepEqual(
      strip(execFileSync('find', [copy, '-printf', '%i %C@ %p\n'], { encoding: 'utf8' })),
      strip(inodes),
    );
  });

  test('what differs is named and left alone; with -overwrite it is replaced', async (t) => {
    const { chunks, root, copy } = rig(t);
    await pullTree(chunks, root, copy);
    fs.writeFileSync(path.join(copy, 'small'), 'other');
    fs.writeFileSync(path.join(copy, 'd/e/deep'), 'longer than it was');
    fs.appendFileSync(path.join(copy, 'd/sparse'), 'x');
    fs.unlinkSync(path.join(copy, 'symlink'));
    fs.symlinkSync('elsewhere', path.join(copy, 'symlink'));
    fs.unlinkSync(path.join(copy, 'd/fifo'));
    fs.writeFileSync(path.join(copy, 'd/fifo'), 'now a file');
    fs.unlinkSync(path.join(copy, 'd/e/link'));
    fs.symlinkSync('/nowhere', path.join(copy, 'd/e/link'));
    fs.unlinkSync(path.join(copy, 'empty'));
    fs.mkdirSync(path.join(copy, 'empty'));
    const left = await pullTree(chunks, root, copy);
    const changed = ['d/e/deep', 'd/e/link', 'd/fifo', 'd/sparse', 'empty', 'small', 'symlink'];
    assert.deepEqual(names(left.problems), changed);
    assert.equal(left.worst, 'failed');
    assert.equal(fs.readFileSync(path.join(copy, 'small'), 'utf8'), 'other');
    const { problems } = await pullTree(chunks, root, copy, { overwrite: true, targetIsNew: true });
    assert.deepEqual(names(problems), ['empty']);
    fs.rmdirSync(path.join(copy, 'empty'));
    assert.deepEqual(
      texts((await pullTree(chunks, root, copy, { overwrite: true, targetIsNew: true })).problems),
      [],
    );
    assert.deepEqual(scan(copy), root);
  });

  test('a file of the same size and time but other bytes is no match', async (t) => {
    const { chunks, root, original, copy } = rig(t);
    await pullTree(chunks, root, copy);
    for (const name of ['small', 'd/large']) {
      const { atime, mtime } = fs.statSync(path.join(original, name));
      const fd = fs.openSync(path.join(copy, name), 'r+');
      fs.writeSync(fd, 'X', 4);
      fs.closeSync(fd);
      fs.utimesSync(path.join(copy, name), atime, mtime);
      execFileSync('touch', ['-r', path.join(original, name), path.join(copy, name)]);
    }
    const { problems } = await pullTree(chunks, root, copy);
    // the link is still one to the file that was there
    assert.deepEqual(
      names(problems).filter((name) => name !== 'd/e/link'),
      ['d/large', 'small'],
    );
  });

  test('other files stay, and a target that was not empty keeps its own metadata', async (t) => {
    const { chunks, root, copy } = rig(t);
    fs.writeFileSync(path.join(copy, 'mine'), 'mine');
    fs.chmodSync(copy, 0o711);
    const { worst } = await pullTree(chunks, root, copy);
    assert.equal(worst, undefined);
    assert.equal(fs.statSync(copy).mode & 0o7777, 0o711);
    assert.equal(fs.readFileSync(path.join(copy, 'mine'), 'utf8'), 'mine');
  });

  test('a target with a default ACL and setgid hands nothing down', async (t) => {
    const { chunks, root, copy } = rig(t);
    execFileSync('setfacl', ['-d', '-m', 'u:1234:rwx', copy]);
    fs.chownSync(copy, 0, 4321);
    fs.chmodSync(copy, 0o3777);
    fs.writeFileSync(path.join(copy, 'mine'), '');
    assert.deepEqual(texts((await pullTree(chunks, root, copy)).problems), []);
    fs.unlinkSync(path.join(copy, 'mine'));
    const acls = execFileSync('getfacl', ['-Rp', path.join(copy, 'd'), path.join(copy, 'small')], {
      encoding: 'utf8',
    });
    assert.ok(!acls.includes('1234'), acls);
    assert.ok(!acls.includes('group: 4321'), acls);
    assert.ok(!fs.readdirSync(copy).some((name) => name.startsWith('.plakard')));
  });
});

describe('part of a snapshot', () => {
  test('one directory goes directly into the target, one file under its name', async (t) => {
    const { chunks, root, copy } = rig(t);
    const top = (await readRoot(chunks, root)).directory();
    assert.ok(top !== undefined);
    const d = await findEntry(chunks, top, Buffer.from('d'));
    const small = await findEntry(chunks, top, Buffer.from('small'));
    assert.ok(d !== undefined && small !== undefined);
    const { worst } = await pullEntries(chunks, [d, small], copy);
    assert.equal(worst, undefined);
    assert.deepEqual(fs.readdirSync(copy).sort(), ['e', 'fifo', 'large', 'small', 'sparse']);
  });
});

describe('damage', () => {
  test('a missing chunk costs the files that it is in, and their other names', async (t) => {
    const { chunks, root, copy } = rig(t);
    for (const [name, { kind, data }] of chunks.chunks)
      if (kind === 1 && (data.toString() === 'small' || data.length === 256 << 10))
        chunks.chunks.delete(name);
    const { problems, worst } = await pullTree(chunks, root, copy);
    assert.deepEqual(names(problems), ['d/e/link', 'd/large', 'small']);
    assert.equal(worst, 'damaged');
    assert.deepEqual(fs.readdirSync(copy).sort(), ['d', 'empty', 'symlink']);
    assert.deepEqual(fs.readdirSync(path.join(copy, 'd')).sort(), ['e', 'fifo', 'sparse']);
    assert.equal(fs.statSync(path.join(copy, 'd/e')).mode & 0o7777, 0o555);
  });

  test('a missing node costs its directory; every bit of every node flipped costs at most names', async (t) => {
    const { original, copy } = rig(t);
    const chunks = new MemoryChunks();
    for (const name of ['d/large', 'd/e/link', 'd/sparse']) fs.unlinkSync(path.join(original, name));
    const root = scan(original, chunks);
    for (const [name, chunk] of [...chunks.chunks]) {
      if (chunk.kind !== 2 || name === root.id.toString('hex')) continue;
      chunks.chunks.delete(name);
      const { worst } = await pullTree(chunks, root, copy);
      assert.equal(worst, 'damaged');
      for (let at = 0; at < chunk.data.length; at++) {
        const data = Buffer.from(chunk.data);
        data[at] = (data[at] ?? 0) ^ (1 << (at % 8));
        chunks.chunks.set(name, { kind: 2, data });
        // whatever it does, it neither throws nor leaves anything half-written
        await pullTree(chunks, root, copy, { overwrite: at % 2 === 0 });
      }
      chunks.chunks.set(name, chunk);
      const left = execFileSync('find', [copy, '-name', '.plakard-*'], { encoding: 'utf8' });
      assert.equal(left, '');
    }
  });

  test('what could not be read when the snapshot was taken is named as such', async (t) => {
    const { chunks, copy } = rig(t);
    const root = new Node(chunks)
      .file('secret', Buffer.alloc(0), { flags: FLAG_UNREADABLE, size: 10 })
      .root();
    const { problems, worst } = await pullTree(chunks, root, copy);
    assert.deepEqual(names(problems), ['secret']);
    assert.equal(worst, 'partial');
    assert.deepEqual(fs.readdirSync(copy), []);
  });
});

describe('a target that fails', () => {
  test('a full file system ends the restore; no file there is half-written', async (t) => {
    const { chunks } = rig(t);
    const copy = mounted(t, '600k');
    const node = new Node(chunks);
    for (let i = 0; i < 20; i++) node.file(`f${i}`, Buffer.alloc(50_000, `${i} `));
    await assert.rejects(pullTree(chunks, node.root(), copy), (error) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.kind, 'failed');
      assert.match(String(error.cause), /ENOSPC/);
      return true;
    });
    const left = fs.readdirSync(copy);
    assert.ok(left.length > 5 && left.length < 20);
    for (const name of left) assert.equal(fs.statSync(path.join(copy, name)).size, 50_000);
  });

  test('a file of several chunks that does not fit leaves nothing', async (t) => {
    const { chunks, root } = rig(t);
    const copy = mounted(t, '600k');
    await assert.rejects(pullTree(chunks, root, copy));
    assert.equal(execFileSync('find', [copy, '-name', '.plakard-*'], { encoding: 'utf8' }), '');
    assert.ok(!fs.existsSync(path.join(copy, 'd/large')));
  });

  test('an interruption removes what is half done', async (t) => {
    const { chunks, root, copy } = rig(t);
    const controller = new AbortController();
    const readMany = chunks.readMany.bind(chunks);
    chunks.readMany = (requests, onChunk, onFailed) => {
      let seen = 0;
      const counted = (index: number, data: Buffer) => {
        const busy = onChunk(index, data);
        if (++seen === 2) controller.abort();
        return busy;
      };
      return readMany(requests, counted, onFailed);
    };
    await assert.rejects(pullTree(chunks, root, copy, { signal: controller.signal }), {
      kind: 'interrupted',
    });
    assert.equal(execFileSync('find', [copy, '-name', '.plakard-*'], { encoding: 'utf8' }), '');
  });
});

describe('others than root', () => {
  test('restore with their own rights: contents and modes, no owners, no devices, no foreign setuid', async (t) => {
    const { original, copy } = rig(t);
    fs.chmodSync(path.dirname(copy), 0o755);
    fs.chownSync(path.join(original, 'small'), 33, 33);
    fs.chownSync(path.join(original, 'empty'), 12345, 12345);
    fs.chmodSync(path.join(original, 'empty'), 0o6755);
    fs.chmodSync(path.join(original, 'd'), 0o055);
    execFileSync('mknod', [path.join(original, 'device'), 'c', '1', '3']);
    fs.chownSync(copy, 12345, 12345);
    const script = fileURLToPath(import.meta.resolve('./unprivileged.ts'));
    // the tree is planted by root, as the chunks of a real one were
    const chunks = new MemoryChunks();
    const root = scan(original, chunks);
    const input = JSON.stringify({
      root: { id: root.id.toString('hex'), length: root.length },
      copy,
      chunks: [...chunks.chunks].map(([id, { kind, data }]) => [id, kind, data.toString('base64')]),
    });
    // as root's checkout may be closed to others, the child drops its rights itself
    const child = spawnSync(process.execPath, [script], { input, encoding: 'utf8', maxBuffer: 16 << 20 });
    assert.equal(child.status, 0, child.stderr);
    const { counts, problems } = JSON.parse(child.stdout);
    assert.deepEqual(problems.length, 1);
    assert.match(problems[0], /device: make device: mknodat: operation not permitted/i);
    assert.equal(counts.links, 1);
    const mode = (name: string) => fs.statSync(path.join(copy, name)).mode & 0o7777;
    assert.equal(mode('d/e/deep'), 0o755);
    assert.equal(mode('empty'), 0o6755);
    assert.equal(mode('d'), 0o055);
    assert.equal(fs.statSync(path.join(copy, 'small')).uid, 12345);
    assert.equal(fs.readFileSync(path.join(copy, 'd/large')).compare(Buffer.alloc(1_000_000, 'large')), 0);
  });
});
