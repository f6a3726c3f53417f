import assert from 'node:assert/strict';
import { test } from 'node:test';
import { completions } from '../../scripts/completions.ts';

for (const { file, text, wanted } of completions())
  test(`${file.split('/').at(-1)} knows the commands of the table`, () => {
    assert.equal(text, wanted, 'run npm run completions');
  });
