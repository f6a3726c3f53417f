import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkFiles, checkKeyFile, diskFiles, formatError, parseFile } from '../../src/config/config.ts';
import { Failure, describe as textOf } from '../../src/error.ts';

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;

function verdict(mode: number, uid: number, size = 32): string {
  try {
    checkKeyFile('/k', { mode, uid, size, dev: 1, ino: 1 }, 1000);
    return 'fine';
  } catch (error) {
    assert.ok(error instanceof Failure);
    return textOf(error);
  }
}

describe('key files', () => {
  test("are root's or the current user's, and nobody else's to use", () => {
    for (const mode of [0o600, 0o400, 0o700]) {
      assert.equal(verdict(S_IFREG | mode, 0), 'fine');
      assert.equal(verdict(S_IFREG | mode, 1000), 'fine');
    }
    for (let bit = 1; bit <= 0o040; bit <<= 1) {
      assert.match(
        verdict(S_IFREG | 0o600 | bit, 0),
        /^key file \/k: others than its owner.*\(chmod 600 \/k\)$/,
      );
    }
    assert.match(verdict(S_IFREG | 0o600, 1001), /owned by user 1001, who could change it \(chown root/);
    assert.match(verdict(S_IFDIR | 0o700, 0), /not a regular file/);
    assert.match(verdict(S_IFREG | 0o600, 0, 0), /empty/);
    assert.match(verdict(S_IFREG | 0o600, 0, 1e9), /longer than 65536 bytes/);
  });
});

describe('on disk', () => {
  let directory = '';
  const options = { files: diskFiles(0), host: 'h', system: 'linux' };
  const at = (name: string) => path.join(directory, name);
  const write = (name: string, text: string, mode = 0o600) => {
    writeFileSync(at(name), text);
    chmodSync(at(name), mode);
  };

  before(() => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  test('a configuration names each refused key file at its statement', () => {
    write('good', 'secret');
    write('open', 'secret', 0o644);
    write('strange', 'secret');
    chownSync(at('strange'), 4711, 4711);
    const names = ['good', 'open', 'strange', 'absent', '.'];
    write('c', names.map((name, i) => `repository r${i} at /r${i} {\n  key file ${at(name)}\n}\n`).join(''));
    const { configuration, errors } = parseFile(at('c'), options);
    assert.deepEqual(errors, []);
    assert.ok(configuration);
    const refused = checkFiles(configuration, options.files);
    assert.deepEqual(
      refused.map((error) => [error.line, error.column, error.message.replaceAll(directory, '')]),
      [
        [5, 3, 'key file /open: others than its owner may use it (mode 0644) (chmod 600 /open)'],
        [8, 3, 'key file /strange: owned by user 4711, who could change it (chown root /strange)'],
        [11, 3, 'key file /absent: no such file or directory'],
        [14, 3, 'key file : not a regular file'],
      ],
    );
    assert.match(
      formatError({ ...refused[0], ...{ file: 'c', line: 5, column: 3, message: 'm' } }),
      /^c:5:3: m$/,
    );
  });

  test('a configuration that everybody may write is refused', () => {
    write('w', 'set cpu 3', 0o666);
    assert.match(
      parseFile(at('w'), options).errors[0]?.message ?? '',
      /everybody may write to it \(chmod o-w/,
    );
    write('i', `include ${at('w')}`);
    assert.match(parseFile(at('i'), options).errors[0]?.message ?? '', /everybody may write to it/);
  });

  test('a file that is missing, a directory, endless or too long is one error without a line', () => {
    write('long', '#'.repeat(1024 * 1024 + 1));
    for (const name of [at('absent'), directory, '/dev/zero', at('long')]) {
      const { errors, files } = parseFile(name, options);
      assert.equal(errors.length, 1, name);
      assert.match(errors.map(formatError).join(), new RegExp(`^${name}: read configuration: `));
      assert.deepEqual(files, [name]);
    }
    assert.deepEqual(parseFile('/dev/null', options).errors, []);
  });

  test('a link to a file that is being read is a cycle', () => {
    write('self', 'include "./self"');
    assert.match(parseFile(at('self'), options).errors[0]?.message ?? '', /includes itself/);
  });
});
