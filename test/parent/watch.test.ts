/** A real daemon pushes a watched source when it changes, looks at what changed alone, and says when it cannot watch. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Daemon, USERS } from './daemon.ts';

describe('a watched source', () => {
  let daemon: Daemon;
  let holder: ChildProcess | undefined;
  before(async () => {
    daemon = new Daemon();
    for (const name of ['a/b', 'c/d', 'e']) fs.mkdirSync(daemon.path(`source/${name}`), { recursive: true });
    await daemon.start();
    await daemon.ok('create');
  });
  after(async () => {
    holder?.kill('SIGKILL');
    await daemon.clear();
  });

  const pushed = (from: number): Promise<string> =>
    daemon.logged(/parent: push home to local: snapshot /, from);
  const sourceLine = async (): Promise<string> =>
    (await daemon.ok('status')).split('\n').find((line) => line.startsWith('  home ')) ?? '';

  test('is pushed as a whole, and watched from then on', async () => {
    const from = daemon.lines.length;
    daemon.configure('push "home" to "local"', 'watch settle 1s');
    await daemon.ok('reload');
    await pushed(from);
    assert.match(await sourceLine(), / 6 directories watched$/);
  });

  test('is pushed when something in it changes, and only what changed is visited', async () => {
    const from = daemon.lines.length;
    const trace = daemon.begin('trace', 'walk');
    // it is traced when a status has come back that was asked for after it
    for (;;) if (/tracers\S* 1\n/.test(await daemon.ok('metrics'))) break;
    fs.mkdirSync(daemon.path('source/a/new/deep'), { recursive: true });
    fs.writeFileSync(daemon.path('source/a/new/deep/file'), 'in a directory that was made just now');
    fs.renameSync(daemon.path('source/e'), daemon.path('source/c/moved'));
    await pushed(from);
    trace.process.kill('SIGINT');
    const { stdout } = await trace.done;
    assert.match(stdout, /open directory deep\n/);
    assert.doesNotMatch(stdout, /open directory [bd]\n|everything/);
    const listed = await daemon.ok('ls', 'latest');
    for (const name of ['a', 'c']) assert.match(listed, new RegExp(`${name}\\n`));
    assert.match(await daemon.ok('ls', `latest:${daemon.path('source/c')}`), /moved/);
    const file = `latest:${daemon.path('source/a/new/deep/file')}`;
    assert.equal(await daemon.ok('cat', file), 'in a directory that was made just now');
  });

  test('whose scanner died is pushed as a whole: what it had seen is lost', async () => {
    const from = daemon.lines.length;
    process.kill(await daemon.child('scanner home'), 'SIGKILL');
    fs.writeFileSync(daemon.path('source/c/d/file'), 'nobody saw this');
    await pushed(from);
    assert.equal(await daemon.ok('cat', `latest:${daemon.path('source/c/d/file')}`), 'nobody saw this');
  });

  test('that cannot be watched is pushed nevertheless, and that is said', async () => {
    holder = spawn(process.execPath, [path.join(import.meta.dirname, 'instances.ts'), `${USERS.scanner}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.ok(holder.stdout);
    await once(holder.stdout, 'data');
    const from = daemon.lines.length;
    process.kill(await daemon.child('scanner home'), 'SIGKILL');
    const said = /scanner home: cannot watch: inotify_init1: too many open files; .*max_user_instances/;
    await daemon.logged(said, from);
    await pushed(from);
    assert.match(await sourceLine(), /NOT WATCHED: .*; scanned at an interval$/);
    const [push] = (await daemon.status()).pushes as { next: string; last: string }[];
    assert.ok(push);
    assert.ok(Date.parse(push.next) - Date.parse(push.last) <= 300_000);
  });
});
