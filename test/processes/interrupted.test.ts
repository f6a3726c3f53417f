/** A push that is cut short: what it stored is found and used by the next one, and nothing is stored twice. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Rig, until } from './daemon.ts';
import { assertSame, noise, objects } from './tree.ts';

const FILES = 24;
/** A pack of data has more than this, one of trees less. */
const FILE_BYTES = 3 << 20;
const TOTAL_BYTES = FILES * FILE_BYTES;
/** What packs add to incompressible contents: headers, padding, footers, ids, trees. */
const OVERHEAD = 1.04;

describe('an interrupted push', () => {
  let rig: Rig;
  before(async () => {
    rig = new Rig();
    // slow enough to be interrupted in its middle, on any machine
    rig.configureUsual('limit write 48M');
    await rig.start();
    await rig.ok('create');
  });
  after(() => rig.end());

  function packBytes(): number {
    let bytes = 0;
    for (const [name, size] of objects(rig.path('repository'))) if (name.startsWith('packs/')) bytes += size;
    return bytes;
  }

  const plant = (round: string): void => {
    for (let i = 0; i < FILES; i++)
      fs.writeFileSync(rig.path('home', String(i)), noise(`${round} ${i}`, FILE_BYTES));
  };

  /** Pushes to the end, which stores what is missing and nothing else; returns how much that was. */
  async function finish(before: number, found: number): Promise<number> {
    const [cost] = await rig.json('push', 'home');
    const added = Number(cost?.addedBytes);
    assert.ok(found > 0);
    // what was found and what was added are the whole, once
    assert.ok(packBytes() - before <= TOTAL_BYTES * OVERHEAD, `${packBytes() - before} bytes stored`);
    assert.ok(added <= TOTAL_BYTES - found / OVERHEAD, `${found} bytes found, ${added} stored again`);
    const out = rig.path('out');
    fs.rmSync(out, { recursive: true, force: true });
    await rig.ok('pull', '-to', out, 'latest');
    assertSame(rig.path('home'), out);
    return added;
  }

  test('by its user: even what was in no pack yet is used', async (t) => {
    plant('user');
    const before = packBytes();
    const { process: client, result } = rig.client(['push', 'home']);
    await until('a pack is there', () => packBytes() > before + FILE_BYTES);
    client.kill('SIGINT');
    assert.equal((await result).code, 130);
    await until('the push is over', async () => (await rig.jobs()).length === 0);
    const found = packBytes() - before;
    const added = await finish(before, found);
    t.diagnostic(
      `${TOTAL_BYTES} bytes; ${found} in packs when it was interrupted, ${added} added by the next`,
    );
  });

  test('by a kill: what packs held is used', async (t) => {
    plant('kill');
    const before = packBytes();
    const { pid } = rig.process('storage local');
    const { result } = rig.client(['push', 'home']);
    await until('a pack is there', () => packBytes() > before + FILE_BYTES);
    process.kill(pid, 'SIGKILL');
    assert.equal((await result).code, 1);
    await rig.logged(/serves again/);
    const found = packBytes() - before;
    const added = await finish(before, found);
    t.diagnostic(`${TOTAL_BYTES} bytes; ${found} in packs when it was killed, ${added} added by the next`);
  });
});
