/** The parent is killed at many moments while it brings children up: none of them outlives it. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Process, Rig, until } from '../processes/daemon.ts';

const MOMENTS = 40;
const STEP_MS = 25;

function lives({ pid }: Process): boolean {
  return (
    fs.existsSync(`/proc/${pid}`) && !/^State:\t[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))
  );
}

test(`${MOMENTS} deaths of a parent that starts its children`, async () => {
  const rig = new Rig();
  rig.configureUsual();
  await rig.start();
  await rig.ok('create');
  await rig.stop();
  for (let i = 0; i < MOMENTS; i++) {
    await rig.start();
    const push = rig.client(['push', 'home']);
    await delay(i * STEP_MS);
    const children = rig.processes();
    process.kill(rig.pid, 'SIGKILL');
    await rig.ended();
    push.process.kill();
    await push.result;
    // those that were still root's, and those that were not
    await until(
      `the children are gone, after ${i * STEP_MS} ms`,
      () => !children.some(lives) && rig.processes().length === 0,
    );
  }
  assert.equal(rig.processes().length, 0);
  // the next one takes over the socket that was left
  await rig.start();
  await rig.end();
});
