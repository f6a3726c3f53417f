/** What the parent opens because it is configured: never through a stranger's link, and only if it is what it must be. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import type { Encryption } from '../../src/config/config.ts';
import { describe as describeError, kindOf } from '../../src/error.ts';
import { readCredential, wipe } from '../../src/processes/parent/credential.ts';
import { checkRepository, makeRepositoryDirectory } from '../../src/processes/parent/directory.ts';
import { holdState } from '../../src/processes/parent/state.ts';
import { listenUnix, ownSocket } from '../../src/sys/server.ts';

const STRANGER = 61042;
const STORAGE = { uid: 61003, gid: 61004 };

const top = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'plakard-'));
const at = (...names: string[]): string => path.join(top, ...names);
const link = (target: string, name: string, uid = 0): void => {
  fs.symlinkSync(target, at(name));
  fs.lchownSync(at(name), uid, uid);
};
const refusal = (attempt: () => unknown): string => {
  try {
    attempt();
  } catch (error) {
    return describeError(error);
  }
  return assert.fail('it was done');
};
const descriptors = (): number => fs.readdirSync('/proc/self/fd').length;
after(() => fs.rmSync(top, { recursive: true }));

describe('the directory of a repository', () => {
  fs.mkdirSync(at('victim'));
  fs.mkdirSync(at('theirs'));
  link(at('victim'), 'led', STRANGER);
  link('theirs', 'mine');
  const owner = (name: string): number => fs.statSync(at(name)).uid;

  test('is made, or taken if it is empty, and is storage’s then', () => {
    const before = descriptors();
    makeRepositoryDirectory(at('new'), STORAGE);
    assert.deepEqual([owner('new'), fs.statSync(at('new')).mode & 0o777], [STORAGE.uid, 0o700]);
    fs.mkdirSync(at('empty'));
    fs.mkdirSync(at('empty', 'lost+found'));
    makeRepositoryDirectory(at('empty'), STORAGE);
    assert.equal(owner('empty'), STORAGE.uid);
    makeRepositoryDirectory(at('mine'), STORAGE);
    assert.equal(owner('theirs'), STORAGE.uid);
    assert.equal(descriptors(), before);
  });

  test('is not where a stranger’s link leads, however it comes to stand there', () => {
    for (const name of ['led', 'led/below'])
      assert.match(
        refusal(() => makeRepositoryDirectory(at(name), STORAGE)),
        /follow link .*led: it belongs/,
      );
    assert.equal(owner('victim'), 0);
    assert.match(
      refusal(() => checkRepository(at('led'))),
      /follow link/,
    );
  });

  test('is not one that holds something else, nor a file', () => {
    fs.mkdirSync(at('full'));
    fs.writeFileSync(at('full', 'other'), '');
    assert.match(
      refusal(() => makeRepositoryDirectory(at('full'), STORAGE)),
      /use .*full: it is not empty: there is other/,
    );
    fs.writeFileSync(at('full', 'config'), '');
    assert.match(
      refusal(() => makeRepositoryDirectory(at('full'), STORAGE)),
      /create repository .*there is one already/,
    );
    assert.equal(owner('full'), 0);
    checkRepository(at('full'));
    fs.writeFileSync(at('file'), '');
    assert.match(
      refusal(() => checkRepository(at('file'))),
      /use .*file: it is not a directory/,
    );
    assert.match(
      refusal(() => makeRepositoryDirectory(at('file'), STORAGE)),
      /use .*file: not a directory/,
    );
    for (const name of ['none', 'empty'])
      assert.throws(
        () => checkRepository(at(name)),
        (error) => kindOf(error) === 'no-repository',
      );
  });
});

describe('a key file', () => {
  const encryption = (name: string, kind: 'keyfile' | 'passphrase' = 'keyfile'): Encryption => ({
    kind,
    path: at(name),
    at: { file: '', line: 1, column: 1 },
  });
  fs.writeFileSync(at('key'), 'secret\nmore', { mode: 0o600 });

  test('is read whole, or to the end of its line, and wiped', () => {
    const whole = readCredential(encryption('key'));
    assert(whole.type === 'key file');
    assert.equal(whole.secret.toString(), 'secret\nmore');
    const line = readCredential(encryption('key', 'passphrase'));
    assert(line.type === 'passphrase');
    assert.equal(line.secret.toString(), 'secret');
    const behind = Buffer.from(line.secret.buffer, 0, 11);
    assert.equal(behind.toString(), 'secret\nmore');
    wipe(line);
    assert.deepEqual(behind, Buffer.alloc(11));
  });

  test('is refused where it can have become something else since the configuration was read', () => {
    const before = descriptors();
    const reason = (name: string): string => refusal(() => readCredential(encryption(name)));
    link(at('key'), 'bent', STRANGER);
    assert.match(reason('bent'), /^read key file .*bent: follow link .*bent: it belongs to user 61042/);
    fs.writeFileSync(at('open'), 'x', { mode: 0o644 });
    assert.match(reason('open'), /others than its owner may use it \(mode 0644\)/);
    fs.writeFileSync(at('foreign'), 'x', { mode: 0o600 });
    fs.chownSync(at('foreign'), STRANGER, STRANGER);
    assert.match(reason('foreign'), /owned by user 61042, who could change it/);
    fs.writeFileSync(at('long'), Buffer.alloc((64 << 10) + 1), { mode: 0o600 });
    assert.match(reason('long'), /longer than 65536 bytes/);
    // neither is opened, which would wait for ever or read for ever
    execFileSync('mkfifo', ['-m', '600', at('fifo')]);
    assert.match(reason('fifo'), /not a regular file/);
    link('/dev/zero', 'endless');
    assert.match(reason('endless'), /not a regular file/);
    fs.writeFileSync(at('blank'), '\n', { mode: 0o600 });
    assert.match(
      refusal(() => readCredential(encryption('blank', 'passphrase'))),
      /^read passphrase .*its first line is empty$/,
    );
    assert.equal(descriptors(), before);
  });
});

describe('the state directory', () => {
  test('is made for root alone, and used by one daemon at a time', () => {
    const before = descriptors();
    const held = holdState(at('state'));
    assert.equal(fs.statSync(at('state')).mode & 0o777, 0o700);
    assert.throws(
      () => holdState(at('state')),
      (error) =>
        kindOf(error) === 'busy' &&
        /use state directory .*another plakard uses it/.test(describeError(error)),
    );
    fs.closeSync(held);
    fs.closeSync(holdState(at('state')));
    assert.equal(descriptors(), before);
  });

  test('is refused where others could write to it', () => {
    const reason = (name: string): string => refusal(() => holdState(at(name)));
    fs.mkdirSync(at('shared'));
    fs.chmodSync(at('shared'), 0o777);
    assert.match(reason('shared'), /others than root may write to it \(chown root .*shared; chmod 700/);
    fs.mkdirSync(at('given'));
    fs.chownSync(at('given'), STRANGER, STRANGER);
    assert.match(reason('given'), /others than root may write to it/);
    link(at('state'), 'elsewhere', STRANGER);
    assert.match(reason('elsewhere'), /follow link/);
  });
});

test('a socket gets its group and mode, and nothing else does', () => {
  const fd = listenUnix(at('socket'), { gid: 61077, mode: 0o660 });
  const { gid, mode } = fs.statSync(at('socket'));
  assert.deepEqual([gid, mode & 0o777], [61077, 0o660]);
  fs.closeSync(fd);
  fs.rmSync(at('socket'));
  // as whoever owns the directory could have it
  link(at('key'), 'socket', STRANGER);
  for (const target of [at('key'), at('socket')])
    assert.throws(() => ownSocket(target, { gid: 61077, mode: 0o666 }), /give its group and mode to/);
  assert.deepEqual([fs.statSync(at('key')).gid, fs.statSync(at('key')).mode & 0o777], [0, 0o600]);
});
