/** kill -9 of each process of both repositories in the middle of a sync: it fails by name, both are whole, and the next goes on from there. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Rig, until } from '../processes/daemon.ts';
import { assertSame, noise } from '../processes/tree.ts';

const MIB = 1 << 20;
const FILES = 100;
/** Each twice, early and late in what it moves: with one pack, and with more. */
const MOMENTS = [1, 2];

function packs(rig: Rig, repository: string): Set<string> {
  const directory = rig.path(repository, 'packs');
  return new Set(
    fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => /\w{32}$/.test(name)),
  );
}

describe('a sync that is cut short', () => {
  let rig: Rig;
  let rounds = 0;
  before(async () => {
    rig = new Rig();
    fs.mkdirSync(rig.path('home'));
    rig.configure(`repository "a" at "${rig.path('a')}" {
  key file "${rig.keyFile('key a')}"
  compression none
}
repository "b" at "${rig.path('b')}" { key file "${rig.keyFile('key b')}" }
source "home" { path "${rig.path('home')}" }`);
    await rig.start();
    for (const name of ['a', 'b']) await rig.ok('on', name, 'create');
  });
  after(() => rig.end());

  /** A snapshot in `a` of contents that nobody has. */
  async function fresh(): Promise<string> {
    const round = rounds++;
    for (let i = 0; i < FILES; i++) fs.writeFileSync(rig.path('home', `${i}`), noise(`${round} ${i}`, MIB));
    return (await rig.ok('-q', 'on', 'a', 'push', 'home')).trim();
  }

  for (const victim of ['chunker a', 'crypto a/0', 'storage a', 'chunker b', 'crypto b/0', 'storage b'])
    for (const moment of MOMENTS)
      test(`${victim} is killed when ${moment} packs are there`, async () => {
        const id = await fresh();
        await rig.ok('on', 'b', 'ls');
        const held = packs(rig, 'b').size;
        const { pid } = rig.process(victim);
        const from = rig.log.length;
        const running = rig.client(['-j', 'sync', 'a', 'to', 'b']);
        await until('packs are there', () => packs(rig, 'b').size >= held + moment);
        process.kill(pid, 'SIGKILL');
        const { code, stdout } = await running.result;
        assert.equal(code, 1, stdout);
        assert.match(stdout, new RegExp(`${victim}: .*SIGKILL`));
        await rig.logged(/serves again/, from);
        const kept = packs(rig, 'b').size - held;
        const again = (await rig.json('sync', 'a', 'to', 'b')).at(-1);
        assert.equal(again?.moved, 1);
        // what had been stored is not stored again
        const most = (FILES - 24 * kept) * MIB;
        assert.ok(Number(again.addedBytes) <= most, `${again.addedBytes} of at most ${most}, ${kept} packs`);
        await rig.ok('on', 'b', 'pull', '-to', rig.path('out', `${rounds}`), id);
        assertSame(rig.path('home'), rig.path('out', `${rounds}`));
        for (const name of ['a', 'b']) assert.match(await rig.ok('on', name, 'check'), /no damage$/m);
        assert.deepEqual(
          (await rig.json('on', 'b', 'ls')).map(({ snapshot }) => snapshot).includes(id),
          true,
        );
        await rig.ok('on', 'a', 'rm', id);
        await rig.ok('on', 'b', 'rm', id);
        for (const name of ['a', 'b']) await rig.ok('on', name, 'cleanup');
        fs.rmSync(rig.path('out'), { recursive: true });
      });
});
