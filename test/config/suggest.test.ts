import assert from 'node:assert/strict';
import { test } from 'node:test';
import { editDistance, suggestion } from '../../src/config/suggest.ts';

test('edit distance counts insertions, deletions, replacements and swaps', () => {
  for (const [a, b, distance] of [
    ['', '', 0],
    ['', 'abc', 3],
    ['push', 'psuh', 1],
    ['push', 'puch', 1],
    ['kitten', 'sitting', 3],
    ['abc', 'abc', 0],
  ] as const) {
    assert.equal(editDistance(a, b), distance, `${a} ${b}`);
    assert.equal(editDistance(b, a), distance, `${b} ${a}`);
  }
});

test('only what is near is suggested, and the nearest of it', () => {
  const words = ['repository', 'source', 'push', 'permit'];
  assert.equal(suggestion('repositories', words), `, did you mean 'repository'?`);
  assert.equal(suggestion('PUSH', words), `, did you mean 'push'?`);
  assert.equal(suggestion('repo', words), `, did you mean 'repository'?`);
  assert.equal(suggestion('banana', words), '');
  assert.equal(suggestion('p'.repeat(100_000), words), '');
});
