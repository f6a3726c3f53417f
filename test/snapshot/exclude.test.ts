import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Excludes } from '../../src/snapshot/exclude.ts';

/** Whether `path`, below /home, is left out; a path with a slash at its end is a directory. */
function excluded(patterns: readonly (string | Buffer)[], path: string, base = '/home'): boolean {
  const isDirectory = path.endsWith('/');
  const bytes = Buffer.from(isDirectory ? path.slice(0, -1) : path, 'latin1');
  const slash = bytes.lastIndexOf(0x2f);
  const directory = bytes.subarray(0, Math.max(slash, 0));
  return new Excludes(patterns, base).matches(
    bytes,
    slash + 1,
    bytes.length,
    directory,
    directory.length,
    isDirectory,
  );
}

const TABLE: readonly (readonly [pattern: string, path: string, isOut: boolean])[] = [
  ['*.o', 'a.o', true],
  ['*.o', 'x/y/a.o', true],
  ['*.o', '.o', true],
  ['*.o', 'a.oo', false],
  ['*.o', 'o', false],
  ['node_modules', 'x/node_modules/', true],
  ['node_modules', 'node_modules2', false],
  ['build/', 'a/build/', true],
  ['build/', 'a/build', false],
  ['a?c', 'abc', true],
  ['a?c', 'ac', false],
  ['a*c*e', 'abcde', true],
  ['a*c*e', 'abde', false],
  ['*', 'anything', true],
  ['[a-c]x', 'bx', true],
  ['[a-c]x', 'dx', false],
  ['[!a-c]x', 'dx', true],
  ['[!a-c]x', 'ax', false],
  ['[]a]x', ']x', true],
  ['[a', '[a', true],
  ['\\*', '*', true],
  ['\\*', 'a', false],
  ['\\!a', '!a', true],
  ['docs/*.pdf', 'docs/a.pdf', true],
  ['docs/*.pdf', 'docs/x/a.pdf', false],
  ['docs/*.pdf', 'x/docs/a.pdf', false],
  ['/home/a/tmp', 'a/tmp', true],
  ['/home/a/tmp', 'b/a/tmp', false],
  ['/a/tmp', 'a/tmp', false],
  ['/home/*/tmp/', 'a/tmp/', true],
  ['**/b', 'b', true],
  ['**/b', 'a/c/b', true],
  ['**/b', 'ab', false],
  ['a/**/b', 'a/b', true],
  ['a/**/b', 'a/x/y/b', true],
  ['a/**/b', 'a/xb', false],
  ['a/**', 'a/x/y', true],
  ['a/**', 'a/', false],
  ['/**/cache', 'x/y/cache', true],
  ['a**b', 'axxb', true],
  ['x/a**b', 'x/a/b', false],
];

describe('excludes', () => {
  test('match as gitignore(5) says', () => {
    for (const [pattern, path, isOut] of TABLE)
      assert.equal(excluded([pattern], path), isOut, `${pattern} on ${path}`);
  });

  test('the last pattern that matches decides', () => {
    assert.equal(excluded(['*.o', '!keep.o'], 'keep.o'), false);
    assert.equal(excluded(['*.o', '!keep.o'], 'other.o'), true);
    assert.equal(excluded(['!keep.o', '*.o'], 'keep.o'), true);
    assert.equal(excluded(['!**/k', 'k'], 'k'), true);
    assert.equal(excluded(['k', '!**/k'], 'a/k'), false);
  });

  test('names are bytes', () => {
    assert.ok(excluded([Buffer.from('\xff*', 'latin1')], '\xff\xfe'));
    assert.ok(excluded(['ü'], Buffer.from('ü').toString('latin1')));
    assert.ok(!excluded(['ü'], '\xfc'));
    assert.ok(excluded(['a?b'], 'a\nb'));
  });

  test('a source that is the whole system has absolute paths too', () => {
    assert.ok(excluded(['/proc'], 'proc/', '/'));
    assert.ok(!excluded(['/proc'], 'x/proc/', '/'));
  });

  test('no pattern is slow: twice the stars take about twice the time', () => {
    const name = Buffer.alloc(255, 0x61);
    const path = Buffer.from('a/'.repeat(500));
    const spentMs = (stars: number): number => {
      const excludes = new Excludes([`${'*a'.repeat(stars)}b`, `${'**/'.repeat(stars)}x/y`]);
      const before = performance.now();
      for (let i = 0; i < 20; i++)
        assert.equal(excludes.matches(name, 0, name.length, path, path.length - 1, false), false);
      return performance.now() - before;
    };
    spentMs(20);
    assert.ok(spentMs(40) < 20 * spentMs(20));
  });

  test('what is no pattern is refused', () => {
    for (const pattern of ['', '/', '!', 'a\0b', 'x'.repeat(5000)])
      assert.throws(() => new Excludes([pattern]), { name: 'Failure', operation: 'exclude' });
  });
});
