/** Starting, connecting, dying and stopping, with real processes. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { describe as words } from '../../src/error.ts';
import { child } from '../../src/privsep/declare.ts';
import type { Exit } from '../../src/privsep/start.ts';
import { chunker, crypto, Family, family, NAMES, storage, USERS } from './family.ts';

/** Whether a process exists that is not yet dead. */
function lives(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

async function rejection(promise: Promise<unknown>): Promise<string> {
  let text = '';
  await promise.catch((error: unknown) => {
    text = words(error);
  });
  return text;
}

test('declared peers are connected at the barrier, and nobody else', async () => {
  const made = family();
  await made.start(NAMES);
  assert.equal(await made.ask('chunker local', 'ask', 'storage local'), 'storage local');
  assert.equal(await made.ask('chunker local', 'ask', 'crypto local/2'), 'crypto local/2');
  assert.equal(await made.ask('storage local', 'ask', 'chunker local'), 'chunker local');
  assert.equal(await made.ask('chunker local', 'peers', 'crypto'), 'local/1 local/2');
  assert.equal(await made.ask('crypto local/1', 'ask', 'crypto local/2'), 'no channel');
  assert.equal(await made.ask('scanner home', 'ask', 'storage local'), 'no channel');
  assert.equal(await made.ask('scanner home', 'ask', 'chunker local'), 'no channel');
  assert.match(
    await rejection(made.connect('scanner home', 'storage local')),
    /^connect scanner home and storage local: neither is declared to talk/,
  );
  await made.connect('scanner home', 'chunker local');
  assert.equal(await made.ask('scanner home', 'ask', 'chunker local'), 'chunker local');
  await made.shutdown();
});

test('a group that starts later is connected, and only within itself', async () => {
  const made = family();
  await made.start(['storage local', 'chunker local']);
  made.declare(storage(made, 'remote'), crypto(made, 'remote'), chunker(made, 'remote'));
  await made.start(['crypto remote/1', 'chunker remote', 'storage remote']);
  await made.start(['crypto local/1']);
  assert.equal(await made.ask('chunker remote', 'ask', 'crypto remote/1'), 'crypto remote/1');
  assert.equal(await made.ask('chunker remote', 'ask', 'storage local'), 'no channel');
  assert.equal(await made.ask('chunker local', 'ask', 'crypto local/1'), 'crypto local/1');
  await made.shutdown();
});

test('two starts at once share children and channels', async () => {
  const made = family();
  await Promise.all([
    made.start(['storage local', 'chunker local']),
    made.start(['chunker local', 'crypto local/1']),
    made.start(['storage local']),
  ]);
  assert.deepEqual(made.running.toSorted(), ['chunker local', 'crypto local/1', 'storage local']);
  assert.equal(await made.ask('crypto local/1', 'ask', 'storage local'), 'storage local');
  assert.equal(await made.ask('chunker local', 'ask', 'crypto local/1'), 'crypto local/1');
  await made.shutdown();
});

test('a child that is killed is reported by name and signal; restarted, it is connected again', async () => {
  const made = family();
  await made.start(NAMES);
  await made.connect('control', 'storage local');
  const death = once(made, 'death') as Promise<[Exit]>;
  process.kill(made.pid('storage local') ?? 0, 'SIGKILL');
  const [exit] = await death;
  assert.equal(words(exit.failure), 'storage local: killed by SIGKILL');
  assert.equal(exit.signal, 'SIGKILL');
  assert.equal(made.isRunning('storage local'), false);
  await made.start(['storage local']);
  for (const name of ['chunker local', 'crypto local/1', 'control'])
    assert.equal(await made.ask(name, 'ask', 'storage local'), 'storage local');
  await made.restart(['chunker local', 'storage local']);
  assert.equal(await made.ask('chunker local', 'ask', 'storage local'), 'storage local');
  assert.equal(await made.ask('control', 'ask', 'storage local'), 'storage local');
  await made.shutdown();
});

test('without anyone who listens, a death stops everything in order', async () => {
  const made = family();
  const { directory } = made;
  const order: string[] = [];
  made.on('exit', (exit) => order.push(exit.name));
  made.atEnd(() => order.push('cleaned up'));
  await made.start(NAMES);
  const pids = NAMES.map((name) => made.pid(name) ?? 0);
  process.kill(made.pid('crypto local/2') ?? 0, 'SIGABRT');
  assert.equal(words(await made.finished), 'crypto local/2: killed by SIGABRT');
  const rest = ['control', 'scanner home', 'chunker local', 'crypto local/1', 'storage local'];
  assert.deepEqual(order, ['crypto local/2', ...rest, 'cleaned up']);
  assert.deepEqual(
    made.lines.filter((line) => line.endsWith('stopped')),
    rest.map((name) => `${name}: stopped`),
  );
  assert.deepEqual(pids.filter(lives), []);
  assert.equal(fs.existsSync(directory), false);
  assert.match(await rejection(made.start(['control'])), /stopping/);
});

test('a parent that is killed takes its children with it, even one that is busy', async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  fs.chmodSync(directory, 0o755);
  const parent = spawn(process.execPath, [fileURLToPath(new URL('hold.ts', import.meta.url))], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { TMPDIR: directory },
  });
  const [line] = (await once(createInterface(parent.stdout), 'line')) as [string];
  const pids = line.split(' ').map(Number);
  assert.equal(pids.filter(lives).length, NAMES.length);
  // all of them hold the pipe that we read; its end is theirs
  const pipes = pids.map((pid) => fs.readlinkSync(`/proc/${pid}/fd/1`));
  assert.deepEqual(new Set(pipes), new Set([fs.readlinkSync(`/proc/${parent.pid}/fd/1`)]));
  // one of them cannot see that its channel closes
  process.kill(pids[0] ?? 0, 'SIGSTOP');
  const end = once(parent.stdout, 'end');
  parent.kill('SIGKILL');
  await end;
  fs.rmSync(directory, { recursive: true });
});

