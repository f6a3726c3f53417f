/** plakarctl key, and what follows from it, on a real daemon. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { oneLine, Rig } from './daemon.ts';

const rig = new Rig();
const repository = () => rig.path('repository');

interface Slot {
  readonly slot: string;
  readonly type: string;
  readonly label: string;
  readonly opened: boolean;
}
interface Epoch {
  readonly epoch: number;
  readonly segments: number;
  readonly objects: number;
}
interface Keys {
  readonly slots: readonly Slot[];
  readonly epochs: readonly Epoch[];
}

async function keys(): Promise<Keys> {
  const [listed] = await rig.json('key', 'list');
  return listed as unknown as Keys;
}

const slotOf = async (label: string): Promise<Slot> => {
  const found = (await keys()).slots.find((slot) => slot.label === label);
  assert.ok(found, label);
  return found;
};
const left = async () =>
  (await keys()).epochs.map(({ epoch, segments, objects }) => [epoch, segments + objects > 0]);

function write(name: string, contents: Buffer | string): void {
  fs.writeFileSync(rig.path('home', name), contents);
}

/** What is restored of a snapshot is what the source was. */
async function pulls(snapshot: string, files: Readonly<Record<string, Buffer | string>>): Promise<void> {
  const to = rig.path('pulled', snapshot);
  await rig.ok('pull', '-to', to, snapshot);
  for (const [name, contents] of Object.entries(files))
    assert.deepEqual(fs.readFileSync(path.join(to, name)), Buffer.from(contents));
}

/** The configuration, with this as what opens the repository. */
function opensBy(statement: string): void {
  rig.configure(`repository "local" at "${repository()}" { ${statement} }
source "home" { path "${rig.path('home')}" }`);
}

describe('keys', () => {
  const old = { a: 'a', r: randomBytes(1 << 20) };
  let first = '';
  let second = '';

  before(async () => {
    rig.configureUsual();
    fs.mkdirSync(rig.path('pulled'));
    await rig.start();
    await rig.ok('create');
    for (const [name, contents] of Object.entries(old)) write(name, contents);
    first = await rig.push();
  });
  after(() => rig.end());

  test('a passphrase is added, opens the repository, and outlives the key file that was first', async () => {
    const pass = rig.path('pass');
    fs.writeFileSync(pass, 'correct horse\nnot this\n', { mode: 0o600 });
    const added = (await rig.ok('key', 'add', '-label', 'mine', '-passphrase-file', pass)).trim();
    const mine = await slotOf('mine');
    assert.deepEqual([mine.slot, mine.type, mine.opened], [added, 'passphrase', false]);
    const original = await slotOf('created with local');
    assert.equal(original.opened, true);
    oneLine(await rig.ctl('key', 'rm', original.slot), 1);

    opensBy(`passphrase file "${pass}"`);
    await rig.ok('reload');
    assert.equal((await slotOf('mine')).opened, true);
    await rig.ok('key', 'rm', original.slot);
    assert.match(oneLine(await rig.ctl('key', 'rm', '-force', added), 1), /it is the last/);

    const replaced = await rig.ok('key', 'passwd', '-key-file', rig.keyFile('new'));
    assert.match(replaced, new RegExp(`^[0-9a-f]{16}\n${added} removed\n$`));
    await rig.stop();
    await rig.start();
    assert.match(oneLine(await rig.ctl('ls'), 12), /no slot is for a passphrase/);
    opensBy(`key file "${rig.keyFile()}"`);
    await rig.ok('reload');
    assert.match(oneLine(await rig.ctl('ls'), 12), /wrong key file/);
    fs.cpSync(rig.keyFile('new'), rig.keyFile());
    assert.deepEqual(
      (await keys()).slots.map(({ type, label, opened }) => [type, label, opened]),
      [['key file', 'mine', true]],
    );
  });

  test('after a rotation old and new is read, by whoever opens it later too', async () => {
    assert.equal(await rig.ok('key', 'rotate'), 'epoch 2\n');
    write('b', 'b');
    second = await rig.push();
    assert.deepEqual(await left(), [
      [1, true],
      [2, true],
    ]);
    await pulls(first, old);
    await rig.stop();
    await rig.start();
    await rig.ok('check');
    await pulls(second, { ...old, b: 'b' });
  });

  test('cleanup -reseal leaves nothing under an old epoch, which is forgotten then', async () => {
    assert.match(
      oneLine(await rig.ctl('key', 'forget', '1'), 1),
      /are sealed under it \(plakarctl cleanup -reseal\)/,
    );
    await rig.ok('cleanup', '-reseal');
    assert.deepEqual(await left(), [
      [1, false],
      [2, true],
    ]);
    assert.match(oneLine(await rig.ctl('key', 'forget', '1'), 1), /the one in the slots/);
    await rig.ok('key', 'add', '-label', 'leaver', '-key-file', rig.keyFile('leaver'));
    assert.match(
      await rig.ok('key', 'rotate', '-revoke'),
      /^[0-9a-f]{16}\nepoch 3\n(?:[0-9a-f]{16} removed\n){2}$/,
    );
    await rig.ok('cleanup', '-reseal');
    await rig.ok('key', 'forget', '1');
    await rig.ok('key', 'forget', '2');
    assert.deepEqual(await left(), [[3, true]]);
    await rig.stop();
    await rig.start();
    await rig.ok('check');
    await pulls(first, old);
    await pulls(second, { ...old, b: 'b' });
    // what was stored under the first epoch is still found
    const [pushed] = await rig.json('push', 'home');
    assert.equal(pushed?.addedBytes, 0);
  });

  test('another daemon notices a rotation when its next job begins, and a revocation too', async () => {
    const other = new Rig();
    try {
      fs.cpSync(rig.keyFile(), other.path('key'));
      other.configure(`repository "local" at "${repository()}" { key file "${other.path('key')}" }`);
      const config = fs.readFileSync(path.join(other.top, 'plakard.conf'), 'utf8');
      const users = fs
        .readFileSync(path.join(rig.top, 'plakard.conf'), 'utf8')
        .match(/^set user storage .*$/m);
      // both have to be able to read and write the same files
      fs.writeFileSync(
        path.join(other.top, 'plakard.conf'),
        config.replace(/^set user storage .*$/m, users?.[0] ?? ''),
      );
      await other.start();
      await other.ok('ls');
      await rig.ok('key', 'rotate');
      write('c', 'c');
      const third = await rig.push();
      assert.match(await other.ok('ls'), new RegExp(third));
      fs.cpSync(rig.keyFile('leaver'), other.path('key'));
      await rig.ok('key', 'rotate', '-revoke');
      assert.match(oneLine(await other.ctl('ls'), 12), /wrong key file/);
    } finally {
      await other.end();
    }
  });

  test('who is not permitted to in so many words may not', async () => {
    rig.configureUsual(`permit user 65534 { all }`);
    await rig.ok('reload');
    const { result } = rig.client(['key', 'list'], { uid: 65534 });
    assert.match(oneLine(await result, 13), /not permitted/);
  });
});
