/** Processes that are killed: the log names each, clients hear why, it comes back, and nothing acknowledged is lost. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
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

const NAMES = ['control', 'scanner home', 'chunker local', 'crypto local/0', 'storage local'] as const;

const isGone = ({ pid }: Process): boolean => {
  try {
    return /^State:\t[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return true;
  }
};

describe('kill -9', () => {
  for (const name of NAMES)
    test(`of ${name}: it is named, comes back, and what was pushed is there`, async (t) => {
      const { rig, id } = await working();
      t.after(() => rig.end());
      const before = rig.processes();
      const victim = rig.process(name);
      process.kill(victim.pid, 'SIGKILL');
      const line = await rig.logged(/killed by SIGKILL/);
      assert.match(line, new RegExp(` ${name}: .*SIGKILL`));
      // a scanner is started by the next push
      if (name !== 'scanner home') await rig.logged(/serves again/);
      assert.equal(rig.pid, before[0]?.pid, 'the parent is the same');
      const again = await rig.push();
      await rig.ok('pull', '-to', rig.path('out'), id);
      assertSame(rig.path('home'), rig.path('out'));
      assert.notEqual(again, id);
      assert.match(await rig.ok('check'), /no damage/);
      assert.deepEqual(
        rig
          .processes()
          .map((each) => each.name)
          .sort(),
        before.map((each) => each.name).sort(),
      );
    });

  test('of a process that a push needs: the push says which', async (t) => {
    const { rig } = await working();
    t.after(() => rig.end());
    for (const name of ['crypto local/0', 'chunker local', 'scanner home', 'storage local'] as const) {
      const from = rig.log.length;
      const stopped = rig.process('storage local').pid;
      process.kill(stopped, 'SIGSTOP');
      const { result } = rig.client(['push', 'home']);
      await until('the job is listed', async () => (await rig.jobs()).length > 0);
      process.kill(rig.process(name).pid, 'SIGKILL');
      await rig.logged(/killed by SIGKILL/, from);
      if (name === 'scanner home') process.kill(stopped, 'SIGCONT');
      const { code, stderr } = await result;
      // a scanner that had told everything is not missed
      if (name !== 'scanner home' || code !== 0) {
        assert.equal(code, 1, `${name}: ${stderr}`);
        assert.match(stderr, new RegExp(name));
      }
      await rig.push();
    }
  });

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
    for (const each of all) if (!isGone(each)) process.kill(each.pid, 'SIGCONT');
    await until('every process is gone', () => all.every(isGone));
    fs.unlinkSync(rig.socket);
  });
});