test('a root directory that is missing is named, with what to do', async () => {
  const made = family();
  made.declare(
    child('storage').instance('away').user(USERS.plakarq).chroot('/nowhere/at/all').profile('storage'),
  );
  assert.match(
    await rejection(made.start(['storage away', 'crypto local/1'])),
    /^start storage away: enter root directory \/nowhere\/at\/all: .*no such file.*\(create the directory \/nowhere\/at\/all, owned by root\)$/,
  );
  // the others of that start are gone too
  assert.deepEqual(made.running, []);
  await made.shutdown();
});

test('a role that cannot set itself up, dies, hangs or is unknown is named', async () => {
  const made = family();
  const hasty = family({ startTimeoutMs: 1500 });
  const broken = (settings: string) =>
    child('crypto')
      .instance(settings)
      .user(USERS.plakarc)
      .chroot(made.path('empty'))
      .profile('worker')
      .settings(settings);
  made.declare(broken('fail'), broken('die'));
  hasty.declare(broken('hang'));
  made.declare(child('nobody').user(1).chroot(made.path('empty')).profile('worker'));
  assert.equal(await rejection(made.start(['crypto fail'])), 'start crypto fail: cannot set up');
  assert.equal(await rejection(made.start(['crypto die'])), 'start crypto die: killed by SIGABRT');
  assert.equal(await rejection(hasty.start(['crypto hang'])), 'start crypto hang: not ready after 1500 ms');
  assert.equal(
    await rejection(made.start(['nobody'])),
    'start nobody: load role nobody: this program has none such',
  );
  assert.equal(await rejection(made.start(['unheard of'])), 'start unheard of: it is not declared');
  assert.deepEqual([...made.running, ...hasty.running], []);
  await Promise.all([made.shutdown(), hasty.shutdown()]);
});

test('a child that fails at work says why', async () => {
  const made = family();
  await made.start(['crypto local/1', 'crypto local/2']);
  let death = once(made, 'death') as Promise<[Exit]>;
  await made.ask('crypto local/1', 'throw');
  assert.equal(words((await death)[0].failure), 'crypto local/1: a bug');
  death = once(made, 'death') as Promise<[Exit]>;
  await assert.rejects(made.ask('crypto local/2', 'exit', '', [7]));
  assert.equal(words((await death)[0].failure), 'crypto local/2: exited with code 7');
  await made.shutdown();
});

test('a child that breaks the rules towards its parent dies of it', async () => {
  const made = family();
  await made.start(['crypto local/1', 'storage local']);
  const death = once(made, 'death') as Promise<[Exit]>;
  made.ask('crypto local/1', 'insult parent').catch(() => undefined);
  const [exit] = await death;
  assert.equal(exit.name, 'crypto local/1');
  assert.match(words(exit.failure), /^crypto local\/1: channel crypto local\/1: unknown message 42$/);
  assert.equal(await made.ask('storage local', 'ids'), '61003:61004');
  await made.shutdown();
});

test('a child that breaks the rules towards a peer loses that channel, and its life; the others are left alone', async () => {
  const made = family();
  await made.start(['chunker local', 'crypto local/1', 'storage local']);
  const complaint = once(made, 'complaint');
  const death = once(made, 'death');
  // it may be killed before it answers
  made.ask('crypto local/1', 'insult', 'storage').catch(() => undefined);
  const [name, peer] = await complaint;
  assert.equal(name, 'storage local');
  assert.deepEqual({ ...(peer as object) }, { role: 'crypto', instance: 'local/1' });
  const [exit] = (await death) as [{ name: string; signal: string; failure: Error }];
  assert.deepEqual([exit.name, exit.signal], ['crypto local/1', 'SIGKILL']);
  assert.match(words(exit.failure), /^crypto local\/1: channel crypto local\/1: unknown message 41$/);
  assert.equal(await made.ask('chunker local', 'ask', 'storage local'), 'storage local');
  assert.equal(await made.ask('storage local', 'ask', 'crypto local/1'), 'no channel');
  await made.shutdown();
});

