import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { type Configuration, parseFile, print } from '../../src/config/config.ts';
import { GOLDEN, goldenNames, parseGolden, render } from './golden.ts';
import { memoryFiles } from './memory.ts';

/** The configuration without positions, which printing moves. */
function placeless(configuration: Configuration | undefined): unknown {
  return JSON.parse(JSON.stringify(configuration, (key, value) => (key === 'at' ? undefined : value)));
}

/** How each statement begins. */
const HEADS = [
  ...['cpu', 'memory', 'socket', 'state', 'user', 'log', 'reload'].map((what) => `set ${what}`),
  ...['limit read', 'limit write', 'repository', 'source', 'push', 'sync', 'permit user', 'permit group'],
  ...[
    'passphrase file',
    'key file',
    'no encryption',
    'compression zstd',
    'compression none',
    'keep',
    'check',
    'cleanup',
  ],
  ...['path', 'exclude', 'one filesystem', 'watch', 'run before', 'run after'],
];

describe('golden configurations', () => {
  for (const name of goldenNames()) {
    test(name, () => {
      const parsed = parseGolden(name);
      const suffix = parsed.configuration === undefined ? '.err' : '.ok';
      const expected = readFileSync(path.join(GOLDEN, name.replace(/\.conf$/, suffix)), 'utf8');
      assert.equal(render(parsed), expected);
      assert.equal(parsed.configuration === undefined, parsed.errors.length > 0);
      if (parsed.configuration === undefined) return;

      const files = memoryFiles({ '/printed.conf': expected });
      const again = parseFile('/printed.conf', { files, host: 'other', system: 'none' });
      assert.deepEqual(again.errors, []);
      assert.deepEqual(placeless(again.configuration), placeless(parsed.configuration));
      assert.equal(again.configuration && print(again.configuration), expected);
    });
  }

  test('every statement is printed by one of them', () => {
    const printed = goldenNames().map((name) => render(parseGolden(name)));
    for (const head of HEADS) {
      assert.ok(
        printed.some((text) => new RegExp(`^\\t?${head}\\b`, 'm').test(text)),
        head,
      );
    }
  });
});

test('files lists every file read, once, in order', () => {
  assert.deepEqual(parseGolden('include.conf').files, [
    'include.conf',
    'inc/repositories.conf',
    'inc/nested.conf',
    'inc/repeat.conf',
    'inc/sources.conf',
  ]);
  assert.ok(parseGolden('include-bad.conf').files.includes('inc/missing.conf'), 'what is missing may come');
});
