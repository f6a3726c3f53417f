/** What was pushed comes back: every odd kind of file, every way of pushing and pulling, by root and by others. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeOdd } from '../snapshot/odd.ts';
import { events, NOBODY, Rig } from './daemon.ts';
import { assertSame, noise, objects, plantOrdinary } from './tree.ts';

/** What makeOdd leaves out: attributes, lists, long holes, depth, directories that hold much. */
const ODDER = `setfattr -n user.one -v 1 owned; setfattr -n user.empty owned
setfacl -m u:1234:rwx,g:55:r owned; setfacl -d -m u:77:r sticky
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 setuid
ln -s x linked-attr; chown -h 12:13 linked-attr
touch -h -d '1999-12-31 23:59:59.123456789' linked-attr
printf end | dd of=holes bs=1 seek=20M conv=notrunc status=none; truncate -s 30M holes
mkdir deep; (cd deep; for i in $(seq 300); do mkdir d$((i % 7)); cd d$((i % 7)); done; echo bottom >file)
mkdir many; (cd many; seq 3000 | xargs touch)
echo secret >private; chmod 600 private; mkdir locked; echo x >locked/x; chmod 0 locked
ln linked sticky/linked3; touch -d '2038-01-19 03:14:08.999999999' deep
head -c 5000000 /dev/urandom >big; cp big big-copy; setfattr -n user.root -v r .`;

describe('a tree of every odd kind', () => {
  let rig: Rig;
  let home: string;
  let id: string;
  before(async () => {
    rig = new Rig();
    rig.configureUsual(`permit user ${NOBODY} { push, ls, pull, cat } on "local"`);
    home = rig.path('home');
    await makeOdd(home);
    execFileSync('/bin/bash', ['-ec', ODDER], { cwd: home });
    plantOrdinary(fs.mkdtempSync(path.join(home, 'ordinary-')));
    await rig.start();
    await rig.ok('create');
    id = await rig.push();
  });
  after(() => rig.end());

  test('round-trips through a source', async () => {
    await rig.ok('pull', '-to', rig.path('source out'), id);
    assertSame(home, rig.path('source out'));
    assert.equal(fs.statSync(path.join(rig.path('source out'), 'holes')).blocks < 1000, true);
    assert.match(await rig.ok('check', id), /no damage/);
  });

  test('round-trips through a path that root pushes', async () => {
    // only root can see such an attribute, and a scanner is not
    execFileSync('setfattr', ['-n', 'trusted.t', '-v', '0x00ff', path.join(home, 'owned')]);
    const pushed = (await rig.ok('-q', 'push', home)).trim();
    await rig.ok('pull', '-to', rig.path('path out'), pushed);
    assertSame(home, rig.path('path out'));
  });

  test('what was pushed as a source costs nothing more as a path', async () => {
    const [cost] = await rig.json('push', home);
    assert.equal(cost?.addedBytes, 0);
  });

  test('is listed with all of its names, as bytes', async () => {
    const listed = await rig.json('ls', '-R', id);
    const names = execFileSync('find', ['.', '-mindepth', '1', '-print0'], { cwd: home });
    const there = names
      .toString('latin1')
      .split('\0')
      .slice(0, -1)
      .map((name) => name.slice(1))
      .sort();
    const shown = listed.map((entry) =>
      typeof entry.pathBase64 === 'string'
        ? Buffer.from(entry.pathBase64, 'base64').toString('latin1')
        : Buffer.from(String(entry.path)).toString('latin1'),
    );
    assert.deepEqual(shown.sort(), there);
  });

  test('a user pushes a path with that user’s own rights, and hears what could not be read', async () => {
    const { code, stdout, stderr } = await rig.client(['-j', 'push', home], { uid: NOBODY }).result;
    assert.equal(code, 3, stderr);
    for (const name of ['private', 'locked'])
      assert.match(stderr, new RegExp(`read .*/home/${name}: .*permission denied\n`));
    const pushed = events(stdout).find(({ event }) => event === 'pushed');
    assert.equal(pushed?.unreadable, 3);
    // root has pushed the same path before: what it could read is not taken over
    assert.equal(pushed?.parent, undefined);
    const listed = await rig.json('ls', '-R', String(pushed?.snapshot));
    assert.equal(
      listed.some((entry) => entry.path === '/locked/x'),
      false,
    );
    assert.equal((await rig.ctl('cat', `${pushed?.snapshot}:/private`)).code === 0, false);
  });

  test('a user pulls with that user’s own rights', async () => {
    const target = rig.path('nobody');
    fs.mkdirSync(target);
    fs.chownSync(target, NOBODY, NOBODY);
    const { code, stderr } = await rig.client(['pull', '-to', path.join(target, 'out'), `${id}:/many`], {
      uid: NOBODY,
    }).result;
    assert.equal(code, 0, stderr);
    assert.equal(fs.readdirSync(path.join(target, 'out')).length, 3000);
    assert.equal(fs.statSync(path.join(target, 'out', '17')).uid, NOBODY);
    const refused = await rig.client(['pull', '-to', path.join(rig.top, 'not yours'), id], { uid: NOBODY })
      .result;
    assert.notEqual(refused.code, 0);
    assert.equal(fs.existsSync(path.join(rig.top, 'not yours')), false);
  });
});

