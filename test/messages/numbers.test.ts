import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const SOURCES = ['../../src/messages', '../../src/privsep'].map((each) =>
  path.join(import.meta.dirname, each),
);

test('no two messages have one number', async () => {
  const names = new Map<number, string>();
  for (const directory of SOURCES)
    for (const file of fs.readdirSync(directory)) {
      if (!file.endsWith('.ts')) continue;
      const text = fs.readFileSync(path.join(directory, file), 'utf8');
      for (const [, name = '', number = ''] of text.matchAll(/^export const (\w+) = message\(\s*(\d+),/gm)) {
        const other = names.get(Number(number));
        assert.equal(other, undefined, `${name} of ${file} and ${other} are both ${number}`);
        names.set(Number(number), `${name} of ${file}`);
      }
    }
  assert.ok(names.size > 80, `only ${names.size} messages were found`);
});
