/** Archives, judged by tar(1). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Archive } from '../../src/client/archive.ts';
import { browse } from '../../src/client/browse.ts';
import { writeContents } from '../../src/client/contents.ts';
import { lookUp } from '../../src/client/lookup.ts';
import { tarHeader } from '../../src/client/tar.ts';
import { kindOf } from '../../src/error.ts';
import { headerOf, ODD_NAME, plantTree, TestChunks } from './tree.ts';

/** The whole tree as an archive, and what was left out of it. */
async function archiveOf(chunks: TestChunks, root: { id: Buffer; length: number }) {
  const parts: Buffer[] = [];
  const problems: string[] = [];
  const archive = new Archive(chunks, async (bytes) => {
    parts.push(Buffer.from(bytes));
  });
  archive.begin('s', (where) => problems.push(String(where)));
  const found = await lookUp(chunks, headerOf(root), Buffer.alloc(0));
  const directory = found?.entry.directory();
  assert.ok(found && directory);
  await archive.root(found.entry);
  await browse(chunks, directory, Buffer.from('/'), {
    recursive: true,
    visit: (entry, where) => archive.add(entry, where.bytes, 1),
    damaged: (where) => problems.push(String(where)),
  });
  await archive.end();
  return { tar: Buffer.concat(parts), problems };
}

function scratch(t: { after: (fn: () => void) => void }): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

describe('archive', () => {
  test('tar unpacks what the tree has', async (t) => {
    const chunks = new TestChunks();
    const { root, large } = plantTree(chunks);
    const { tar, problems } = await archiveOf(chunks, root);
    assert.deepEqual(problems, ['/lost']);
    const directory = scratch(t);
    execFileSync('tar', ['-xpf', '-', '-C', directory], { input: tar, stdio: ['pipe', 'pipe', 'ignore'] });
    const at = (name: string | Buffer) =>
      Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name as string)]);
    assert.equal(fs.readFileSync(at('a.txt'), 'utf8'), 'hello\n');
    const { uid, gid, mtimeNs, mode } = fs.statSync(at('a.txt'), { bigint: true });
    assert.deepEqual([uid, gid, mtimeNs, mode], [1000n, 100n, 1_637_971_924_000_000_005n, 0o100644n]);
    assert.ok(fs.readFileSync(at('large')).equals(large));
    assert.equal(fs.readFileSync(at(ODD_NAME), 'utf8'), 'odd\n');
    assert.equal(fs.readlinkSync(at('link')), 'a.txt');
    assert.equal(fs.statSync(at('hard1')).ino, fs.statSync(at('hard2')).ino);
    assert.ok(fs.lstatSync(at('pipe')).isFIFO());
    assert.equal(fs.lstatSync(at('null')).rdev, 0x103);
    assert.equal(fs.readFileSync(at('sub/deep/x'), 'utf8'), 'deep\n');
    assert.equal(fs.readFileSync(at('empty')).length, 0);
  });

  test('a small file that is damaged is left out, and so is a link to it; the rest is there', async () => {
    const chunks = new TestChunks();
    const { root } = plantTree(chunks);
    const twice = [...chunks.chunks].find(([, { data }]) => String(data) === 'twice\n');
    chunks.chunks.delete(twice?.[0] ?? '');
    const { tar, problems } = await archiveOf(chunks, root);
    assert.deepEqual(problems, ['/hard1', '/hard2', '/lost']);
    const names = execFileSync('tar', ['-tf', '-'], { input: tar, encoding: 'utf8' }).split('\n');
    assert.ok(names.includes('a.txt') && names.includes('sub/deep/x') && !names.includes('hard1'));
  });

  test('damage in the middle of a large file ends it, without the end of an archive', async () => {
    const chunks = new TestChunks();
    const { root } = plantTree(chunks);
    const last = [...chunks.chunks].find(([, { data }]) => data[0] === 0x7a && data.length === 1000);
    chunks.chunks.delete(last?.[0] ?? '');
    await assert.rejects(archiveOf(chunks, root), (error) => kindOf(error) === 'damaged');
  });
});

describe('headers', () => {
  const entry = { type: '0', mode: 0o100644, uid: 0, gid: 0, size: 0, mtimeSec: 0, mtimeNsec: 0 };
  const list = (header: Buffer) =>
    execFileSync('tar', ['--numeric-owner', '-tvf', '-'], {
      input: Buffer.concat([header, Buffer.alloc(1024)]),
      encoding: 'latin1',
      env: { ...process.env, TZ: 'UTC', LC_ALL: 'C' },
    });

  test('what does not fit 512 bytes is in an extended header', () => {
    const name = Buffer.from(`${'d/'.repeat(100)}${'n'.repeat(255)}`);
    assert.equal(tarHeader({ ...entry, name: Buffer.from('short') }).length, 512);
    const text = list(tarHeader({ ...entry, name, uid: 2 ** 32 - 2, mtimeSec: -1 }));
    assert.ok(text.includes(String(name)));
    assert.ok(text.includes('4294967294/0'));
  });

  test('a time before 1970 comes back with its nanoseconds', (t) => {
    const directory = scratch(t);
    const header = tarHeader({ ...entry, name: Buffer.from('old'), mtimeSec: -2, mtimeNsec: 250_000_000 });
    const input = Buffer.concat([header, Buffer.alloc(1024)]);
    execFileSync('tar', ['-xf', '-', '-C', directory], { input, stdio: ['pipe', 'pipe', 'ignore'] });
    assert.equal(fs.statSync(path.join(directory, 'old'), { bigint: true }).mtimeNs, -1_750_000_000n);
  });

  test('the length of a record counts itself, at every number of digits', () => {
    for (let length = 101; length < 1100; length++) {
      const header = tarHeader({ ...entry, name: Buffer.alloc(length, 'n') });
      const body = header.subarray(512, 512 + Number.parseInt(header.toString('latin1', 124, 135), 8));
      assert.equal(body.length, Number.parseInt(body.toString('latin1'), 10));
      assert.equal(body.at(-1), 0x0a);
    }
  });
});

describe('contents', () => {
  const chunks = new TestChunks();
  const { root, large } = plantTree(chunks);
  const contentsOf = async (name: string) => {
    const found = await lookUp(chunks, headerOf(root), Buffer.from(name));
    assert.ok(found);
    const parts: Buffer[] = [];
    await writeContents(chunks, found.entry, async (bytes) => void parts.push(Buffer.from(bytes)));
    return Buffer.concat(parts);
  };

  test('extents and holes, in order', async () => {
    assert.ok((await contentsOf('/large')).equals(large));
    assert.equal(String(await contentsOf('/a.txt')), 'hello\n');
    assert.equal((await contentsOf('/empty')).length, 0);
  });

  test('what has none says so', async () => {
    await assert.rejects(contentsOf('/sub'), (error) => kindOf(error) === 'failed');
    await assert.rejects(contentsOf('/lost'), (error) => kindOf(error) === 'partial');
  });
});