describe('repositories of every kind', () => {
  const KINDS: Readonly<Record<string, (rig: Rig) => string>> = {
    none: (rig) => `key file "${rig.keyFile()}", compression none`,
    zstd: (rig) => `key file "${rig.keyFile()}", compression zstd 19`,
    plain: () => 'no encryption, compression none',
    secret: (rig) => `passphrase file "${rig.path('pass')}", compression none`,
  };
  let rig: Rig;
  before(async () => {
    rig = new Rig();
    fs.writeFileSync(rig.path('pass'), 'correct horse battery staple\n', { mode: 0o600 });
    const repositories = Object.entries(KINDS).map(
      ([name, kind]) => `repository "${name}" at "${rig.path(name)}" { ${kind(rig)} }\n`,
    );
    rig.configure(`${repositories.join('')}source "home" { path "${rig.path('home')}" }`);
    plantOrdinary(mkdir(rig.path('home')));
    fs.writeFileSync(path.join(rig.path('home'), 'zeros'), Buffer.alloc(1 << 20));
    await rig.start();
  });
  after(() => rig.end());

  for (const name of Object.keys(KINDS))
    test(`${name}: what was pushed comes back`, async () => {
      await rig.ok('on', name, 'create');
      const id = await rig.push('home', 'on', name);
      assert.match(await rig.ok('on', name, 'check'), /no damage/);
      await rig.ok('on', name, 'pull', '-to', rig.path(`out ${name}`), id);
      assertSame(rig.path('home'), rig.path(`out ${name}`));
      const stored = [...objects(rig.path(name))]
        .filter(([object]) => object !== 'reserve')
        .reduce((sum, [, size]) => sum + size, 0);
      // 1 MB of zeros is all that shrinks
      assert.equal(stored > 4 << 20, name !== 'zstd');
      const [info] = await rig.json('on', name, 'info');
      assert.equal(info?.encryption, name !== 'plain');
      // also without encryption all is sealed, with keys that are no secret
      for (const text of ['hello, world', 'noise', 'file 7', rig.path('home')])
        assert.equal(holds(rig.path(name), text), false, text);
      assert.equal(holds(rig.path(`out ${name}`), 'hello, world'), true);
    });
});

function mkdir(directory: string): string {
  fs.mkdirSync(directory);
  return directory;
}

/** Whether a file below the directory holds the text as it is. */
function holds(directory: string, text: string): boolean {
  return [...objects(directory).keys()].some((name) =>
    fs.readFileSync(path.join(directory, name)).includes(text),
  );
}

describe('several sources and repositories', () => {
  test('each is its own, and `on` says which', async (t) => {
    const rig = new Rig();
    t.after(() => rig.end());
    rig.configure(`repository "one" at "${rig.path('one')}" { key file "${rig.keyFile()}" }
repository "two" at "${rig.path('two')}" { key file "${rig.keyFile('key two')}" }
source "a" { path "${rig.path('a')}" }
source "b" { path "${rig.path('b')}" }
source "both" { path "${rig.path('a')}", path "${rig.path('b')}" }`);
    for (const name of ['a', 'b'])
      fs.writeFileSync(path.join(mkdir(rig.path(name)), name), noise(name, 10_000));
    await rig.start();
    await rig.ok('create');
    await rig.ok('on', 'two', 'create');
    const pushes = [
      ['one', 'a'],
      ['one', 'b'],
      ['two', 'a'],
      ['two', 'b'],
      ['one', 'both'],
    ];
    const ids = await Promise.all(
      pushes.map(async ([repository, source]) => rig.push(source, 'on', repository ?? '')),
    );
    assert.equal((await rig.ok('ls')).trimEnd().split('\n').length, 3);
    assert.equal((await rig.ok('on', 'two', 'ls')).trimEnd().split('\n').length, 2);
    assert.equal((await rig.ctl('ls', ids[2] ?? '')).code, 1);
    await rig.ok('on', 'two', 'pull', '-to', rig.path('out b'), ids[3] ?? '');
    assertSame(rig.path('b'), rig.path('out b'));
    assert.deepEqual((await rig.ctl('cat', `${ids[4]}:${rig.path('b')}/b`)).out, noise('b', 10_000));
    assert.match(await rig.ok('check'), /^one: 3 snapshots.*no damage/);
    assert.match(await rig.ok('on', 'two', 'check'), /^two: 2 snapshots.*no damage/);
  });
});
