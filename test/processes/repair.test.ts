/** plakarctl repair on a real daemon: damage of every kind at once, and what comes back from where. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { events, type Result, Rig } from './daemon.ts';
import { assertSame, noise, objects } from './tree.ts';

const ROUNDS = 5;
const FILE_BYTES = 300_000;

describe('repair', () => {
  let rig: Rig;
  const ids: string[] = [];
  /** the data pack that each push made, and its pack of trees */
  const packs: string[][] = [];

  before(async () => {
    rig = new Rig();
    rig.configureUsual();
    await rig.start();
    await rig.ok('create');
    for (let round = 0; round < ROUNDS; round++) {
      const known = new Set(stored('packs').keys());
      for (const i of [0, 1, 2, 3])
        fs.writeFileSync(rig.path('home', `${round} ${i}`), noise(`${round} ${i}`, FILE_BYTES));
      ids.push(await rig.push());
      const made = [...stored('packs')].filter(([name]) => !known.has(name));
      packs.push(made.sort((a, b) => b[1] - a[1]).map(([name]) => name));
    }
    await rig.stop();
  });
  after(() => rig.end());

  /** Objects of a kind, and their sizes. */
  function stored(kind: string): Map<string, number> {
    const all = [...objects(rig.path('repository'))];
    return new Map(all.filter(([name]) => name.startsWith(`${kind}/`)));
  }

  function flip(name: string, where: (size: number) => number): void {
    const file = path.join(rig.path('repository'), name);
    const bytes = fs.readFileSync(file);
    const at = where(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ 0x10;
    fs.chmodSync(file, 0o600);
    fs.writeFileSync(file, bytes);
    fs.chownSync(file, rig.users.storage, rig.users.storage);
  }

  const dataPack = (round: number): string => packs[round]?.[0] ?? '';
  const treePack = (round: number): string => packs[round]?.[1] ?? '';

  /** Each snapshot comes back as it was. */
  async function assertRestores(rounds: readonly number[]): Promise<void> {
    for (const round of rounds) {
      const out = rig.path('out');
      fs.rmSync(out, { recursive: true, force: true });
      await rig.ok('pull', '-to', out, ids[round] ?? '');
      for (let from = 0; from <= round; from++)
        for (const i of [0, 1, 2, 3])
          assert.ok(
            fs.readFileSync(path.join(out, `${from} ${i}`)).equals(noise(`${from} ${i}`, FILE_BYTES)),
          );
    }
  }

  const only = (result: Result, event: string): Record<string, unknown> => {
    const found = events(result.stdout).filter((each) => each.event === event);
    assert.equal(found.length, 1, result.stdout + result.stderr);
    return found[0] ?? {};
  };

  test('everything comes back, from the packs and from the source, and the check is clean', async () => {
    // a pack is missing; its index still names it
    fs.rmSync(path.join(rig.path('repository'), dataPack(0)));
    // a segment in the middle, and the header of the first
    flip(dataPack(1), (size) => size >> 1);
    flip(dataPack(2), () => 20);
    // a footer, and the nodes of the last snapshot: the source still has that directory
    flip(dataPack(3), (size) => size - 40);
    flip(treePack(ROUNDS - 1), () => 100);
    // a whole entry of the log
    const [entry = ''] = [...stored('log').keys()].sort().slice(2);
    flip(entry, (size) => size - 1);
    await rig.start();
    const check = await rig.ctl('-j', 'check');
    assert.equal(check.code, 14, check.stderr);
    const problems = events(check.stdout).filter(({ event }) => event === 'problem');
    const named = new Set(problems.map(({ object }) => object));
    for (const name of [dataPack(0), dataPack(1), dataPack(2), dataPack(3), treePack(ROUNDS - 1)])
      assert.ok(named.has(`packs/${path.basename(name)}`), `${name}\n${check.stdout}`);
    assert.ok(named.has(entry));
    // what opens the repository, while it is open
    const [config, slot = ''] = ['config', ...stored('keys').keys()];
    const pristine = [config, slot].map((name) => fs.readFileSync(path.join(rig.path('repository'), name)));
    fs.rmSync(path.join(rig.path('repository'), config));
    flip(slot, (size) => size >> 1);
    const would = await rig.ctl('-j', 'repair', '-n');
    assert.equal(would.code, 14, would.stderr);
    assert.deepEqual(only(would, 'repaired').quarantined, 4);
    const repair = await rig.ctl('-j', 'repair', '-accept');
    assert.equal(repair.code, 0, repair.stderr + repair.stdout);
    const did = only(repair, 'repaired');
    assert.equal(did.quarantined, 4);
    assert.equal(did.missing, 1);
    assert.deepEqual([did.putBack, did.unmended], [2, 0]);
    for (const [i, name] of [config, slot].entries())
      assert.ok(
        fs.readFileSync(path.join(rig.path('repository'), name)).equals(pristine[i] ?? assert.fail()),
      );
    assert.ok(Number(did.salvagedChunks) >= 4, repair.stdout);
    assert.ok(Number(did.lostChunks) === 0 && Number(did.regainedChunks) >= 5, repair.stdout);
    const clean = await rig.ok('check');
    assert.match(clean, /no damage.*4 packs in quarantine/);
    await assertRestores([0, 3]);
    // nothing needs what was set aside any more
    await rig.ok('cleanup');
    assert.doesNotMatch(await rig.ok('check'), /quarantine|problem/);
    await assertRestores([ROUNDS - 1]);
    await rig.stop();
  });

  test('a lost index with a damaged footer: segments are found without either', async () => {
    const data = [...stored('packs')].sort((a, b) => b[1] - a[1])[0]?.[0] ?? '';
    for (const name of stored('index').keys()) fs.rmSync(path.join(rig.path('repository'), name));
    flip(data, (size) => size - 40);
    await rig.start();
    const repair = await rig.ctl('-j', 'repair');
    assert.equal(repair.code, 0, repair.stderr + repair.stdout);
    assert.ok(Number(only(repair, 'repaired').salvagedChunks) >= 4, repair.stdout);
    assert.equal(only(repair, 'repaired').regainedChunks, 0);
    assert.match(await rig.ok('check'), /no damage/);
    await assertRestores([ROUNDS - 1]);
    await rig.stop();
  });

  test('what no source has is lost: it is named, and goes only when somebody says so', async () => {
    await rig.start();
    const known = new Set(stored('packs').keys());
    fs.writeFileSync(rig.path('home', 'gone'), noise('gone', FILE_BYTES));
    const last = await rig.push();
    fs.rmSync(rig.path('home', 'gone'));
    await rig.stop();
    const made = [...stored('packs')].filter(([name]) => !known.has(name)).sort((a, b) => b[1] - a[1]);
    flip(made[0]?.[0] ?? '', () => 1000);
    await rig.start();
    const repair = await rig.ctl('-j', 'repair');
    assert.equal(repair.code, 14, repair.stderr);
    assert.deepEqual(only(repair, 'repaired').broken, [last]);
    assert.ok((await rig.ok('ls')).includes(last), 'it is still there');
    const check = await rig.ctl('check');
    assert.equal(check.code, 14);
    assert.ok(check.stderr.includes(`${last}:/gone`), check.stderr);
    const remove = await rig.ctl('-j', 'repair', '-remove');
    assert.equal(remove.code, 0, remove.stderr);
    assert.equal(only(remove, 'repaired').removed, 1);
    await rig.ok('cleanup');
    const clean = await rig.ok('check');
    assert.match(clean, /no damage/);
    assert.doesNotMatch(clean, /quarantine/);
    const again = await rig.push();
    fs.rmSync(rig.path('out'), { recursive: true, force: true });
    await rig.ok('pull', '-to', rig.path('out'), again);
    assertSame(rig.path('home'), rig.path('out'));
    await rig.stop();
  });
});
