/** A parent that is killed takes every process with it, and its successor serves. The deaths of the others are in parent/supervision. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { wake } from '../parent/daemon.ts';
import { type Process, Rig, until } from './daemon.ts';
import { assertSame, plantOrdinary } from './tree.ts';

async function working(): Promise<{ rig: Rig; id: string }> {
  const rig = new Rig();
  rig.configureUsual();
  plantOrdinary(rig.path('home'));
  await rig.start();
  await rig.ok('create');
  return { rig, id: await rig.push() };
}

const isGone = ({ pid }: Process): boolean => {
  try {
    return /^State:\t[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return true;
  }
};

describe('kill -9', () => {
  test('of the parent: no process survives it, and a new daemon starts on the socket that is left', async (t) => {
    const { rig, id } = await working();
    t.after(() => rig.end());
    const all = rig.processes();
    assert.ok(all.length > 5);
    process.kill(rig.pid, 'SIGKILL');
    assert.equal((await rig.ended()).signal, 'SIGKILL');
    await until('every process is gone', () => all.every(isGone));
    assert.deepEqual(rig.processes(), []);
    assert.ok(fs.existsSync(rig.socket), 'nobody was left to remove it');
    await rig.start();
    await rig.ok('pull', '-to', rig.path('out'), id);
    assertSame(rig.path('home'), rig.path('out'));
    await rig.push();
  });

  test('of the parent while everything stands still: no process survives it', async (t) => {
    const { rig } = await working();
    t.after(() => rig.end());
    const all = rig.processes();
    for (const { pid } of all) process.kill(pid, 'SIGSTOP');
    process.kill(rig.pid, 'SIGKILL');
    await rig.ended();
    for (const { pid } of all) wake(pid);
    await until('every process is gone', () => all.every(isGone));
    fs.unlinkSync(rig.socket);
  });
});
