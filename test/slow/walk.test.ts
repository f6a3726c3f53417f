/** Trees of absurd size. Memory and descriptors must stay bounded, and nothing recurses. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from '../../src/sys/constants.ts';
import { mkdirAt, mknodAt, openAt, unlinkAt } from '../../src/sys/files.ts';
import { temporary } from '../snapshot/odd.ts';
import { take } from '../snapshot/take.ts';

const DEPTH = 100_000;
const ENTRIES = 400_000;
const NAME = Buffer.from('d');
const UP = Buffer.from('..');

function enter(fd: number, name: Buffer): number {
  const next = openAt(fd, name, O_RDONLY | O_DIRECTORY);
  assert.ok(next >= 0, `openat: ${next}`);
  fs.closeSync(fd);
  return next;
}

/** Makes `depth` directories, one in the other. */
function dig(top: string, depth: number): void {
  let fd = fs.openSync(top, O_DIRECTORY);
  for (let i = 0; i < depth; i++) {
    assert.equal(mkdirAt(fd, NAME, 0o755), 0);
    fd = enter(fd, NAME);
  }
  fs.closeSync(fd);
}

/** Removes them again: no path is long enough for rm. */
function fill(top: string, depth: number): void {
  let fd = fs.openSync(top, O_DIRECTORY);
  for (let i = 0; i < depth; i++) fd = enter(fd, NAME);
  for (let i = 0; i < depth; i++) {
    fd = enter(fd, UP);
    assert.equal(unlinkAt(fd, NAME, true), 0);
  }
  fs.closeSync(fd);
}

describe('absurd trees', () => {
  test(`a path of ${DEPTH} directories`, async () => {
    const top = temporary();
    dig(top, DEPTH);
    try {
      const first = await take(top);
      assert.equal(first.counts.directories, DEPTH);
      assert.deepEqual(first.events, []);
      const second = await take(top, { chunks: first.chunks, old: first.root });
      assert.deepEqual(second.log, ['END 1']);
      const rss = process.memoryUsage.rss();
      assert.ok(rss < 1 << 30, `${rss >> 20} MiB`);
    } finally {
      fill(top, DEPTH);
      fs.rmSync(top, { recursive: true });
    }
  });

  test(`a directory of ${ENTRIES} entries`, async () => {
    const top = temporary();
    const name = (i: number): Buffer => Buffer.from(`${top}/entry ${i}`);
    for (let i = 0; i < ENTRIES; i++) assert.equal(mknodAt(AT_FDCWD, name(i), 0o010600, 0, 0), 0);
    try {
      const first = await take(top);
      assert.equal(first.counts.others, ENTRIES);
      assert.deepEqual((await take(top, { chunks: first.chunks, old: first.root })).log, ['END 1']);
      assert.equal(unlinkAt(AT_FDCWD, name(200_000)), 0);
      const third = await take(top, { chunks: first.chunks, old: first.root });
      assert.ok(third.log.length < 500, `${third.log.length} records`);
      assert.deepEqual(third.root, (await take(top)).root);
    } finally {
      for (let i = 0; i < ENTRIES; i++) unlinkAt(AT_FDCWD, name(i));
      fs.rmSync(top, { recursive: true });
    }
  });
});
