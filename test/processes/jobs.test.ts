/** Jobs beside each other, and jobs that are given up: several clients, clients that are killed, interrupted, or hang. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { oneLine, Rig, type Running, until } from './daemon.ts';
import { assertSame, noise, plantOrdinary } from './tree.ts';

describe('jobs', () => {
  let rig: Rig;
  before(async () => {
    rig = new Rig();
    rig.configureUsual(`source "big" { path "${rig.path('big')}" }
source "split" { path "${rig.path('home')}", path "${rig.path('link')}/missing" }`);
    plantOrdinary(rig.path('home'));
    fs.mkdirSync(rig.path('link'));
    fs.mkdirSync(rig.path('link', 'missing'));
    fs.mkdirSync(rig.path('big'));
    // more than all slots together hold, so that storage must take some before the push can end
    for (let i = 0; i < 24; i++) fs.writeFileSync(rig.path('big', `${i}`), noise(`big ${i}`, 4 << 20));
    await rig.start();
    await rig.ok('create');
    await rig.push();
  });
  after(() => rig.end());

  const jobs = (): Promise<unknown[]> => rig.jobs();

  /** Starts a command while storage stands still, so that the command cannot end. */
  async function held(args: readonly string[], work: (running: Running) => Promise<void>): Promise<void> {
    const { pid } = rig.process('storage local');
    process.kill(pid, 'SIGSTOP');
    try {
      const running = rig.client(args);
      await until('the job is listed', async () => (await jobs()).length > 0);
      await work(running);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  }

  test('two pushes at once, and a check beside them', async () => {
    const [one, two, check] = await Promise.all([
      rig.push('home'),
      rig.push('big'),
      rig.ctl('check', '-fast'),
    ]);
    assert.equal(check.code, 0, check.stderr);
    await rig.ok('pull', '-to', rig.path('out one'), one);
    assertSame(rig.path('home'), rig.path('out one'));
    await rig.ok('pull', '-to', rig.path('out two'), two);
    assertSame(rig.path('big'), rig.path('out two'));
    assert.deepEqual(await jobs(), []);
  });

  test('many clients at once', async () => {
    const results = await Promise.all(
      Array.from({ length: 12 }, (_, i) => rig.ctl(...(i % 2 === 0 ? ['ls', 'latest'] : ['status']))),
    );
    for (const { code, stderr } of results) assert.equal(code, 0, stderr);
  });

  test('a client that is killed during its push leaves no job, and the next push works', async () => {
    for (const args of [
      ['push', 'home'],
      ['push', rig.path('home')],
    ])
      await held(args, async ({ process, result }) => {
        process.kill('SIGKILL');
        assert.equal((await result).signal, 'SIGKILL');
      });
    await until('no job is left', async () => (await jobs()).length === 0);
    await rig.push();
  });

  test('SIGINT and SIGTERM end a push with 130 and one line', async () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      await held(['push', 'home'], async ({ process, result }) => {
        process.kill(signal);
        assert.equal(oneLine(await result, 130), 'plakarctl: interrupted');
      });
    await until('no job is left', async () => (await jobs()).length === 0);
  });

  test('an interrupted pull leaves nothing half written', async () => {
    const id = await rig.push('big');
    const target = rig.path('half');
    const { process: client, result } = rig.client(['pull', '-to', target, id]);
    await until('the pull has begun', () => fs.existsSync(target) && fs.readdirSync(target).length > 0);
    client.kill('SIGINT');
    const { code, signal, stderr } = await result;
    assert.ok(code === 130 || code === 0, `${code} ${signal}: ${stderr}`);
    for (const name of fs.readdirSync(target))
      assert.ok(fs.readFileSync(path.join(target, name)).equals(noise(`big ${name}`, 4 << 20)), name);
  });

  test('a client that says nothing, or garbage, costs nobody else anything', async () => {
    const silent = net.connect(rig.socket);
    const rude = net.connect(rig.socket);
    rude.on('error', () => undefined);
    rude.write(Buffer.alloc(100_000, 0xff));
    try {
      await rig.ok('ls');
    } finally {
      silent.destroy();
      rude.destroy();
    }
  });

  test('output that nobody reads any more ends the command, not the daemon', async () => {
    const { process: client, result } = rig.client(['ls', '-R', 'latest']);
    client.stdout?.destroy();
    assert.notEqual((await result).code, null);
    await rig.ok('ls');
  });

  test('one of several paths that is missing fails the push, and the next works', async () => {
    await rig.push('split');
    fs.rmdirSync(rig.path('link', 'missing'));
    const line = oneLine(await rig.ctl('push', 'split'), 1);
    assert.match(line, /push split: read source .*missing: no such file or directory/);
    // one that only the scanner cannot reach: a link out of its root directory
    fs.symlinkSync('/usr', rig.path('link', 'missing'));
    assert.match((await rig.ctl('push', 'split')).stderr, /^$|push split: /);
    await rig.push();
  });

  test('a file that changes meanwhile, or vanishes, does not fail the push', async () => {
    let at = 0;
    const churn = setInterval(() => {
      const name = path.join(rig.path('home'), `churn ${at++ % 5}`);
      if (at % 3 === 0) fs.rmSync(name, { force: true });
      else fs.writeFileSync(name, noise(`${at}`, 200_000));
    }, 1);
    try {
      for (let i = 0; i < 5; i++) {
        const { code, stderr } = await rig.ctl('push', 'home');
        assert.ok(code === 0 || code === 3, stderr);
      }
    } finally {
      clearInterval(churn);
    }
    assert.match(await rig.ok('check'), /no damage/);
  });
});
