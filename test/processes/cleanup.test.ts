/** rm, keep and cleanup on a real daemon: space comes back, also after a kill and on a full disk; what vanishes is named. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { events, Rig, until } from './daemon.ts';
import { assertSame, noise, objects } from './tree.ts';

const MIB = 1 << 20;

/** A daemon with a repository, and a source of some files. */
async function working(files = 6, more?: string): Promise<Rig> {
  const rig = new Rig();
  rig.configureUsual(more);
  for (let i = 0; i < files; i++) fs.writeFileSync(rig.path('home', `${i}`), noise(`file ${i}`, MIB));
  await rig.start();
  await rig.ok('create');
  return rig;
}

function packBytes(rig: Rig): number {
  let bytes = 0;
  for (const [name, size] of objects(rig.path('repository'))) if (name.startsWith('packs/')) bytes += size;
  return bytes;
}

async function cleanup(rig: Rig, ...args: string[]): Promise<Record<string, unknown>> {
  const [event] = await rig.json('cleanup', ...args);
  assert.equal(event?.event, 'cleaned');
  return event;
}

describe('cleanup', () => {
  test('returns what removed snapshots alone referred to, and nothing else', async (t) => {
    const rig = await working();
    t.after(() => rig.end());
    const first = await rig.push();
    for (const i of [0, 1, 2, 3, 4]) fs.writeFileSync(rig.path('home', `${i}`), noise(`new ${i}`, MIB));
    const second = await rig.push();
    assert.equal((await cleanup(rig)).removedPacks, 0);
    await rig.ok('rm', first);
    const full = packBytes(rig);
    const would = await cleanup(rig, '-n');
    assert.ok(Number(would.returnedBytes) > 4.5 * MIB);
    assert.equal(packBytes(rig), full, 'it only says so');
    const did = await cleanup(rig);
    assert.ok(Number(did.returnedBytes) > 4.5 * MIB);
    // one of six files moved to another pack
    assert.ok(Number(did.rewrittenPacks) >= 1);
    assert.ok(packBytes(rig) < full - 4.5 * MIB);
    assert.equal(did.storedBytes, packBytes(rig));
    await rig.ok('pull', '-to', rig.path('out'), second);
    assertSame(rig.path('home'), rig.path('out'));
    assert.match(await rig.ok('check'), /no damage$/m);
    // what has gone is stored again when it is met again
    for (const i of [0, 1, 2, 3, 4]) fs.writeFileSync(rig.path('home', `${i}`), noise(`file ${i}`, MIB));
    const third = await rig.push();
    await rig.stop();
    await rig.start();
    await rig.ok('pull', '-to', rig.path('again'), third);
    assertSame(rig.path('home'), rig.path('again'));
    assert.deepEqual(fs.readdirSync(rig.path('repository', 'leases')), []);
  });

  test('returns what a push that was killed has left, when its writer is known to be gone', async (t) => {
    // slow enough to be killed in its middle, on any machine
    const rig = await working(48, 'limit write 48M');
    t.after(() => rig.end());
    await rig.ok('ls');
    const storage = rig.process('storage local');
    const { result } = rig.client(['push', 'home']);
    await until('a pack is there', () => packBytes(rig) > 0);
    process.kill(storage.pid, 'SIGKILL');
    assert.notEqual((await result).code, 0);
    await rig.logged(/serves again/);
    assert.equal(fs.readdirSync(rig.path('repository', 'leases')).length, 1);
    const cleaned = await cleanup(rig);
    assert.equal(cleaned.givenUp, 1);
    assert.equal(packBytes(rig), 0);
    assert.deepEqual(fs.readdirSync(rig.path('repository', 'leases')), []);
    const id = await rig.push();
    await rig.ok('pull', '-to', rig.path('out'), id);
    assertSame(rig.path('home'), rig.path('out'));
  });

  test('works on a full disk, as rm does', async (t) => {
    const rig = new Rig();
    const disk = rig.path('disk');
    fs.mkdirSync(disk);
    assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', disk]).status, 0);
    t.after(async () => {
      await rig.end().finally(() => spawnSync('umount', ['-l', disk]));
    });
    fs.mkdirSync(rig.path('home'));
    const repository = path.join(disk, 'repository');
    rig.configure(`repository "local" at "${repository}" { key file "${rig.keyFile()}" }
source "home" { path "${rig.path('home')}" }`);
    for (let i = 0; i < 5; i++) fs.writeFileSync(rig.path('home', `${i}`), noise(`file ${i}`, MIB));
    await rig.start();
    await rig.ok('create');
    const id = await rig.push();
    for (let i = 0; i < 8; i++) fs.writeFileSync(rig.path('home', `more ${i}`), noise(`more ${i}`, MIB));
    assert.equal((await rig.ctl('push', 'home')).code, 1);
    const filler = path.join(disk, 'filler');
    try {
      fs.writeFileSync(filler, Buffer.alloc(16 * MIB));
    } catch {
      // that is the point
    }
    assert.equal(fs.statfsSync(disk).bavail, 0);
    await rig.ok('ls');
    await rig.ok('rm', id);
    const did = await cleanup(rig);
    assert.ok(Number(did.returnedBytes) > 4.5 * MIB);
    assert.equal(fs.existsSync(path.join(repository, 'reserve')), true);
    fs.rmSync(filler);
    for (let i = 0; i < 8; i++) fs.rmSync(rig.path('home', `more ${i}`));
    const next = await rig.push();
    await rig.ok('pull', '-to', rig.path('out'), next);
    assertSame(rig.path('home'), rig.path('out'));
    await rig.stop();
    spawnSync('umount', ['-l', disk]);
  });
});

