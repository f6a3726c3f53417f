/** What a real daemon logs, and what it tells those who watch, scrape, start or manage it. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openLog } from '../../src/log.ts';
import { isJournal, journal } from '../../src/processes/parent/journal.ts';
import { hasSyslog, syslog } from '../../src/processes/parent/syslog.ts';
import { Daemon, lives } from './daemon.ts';
import { parseOpenMetrics } from './openmetrics.ts';

const PLAKARD = path.join(import.meta.dirname, '../../src/plakard.ts');

test('an event is one line, as text or JSON, whatever is in it', () => {
  const lines: string[] = [];
  const now = (): Date => new Date(0);
  const log = openLog('text', false, (line, level) => lines.push(`${level} ${line}`), { now });
  log.info('two\nlines \x1b[31m', { process: 'storage local' });
  log.debug('unseen', { process: 'parent' });
  log.verbose = true;
  log.debug('seen', { process: 'parent' });
  openLog('json', false, (line) => lines.push(line), { now }).error('a "quote"\n', { process: 'control' });
  assert.deepEqual(lines.slice(0, 2), [
    'info 1970-01-01T00:00:00.000Z storage local: two?lines ?[31m\n',
    'debug 1970-01-01T00:00:00.000Z parent: seen\n',
  ]);
  assert.equal(lines.length, 3);
  assert.equal(JSON.parse(lines[2] ?? '').msg, 'a "quote"\n');
  assert.equal(lines[2]?.trimEnd().includes('\n'), false);
});

describe('a daemon in the foreground', () => {
  let daemon: Daemon;
  before(async () => {
    daemon = new Daemon();
    daemon.environment.CREDENTIALS_DIRECTORY = daemon.path('credentials');
    await daemon.start();
    await daemon.ok('create');
  });
  after(() => daemon.clear());

  test('logs jobs and how they ended, in the name of their process', async () => {
    await daemon.ok('push', 'home');
    await daemon.logged(/Z control: push home to local: done$/);
    const { code } = await daemon.run('check', 'dead');
    assert.notEqual(code, 0);
    await daemon.logged(/Z control: check local: .*dead/);
  });

  test('logs more, and less, when told to', async () => {
    await daemon.ok('log', 'verbose');
    let from = daemon.lines.length;
    await daemon.ok('push', 'home');
    await daemon.logged(/control: push home to local for 0$/, from);
    await daemon.ok('log', 'brief');
    from = daemon.lines.length;
    await daemon.ok('push', 'home');
    await daemon.logged(/push home to local: done$/, from);
    assert.ok(!daemon.lines.slice(from).some((line) => line.endsWith('for 0')));
    assert.equal((await daemon.run('log', 'loudly')).code, 2);
  });

  test('logs for machines, and for people again, as the configuration says', async () => {
    daemon.configure('set log json');
    const from = daemon.lines.length;
    await daemon.ok('reload');
    const line = await daemon.logged(/reloaded/, from);
    const { level, process: name, msg } = JSON.parse(line) as Record<string, unknown>;
    assert.deepEqual([level, name, msg], [30, 'parent', `reloaded ${daemon.path('plakard.conf')}`]);
    daemon.configure();
    await daemon.ok('reload');
    await daemon.logged(/Z parent: reloaded/, from);
  });

  test('tells events of all jobs to any number who watch', async () => {
    const watchers = [daemon.begin('-j', 'monitor'), daemon.begin('-j', 'monitor')];
    const heard = watchers.map(async ({ process: watcher }) => {
      const kinds: string[] = [];
      assert.ok(watcher.stdout);
      for await (const line of createInterface(watcher.stdout)) {
        const event = JSON.parse(line) as { kind: string; operation: string };
        if (event.operation === 'push') kinds.push(event.kind);
        if (event.kind === 'over') break;
      }
      return kinds;
    });
    while (!/^plakard_watchers 2$/m.test(await daemon.ok('metrics')));
    await daemon.ok('push', 'home');
    for (const kinds of await Promise.all(heard)) {
      assert.equal(kinds[0], 'begun');
      assert.equal(kinds.at(-1), 'over');
    }
    for (const { process: watcher, done } of watchers) {
      watcher.kill('SIGINT');
      assert.equal((await done).code, 130);
    }
  });

  test('gives metrics as OpenMetrics text: ages, durations, sizes, errors and queues', async () => {
    daemon.configure('push "home" to "local" every 1h');
    await daemon.ok('reload');
    await daemon.ok('push', 'home');
    await daemon.run('check', 'dead');
    let values = parseOpenMetrics(await daemon.ok('metrics'));
    // asked for after the push, and not waited for by it
    while (!values.has('plakard_repository_stored_bytes{repository="local"}'))
      values = parseOpenMetrics(await daemon.ok('metrics'));
    const of = (name: string, labels: string): number =>
      values.get(`plakard_${name}{${labels}}`) ?? Number.NaN;
    const push = 'operation="push",repository="local",result="ok",source="home"';
    const home = 'repository="local",source="home"';
    assert.ok(of('jobs_over_total', push) >= 1);
    assert.ok(of('jobs_seconds_total', push) > 0);
    assert.ok(of('jobs_bytes_total', push) >= 'contents'.length);
    assert.ok(of('job_last_duration_seconds', push) > 0);
    assert.ok(of('jobs_over_total', 'operation="check",repository="local",result="failed"') >= 1);
    assert.ok(of('repository_stored_bytes', 'repository="local"') > 0);
    assert.ok(of('repository_snapshots', 'repository="local"') >= 1);
    assert.equal(of('push_missed', home), 0);
    assert.ok(of('push_last_good_age_seconds', home) >= 0);
    assert.ok(of('push_next_timestamp_seconds', home) > Date.now() / 1000);
    assert.equal(of('processes', 'role="parent"'), 1);
  });

  test('writes them to a file, whole, while the configuration says so', async () => {
    const file = daemon.path('plakard.prom');
    daemon.configure(`set metrics file "${file}"`);
    await daemon.ok('reload');
    while (!fs.existsSync(file)) await daemon.ok('status');
    assert.ok(parseOpenMetrics(fs.readFileSync(file, 'utf8')).size > 0);
    assert.equal(fs.statSync(file).mode & 0o777, 0o644);
    daemon.configure();
    await daemon.ok('reload');
    assert.equal(fs.existsSync(file), false);
  });

  test("takes a repository's secret from the service manager", async () => {
    fs.mkdirSync(daemon.path('credentials'), { mode: 0o700 });
    const passed = `repository "passed" at "${daemon.path('passed')}" {\n key credential "passed.key"\n}\n`;
    daemon.configure(passed);
    const { code, stderr } = await daemon.run('reload');
    assert.equal(code, 1);
    assert.match(stderr, /key file .*\/credentials\/passed\.key: no such file or directory/);
    fs.writeFileSync(daemon.path('credentials/passed.key'), randomBytes(32), { mode: 0o400 });
    await daemon.ok('reload');
    await daemon.ok('on', 'passed', 'create');
    await daemon.ok('on', 'passed', 'push', 'home');
    daemon.configure();
    await daemon.ok('reload');
  });
});

describe('a daemon in the background', () => {
  const start = (daemon: Daemon) =>
    spawnSync(process.execPath, [PLAKARD, '-f', daemon.path('plakard.conf')], { encoding: 'utf8' });

  test('is ready when the command returns, with its process id in the state directory', async (t) => {
    const daemon = new Daemon();
    t.after(async () => {
      await daemon.run('stop');
      await daemon.clear();
    });
    const { status, stderr } = start(daemon);
    assert.equal(status, 0, stderr);
    const pid = Number(fs.readFileSync(daemon.path('state/plakard.pid'), 'utf8'));
    assert.equal(((await daemon.status()) as { pid?: number }).pid, pid);
    const second = start(daemon);
    assert.equal(second.status, 11);
    assert.match(second.stderr, /^plakard: listen on .*socket: another plakard serves it \(.*\)\n$/);
    await daemon.ok('stop');
    while (lives(pid)) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(fs.existsSync(daemon.path('state/plakard.pid')), false);
  });

  test('that cannot start says why, where it was started', (t) => {
    const daemon = new Daemon();
    t.after(() => daemon.clear());
    fs.writeFileSync(daemon.path('socket'), 'no socket');
    const { status, stderr } = start(daemon);
    assert.equal(status, 1);
    assert.match(stderr, /^plakard: listen on .*socket: there is something that is not a socket\n$/);
  });
});

/** Reads datagrams at `socket` in a process of its own, as node:net knows none of that kind. */
async function receive(t: TestContext, socket: string) {
  const receiver = spawn(process.execPath, [fileURLToPath(new URL('manager.ts', import.meta.url)), socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => receiver.kill());
  const lines: string[] = [];
  let wake = (): void => undefined;
  createInterface(receiver.stdout).on('line', (line) => {
    lines.push(line);
    wake();
  });
  const heard = async (pattern: RegExp, from = 0): Promise<void> => {
    while (!lines.slice(from).some((line) => pattern.test(line)))
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  };
  const end = async (): Promise<void> => {
    receiver.kill();
    await once(receiver, 'exit');
  };
  await heard(/^listening$/);
  return { lines, heard, end };
}

test('syslog gets lines with their severity, and what takes over while it is away', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  const socket = path.join(directory, 'log');
  const fallen: string[] = [];
  const write = syslog((line) => fallen.push(line), 4711, socket);
  assert.equal(hasSyslog(socket), false);
  const event = { time: '', level: 'error', process: '', text: '', more: {} } as const;
  write('parent: nobody there\n', 'error', event);
  assert.deepEqual(fallen, ['parent: nobody there\n']);
  for (let life = 0; life < 2; life++) {
    const { heard, end } = await receive(t, socket);
    write('storage local: a line\n', 'error', event);
    await heard(/^<27>plakard\[4711\]: storage local: a line$/);
    write('parent: another\n', 'info', event);
    await heard(/^<30>plakard\[4711\]: parent: another$/);
    await end();
    fs.unlinkSync(socket);
  }
  assert.equal(fallen.length, 1);
  fs.rmSync(directory, { recursive: true });
});

