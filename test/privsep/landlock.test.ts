/** Landlock: what is told to the kernel, to the byte, and what the kernel then refuses, on every thread. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { poolSize } from '../../src/privsep/landlock.ts';
import {
  accessMask,
  landlockVersion,
  landlockVersionOf,
  pathBeneathAttributes,
  restrictsAll,
  rulesetAttributes,
} from '../../src/sys/landlock.ts';

const PROGRAM = path.join(import.meta.dirname, 'landlocked.ts');

describe('what the kernel is told', () => {
  test('a ruleset is as long as its version knows, and asks for nothing newer', () => {
    const hex = (version: number, tcp = true): string => rulesetAttributes(version, { tcp }).toString('hex');
    assert.equal(hex(1), 'ff1f000000000000');
    assert.equal(hex(2), 'ff3f000000000000');
    assert.equal(hex(3), 'ff7f000000000000');
    assert.equal(hex(4), 'ff7f0000000000000300000000000000');
    assert.equal(hex(5), 'ffff0000000000000300000000000000');
    assert.equal(hex(6), 'ffff00000000000003000000000000000300000000000000');
    assert.equal(hex(9), hex(6));
    assert.equal(hex(6, false), 'ffff00000000000000000000000000000300000000000000');
  });

  test('a rule is packed, and has only rights that the version knows', () => {
    const mask = accessMask(['read file', 'read directory', 'truncate'], 2);
    assert.equal(mask, 0b1100);
    assert.equal(pathBeneathAttributes(mask, 7).toString('hex'), '0c0000000000000007000000');
    assert.equal(accessMask(['truncate', 'link elsewhere'], 3), (1 << 14) | (1 << 13));
    assert.equal(accessMask(['control device'], 4), 0);
  });

  test('no Landlock is version 0; any other refusal is an error', () => {
    assert.equal(landlockVersionOf(-os.constants.errno.ENOSYS), 0);
    assert.equal(landlockVersionOf(-os.constants.errno.EOPNOTSUPP), 0);
    assert.equal(landlockVersionOf(7), 7);
    assert.throws(() => landlockVersionOf(-os.constants.errno.EINVAL), /landlock_create_ruleset version/);
    assert.deepEqual([restrictsAll(7), restrictsAll(8)], [false, true]);
  });

  test('the pool has as many threads as libuv makes of its variable', () => {
    assert.deepEqual(
      [undefined, '', '0', '1', '12', '5000', '-3', 'x'].map((text) => poolSize(text)),
      [4, 1, 1, 1, 12, 1024, 1, 1],
    );
  });
});

describe('what the kernel then refuses', () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  after(() => fs.rmSync(directory, { recursive: true }));

  function run(profile: string, wrapper: readonly string[] = []): Record<string, unknown> {
    fs.writeFileSync(path.join(directory, 'file'), 'contents');
    fs.writeFileSync(path.join(directory, 'removable'), '');
    const argv = [...wrapper, process.execPath, PROGRAM, profile, directory, String(process.pid)];
    const [command = '', ...rest] = argv;
    return JSON.parse(execFileSync(command, rest, { encoding: 'utf8' }));
  }

  const version = landlockVersion();
  // where the kernel has none, everything is done
  const refused = version === 0 ? 'done' : 'EACCES';
  const always = {
    version,
    link: refused,
    execute: refused,
    connect: version >= 4 ? 'EACCES' : 'ECONNREFUSED',
    signal: version >= 6 ? 'EPERM' : 'done',
  };

  test('a worker: everything, on the main thread, the pool and threads that start later', () => {
    assert.deepEqual(run('worker'), {
      ...always,
      read: refused,
      'read on pool': [refused],
      list: refused,
      write: refused,
      'write on pool': [refused],
      'truncate on pool': [refused],
      'remove on pool': [refused],
      worker: refused,
    });
  });

  test('the scanner: all but reading', () => {
    assert.deepEqual(run('scanner'), {
      ...always,
      read: 'done',
      'read on pool': ['done'],
      list: 'done',
      write: refused,
      'write on pool': [refused],
      'truncate on pool': [refused],
      'remove on pool': [refused],
      worker: refused,
    });
  });

  test('storage: what is neither a file nor a directory', () => {
    const { 'remove on pool': removed, ...outcomes } = run('storage');
    assert.deepEqual(outcomes, {
      ...always,
      read: 'done',
      'read on pool': ['done'],
      list: 'done',
      write: 'done',
      'write on pool': ['done'],
      'truncate on pool': ['done'],
      worker: 'done',
    });
    assert.ok(Array.isArray(removed) && removed.includes('done'));
  });

  for (const errno of ['ENOSYS', 'EOPNOTSUPP'])
    test(`a kernel that says ${errno}: nothing is refused, and nothing fails`, () => {
      const inject = ['-f', '-q', '-o', '/dev/null', '-e', `inject=landlock_create_ruleset:error=${errno}`];
      const outcomes = run('scanner', ['strace', ...inject]);
      assert.deepEqual([outcomes.version, outcomes.write, outcomes['write on pool']], [0, 'done', ['done']]);
    });

  test('a kernel that refuses one thread: a failure that names it', () => {
    const inject = ['-f', '-q', '-o', '/dev/null', '-e', 'inject=landlock_restrict_self:error=E2BIG'];
    const ran = spawnSync('strace', [...inject, process.execPath, PROGRAM, 'scanner', directory], {
      encoding: 'utf8',
    });
    assert.notEqual(ran.status, 0);
    assert.match(ran.stderr, /confine files scanner/);
  });
});
