/** scripts/compare.ts reports every kind of difference, and none between equal trees. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { compareTrees } from '../../scripts/compare.ts';

const EPOCH = new Date(1_600_000_000_000);

let top = '';
let original = '';
let copy = '';

/** A small tree with one entry of each type; made twice, it is equal. */
function plant(directory: string): void {
  const at = (name: string): string => path.join(directory, name);
  fs.mkdirSync(at('sub/empty'), { recursive: true });
  fs.writeFileSync(at('file'), 'contents');
  fs.writeFileSync(at('sub/big'), Buffer.alloc(3_000_000, 7));
  fs.linkSync(at('file'), at('sub/second name'));
  fs.symlinkSync('file', at('link'));
  fs.writeFileSync(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0x0a])]), 'odd name');
  execFileSync('mkfifo', [at('fifo')]);
  for (const name of ['file', 'sub/big', 'sub/empty', 'sub', '.']) fs.utimesSync(at(name), EPOCH, EPOCH);
  for (const name of ['link', 'fifo', '\u{fffd}'])
    fs.lutimesSync(name === '\u{fffd}' ? odd(directory) : at(name), EPOCH, EPOCH);
  fs.utimesSync(directory, EPOCH, EPOCH);
}

function odd(directory: string): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0x0a])]);
}

/** Makes the copy afresh, changes it, and returns what is reported. */
function afterChange(change: (at: (name: string) => string) => void): readonly string[] {
  fs.rmSync(copy, { recursive: true, force: true });
  fs.mkdirSync(copy);
  plant(copy);
  change((name) => path.join(copy, name));
  return compareTrees(original, copy).differences;
}

describe('compareTrees', () => {
  before(() => {
    top = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
    original = path.join(top, 'original');
    copy = path.join(top, 'copy');
    fs.mkdirSync(original);
    plant(original);
  });
  after(() => fs.rmSync(top, { recursive: true }));

  test('equal trees have no differences, and all of them was looked at', () => {
    assert.deepEqual(
      afterChange(() => {}),
      [],
    );
    const { entries, bytes, changed } = compareTrees(original, copy);
    assert.equal(entries, 9);
    assert.equal(bytes, 3_000_000 + 2 * 'contents'.length + 'odd name'.length);
    assert.deepEqual(changed, []);
  });

  const CHANGES: readonly (readonly [string, RegExp, (at: (name: string) => string) => void])[] = [
    [
      'contents of the same size',
      /^sub\/big: contents differ$/,
      (at) => {
        const fd = fs.openSync(at('sub/big'), 'r+');
        fs.writeSync(fd, 'x', 2_500_000);
        fs.futimesSync(fd, EPOCH, EPOCH);
        fs.closeSync(fd);
      },
    ],
    ['a mode', /^fifo: mode was 644, is 600$/, (at) => fs.chmodSync(at('fifo'), 0o600)],
    ['an owner', /^link: owner was 0:0, is 7:8$/, (at) => fs.lchownSync(at('link'), 7, 8)],
    [
      'a time by a microsecond',
      /^sub\/empty: modification time was /,
      (at) => fs.utimesSync(at('sub/empty'), EPOCH, 1_600_000_000.000001),
    ],
    [
      'a target',
      /^link: target was file, is elsewhere$/,
      (at) => {
        fs.rmSync(at('link'));
        fs.symlinkSync('elsewhere', at('link'));
        fs.lutimesSync(at('link'), EPOCH, EPOCH);
        fs.utimesSync(copy, EPOCH, EPOCH);
      },
    ],
    [
      'a type',
      /^fifo: a fifo became a file$/,
      (at) => {
        fs.rmSync(at('fifo'));
        fs.writeFileSync(at('fifo'), '');
        fs.utimesSync(copy, EPOCH, EPOCH);
      },
    ],
    [
      'a name that is missing',
      /^sub\/empty: is missing in the copy$/,
      (at) => {
        fs.rmdirSync(at('sub/empty'));
        fs.utimesSync(at('sub'), EPOCH, EPOCH);
      },
    ],
    [
      'a name too many',
      /^sub\/extra: is in the copy only$/,
      (at) => {
        fs.writeFileSync(at('sub/extra'), '');
        fs.utimesSync(at('sub'), EPOCH, EPOCH);
      },
    ],
    [
      'a hard link that was cut',
      /^(file|sub\/second name): is no longer a hard link to the same file$/,
      (at) => {
        fs.rmSync(at('sub/second name'));
        fs.writeFileSync(at('sub/second name'), 'contents');
        fs.utimesSync(at('sub/second name'), EPOCH, EPOCH);
        fs.utimesSync(at('sub'), EPOCH, EPOCH);
      },
    ],
    [
      'an extended attribute',
      /^file: extended attributes differ$/,
      (at) => execFileSync('setfattr', ['-n', 'user.plakard', '-v', 'x', at('file')]),
    ],
  ];
  for (const [what, expected, change] of CHANGES) {
    test(`it reports ${what}`, () => {
      const found = afterChange(change);
      assert.ok(found.length >= 1 && found.some((line) => expected.test(line)), found.join('\n'));
      // The hard link's attribute shows under both of its names; all else is one line.
      assert.ok(found.length <= (what.includes('attribute') ? 2 : 1), found.join('\n'));
    });
  }

  test('what changed in the original since the snapshot is listed apart', () => {
    afterChange((at) => fs.chmodSync(at('fifo'), 0o600));
    const early = compareTrees(original, copy, { sinceMs: 0 });
    assert.deepEqual([early.differences, early.changed], [[], ['fifo']]);
    const late = compareTrees(original, copy, { sinceMs: Date.now() + 3_600_000 });
    assert.deepEqual([late.differences.length, late.changed], [1, []]);
  });

  test('what is to be skipped is not looked at', () => {
    afterChange((at) => fs.chmodSync(at('sub/empty'), 0o700));
    const skip = path.join(original, 'sub/empty');
    assert.deepEqual(compareTrees(original, copy, { skip }).differences, []);
  });

  test('a top that is not there is a missing entry of the copy', () => {
    assert.deepEqual(compareTrees(original, path.join(top, 'none')).differences, [
      '.: is missing in the copy',
    ]);
  });
});
