/** Restores that are large enough for hands: the same comes out, and the same is told, as without. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { Failure } from '../../src/error.ts';
import { ID_BYTES, MemoryChunks } from '../../src/snapshot/chunks.ts';
import { Hands } from '../../src/snapshot/restore-hands.ts';
import { mounted, Node, ownRights, pullTree, scan, scratch } from './plant.ts';

const FILES = 1600;
const PART_BYTES = 256 << 10;
const AT_ONCE = 100;
const REPEATED = 8;

/** Delivers many at once, and reuses their memory when it may, as a session does; counts what hands were given. */
class Bulk extends MemoryChunks {
  handed = 0;
  delivered = 0;

  override async readMany(...[requests, onChunk, onFailed]: Parameters<MemoryChunks['readMany']>) {
    const { kind, ids, lengths, count } = requests;
    const pending: Promise<void>[] = [];
    const deliver = (index: number, data: Buffer): void => {
      this.delivered++;
      const busy = onChunk(index, data);
      if (busy === undefined) {
        data.fill('reused');
        return;
      }
      this.handed++;
      pending.push(busy.finally(() => data.fill('reused')));
    };
    try {
      for (let from = 0; from < count; from += AT_ONCE) {
        const group = Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, i) => from + i);
        const id = (i: number) => ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES);
        const read = group.map((i) =>
          this.get(kind, id(i), lengths[i] ?? 0).catch((error: Failure) => error),
        );
        for (const [i, found] of (await Promise.all(read)).entries()) {
          if (found instanceof Failure) onFailed(from + i, found);
          else deliver(from + i, Buffer.from(found));
        }
        await setImmediate();
      }
    } finally {
      await Promise.allSettled(pending);
    }
    await Promise.all(pending);
  }
}

/** Files of every owner, mode and time, links, attributes, an inherited ACL, and one of many chunks. */
function plant(original: string): void {
  for (const directory of ['plain', 'setgid', 'acl', 'closed'])
    fs.mkdirSync(path.join(original, directory), { recursive: true });
  fs.chmodSync(path.join(original, 'setgid'), 0o2775);
  fs.chownSync(path.join(original, 'setgid'), 0, 33);
  execFileSync('setfacl', ['-d', '-m', 'u:33:rwx', path.join(original, 'acl')]);
  const names = ['plain', 'setgid', 'acl', 'closed'];
  for (let i = 0; i < FILES; i++) {
    const file = path.join(original, names[i % names.length] ?? '', `file ${i}`);
    fs.writeFileSync(file, `of file ${i - (i % 10 === 9 ? 1 : 0)}\n`.repeat(i % 50));
    if (i % 3 === 0) fs.chownSync(file, i % 7, i % 11);
    if (i % 5 === 0) fs.chmodSync(file, [0o4755, 0o600, 0o2711, 0o444][i % 4] ?? 0);
    if (i % 97 === 0) execFileSync('setfattr', ['-n', 'user.number', '-v', `${i}`, file]);
    if (i % 41 === 0) fs.linkSync(file, `${file} again`);
    fs.utimesSync(file, 1, -i * 1000.25);
  }
  fs.writeFileSync(path.join(original, 'large'), Buffer.alloc(40 * PART_BYTES + 77, 'large'));
  fs.writeFileSync(path.join(original, 'one chunk'), Buffer.alloc(200_077, 'one chunk'));
  // more parts of one chunk than go to a hand at once, and few that go to another
  for (let i = 0; i < REPEATED; i++)
    fs.writeFileSync(
      path.join(original, `repeated ${i}`),
      Buffer.alloc(5 * PART_BYTES, `${i}: again `.slice(0, 8)),
    );
  fs.chownSync(path.join(original, 'large'), 33, 33);
  fs.chmodSync(path.join(original, 'closed'), 0o500);
}

function rig(t: { after: (fn: () => void) => void }) {
  const base = scratch(t);
  const [original, copy] = [path.join(base, 'original'), path.join(base, 'copy')];
  fs.mkdirSync(copy);
  plant(original);
  const chunks = new Bulk();
  return { chunks, root: scan(original, chunks), original, copy };
}

/** Everything below, one name a line, with its metadata. */
function described(directory: string): string {
  const listed = execFileSync('find', ['.', '-mindepth', '1', '-printf', '%p %y %m %U %G %T@ %s %n\n'], {
    cwd: directory,
  });
  const attributes = execFileSync('getfattr', ['-R', '-h', '-d', '-m', '-', '.'], { cwd: directory });
  return `${listed}${attributes}`.split('\n').sort().join('\n');
}

