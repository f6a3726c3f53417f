/** Every process of a real daemon is killed, stopped and kept dying: jobs fail by name, and it serves on. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Daemon, holdPush, lives, wake, writeLarge } from './daemon.ts';

describe('a child that dies', () => {
  let daemon: Daemon;
  before(async () => {
    daemon = new Daemon({ stallTimeoutMs: 5000 });
    await daemon.start();
    await daemon.ok('create');
    await daemon.ok('push', 'home');
  });
  after(() => daemon.clear());

  for (const name of ['storage local', 'crypto local/0', 'chunker local'])
    test(`${name}: is reported by name and signal, and its whole group comes back`, async () => {
      const from = daemon.lines.length;
      const snapshots = (await daemon.ok('ls')).trim().split('\n').length;
      const others = ['storage local', 'crypto local/0', 'chunker local'];
      const pids = await Promise.all(others.map((other) => daemon.child(other)));
      const control = await daemon.child('control');
      process.kill(await daemon.child(name), 'SIGKILL');
      await daemon.logged(new RegExp(` ${name}: died: killed by SIGKILL$`), from);
      await daemon.logged(/ storage local: serves again$/, from);
      await daemon.ok('push', 'home');
      assert.match(await daemon.ok('check'), /no damage/);
      assert.equal((await daemon.ok('ls')).trim().split('\n').length, snapshots + 1);
      const after = await Promise.all(others.map((other) => daemon.child(other)));
      for (const [i, pid] of pids.entries()) {
        assert.notEqual(after[i], pid);
        assert.equal(lives(pid), false);
      }
      assert.equal(await daemon.child('control'), control);
    });

  test('scanner: the next push starts it again', async () => {
    process.kill(await daemon.child('scanner home'), 'SIGKILL');
    await daemon.logged(/ scanner home: died: killed by SIGKILL$/);
    await daemon.ok('push', 'home');
  });

  test('control: it comes back on the same socket, and everything else goes on', async () => {
    const { ino } = fs.statSync(daemon.path('socket'));
    const storage = await daemon.child('storage local');
    const control = await daemon.child('control');
    process.kill(control, 'SIGKILL');
    await daemon.logged(/ control: died: killed by SIGKILL$/);
    // whoever connects now waits, and is served
    assert.match(await daemon.ok('ls'), /B .*source/);
    assert.equal(fs.statSync(daemon.path('socket')).ino, ino);
    assert.equal(await daemon.child('storage local'), storage);
    assert.notEqual(await daemon.child('control'), control);
    await daemon.ok('push', 'home');
  });

  test('one that is stopped is killed as stalled, and comes back', async () => {
    const from = daemon.lines.length;
    process.kill(await daemon.child('storage local'), 'SIGSTOP');
    await daemon.logged(/ storage local: died: stalled: no sign of life for 5000 ms, killed$/);
    await daemon.logged(/ storage local: serves again$/, from);
    await daemon.ok('push', 'home');
  });

  test('control that is stopped is killed as stalled, and comes back', async () => {
    process.kill(await daemon.child('control'), 'SIGSTOP');
    await daemon.logged(/ control: died: stalled/);
    await daemon.ok('push', 'home');
  });

  test('the processes of one repository keep dying: it comes back each time, after a longer pause', async () => {
    const first = daemon.lines.length;
    for (let death = 0; death < 3; death++) {
      const from = daemon.lines.length;
      process.kill(await daemon.child('chunker local'), 'SIGKILL');
      await daemon.logged(/ storage local: serves again$/, from);
    }
    const pauses = daemon.lines
      .slice(first)
      .map((line) => Number(/local: starts again in (\d+) ms/.exec(line)?.[1] ?? '0'))
      .filter((pauseMs) => pauseMs > 0);
    assert.equal(pauses.length, 3);
    assert.ok((pauses[0] ?? 0) < (pauses[2] ?? 0));
    await daemon.ok('push', 'home');
  });
});

test('a running job fails by name, with exit code 1, and what was acknowledged stays', async (t) => {
  const daemon = new Daemon({ stallTimeoutMs: 20_000 });
  const held: number[] = [];
  const release = (): void => {
    for (const pid of held.splice(0)) wake(pid);
  };
  t.after(() => {
    release();
    return daemon.clear();
  });
  await daemon.start();
  await daemon.ok('create');
  await daemon.ok('push', 'home');
  for (const name of ['storage local', 'crypto local/0', 'chunker local', 'scanner home', 'control']) {
    // more than there is memory for on its way, so that all are still at it
    writeLarge(daemon.path('source/large'), 64);
    const from = daemon.lines.length;
    const pid = await daemon.child(name);
    held.push(await daemon.child(name === 'crypto local/0' ? 'storage local' : 'crypto local/0'));
    const push = await holdPush(daemon, held[0] ?? 0);
    process.kill(pid, 'SIGKILL');
    await daemon.logged(new RegExp(` ${name}: died: killed by SIGKILL$`), from);
    release();
    const { code, stderr } = await push.done;
    assert.equal(code, 1, `${name}: ${stderr}`);
    if (name !== 'control') assert.match(stderr, new RegExp(`push home: ${name}: killed by SIGKILL`));
    assert.equal((await daemon.ok('ls')).trim().split('\n').length, 1, name);
    // so that the scanner runs again
    if (name === 'scanner home') await daemon.ok('rm', (await daemon.ok('-q', 'push', 'home')).trim());
  }
  await daemon.ok('push', 'home');
  assert.equal((await daemon.run('check')).code, 0);
});
