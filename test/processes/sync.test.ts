/** clone and sync between repositories with keys of their own, on a real daemon. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { makeOdd } from '../snapshot/odd.ts';
import { events, oneLine, Rig } from './daemon.ts';
import { assertSame, noise, objects, plantOrdinary } from './tree.ts';

const MIB = 1 << 20;
/** Somebody with rights on one repository only, and somebody with rights on one source. */
const HALF = 4242;
const NARROW = 4243;

describe('sync', () => {
  let rig: Rig;
  let first: string;
  let second: string;
  before(async () => {
    rig = new Rig();
    for (const name of ['home', 'other']) fs.mkdirSync(rig.path(name));
    rig.configure(`repository "a" at "${rig.path('a')}" { key file "${rig.keyFile('key a')}" }
repository "b" at "${rig.path('b')}" { key file "${rig.keyFile('key b')}"\n compression none }
repository "c" at "${rig.path('c')}" { no encryption }
repository "d" at "${rig.path('d')}" { key file "${rig.keyFile('key d')}" }
source "home" { path "${rig.path('home')}" }
source "other" { path "${rig.path('other')}" }
permit user "${HALF}" { sync, ls } on "a"
permit user "${NARROW}" { sync } source "other"`);
    plantOrdinary(rig.path('home'));
    await makeOdd(rig.path('home', 'a'));
    fs.writeFileSync(rig.path('home', 'big'), noise('big', 6 * MIB));
    fs.writeFileSync(rig.path('other', 'file'), 'of another source\n');
    await rig.start();
    for (const name of ['a', 'b', 'c']) await rig.ok('on', name, 'create');
    first = (await rig.ok('-q', 'on', 'a', 'push', '-tag', 'one', 'home')).trim();
  });
  after(() => rig.end());

  const ids = async (repository: string): Promise<unknown[]> =>
    (await rig.json('on', repository, 'ls')).map(({ snapshot }) => snapshot);
  const sync = async (...args: string[]): Promise<Record<string, unknown>> => {
    const event = (await rig.json('sync', ...args)).at(-1);
    assert.equal(event?.event, 'synced');
    return event;
  };
  /** What both repositories say of a snapshot, but where its tree is. */
  const header = async (repository: string, id: string): Promise<object> => {
    const [info] = await rig.json('on', repository, 'info', id);
    const { root: _, ...rest } = info ?? {};
    return rest;
  };

  test('a snapshot comes over whole, with its id and all that is known of it', async () => {
    const before = [...objects(rig.path('b')).keys()].filter((name) => name.startsWith('packs/'));
    assert.deepEqual(before, []);
    const would = await sync('-n', 'a', 'to', 'b');
    assert.deepEqual([would.moved, would.held, would.dryRun], [1, 0, true]);
    assert.deepEqual(await ids('b'), []);
    const did = await sync('a', 'to', 'b');
    assert.deepEqual([did.moved, did.held, did.failed], [1, 0, 0]);
    assert.ok(Number(did.movedBytes) > 9 * MIB && Number(did.storedBytes) > 9 * MIB, JSON.stringify(did));
    assert.deepEqual(await ids('b'), [first]);
    assert.deepEqual(await header('b', first), await header('a', first));
    await rig.ok('on', 'b', 'pull', '-to', rig.path('out b'), first);
    assertSame(rig.path('home'), rig.path('out b'));
    assert.match(await rig.ok('on', 'b', 'check'), /no damage$/m);
    assert.deepEqual(fs.readdirSync(rig.path('b', 'leases')), []);
  });

  test('what is there already is not moved again, nor stored by a push', async () => {
    const before = objects(rig.path('b'));
    const again = await sync('a', 'to', 'b');
    assert.deepEqual([again.moved, again.held, again.movedBytes], [0, 1, 0]);
    assert.deepEqual(objects(rig.path('b')), before);
    const [cost] = await rig.json('on', 'b', 'push', 'home');
    assert.equal(cost?.filesNew, 0);
    // read from nothing, as nobody knows what it was: every chunk is there
    const [anew] = await rig.json('on', 'b', 'push', rig.path('home'));
    assert.ok(Number(anew?.filesNew) > 50);
    assert.ok(Number(anew?.addedBytes) < 20_000, `${anew?.addedBytes} bytes were new`);
    const others = (await ids('b')).filter((id) => id !== first).map(String);
    await rig.ok('on', 'b', 'rm', ...others);
  });

  test('of the next snapshot only what is new is moved', async () => {
    fs.writeFileSync(rig.path('home', 'a/hello'), 'hello, other world\n');
    fs.writeFileSync(rig.path('home', 'new'), noise('new', MIB));
    fs.chmodSync(rig.path('home', 'a/b'), 0o700);
    second = (await rig.ok('-q', 'on', 'a', 'push', 'home')).trim();
    const did = await sync('b', 'from', 'a');
    assert.deepEqual([did.moved, did.held], [1, 1]);
    assert.ok(Number(did.movedBytes) < 1.1 * MIB, `${did.movedBytes} bytes were moved`);
    await rig.ok('on', 'b', 'pull', '-to', rig.path('out second'), second);
    assertSame(rig.path('home'), rig.path('out second'));
    assert.match(await rig.ok('on', 'b', 'check'), /no damage$/m);
  });

  test('with: each gets what the other has; some, if some are selected', async () => {
    const own = (await rig.ok('-q', 'on', 'c', 'push', '-tag', 'c', 'other')).trim();
    const events = await rig.json('sync', '-tag', 'one', 'a', 'with', 'c');
    const moved = events
      .filter(({ event }) => event === 'synced')
      .map(({ from, to, moved }) => [from, to, moved]);
    assert.deepEqual(moved, [
      ['a', 'c', 1],
      ['c', 'a', 0],
    ]);
    assert.deepEqual(new Set(await ids('c')), new Set([own, first]));
    assert.equal((await sync('-source', 'home', 'c', 'to', 'a')).moved, 0);
    assert.equal((await sync('-since', '2000-01-01', 'c', 'to', 'a', '-n')).moved, 1);
    assert.equal((await sync('-since', '0s', 'c', 'to', 'a')).moved, 0);
    const both = await rig.json('sync', 'a', 'with', 'c', own.slice(0, 8), second);
    assert.deepEqual(
      both.filter(({ event }) => event === 'copied').map(({ snapshot, to }) => [snapshot, to]),
      [
        [second, 'c'],
        [own, 'a'],
      ],
    );
    await rig.ok('on', 'c', 'pull', '-to', rig.path('out c'), second);
    assertSame(rig.path('home'), rig.path('out c'));
    assert.match(await rig.ok('on', 'c', 'check'), /no damage$/m);
    assert.match(oneLine(await rig.ctl('-q', 'sync', 'a', 'to', 'c', 'ffffffff'), 1), /no such snapshot/);
  });

  test('what was removed is left alone, unless it is named', async () => {
    await rig.ok('on', 'b', 'rm', first);
    const did = await sync('a', 'to', 'b');
    assert.deepEqual([did.removed, did.held], [1, 1]);
    assert.equal((await sync('a', 'to', 'b', first)).moved, 1);
    assert.ok((await ids('b')).includes(first));
    assert.match(await rig.ok('on', 'b', 'check', '-fast'), /no damage$/m);
  });

  test('clone makes the repository, and nothing but a copy', async () => {
    const would = (await rig.json('clone', '-n', 'a', 'to', 'd')).at(-1);
    const all = await ids('a');
    assert.deepEqual([would?.moved, would?.created], [all.length, true]);
    assert.equal(fs.existsSync(rig.path('d', 'config')), false);
    const did = (await rig.json('clone', 'a', 'to', 'd')).at(-1);
    assert.deepEqual([did?.moved, did?.created], [all.length, true]);
    assert.deepEqual(await ids('d'), all);
    await rig.ok('on', 'd', 'pull', '-to', rig.path('out d'), second);
    assertSame(rig.path('home'), rig.path('out d'));
    const again = (await rig.json('clone', 'a', 'to', 'd')).at(-1);
    assert.deepEqual([again?.moved, again?.held, again?.created], [0, all.length, false]);
    await rig.ok('on', 'd', 'push', 'other');
    assert.match(oneLine(await rig.ctl('clone', 'a', 'to', 'd'), 1), /it holds snapshot .*sync a to d/);
  });

  test('refused: what is unknown, the same twice, and who may not on both', async () => {
    assert.match(oneLine(await rig.ctl('sync', 'a', 'to', 'nowhere'), 10), /nowhere/);
    assert.match(oneLine(await rig.ctl('clone', 'nowhere', 'to', 'a'), 10), /nowhere/);
    assert.match(oneLine(await rig.ctl('sync', 'a', 'to', 'a'), 2), /the same/);
    assert.match(oneLine(await rig.ctl('sync', 'a', 'b'), 2), /to\|from\|with/);
    assert.match(oneLine(await rig.ctl('sync', '-since', 'yesterday', 'a', 'to', 'b'), 2), /duration/);
    for (const way of ['to', 'from'])
      assert.match(
        oneLine(await rig.client(['sync', 'a', way, 'b'], { uid: HALF }).result, 13),
        /sync b: user 4242 is not permitted/,
      );
    assert.match(
      oneLine(await rig.client(['clone', 'a', 'to', 'b'], { uid: NARROW }).result, 13),
      /not permitted/,
    );
    // of one source, and only that
    await rig.ok('on', 'c', 'push', 'home');
    await rig.ok('on', 'c', 'push', 'other');
    const { code, stdout } = await rig.client(['-j', 'sync', 'c', 'to', 'b'], { uid: NARROW }).result;
    assert.equal(code, 0);
    const copied = events(stdout).filter(({ event }) => event === 'copied');
    assert.equal(copied.length, 1);
    const [snapshot] = await rig.json('on', 'b', 'info', String(copied[0]?.snapshot));
    assert.equal(snapshot?.source, 'other');
  });
});