test('a child that does not stop is terminated, then killed', async () => {
  const made = family({ stopTimeoutMs: 200, termTimeoutMs: 200 });
  await made.start(['crypto local/1', 'crypto local/2']);
  await made.ask('crypto local/1', 'spin at stop');
  process.kill(made.pid('crypto local/2') ?? 0, 'SIGSTOP');
  const exits: string[] = [];
  made.on('exit', (exit) => exits.push(`${exit.name} ${exit.signal} ${exit.wanted}`));
  await made.shutdown();
  assert.deepEqual(exits, ['crypto local/2 SIGKILL true', 'crypto local/1 SIGTERM true']);
  assert.equal(await made.finished, undefined);
});

test('a child that is stopped, or spins, is killed as stalled and can be started again; the others are left alone', async () => {
  const made = family({ stallTimeoutMs: 1500 });
  await made.start(NAMES);
  const stall = async (name: string, how: () => unknown): Promise<string> => {
    const death = once(made, 'death') as Promise<[Exit]>;
    how();
    const [exit] = await death;
    assert.equal(exit.name, name);
    assert.equal(exit.signal, 'SIGKILL');
    return words(exit.failure);
  };
  assert.equal(
    await stall('crypto local/1', () => process.kill(made.pid('crypto local/1') ?? 0, 'SIGSTOP')),
    'crypto local/1: stalled: no sign of life for 1500 ms, killed',
  );
  assert.match(
    await stall('storage local', () => made.ask('storage local', 'spin')),
    /^storage local: stalled/,
  );
  await made.start(['crypto local/1', 'storage local']);
  assert.equal(await made.ask('crypto local/1', 'ask', 'storage local'), 'storage local');
  assert.deepEqual(made.running.toSorted(), NAMES.toSorted());
  await made.shutdown();
});

test('a child that may compute for long is not taken for stalled', async () => {
  const made = family({ stallTimeoutMs: 1500 });
  made.declare(crypto(made, 'local', 3).mayComputeFor(60_000));
  await made.start(['crypto local/3', 'control']);
  process.kill(made.pid('crypto local/3') ?? 0, 'SIGSTOP');
  const death = once(made, 'death') as Promise<[Exit]>;
  process.kill(made.pid('control') ?? 0, 'SIGSTOP');
  assert.equal((await death)[0].name, 'control');
  assert.deepEqual(made.running, ['crypto local/3']);
  process.kill(made.pid('crypto local/3') ?? 0, 'SIGCONT');
  await made.shutdown();
});

test('killing is at once, and wanted', async () => {
  const made = family();
  await made.start(NAMES);
  const exits: string[] = [];
  made.on('exit', (exit) => exits.push(`${exit.name} ${exit.signal} ${exit.wanted}`));
  process.kill(made.pid('storage local') ?? 0, 'SIGSTOP');
  await made.kill(['storage local', 'chunker local', 'crypto unheard of']);
  assert.deepEqual(exits.toSorted(), ['chunker local SIGKILL true', 'storage local SIGKILL true']);
  await made.shutdown();
});

test('a running child is neither declared anew nor forgotten', async () => {
  const made = new Family();
  made.declare(crypto(made));
  await made.start(['crypto local/1']);
  assert.throws(() => made.declare(crypto(made)), /declare child crypto local\/1/);
  assert.throws(() => made.forget('crypto local/1'), /forget child/);
  await made.stop(['crypto local/1']);
  made.declare(crypto(made));
  made.forget('crypto local/1');
  assert.match(await rejection(made.start(['crypto local/1'])), /not declared/);
  await made.shutdown();
});

test('starting and stopping leaves no descriptor behind', async () => {
  const made = family();
  const count = (): number => fs.readdirSync('/proc/self/fd').length;
  await made.start(['crypto local/1', 'storage local']);
  const before = count();
  for (let i = 0; i < 3; i++) await made.restart(['crypto local/1', 'storage local']);
  made.declare(child('storage').instance('away').user(1).chroot('/nowhere').profile('storage'));
  await assert.rejects(made.start(['storage away']));
  assert.equal(count(), before);
  made.declare(
    child('storage')
      .instance('large')
      .user(1)
      .chroot('/')
      .profile('storage')
      .settings('x'.repeat(2 << 20)),
  );
  assert.match(
    await rejection(made.start(['storage large'])),
    /^start storage large: settings of \d+ bytes are too large$/,
  );
  assert.equal(count(), before);
  await made.shutdown();
});