describe('keep', () => {
  test('says why each stays, and removes the others', async (t) => {
    const rig = await working(1);
    t.after(() => rig.end());
    const ids = [await rig.push(), await rig.push('home'), await rig.push('home')];
    const judged = await rig.json('keep', '-n', 'last 2, 7 daily');
    assert.deepEqual(
      judged.map(({ snapshot, reasons, removed }) => [snapshot, reasons, removed]),
      [
        [ids[0], ['oldest daily'], false],
        [ids[1], ['last'], false],
        [ids[2], ['last', 'daily'], false],
      ],
    );
    assert.match(await rig.ok('keep', '-n', 'last', '1'), new RegExp(`${ids[0]}  remove\n`));
    assert.equal((await rig.ok('ls')).trimEnd().split('\n').length, 3);
    await rig.ok('keep', 'last', '1');
    assert.match(await rig.ok('ls'), new RegExp(`^[^\n]*${ids[2]}[^\n]*\n$`));
    for (const wrong of [[], ['7', 'dayly'], ['-5', 'daily'], ['last', '0']])
      assert.equal((await rig.ctl('keep', ...wrong)).code, 2);
    assert.match(await rig.ok('check'), /no damage/);
  });
});

describe('rollback', () => {
  test('a snapshot that vanished is named by check and push, one that was removed is not', async (t) => {
    const rig = await working(1);
    t.after(() => rig.end());
    const [vanished, removed] = [await rig.push(), await rig.push()];
    await rig.ok('rm', removed);
    assert.match(await rig.ok('check', '-fast'), /no damage/);
    fs.rmSync(rig.path('repository', 'snapshots', vanished));
    const check = await rig.ctl('-j', 'check', '-fast');
    assert.equal(check.code, 14);
    const problems = events(check.stdout).filter(({ event }) => event === 'problem');
    assert.deepEqual(
      problems.map(({ object }) => object),
      [`snapshots/${vanished}`],
    );
    const push = await rig.ctl('push', 'home');
    assert.match(push.stderr, new RegExp(`snapshots/${vanished}: it has vanished`));
  });

  test('an older state, and another repository, are told after a restart too, until they are accepted', async (t) => {
    const rig = new Rig();
    t.after(() => rig.end());
    rig.configureUsual(`repository "other" at "${rig.path('other')}" { key file "${rig.keyFile()}" }`);
    const repository = rig.path('repository');
    await rig.start();
    await rig.ok('create');
    await rig.push();
    fs.cpSync(repository, rig.path('old'), { recursive: true });
    const last = await rig.push();
    await rig.ok('on', 'other', 'create');
    await rig.stop();
    for (const name of fs.readdirSync(rig.path('old'), { recursive: true, encoding: 'utf8' }))
      fs.chownSync(path.join(rig.path('old'), name), rig.users.storage, rig.users.storage);
    fs.chownSync(rig.path('old'), rig.users.storage, rig.users.storage);
    fs.rmSync(repository, { recursive: true });
    fs.renameSync(rig.path('old'), repository);
    await rig.start();
    assert.ok(!(await rig.ok('ls')).includes(last));
    const older = /log\/[0-9a-f-]+: the log ends at entry 1: this is an older state of the repository/;
    assert.match((await rig.ctl('push', 'home')).stderr, older);
    // what was pushed since does not make it right
    const check = await rig.ctl('check', '-fast');
    assert.equal(check.code, 14);
    assert.match(check.stderr, /this is (an older|another) state of the repository/);
    assert.equal((await rig.ctl('repair')).code, 14);
    await rig.ok('repair', '-accept');
    assert.match(await rig.ok('check', '-fast'), /no damage/);
    await rig.stop();
    fs.renameSync(repository, rig.path('former'));
    fs.renameSync(rig.path('other'), repository);
    await rig.start();
    const swapped = /config: this is repository [0-9a-f-]{36}, where [0-9a-f-]{36} was before/;
    assert.match((await rig.ctl('push', 'home')).stderr, swapped);
    assert.match((await rig.ctl('check', '-fast')).stderr, swapped);
    await rig.ok('repair', '-accept');
    await rig.stop();
    await rig.start();
    assert.match(await rig.ok('check', '-fast'), /no damage/);
  });
});
