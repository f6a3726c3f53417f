/** A real daemon reads its configuration again: all of it or nothing, and under no running job. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Daemon, holdPush, writeLarge } from './daemon.ts';

describe('reload', () => {
  let daemon: Daemon;
  before(async () => {
    daemon = new Daemon();
    await daemon.start();
    await daemon.ok('create');
    fs.mkdirSync(daemon.path('other'));
    fs.writeFileSync(daemon.path('other/more'), 'more');
  });
  after(() => daemon.clear());

  const other = (): string => `source "other" {\n path "${daemon.path('other')}"\n}\n`;

  test('a bad file changes nothing, and every error is told to whoever asked', async () => {
    daemon.configure(`${other()}push "nowhere" to "local"\nnonsense here\n`);
    const from = daemon.lines.length;
    const { code, stderr } = await daemon.run('reload');
    assert.equal(code, 1);
    const lines = stderr.trim().split('\n');
    assert.equal(lines.length, 2, stderr);
    for (const line of lines)
      assert.match(
        line,
        /^plakarctl: reload: .*plakard\.conf:\d+:\d+: .*(nonsense|nowhere).* \(nothing was changed\)$/,
      );
    await daemon.logged(/cannot be used as it is; what runs goes on$/, from);
    assert.equal((await daemon.run('push', 'other')).code, 1);
    await daemon.ok('push', 'home');
  });

  test('a good one is applied: sources come and go', async () => {
    daemon.configure(other());
    await daemon.ok('reload');
    await daemon.ok('push', 'other');
    daemon.configure();
    await daemon.ok('reload');
    assert.match((await daemon.run('push', 'other')).stderr, /no such source/);
  });

  test('what cannot change while running is refused, whole', async () => {
    const path = daemon.path('plakard.conf');
    const text = fs.readFileSync(path, 'utf8');
    daemon.write(`${text.replace(/\/socket"/, '/elsewhere"')}${other()}`);
    assert.match((await daemon.run('reload')).stderr, /the socket changed \(restart plakard\)/);
    assert.match((await daemon.run('push', 'other')).stderr, /no such source/);
    daemon.configure();
    await daemon.ok('reload');
  });

  test('a change on disk is logged once, and applied by itself only where that is said', async () => {
    let from = daemon.lines.length;
    daemon.configure(other());
    await daemon.logged(/differs from what runs \(plakarctl reload applies it\)$/, from);
    from = daemon.lines.length;
    daemon.configure('');
    await daemon.logged(/is what runs again$/, from);
    daemon.configure('set reload automatic');
    await daemon.ok('reload');
    from = daemon.lines.length;
    daemon.configure(`set reload automatic\n${other()}`);
    await daemon.logged(/parent: reloaded/, from);
    await daemon.ok('push', 'other');
    daemon.configure();
    await daemon.ok('reload');
  });

  test('a storm of SIGHUP does no harm', async () => {
    const from = daemon.lines.length;
    for (let i = 0; i < 200; i++) daemon.kill('SIGHUP');
    await daemon.logged(/parent: reloaded/, from);
    await daemon.ok('push', 'home');
    await daemon.ok('reload');
    const reloads = daemon.lines.slice(from).filter((line) => line.includes('reloaded'));
    assert.ok(reloads.length < 200);
  });

  test('a running job finishes under the old configuration, and the next runs under the new', async () => {
    writeLarge(daemon.path('source/large'), 5);
    const held = await daemon.child('crypto local/0');
    const push = await holdPush(daemon, held);
    daemon.configure('', `exclude "large"`);
    const from = daemon.lines.length;
    await daemon.ok('reload');
    await daemon.logged(/source home changes when its 1 running jobs are over$/, from);
    process.kill(held, 'SIGCONT');
    const { code, stdout } = await push.done;
    assert.equal(code, 0);
    const latest = async (): Promise<string> => await daemon.ok('ls', 'latest');
    assert.match(await latest(), /large/, stdout);
    await daemon.ok('push', 'home');
    assert.doesNotMatch(await latest(), /large/);
  });
});