test('the journal gets level, process and what an event is about as fields', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  const socket = path.join(directory, 'journal');
  const fallen: string[] = [];
  const log = openLog(
    'text',
    false,
    journal((line) => fallen.push(line), socket),
  );
  log.warn('nobody there', { process: 'parent' });
  assert.match(fallen.join(), /Z parent: nobody there\n$/);
  const { lines, heard, end } = await receive(t, socket);
  log.error('no space\nPRIORITY=0', { process: 'storage local', source: 'home' });
  await heard(/^PLAKARD_SOURCE=home$/);
  assert.deepEqual(
    lines.slice(1).filter((line) => line !== ''),
    [
      'MESSAGE=storage local: no space?PRIORITY=0',
      'PRIORITY=3',
      'SYSLOG_IDENTIFIER=plakard',
      'PLAKARD_PROCESS=storage local',
      'PLAKARD_SOURCE=home',
    ],
  );
  await end();
  const file = fs.openSync(path.join(directory, 'stream'), 'w');
  const { dev, ino } = fs.fstatSync(file);
  assert.equal(isJournal({ JOURNAL_STREAM: `${dev}:${ino}` }, file), true);
  for (const other of [undefined, '', `${dev}:${ino + 1}`])
    assert.equal(isJournal({ JOURNAL_STREAM: other }, file), false);
  fs.closeSync(file);
  fs.rmSync(directory, { recursive: true });
});

test('the service manager hears of it: ready, alive, reloading and stopping', async (t) => {
  const daemon = new Daemon();
  t.after(() => daemon.clear());
  const socket = daemon.path('notify');
  const { lines, heard, end } = await receive(t, socket);
  Object.assign(daemon.environment, { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '200000' });
  await daemon.start();
  await heard(/^READY=1$/);
  await heard(new RegExp(`^MAINPID=${daemon.pid}$`));
  await heard(/^WATCHDOG=1$/);
  // whoever asks for the reload, and however it ends
  const reloads = [
    async () => daemon.kill('SIGHUP'),
    async () => void (await daemon.ok('reload')),
    async () => {
      daemon.write('nonsense');
      await daemon.run('reload');
    },
  ];
  let from = 0;
  for (const reload of reloads) {
    from = lines.length;
    await reload();
    await heard(/^RELOADING=1$/, from);
    await heard(/^MONOTONIC_USEC=\d+$/, from);
    await heard(/^READY=1$/, from);
    await heard(/^STATUS=/, from);
  }
  assert.match(lines.slice(from).join('\n'), /^STATUS=not reloaded: the configuration has errors$/m);
  await daemon.ok('stop');
  await heard(/^STOPPING=1$/, from);
  await end();
});
