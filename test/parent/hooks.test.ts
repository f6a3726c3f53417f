/** What a hook is given, and that none is left when it ends, is given up, or its parent is killed. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { lives } from './daemon.ts';

const PROGRAM = path.join(import.meta.dirname, 'hooking.ts');
const USER = '61042';
const PATIENCE_MS = '60000';

describe('a hook', () => {
  const top = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  fs.chmodSync(top, 0o777);
  after(() => fs.rmSync(top, { recursive: true }));
  const at = (name: string): string => path.join(top, name);

  function run(command: string, timeoutMs = PATIENCE_MS): { outcome: string; printed: string } {
    const argv = [PROGRAM, command, USER, timeoutMs];
    const { outcome, printed } = JSON.parse(execFileSync(process.execPath, argv, { encoding: 'utf8' }));
    return { outcome, printed: printed.join('\n') };
  }

  test('is that user, with no other group or descriptor than its own', () => {
    const { outcome, printed } = run('id -u; id -G; echo /proc/self/fd/*');
    assert.equal(outcome, 'done');
    const [uid, groups, open = ''] = printed.replace(/^.*?: /s, '').split('\n');
    assert.deepEqual([uid, groups], [USER, USER]);
    // echo is the shell itself, which has open the directory that it lists
    const descriptors = open.split(' ').map((name) => Number(path.basename(name)));
    assert.deepEqual(
      descriptors.filter((fd) => fd <= 2),
      [0, 1, 2],
    );
    assert.deepEqual(
      descriptors.filter((fd) => fd >= 10 || fd === 4),
      [],
    );
  });

  test('that does not end goes with all of its group, and what it printed is told', async () => {
    const command = `echo begun; sleep 600 & echo $! > ${at('pid')}; trap '' TERM; wait`;
    const { outcome, printed } = run(command, '500');
    assert.match(outcome, /^run before .*: begun: not done after 500 ms$/);
    assert.match(printed, /begun/);
    const pid = Number(fs.readFileSync(at('pid'), 'utf8'));
    while (lives(pid)) await new Promise((resolve) => setImmediate(resolve));
  });

  test('does not outlive a parent that is killed', async () => {
    const fifo = at('fifo');
    execFileSync('mkfifo', ['-m', '666', fifo]);
    const command = `sleep 600 & echo $$ $! > ${fifo}; wait`;
    const parent = spawn(process.execPath, [PROGRAM, command, USER, PATIENCE_MS], { stdio: 'ignore' });
    const pids = (await fs.promises.readFile(fifo, 'utf8')).trim().split(' ').map(Number);
    assert.equal(pids.filter((pid) => lives(pid)).length, 2);
    parent.kill('SIGKILL');
    await once(parent, 'exit');
    while (pids.some((pid) => lives(pid))) await new Promise((resolve) => setImmediate(resolve));
  });
});