describe('a restore with hands', () => {
  test('is what was saved, to the last attribute, and hands made it', async (t) => {
    const { chunks, root, original, copy } = rig(t);
    const { counts, problems } = await pullTree(chunks, root, copy);
    assert.deepEqual(problems, []);
    assert.ok(chunks.handed > chunks.delivered / 4, `${chunks.handed} of ${chunks.delivered}`);
    assert.equal(counts.files, FILES + 2 + REPEATED);
    assert.ok(described(copy) === described(original));
    execFileSync('diff', ['-r', '--no-dereference', original, copy]);
    assert.equal(scan(copy, new MemoryChunks()).id.toString('hex'), root.id.toString('hex'));
  });

  test('again, finds everything there; what differs is named, and with overwrite replaced', async (t) => {
    const { chunks, root, original, copy } = rig(t);
    await pullTree(chunks, root, copy);
    const again = await pullTree(chunks, root, copy);
    assert.deepEqual(again.problems, []);
    assert.equal(again.counts.files, 0);
    fs.writeFileSync(path.join(copy, 'plain/file 4'), 'mine');
    fs.writeFileSync(path.join(copy, 'setgid/file 5'), 'mine');
    const told = await pullTree(chunks, root, copy);
    assert.deepEqual(told.problems.map((each) => String(each.path)).sort(), [
      'plain/file 4',
      'setgid/file 5',
    ]);
    assert.equal(fs.readFileSync(path.join(copy, 'plain/file 4'), 'latin1'), 'mine');
    await pullTree(chunks, root, copy, { overwrite: true });
    assert.ok(described(copy) === described(original));
  });

  test('onto a full file system ends, names it, and leaves nothing half-written', async (t) => {
    const chunks = new Bulk();
    const copy = mounted(t, '4M');
    const node = new Node(chunks);
    for (let i = 0; i < FILES; i++)
      node.file(`f${String(i).padStart(4, '0')}`, Buffer.alloc(5000, `number ${i} `));
    await assert.rejects(pullTree(chunks, node.root(), copy), (error) => {
      assert.ok(error instanceof Failure);
      assert.match(String(error.cause), /ENOSPC/);
      return true;
    });
    const left = fs.readdirSync(copy);
    assert.ok(chunks.handed > 100 && left.length > 100 && left.length < FILES);
    for (const name of left) assert.equal(fs.statSync(path.join(copy, name)).size, 5000);
  });

  test('that is interrupted ends when the hands have, and leaves nothing half-written', async (t) => {
    const { chunks, root, copy } = rig(t);
    const controller = new AbortController();
    const progress = () => {
      if (chunks.handed > 200) controller.abort();
    };
    await assert.rejects(pullTree(chunks, root, copy, { signal: controller.signal, progress }), {
      kind: 'interrupted',
    });
    assert.ok(chunks.handed > 200);
    assert.equal(execFileSync('find', [copy, '-name', '.plakard-*'], { encoding: 'utf8' }), '');
    const before = described(copy);
    await setImmediate();
    assert.ok(described(copy) === before);
  });

  test('whose hand dies ends, and says so', async () => {
    const hands = new Hands(1, ownRights());
    hands.expect(1 << 30);
    await hands.ready();
    assert.ok(hands.room > 0);
    const nonsense = Uint8Array.from([1, 0, 0, 0]);
    await assert.rejects(hands.ask(nonsense, 1), { operation: 'restore', object: 'files' });
    assert.equal(hands.room, 0);
    // what it is asked for then, is done by whoever asks
    assert.deepEqual([...(await hands.ask(nonsense, 2))], [0, 0]);
    await hands.close();
  });

  test('that ends while its hands start lets them end by themselves', async (t) => {
    const codes: Promise<number>[] = [];
    const note = (worker: Worker) => codes.push(once(worker, 'exit').then(([code]) => code));
    process.on('worker', note);
    t.after(() => process.off('worker', note));
    const hands = new Hands(2, ownRights());
    hands.expect(1 << 30);
    // they run, and have not loaded what they need yet
    await hands.ready();
    await hands.close();
    // 1 where it was terminated, which aborts the whole process if a system call was being made
    assert.deepEqual(await Promise.all(codes), [0, 0]);
  });
});
