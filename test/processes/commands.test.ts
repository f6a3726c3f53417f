/** The main job through plakarctl, on a daemon that runs: each command, its text, its JSON and its exit code. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { events, NOBODY, oneLine, Rig } from './daemon.ts';
import { assertSame, noise, objects, plantOrdinary } from './tree.ts';

/** A tree that was not changed a moment ago, when files are read again to be sure. */
const OLD = fs.realpathSync(path.join(import.meta.dirname, '../../node_modules/@noble/hashes'));
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe('the main job', () => {
  let rig: Rig;
  let home: string;
  let first: string;
  before(async () => {
    rig = new Rig();
    rig.configureUsual(`source "old" { path "${OLD}" }
source "both" { path "${OLD}", path "${rig.path('changing')}" }`);
    home = rig.path('home');
    plantOrdinary(home);
    await rig.start();
    const created = await rig.ok('create');
    assert.match(created, /^[0-9a-f-]{36} {2}local at /);
    first = await rig.push();
  });
  after(() => rig.end());

  test('push prints the UUID and the cost, and with -q the UUID alone', async () => {
    assert.match(first, UUID);
    const [id, cost, ...rest] = (await rig.ok('push', 'old')).split('\n');
    assert.match(id ?? '', UUID);
    assert.match(
      cost ?? '',
      /^\d+ files new, 0 changed, 0 unchanged, 0 unreadable; .* read, .* added, .* stored; /,
    );
    assert.deepEqual(rest, ['']);
    const verbose = (await rig.ok('-v', 'push', 'old')).split('\n');
    assert.match(
      verbose[1] ?? '',
      /^0 files new, 0 changed, \d+ unchanged, 0 unreadable; 0 B read, 0 B added, 0 B stored; /,
    );
    assert.match(
      verbose[2] ?? '',
      /^\d+ files, \d+ director(?:y|ies), \d+ others, .*; parent [0-9a-f-]{36}$/,
    );
    assert.ok(verbose[2]?.endsWith(id ?? '-'));
  });

  test('a second push of an unchanged tree adds a header and its entry in the log, and nothing else', async () => {
    for (const source of ['old', 'home']) {
      await rig.push(source);
      const before = objects(rig.path('repository'));
      const id = await rig.push(source);
      const after = objects(rig.path('repository'));
      const added = [...after.keys()].filter((name) => !before.has(name));
      assert.deepEqual(
        added.filter((name) => !name.startsWith('log/')),
        [`snapshots/${id}`],
      );
      assert.equal(added.length, 2);
      assert.ok((after.get(`snapshots/${id}`) ?? Infinity) < 1024);
      for (const [name, size] of before) assert.equal(after.get(name), size);
    }
  });

  test('a changed file is read, and what did not change is not', async () => {
    fs.mkdirSync(rig.path('changing'));
    fs.writeFileSync(rig.path('changing', 'file'), noise('file', 5000));
    const before = await rig.push('both');
    fs.writeFileSync(rig.path('changing', 'file'), noise('changed', 6000));
    const [cost] = await rig.json('push', '-tag', 'changed', 'both');
    assert.equal(cost?.event, 'pushed');
    assert.deepEqual([cost?.filesNew, cost?.readBytes], [0, 6000]);
    assert.ok(Number(cost?.filesUnchanged) >= Number(cost?.files) - 1);
    assert.ok(Number(cost?.storedBytes) > 6000 && Number(cost?.storedBytes) < 20_000);
    const name = rig.path('changing', 'file');
    assert.deepEqual((await rig.ctl('cat', `latest:${name}`)).out, noise('changed', 6000));
    assert.deepEqual((await rig.ctl('cat', `${before}:${name}`)).out, noise('file', 5000));
  });

  test('ls lists snapshots, oldest first, and what is in one', async () => {
    const listed = await rig.ok('ls');
    const lines = listed.trimEnd().split('\n');
    // all of them come as lines, those of a source as rows
    const ofSource = (await rig.ok('ls', '-source', 'home')).trimEnd().split('\n');
    assert.deepEqual(
      ofSource,
      lines.filter((line) => ofSource.includes(line)),
    );
    assert.ok(lines.length >= 1);
    assert.match(
      lines[0] ?? '',
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ {2}[0-9a-f-]{36} +[\d.]+ [kMG]?B .*\/home$/,
    );
    assert.ok(lines[0]?.includes(first));
    assert.deepEqual((await rig.ok('ls', first)).match(/\S+$/gm), ['a', 'empty']);
    assert.match(await rig.ok('ls', `${first}:/a`), /^drwx.* b\n-rw-r--r--.* 13 B .*hello\n$/);
    assert.equal((await rig.ok('ls', `${first}:/a/hello`)).trimEnd().split('\n').length, 1);
    const all = await rig.json('ls', '-R', first);
    assert.equal(all.length, 45);
    assert.ok(all.some(({ path: name, size }) => name === '/a/b/noise' && size === 3 << 20));
    const tagged = await rig.json('ls', '-tag', 'no such tag');
    assert.deepEqual(tagged, []);
  });

  test('ls shows what others add and remove, whatever was listed before', async () => {
    const before = await rig.ok('ls');
    const newest = before.trimEnd().split('\n').at(-1)?.split(/ +/)[1] ?? '';
    const [header, aside] = [rig.path('repository', 'snapshots', newest), rig.path('aside')];
    for (let round = 0; round < 2; round++) {
      assert.equal(await rig.ok('ls'), before);
      fs.renameSync(header, aside);
      const without = await rig.ok('ls');
      assert.ok(before.startsWith(without) && !without.includes(newest), without);
      fs.renameSync(aside, header);
      assert.equal(await rig.ok('ls'), before);
    }
  });

  test('snapshots are named by an unambiguous prefix, in any case, or latest', async () => {
    await rig.push();
    for (const name of [first.slice(0, 8), first.toUpperCase(), first])
      assert.equal(await rig.ok('cat', `${name}:a/hello`), 'hello, world\n');
    assert.equal(await rig.ok('cat', 'latest:/a/hello'), 'hello, world\n');
    // the whole path of the source is understood too
    assert.equal(await rig.ok('cat', `latest:${home}/a/hello`), 'hello, world\n');
  });

  test('cat writes exactly the contents, one file after another', async () => {
    const { code, out, stderr } = await rig.ctl(
      'cat',
      `${first}:/a/b/noise`,
      `${first}:/empty`,
      `${first}:/a/hello`,
    );
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
    assert.deepEqual(out, Buffer.concat([noise('noise', 3 << 20), Buffer.from('hello, world\n')]));
  });

  test('pull restores a whole snapshot, and a part of one', async () => {
    const id = await rig.push();
    await rig.ok('pull', '-to', rig.path('whole'), id);
    assertSame(home, rig.path('whole'));
    await rig.ok('pull', '-to', rig.path('part'), `${id}:/a/b`);
    assertSame(path.join(home, 'a/b'), rig.path('part'));
  });

  test('a shell runs line after line, and as a script ends with the first that fails', async () => {
    const shell = (script: string, ...options: string[]) => {
      const { process: child, result } = rig.client([...options, 'shell'], { input: true });
      child.stdin?.end(script);
      return result;
    };
    const done = await shell("# a comment\n\nls latest:/a\nls 'latest:/a' # again\nexit\nls nonsense\n");
    assert.equal(done.code, 0, done.stderr);
    assert.equal(done.stdout, (await rig.ok('ls', 'latest:/a')).repeat(2));
    const failed = await shell('version\nls latest:/nothing\nversion\n');
    assert.equal(failed.code, 1);
    assert.equal(failed.stdout, await rig.ok('version'));
    assert.equal(failed.stderr, 'plakarctl: ls latest:/nothing: no such file in the snapshot\n');
    assert.match(oneLine(await shell("ls 'x\n"), 2), /^plakarctl: line: ' is not closed$/);
    assert.match(oneLine(await shell('shell\n'), 2), /^plakarctl: shell: this is one$/);
    assert.equal(events((await shell('ls\nversion\n', '-j')).stdout).at(-1)?.event, 'version');
  });

  test('pull by a user who is not permitted is refused, and nothing is written', async () => {
    const target = rig.path('refused');
    const result = await rig.client(['pull', '-to', target, 'latest'], { uid: NOBODY }).result;
    assert.match(
      oneLine(result, 13),
      /is not permitted to \(a permit statement in plakard\.conf allows it\)$/,
    );
    assert.equal(fs.existsSync(target), false);
  });

  test('check at its three depths finds nothing wrong', async () => {
    assert.match(
      await rig.ok('check', '-fast'),
      /^local: \d+ snapshots, \d+ packs, \d+ chunks in .*: no damage\n$/,
    );
    assert.match(await rig.ok('check', first), /^local: 1 snapshot, .* read in .*: no damage\n$/);
    const [checked] = await rig.json('check');
    assert.deepEqual(
      [checked?.event, checked?.depth, checked?.problems, checked?.orphans],
      ['checked', 'full', 0, 0],
    );
    assert.ok(Number(checked?.bytes) > 3 << 20);
  });

  test('rm removes the snapshot, and its prefix names nothing more', async () => {
    const id = await rig.push();
    assert.equal(await rig.ok('rm', id), `${id}\n`);
    assert.match(oneLine(await rig.ctl('ls', id), 1), /no such snapshot \(plakarctl ls lists them\)$/);
    assert.equal((await rig.ctl('rm', id)).code, 1);
    assert.equal((await rig.ctl('check', '-fast')).code, 0);
  });

  test('rm finds all before it removes any', async () => {
    const id = await rig.push();
    assert.equal((await rig.ctl('rm', id, '00000000-dead')).code, 1);
    assert.ok((await rig.ok('ls')).includes(id));
  });

  test('info and status tell what is there', async () => {
    const [info] = await rig.json('info');
    assert.deepEqual([info?.name, info?.format, info?.encryption], ['local', 1, true]);
    assert.equal(info?.location, rig.path('repository'));
    assert.match(await rig.ok('info', first), /snapshot/);
    const [status] = await rig.json('status');
    assert.equal(status?.pid, rig.pid);
    const told = (status as { processes: { pid: number }[] }).processes
      .map(({ pid }) => pid)
      .sort((a, b) => a - b);
    assert.deepEqual(
      told,
      rig
        .processes()
        .map(({ pid }) => pid)
        .sort((a, b) => a - b),
    );
    assert.match(await rig.ok('status'), /^plakard \d/);
  });

  test('every command prints JSON objects, one a line, with -j', async () => {
    const lines = [
      'status',
      'info',
      'ls',
      'check',
      `info ${first}`,
      `ls -R ${first}`,
      `pull -to ${rig.path('json')} ${first}`,
    ];
    for (const line of lines) {
      const { code, stdout, stderr } = await rig.ctl('-j', ...line.split(' '));
      assert.equal(code, 0, `${line}: ${stderr}`);
      assert.ok(events(stdout).length > 0, line);
    }
    const { code, stdout } = await rig.ctl('-j', 'ls', 'latest:/nowhere');
    assert.equal(code, 1);
    assert.deepEqual(events(stdout).at(-1)?.exitCode, 1);
  });

  test('no progress is drawn where the output is no terminal', async () => {
    for (const words of [['push', 'home'], ['check'], ['pull', '-to', rig.path('silent'), 'latest']])
      assert.equal((await rig.ctl('-q', ...words)).stderr, '');
  });

  test('an unambiguous prefix of a command works, and an ambiguous one says between what', async () => {
    assert.match(await rig.ok('sta'), /^plakard /);
    assert.match(oneLine(await rig.ctl('st'), 2), /command st: ambiguous: status or stop$/);
  });

  test('reload applies what changed, and refuses what does not parse', async () => {
    fs.mkdirSync(rig.path('more'));
    fs.writeFileSync(rig.path('more', 'x'), 'x');
    rig.configureUsual(`source "more" { path "${rig.path('more')}" }`);
    await rig.ok('reload');
    assert.match(await rig.push('more'), UUID);
    fs.appendFileSync(rig.path('plakard.conf'), 'nonsense\n');
    const refused = await rig.ctl('reload');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^plakarctl: .*plakard\.conf:\d+:1: .*nonsense/);
    assert.match(refused.stderr, /reload: .* \(nothing was changed\)\n$/);
    assert.match(await rig.push('more'), UUID);
    rig.configureUsual();
    process.kill(rig.pid, 'SIGHUP');
    const from = rig.log.length;
    await rig.logged(/reloaded/, from);
    assert.match(oneLine(await rig.ctl('push', 'more'), 1), /no such source in the configuration/);
  });
});

describe('stop', () => {
  test('plakarctl stop ends everything, and a new daemon finds what was pushed', async (t) => {
    const rig = new Rig();
    t.after(() => rig.end());
    rig.configureUsual();
    plantOrdinary(rig.path('home'));
    await rig.start();
    await rig.ok('create');
    const id = await rig.push();
    await rig.ok('stop');
    assert.equal((await rig.ended()).code, 0);
    rig.assertGone();
    await rig.start();
    await rig.ok('pull', '-to', rig.path('out'), id);
    assertSame(rig.path('home'), rig.path('out'));
  });
});
