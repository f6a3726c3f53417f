import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { Limits, RateLimit } from '../../src/config/config.ts';
import { meansOf, warnShort } from '../../src/processes/parent/means.ts';
import { Daemon, writeLarge } from './daemon.ts';

const MIB = 1 << 20;
const NONE: Limits = { read: [], write: [] };

/** As a configuration with so many repositories, of which only the number matters. */
function given(count: number, more: { cpu?: number; memoryBytes?: number; limits?: Limits } = {}) {
  return { limits: NONE, repositories: Array(count), ...more };
}

describe('means', () => {
  test('all processors but one work, and always one does', () => {
    const workers = [1, 2, 4, 100].map((cores) => meansOf(given(1), { limits: NONE }, cores).workers);
    assert.deepEqual(workers, [1, 1, 3, 64]);
    assert.equal(meansOf(given(1, { cpu: 3 }), { limits: NONE }, 2).workers, 3);
  });

  test('one worker compresses two segments at once, unless it is told how much to use, or has one core', () => {
    const none = { limits: NONE };
    const compressors = [1, 2, 4].map((cores) => meansOf(given(1), none, cores).compressors);
    assert.deepEqual(compressors, [1, 2, 1]);
    assert.equal(meansOf(given(1, { memoryBytes: 1 << 30 }), none, 2).compressors, 2);
    assert.equal(meansOf(given(1, { cpu: 1 }), none, 2).compressors, 1);
  });

  test('less memory is fewer packs under way, or fewer workers, and never none', () => {
    const means = (mib: number) => meansOf(given(1, { cpu: 4, memoryBytes: mib * MIB }), { limits: NONE }, 8);
    const found = [4096, 600, 500, 400, 300, 64].map((mib) => [means(mib).workers, means(mib).packs]);
    assert.deepEqual(found, [
      [4, 3],
      [4, 3],
      [3, 2],
      [2, 1],
      [1, 1],
      [1, 1],
    ]);
  });

  test('what is too little is said, with what is needed', () => {
    const lines: string[] = [];
    const log = { warn: (line: string) => lines.push(line) };
    warnShort(given(1), log);
    warnShort(given(1, { memoryBytes: 300 * MIB }), log);
    assert.deepEqual(lines, []);
    warnShort(given(1, { memoryBytes: 16 * MIB }), log);
    assert.match(lines.join(), /^set memory: with 1 repositories a push needs \d+M, and gets it$/);
  });

  test('limits of the daemon are shared evenly, beside those of the repository', () => {
    const always: RateLimit = { bytesPerSecond: 100 };
    const own: RateLimit = { bytesPerSecond: 7, between: { from: 0, to: 60 } };
    const limits = { read: [always], write: [] };
    const { read, write } = meansOf(given(3, { limits }), { limits: { read: [own], write: [own] } }, 2);
    assert.deepEqual(read, [{ bytesPerSecond: 33 }, own]);
    assert.deepEqual(write, [own]);
  });
});

describe('a daemon with limits', () => {
  const daemon = new Daemon();
  const limit = (memory: string) => {
    const text = fs.readFileSync(daemon.path('plakard.conf'), 'utf8');
    const others = text.replace(/^(set (cpu|memory)|limit) .*\n/gm, '');
    daemon.write(`set cpu 2\nset memory ${memory}\nlimit write 16M\n${others}`);
  };
  before(async () => {
    limit('400M');
    await daemon.start();
    await daemon.ok('create');
  });
  after(() => daemon.clear());

  /** Pushes what fills every slot, and sums up what that took: slots, tables and packs stay as large as they were. */
  async function pushed(mebibytes: number): Promise<{ workers: number; bytes: number }> {
    writeLarge(daemon.path('source/large'), mebibytes);
    await daemon.ok('push', 'home');
    const { processes } = await daemon.status();
    const children = processes.filter(({ role }) => role !== 'parent');
    const bytes = children.reduce((sum, { pid }) => sum + pssBytes(pid), 0);
    return { workers: children.filter(({ role }) => role === 'crypto').length, bytes };
  }

  test('has as many workers, writes no faster and takes no more memory', async () => {
    const began = performance.now();
    const { workers, bytes } = await pushed(40);
    // a second's worth of tokens was there before
    const seconds = (performance.now() - began) / 1000;
    assert.ok(seconds >= 40 / 16 - 1, `40 MiB were written in ${seconds} s, at 16 MiB/s`);
    assert.equal(workers, 2);
    assert.ok(bytes > 64 * MIB && bytes <= 400 * MIB, `${bytes / MIB} MiB`);
  });

  test('has fewer workers where the memory is not enough for more, as soon as that is reloaded', async () => {
    limit('300M');
    await daemon.ok('reload');
    const { workers, bytes } = await pushed(40);
    assert.equal(workers, 1);
    assert.ok(bytes > 64 * MIB && bytes <= 300 * MIB, `${bytes / MIB} MiB`);
  });
});

/** What is shared counts once over all who share it. proc_pid_smaps(5) */
function pssBytes(pid: number): number {
  const text = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1]) * 1024;
}
