import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { checkFiles, OPERATIONS, type Parsed, parseFile } from '../../src/config/config.ts';
import { STATEMENTS } from '../../src/config/statement.ts';
import { memoryFiles } from './memory.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const read = (name: string) => readFileSync(path.join(ROOT, name), 'utf8');
/** The manual as it is shown, but for its line breaks. */
const manual = read('man/plakard.conf.5').replaceAll('\\(dq', '"');

const parse = (text: string): Parsed =>
  parseFile('/c', { files: memoryFiles({ '/c': text }), host: 'alpha', system: 'linux' });

describe('examples', () => {
  test('etc/plakard.conf is accepted once its key file exists, and needs no more', () => {
    const { configuration, errors } = parse(read('etc/plakard.conf'));
    assert.deepEqual(errors, []);
    assert.ok(configuration);
    assert.equal(configuration.repositories[0]?.location.path, '/var/plakard/local');
    assert.deepEqual(checkFiles(configuration, memoryFiles({ '/etc/plakard/local.pass': 'secret' })), []);
    assert.equal(checkFiles(configuration, memoryFiles({})).length, 1);
  });

  test('what etc/plakard.conf has in comments is right too', () => {
    const all = read('etc/plakard.conf').replace(/^#(?=[a-z}\t] ?)(?!\t#)/gm, '');
    const files = memoryFiles({
      '/etc/plakard.conf': all,
      '/etc/plakard/databases.conf': read('etc/examples/database.conf'),
    });
    const { configuration, errors } = parseFile('/etc/plakard.conf', {
      files,
      host: 'beta',
      system: 'linux',
    });
    assert.deepEqual(errors, []);
    assert.equal(configuration?.cpu, 2);
    assert.equal(configuration.users.storage, '4711');
    assert.equal(configuration.permits.length, 2);
    assert.equal(configuration.sources[2]?.before.length, 1);
  });

  test('etc/examples/offsite.conf', () => {
    assert.deepEqual(parse(read('etc/examples/offsite.conf')).errors, []);
  });

  test("the manual's", () => {
    const displays = [...manual.matchAll(/^\.Bd -literal -offset indent\n([^#]*?)^\.Ed$/gm)];
    assert.equal(displays.length, 2);
    for (const [, text = ''] of displays) assert.deepEqual(parse(text).errors, [], text);
    for (const [, text = ''] of manual.matchAll(/^\.Dl (if .*)$/gm)) assert.deepEqual(parse(text).errors, []);
  });
});

describe('the manual', () => {
  test('has every statement of the outermost block', () => {
    for (const { parts } of STATEMENTS.rules) {
      const keywords = parts.slice(0, parts[0] === 'set' ? 2 : 1).join(' ');
      assert.match(manual, new RegExp(`^\\.It Ic ${keywords}\\b`, 'm'), keywords);
    }
  });

  test('has every operation', () => {
    const permits = manual.slice(manual.indexOf('.Sh PERMITS'), manual.indexOf('.Sh FILES'));
    for (const operation of OPERATIONS) assert.match(permits, new RegExp(`\\b${operation}\\b`), operation);
  });
});
