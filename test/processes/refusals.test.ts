/**
 * Bad input: each gives one line that names operation, object, cause and, where
 * it is known, the remedy, with its exit code, and leaves nothing behind.
 */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { NOBODY, oneLine, type Result, Rig } from './daemon.ts';
import { plantOrdinary } from './tree.ts';

/** A daemon that must refuse to start. */
async function refused(statements: (rig: Rig) => string, options: { uid?: number } = {}): Promise<Result> {
  const rig = new Rig();
  try {
    rig.configure(statements(rig));
    if (options.uid !== undefined) fs.chmodSync(path.join(rig.top, 'plakard.conf'), 0o644);
    return await rig.plakard(['-d', '-f', 'plakard.conf'], options);
  } finally {
    await rig.end();
  }
}

describe('plakard refuses to start', () => {
  test('on users that are not there', async () => {
    const rig = new Rig();
    try {
      rig.configureUsual();
      const file = path.join(rig.top, 'plakard.conf');
      const text = fs
        .readFileSync(file, 'utf8')
        .replace(/set user storage .*/, 'set user storage "no-such-user"');
      fs.writeFileSync(file, text);
      const line = oneLine(await rig.plakard(['-d', '-f', 'plakard.conf']), 1);
      assert.match(line, /plakard.*no-such-user.*\(.*\)/);
    } finally {
      await rig.end();
    }
  });

  test('on a configuration that is not there', async () => {
    const rig = new Rig();
    try {
      const line = oneLine(await rig.plakard(['-d', '-f', 'missing.conf']), 1);
      assert.match(line, /missing\.conf: read configuration: no such file or directory$/);
    } finally {
      await rig.end();
    }
  });

  test('on a key file that is not there, or that others can read', async () => {
    const missing = await refused((rig) => `repository "r" at "/r" { key file "${rig.top}/nothing" }`);
    assert.match(oneLine(missing, 1), /plakard\.conf:\d+:\d+: .*nothing.*no such file or directory/);
    const readable = await refused((rig) => {
      fs.chmodSync(rig.keyFile(), 0o644);
      return `repository "r" at "/r" { key file "${rig.keyFile()}" }`;
    });
    assert.match(oneLine(readable, 1), /plakard\.conf:\d+:\d+: .*key.*chmod/);
  });

  test('for anybody but root', async () => {
    const line = oneLine(await refused(() => '', { uid: NOBODY }), 13);
    assert.match(line, /^plakard: start: .*root/);
  });

  test('on a command line that it does not understand', async () => {
    const rig = new Rig();
    try {
      assert.match(oneLine(await rig.plakard(['-z']), 2), /^plakard: unknown option '-z' \(usage: plakard /);
      assert.match(oneLine(await rig.plakard(['-D', 'x']), 2), /-D x: expected macro=value/);
    } finally {
      await rig.end();
    }
  });
});

describe('a daemon that runs', () => {
  let rig: Rig;
  before(async () => {
    rig = new Rig();
    fs.writeFileSync(rig.path('pass'), 'right\n', { mode: 0o600 });
    fs.mkdirSync(rig.path('foreign'));
    fs.writeFileSync(rig.path('foreign', 'letter'), 'not a repository');
    rig.configureUsual(`repository "none" at "${rig.path('none')}" { key file "${rig.keyFile()}" }
repository "foreign" at "${rig.path('foreign')}" { key file "${rig.keyFile()}" }
repository "file" at "${rig.path('file')}" { key file "${rig.keyFile()}" }
repository "locked" at "${rig.path('locked')}" { passphrase file "${rig.path('pass')}" }
repository "orphan" at "${rig.top}/no/such/place" { key file "${rig.keyFile()}" }
repository "newer" at "${rig.path('newer')}" { key file "${rig.keyFile()}" }
source "gone" { path "${rig.top}/gone" }`);
    fs.writeFileSync(rig.path('file'), 'a file');
    plantOrdinary(rig.path('home'));
    await rig.start();
    await rig.ok('create');
    await rig.ok('on', 'locked', 'create');
    await rig.ok('on', 'newer', 'create');
    await rig.push();
  });
  after(() => rig.end());

  /** Fails with the code and the line, and leaves no process that was not there. */
  async function fails(args: readonly string[], code: number, line: RegExp, uid?: number): Promise<void> {
    const before = rig.processes();
    const result = await rig.client(args, uid === undefined ? {} : { uid }).result;
    assert.match(oneLine(result, code), line);
    assert.equal(result.stdout, '');
    const left = rig.processes().filter(({ pid }) => !before.some((each) => each.pid === pid));
    assert.deepEqual(
      left.filter(({ name }) => !name.startsWith('scanner')),
      [],
    );
  }

  test('no repository where the configuration says', async () => {
    const remedy = /none: use .*\/none: there is no repository \(plakarctl create makes one\)$/;
    for (const words of [
      ['ls'],
      ['push', 'home'],
      ['check'],
      ['info'],
      ['rm', 'latest'],
      ['cat', 'latest:/x'],
    ])
      await fails(['on', 'none', ...words], 10, remedy);
    await fails(['on', 'orphan', 'ls'], 10, /there is no repository/);
    await fails(['on', 'file', 'ls'], 10, /use .*\/file: it is not a directory$/);
    assert.equal(fs.existsSync(path.join(rig.top, 'none')), false);
  });

  test('a directory that is no repository', async () => {
    await fails(['on', 'foreign', 'ls'], 10, /there is no repository/);
    await fails(['on', 'foreign', 'create'], 1, /create.* use .*\/foreign: it is not empty: there is letter/);
    await fails(
      ['on', 'orphan', 'create'],
      1,
      /make directory .*\/no\/such\/place: no such file or directory/,
    );
    await fails(['on', 'file', 'create'], 1, /create.*\/file: /);
    assert.deepEqual(fs.readdirSync(rig.path('foreign')), ['letter']);
  });

  test('to make a repository without encryption against the configuration', async () => {
    await fails(
      ['on', 'none', 'create', '-no-encryption'],
      2,
      /create none: the configuration encrypts it \(/,
    );
    assert.equal(fs.existsSync(path.join(rig.top, 'none')), false);
  });

  test('a repository that is there already', async () => {
    await fails(['create'], 1, /create.*\/repository: there is one already \(.*\)$/);
  });

  test('a wrong passphrase, and a wrong key file', async () => {
    await rig.ok('on', 'locked', 'ls');
    // processes that have the key need no passphrase: it is asked for when they start
    fs.writeFileSync(rig.path('pass'), 'wrong\n', { mode: 0o600 });
    await restart();
    await fails(
      ['on', 'locked', 'ls'],
      12,
      /ls locked: open repository locked: unlock .* \(.*passphrase.*\)$/,
    );
    fs.writeFileSync(rig.path('pass'), 'right\n', { mode: 0o600 });
    await rig.ok('on', 'locked', 'ls');
    const right = fs.readFileSync(rig.keyFile());
    await restart();
    fs.writeFileSync(rig.keyFile(), randomBytes(32));
    await fails(['ls'], 12, /ls: open repository local: unlock .*key file/);
    fs.rmSync(rig.keyFile());
    await fails(['ls'], 1, /ls: open repository local: read key file .*\/key: no such file or directory/);
    fs.writeFileSync(rig.keyFile(), right, { mode: 0o600 });
    await rig.ok('ls');
  });

  async function restart(): Promise<void> {
    await rig.stop();
    await rig.start();
  }

  test('a repository of a newer format', async () => {
    const config = rig.path('newer', 'config');
    const bytes = fs.readFileSync(config);
    const newer = Buffer.from(bytes);
    // plakard-repository(7): a magic of 8 bytes, then the format; at the end the digest of all before
    newer.writeUInt16LE(9, 8);
    hash('sha256', newer.subarray(0, -32), 'buffer').copy(newer, newer.length - 32);
    fs.writeFileSync(config, newer);
    const line =
      /ls newer: open repository newer: read config: format 9 is unknown to this version \(.*newer plakard.*\)$/;
    await fails(['on', 'newer', 'ls'], 1, line);
    fs.writeFileSync(config, bytes);
    await rig.ok('on', 'newer', 'ls');
  });

  test('unknown commands, options, repositories, sources, snapshots and paths', async () => {
    await fails(['psuh'], 2, /command psuh: unknown \(did you mean push\?\)$/);
    await fails(['frobnicate'], 2, /command frobnicate: unknown \(plakarctl help lists the commands\)$/);
    await fails(['push', '-tga', 'x', 'home'], 2, /push -tga: unknown option \(did you mean -tag\?\)$/);
    await fails(['cat'], 2, /cat: missing operand \(usage: plakarctl cat SNAPSHOT:PATH\.\.\.\)$/);
    await fails([], 2, /command: missing \(usage: /);
    await fails(
      ['on', 'nowhere', 'ls'],
      10,
      /ls nowhere: no such repository in the configuration \(there are: local, .*\)$/,
    );
    await fails(
      ['push', 'nothing'],
      1,
      /push nothing: no such source in the configuration \(there are: home, gone; .*\)$/,
    );
    await fails(['push', '/no/such/path'], 1, /push \/no\/such\/path: no such file or directory$/);
    await fails(
      ['ls', 'ffffffff'],
      1,
      /ls ffffffff: find snapshot ffffffff: no such snapshot \(plakarctl ls lists them\)$/,
    );
    await fails(['rm', 'ffffffff'], 1, /rm ffffffff: find snapshot ffffffff: no such snapshot \(.*\)$/);
    await fails(['check', 'ffffffff'], 1, /check: find snapshot ffffffff: no such snapshot \(.*\)$/);
    await fails(['ls', 'what?'], 2, /ls what\?: not a snapshot \(a UUID, a prefix of one, or latest\)$/);
    for (const command of ['ls', 'cat', 'pull'])
      await fails([command, 'latest:/nowhere'], 1, /latest:\/nowhere: no such file in the snapshot$/);
    await fails(['cat', 'latest:/a'], 1, /cat latest:\/a: .*it is a directory$/);
  });

  test('a source that is not there', async () => {
    await fails(['push', 'gone'], 1, /push gone: read source .*\/gone: no such file or directory$/);
  });

  test('what a user may not', async () => {
    const permit = / is not permitted to \(a permit statement in plakard\.conf allows it\)$/;
    for (const words of [
      ['stop'],
      ['reload'],
      ['ls'],
      ['push', 'home'],
      ['rm', 'latest'],
      ['check'],
      ['create'],
    ])
      await fails(words, 13, permit, NOBODY);
    fs.chmodSync(rig.socket, 0o600);
    await fails(['ls'], 13, /ls: connect .*plakard\.sock: permission denied/, NOBODY);
    fs.chmodSync(rig.socket, 0o666);
  });

  test('a second plakard on the same socket', async () => {
    const line = oneLine(await rig.plakard(['-d', '-f', 'plakard.conf']), 11);
    assert.match(
      line,
      /^plakard: listen on .*plakard\.sock: another plakard serves it \(plakarctl -s .* stop\)$/,
    );
    await rig.ok('ls');
  });
});

test('a daemon that does not run', async () => {
  const rig = new Rig();
  try {
    const line = oneLine(await rig.ctl('ls'), 1);
    assert.match(
      line,
      /^plakarctl: ls: connect .*plakard\.sock: no such file or directory \(is plakard running\?\)$/,
    );
  } finally {
    await rig.end();
  }
});
