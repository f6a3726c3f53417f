/** What a walk does not leave traces of: when something was last read. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { FileCalls } from '../../src/snapshot/opener.ts';
import * as sysFiles from '../../src/sys/files.ts';
import { temporary } from './odd.ts';
import { take } from './take.ts';

let directory = '';
const inside = (name: string): string => path.join(directory, name);
beforeEach(() => {
  directory = temporary();
});
afterEach(() => fs.rmSync(directory, { recursive: true }));

describe('access times', () => {
  /** The flags with which `file` was opened, in order, by a walk of user `uid`; with O_NOATIME it is refused. */
  async function openings(uid: number): Promise<boolean[]> {
    fs.writeFileSync(inside('file'), 'x');
    const hidden: boolean[] = [];
    const openAt: typeof sysFiles.openAt = (dirfd, name, flags, mode, start, end) => {
      if (Buffer.from(name.subarray(start, end)).toString() === 'file') {
        hidden.push((flags & fs.constants.O_NOATIME) !== 0);
        if (hidden.at(-1)) return -1;
      }
      return sysFiles.openAt(dirfd, name, flags, mode, start, end);
    };
    const taken = await take(directory, { uid, files: { ...sysFiles, openAt } });
    assert.deepEqual(taken.events, []);
    return hidden;
  }

  test('are left alone where the kernel allows it', async () => {
    assert.deepEqual(await openings(0), [true, false]);
    assert.deepEqual(await openings(12345), [false]);
  });

  test('of directories too, whoever they belong to; those of others are not looked at before they are opened', async () => {
    const owner = 12345;
    for (const [name, uid] of [
      ['a', owner],
      ['a/b', owner],
      ['c', 0],
      ['c/d', 0],
      ['c/d/e', owner],
      ['c/f', 0],
    ] as const) {
      fs.mkdirSync(inside(name));
      fs.chownSync(inside(name), uid, 0);
    }
    const looked: string[] = [];
    const read: string[] = [];
    const nameOf = (name: Uint8Array, start?: number, end?: number) =>
      Buffer.from(name.subarray(start, end)).toString();
    const hidden = new Map<number, boolean>();
    const files: FileCalls = {
      ...sysFiles,
      statAt: (dirfd, name, stat, start, end) => {
        looked.push(nameOf(name, start, end));
        return sysFiles.statAt(dirfd, name, stat, start, end);
      },
      openAt: (dirfd, name, flags, mode, start, end) => {
        const fd = sysFiles.openAt(dirfd, name, flags, mode, start, end);
        if (fd >= 0) hidden.set(fd, (flags & fs.constants.O_NOATIME) !== 0);
        return fd;
      },
      readDirectory: (fd, buffer) => {
        const bytes = sysFiles.readDirectory(fd, buffer);
        if (bytes > 0)
          read.push(`${path.basename(fs.readlinkSync(`/proc/self/fd/${fd}`))} ${hidden.get(fd)}`);
        return bytes;
      },
    };
    await take(directory, { uid: owner, files });
    const top = path.basename(directory);
    assert.deepEqual(read, [`${top} false`, 'a true', 'b true', 'c false', 'd false', 'e true', 'f false']);
    assert.deepEqual(
      ['c', 'd', 'f'].map((name) => looked.filter((each) => each === name).length),
      // after one of its own, the next is looked at
      [1, 0, 1],
    );
    read.length = 0;
    looked.length = 0;
    await take(directory, { uid: 0, files });
    assert.deepEqual(read, [`${top} true`, 'a true', 'b true', 'c true', 'd true', 'e true', 'f true']);
    assert.equal(looked.filter((name) => name.length === 1 && name !== '.').length, 0);
  });
});
