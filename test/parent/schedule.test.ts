/** A real daemon pushes by itself, runs what a source wants run, and says what it did not keep. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Daemon, lives } from './daemon.ts';

interface PushState {
  readonly failures: number;
  readonly missed: boolean;
  readonly text?: string;
  readonly good?: string;
  readonly next?: string;
  readonly snapshot?: string;
}

async function stateOf(daemon: Daemon): Promise<PushState> {
  const [state] = (await daemon.status()).pushes as PushState[];
  assert.ok(state);
  return state;
}

describe('the schedule', () => {
  let daemon: Daemon;
  before(() => {
    daemon = new Daemon();
  });
  after(() => daemon.clear());

  test('pushes fail while there is no repository: that is said, and missed', async () => {
    daemon.configure('push "home" to "local" every 1s');
    await daemon.start();
    await daemon.logged(/parent: push home to local: .*there is no repository/);
    await daemon.logged(/parent: push home to local: no snapshot within twice its interval$/);
    const state = await stateOf(daemon);
    assert.equal(state.missed, true);
    assert.ok(state.failures > 0);
    assert.match(state.text ?? '', /there is no repository/);
    assert.match(await daemon.ok('status'), /home to local .*ERROR: no snapshot within twice its interval/);
  });

  test('once there is one, they happen by themselves, one after another', async () => {
    await daemon.ok('create');
    const from = daemon.lines.length;
    const first = await daemon.logged(/push home to local: snapshot /, from);
    await daemon.logged(/push home to local: snapshot /, daemon.lines.indexOf(first) + 1);
    const state = await stateOf(daemon);
    assert.equal(state.failures, 0);
    assert.equal(state.missed, false);
    assert.match(await daemon.ok('ls'), new RegExp(state.snapshot ?? 'none'));
  });

  test('what is known survives a restart, and a push that was asked for counts', async () => {
    daemon.configure('push "home" to "local" every 1h');
    await daemon.ok('reload');
    const before = await stateOf(daemon);
    await daemon.ok('stop');
    await daemon.ended();
    await daemon.start();
    const again = await stateOf(daemon);
    assert.equal(again.snapshot, before.snapshot);
    assert.equal(again.next, before.next);
    const made = (await daemon.ok('-q', 'push', 'home')).trim();
    const state = await stateOf(daemon);
    assert.equal(state.snapshot, made);
    assert.equal(state.next, before.next);
  });
});

interface TaskState extends PushState {
  readonly name: string;
  readonly result?: string;
}

describe('what looks after a repository', () => {
  let daemon: Daemon;
  const configure = (inRepository: string, more = ''): void => {
    const text = fs.readFileSync(daemon.path('plakard.conf'), 'utf8');
    daemon.write(text.replace(/ {2}key file "[^"]*"/, `$&\n${inRepository}`) + more);
  };
  const tasks = async (): Promise<TaskState[]> => (await daemon.status()).tasks as TaskState[];
  before(async () => {
    daemon = new Daemon();
    await daemon.start();
    await daemon.ok('create');
  });
  after(() => daemon.clear());

  test('is done as it is due, one thing at a time, and remembered with what it came to', async () => {
    for (let i = 0; i < 3; i++) await daemon.ok('push', 'home');
    configure('keep last 2 every 10s\n check fast every 10s, full every 10s\n cleanup every 10s');
    const from = daemon.lines.length;
    await daemon.ok('reload');
    const done = [
      /parent: keep local: 1 of 3 snapshots removed$/,
      /parent: check fast local: [23] snapshots, \d+ chunks, no problem$/,
      /parent: check full local: [23] snapshots, \d+ chunks, no problem$/,
      /parent: cleanup local: \d+ bytes returned, \d+ bytes stored$/,
    ];
    for (const line of done) await daemon.logged(line, from);
    const states = await tasks();
    assert.deepEqual(
      states.map(({ name, failures }) => ({ name, failures })),
      ['keep local', 'check fast local', 'check full local', 'cleanup local'].map((name) => ({
        name,
        failures: 0,
      })),
    );
    assert.match(states[0]?.result ?? '', /\d of \d snapshots removed/);
    const [source] = (await daemon.status()).sources as { good?: string; snapshot?: string }[];
    assert.match(await daemon.ok('ls'), new RegExp(source?.snapshot ?? 'none'));
    assert.match(await daemon.ok('status'), /home .*last snapshot .* ago/);
  });

  test('keep after push removes when a push is over, and nothing without that word', async () => {
    daemon.configure();
    configure('keep last 1');
    await daemon.ok('reload');
    await daemon.ok('push', 'home');
    assert.equal((await daemon.ok('ls')).trim().split('\n').length, 3);
    assert.match(await daemon.ok('keep', '-n'), /remove\n/);
    daemon.configure();
    configure('keep last 1 after push');
    await daemon.ok('reload');
    const from = daemon.lines.length;
    await daemon.ok('push', 'home');
    await daemon.logged(/parent: keep local: 3 of 4 snapshots removed$/, from);
    assert.equal((await daemon.ok('ls')).trim().split('\n').length, 1);
  });

  test('nothing begins while the schedule is paused, also after a restart', async () => {
    await daemon.ok('pause', '1d');
    await daemon.ok('stop');
    await daemon.ended();
    daemon.configure('push "home" to "local" every 1s');
    await daemon.start();
    assert.match(await daemon.ok('status'), /paused since .*, until .*: nothing begins by itself/);
    await daemon.logged(/ready on/);
    const [push] = (await daemon.status()).pushes as PushState[];
    assert.ok(push !== undefined && !('last' in push));
    const from = daemon.lines.length;
    await daemon.ok('resume');
    await daemon.logged(/push home to local: snapshot /, from);
    assert.doesNotMatch(await daemon.ok('status'), /paused/);
  });

  test('a check that finds damage has failed, and names it', async () => {
    await daemon.ok('pause');
    const packs = fs
      .readdirSync(daemon.path('repository/packs'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile());
    for (const { parentPath, name } of packs) fs.truncateSync(`${parentPath}/${name}`, 40);
    daemon.configure();
    configure('check fast every 1s');
    await daemon.ok('reload');
    const from = daemon.lines.length;
    await daemon.ok('resume');
    await daemon.logged(/check local: packs\//, from);
    await daemon.logged(/parent: check fast local: .*problems/, from);
    const [state] = await tasks();
    assert.ok((state?.failures ?? 0) > 0);
    assert.match(await daemon.ok('status'), /check fast local .*never good|check fast local .*failed/);
  });
});

describe('commands of a source', () => {
  let daemon: Daemon;
  before(async () => {
    daemon = new Daemon({ hookTimeoutMs: 1500 });
    fs.mkdirSync(daemon.path('notes'), { mode: 0o777 });
    fs.chmodSync(daemon.path('notes'), 0o777);
    await daemon.start();
    await daemon.ok('create');
  });
  after(() => daemon.clear());

  const use = async (...lines: string[]): Promise<void> => {
    daemon.configure('', lines.join('\n'));
    await daemon.ok('reload');
  };
  const note = (name: string): string => fs.readFileSync(daemon.path(`notes/${name}`), 'utf8');

  test('run before and after, as that user, with an environment of their own', async () => {
    const notes = daemon.path('notes');
    await use(
      `run before "id -u > ${notes}/before; env >> ${notes}/before" as 61042`,
      `run before "grep NoNewPrivs /proc/self/status > ${notes}/privileges" as 61042`,
      `run after "echo $PLAKARD_RESULT $PLAKARD_SOURCE $PLAKARD_REPOSITORY > ${notes}/after" as 61042`,
    );
    await daemon.ok('push', 'home');
    await daemon.ok('push', 'home');
    const [uid, ...variables] = note('before').trim().split('\n');
    assert.equal(uid, '61042');
    const names = variables.map((line) => line.replace(/=.*/, ''));
    const own = ['HOME', 'LOGNAME', 'PATH', 'PLAKARD_REPOSITORY', 'PLAKARD_SOURCE', 'PLAKARD_WHEN', 'PWD'];
    for (const name of names)
      assert.ok([...own, 'SHELL', 'USER', 'OLDPWD', '_', 'SHLVL'].includes(name), name);
    assert.equal(note('after'), 'ok home local\n');
    assert.equal(note('privileges'), 'NoNewPrivs:\t1\n');
    assert.equal(fs.statSync(daemon.path('notes/before')).uid, 61042);
  });

  test('one that fails before stops the push, with what it printed; what runs after runs', async () => {
    await use(
      'run before "echo the database is away >&2; exit 3" as 61042',
      `run after "echo $PLAKARD_RESULT > ${daemon.path('notes')}/after" as 61042`,
    );
    const snapshots = await daemon.ok('ls');
    const { code, stderr } = await daemon.run('push', 'home');
    assert.equal(code, 1);
    assert.match(stderr, /push home: run before .*: the database is away: exited with code 3/);
    assert.equal(await daemon.ok('ls'), snapshots);
    assert.equal(note('after'), 'failed\n');
  });

  test('one that does not end is ended, with all that it started', async () => {
    await use(`run before "sleep 600 & echo $! > ${daemon.path('notes')}/pid; wait" as 61042`);
    const { code, stderr } = await daemon.run('push', 'home');
    assert.equal(code, 1);
    assert.match(stderr, /not done after 1500 ms/);
    while (lives(Number(note('pid')))) await new Promise((resolve) => setImmediate(resolve));
    await use();
    await daemon.ok('push', 'home');
  });
});
