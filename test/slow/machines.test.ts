/**
 * Two machines on one repository, as on a shared file system: two daemons, each
 * with its own state and sources. Both push, one removes and cleans up, one is
 * killed in the middle: whatever was acknowledged restores, on both.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { Rig, until } from '../processes/daemon.ts';
import { assertSame, noise } from '../processes/tree.ts';

const ROUNDS = 6;
const FILES = 8;
const FILE_BYTES = 1 << 20;

function configure(rig: Rig, owner: Rig): void {
  fs.mkdirSync(rig.path('home'), { recursive: true });
  rig.configure(`repository "local" at "${owner.path('repository')}" { key file "${owner.keyFile()}" }
source "home" { path "${rig.path('home')}" }`);
}

/** Some files are common to both, so that each deduplicates against what the other stored. */
function change(rig: Rig, round: number, own: string): void {
  for (let i = 0; i < FILES; i++) {
    const content = i % 2 === 0 ? `common ${round} ${i}` : `${own} ${round} ${i}`;
    fs.writeFileSync(rig.path('home', String(i)), noise(content, FILE_BYTES));
  }
}

describe('two machines', () => {
  test('push, remove and clean up beside each other', async (t) => {
    const one = new Rig();
    const two = new Rig(one);
    t.after(async () => {
      await two.end();
      await one.end();
    });
    configure(one, one);
    configure(two, one);
    await one.start();
    await two.start();
    await one.ok('create');
    const acknowledged = new Map<string, string>();
    const keep = (rig: Rig, id: string): void => {
      const copy = rig.path('kept', id);
      fs.mkdirSync(rig.path('kept'), { recursive: true });
      execFileSync('cp', ['-a', rig.path('home'), copy]);
      acknowledged.set(id, copy);
    };
    for (let round = 0; round < ROUNDS; round++) {
      change(one, round, 'one');
      change(two, round, 'two');
      const cleaning = round > 0 ? two.client(['cleanup']).result : undefined;
      const ids = await Promise.all([one.push(), two.push()]);
      keep(one, ids[0]);
      keep(two, ids[1]);
      const cleaned = await cleaning;
      if (cleaned !== undefined) assert.equal(cleaned.code, 0, cleaned.stderr);
      // one forgets what the other made two rounds ago
      const [oldest] = acknowledged.keys();
      if (round > 1 && oldest !== undefined) {
        acknowledged.delete(oldest);
        await one.ok('rm', oldest);
      }
      if (round === 3) {
        const victim = two.process('storage local').pid;
        change(two, 100, 'killed');
        const pushing = two.client(['push', 'home']).result;
        let isOver = false;
        pushing.then(() => {
          isOver = true;
        });
        // a quick one may be over before it is seen
        await until('it has begun', async () => isOver || (await two.jobs()).length > 0);
        process.kill(victim, 'SIGKILL');
        const { code, stdout } = await pushing;
        if (code === 0) keep(two, stdout.trim().split('\n')[0]?.slice(0, 36) ?? '');
        else await two.logged(/serves again/);
      }
    }
    await one.ok('cleanup');
    await two.ok('cleanup');
    for (const rig of [one, two]) {
      assert.match(await rig.ok('check'), /no damage/);
      for (const [id, copy] of acknowledged) {
        fs.rmSync(rig.path('out'), { recursive: true, force: true });
        await rig.ok('pull', '-to', rig.path('out'), id);
        assertSame(copy, rig.path('out'));
      }
    }
    assert.deepEqual(fs.readdirSync(one.path('repository', 'leases')), []);
  });
});
