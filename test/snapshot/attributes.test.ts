/** Extended attributes of an entry, as the walker reads them. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type Attributes, attributesAt, attributesOf } from '../../src/snapshot/attributes.ts';
import { setXattr } from '../../src/sys/xattrs.ts';

let directory = '';
const back = process.cwd();

before(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  process.chdir(directory);
});
after(() => {
  process.chdir(back);
  fs.rmSync(directory, { recursive: true });
});

/** Makes a file and a link with these attributes, and returns what is read of either. */
function readBack(name: string, attributes: ReadonlyMap<string, Buffer>): Attributes[] {
  fs.writeFileSync(name, '');
  fs.symlinkSync('nowhere', `${name} link`);
  for (const each of [name, `${name} link`])
    for (const [attribute, value] of attributes)
      assert.equal(setXattr(Buffer.from(each), Buffer.from(attribute), value), 0);
  const fd = fs.openSync(name, 'r');
  try {
    return [attributesOf(fd), attributesAt(Buffer.from(`${name} link`))];
  } finally {
    fs.closeSync(fd);
  }
}

/** Around the length of the buffer that they are read into first. */
for (const bytes of [0, 1, 1023, 1024, 1025, 3000])
  test(`a value of ${bytes} bytes`, () => {
    const value = Buffer.alloc(bytes, 'x');
    for (const { xattrs, failed } of readBack(`value of ${bytes}`, new Map([['trusted.value', value]]))) {
      assert.equal(failed, 0);
      assert.deepEqual(xattrs, [{ name: Buffer.from('trusted.value'), value }]);
    }
  });

/** The list has a NUL behind each name. */
for (const bytes of [1023, 1024, 1025, 2048])
  test(`a list of ${bytes} bytes`, () => {
    const names = Array.from({ length: 16 }, (_, i) => {
      const length = Math.floor(bytes / 16) - 1 + (i < bytes % 16 ? 1 : 0);
      return `trusted.${String(i).padStart(length - 'trusted.'.length, '0')}`;
    });
    assert.equal(names.join('\0').length + 1, bytes);
    const given = new Map(names.map((name) => [name, Buffer.from(name.slice(-2))]));
    for (const { xattrs, failed } of readBack(`list of ${bytes}`, given)) {
      assert.equal(failed, 0);
      assert.deepEqual(new Map(xattrs.map(({ name, value }) => [String(name), value])), given);
    }
  });
