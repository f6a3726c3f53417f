import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { VERSION } from '../../src/version.ts';

test('the version is that of package.json', () => {
  const file = path.join(import.meta.dirname, '../../package.json');
  assert.equal(VERSION, JSON.parse(fs.readFileSync(file, 'utf8')).version);
});
