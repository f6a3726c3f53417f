/** Makes every odd kind of file, for the tests of the walk. */
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { AT_FDCWD } from '../../src/sys/constants.ts';
import { mknodAt, utimensAt } from '../../src/sys/files.ts';

/** A directory for one test, removed with it. Its path has no symlink in it. */
export function temporary(): string {
  return fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'plakard-'));
}

/** A path of bytes. */
export function at(directory: string, name: Buffer | string): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name as string)]);
}

/** Leaves a socket at `file`. */
async function makeSocket(file: string): Promise<void> {
  const server = createServer();
  const moved = `${file}.kept`;
  await new Promise<void>((resolve) => server.listen(file, resolve));
  // closing the server unlinks the name that it knows
  fs.renameSync(file, moved);
  await new Promise((resolve) => server.close(resolve));
  fs.renameSync(moved, file);
}

export async function makeOdd(directory: string): Promise<void> {
  const inside = (name: string): string => path.join(directory, name);
  const bytes = Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 0x2f);
  fs.writeFileSync(at(directory, Buffer.from(bytes.slice(0, 200))), 'all bytes but NUL and slash');
  fs.writeFileSync(at(directory, Buffer.from(bytes.slice(200))), '');
  fs.writeFileSync(at(directory, Buffer.alloc(255, 0xff)), 'longest name');
  fs.writeFileSync(inside('new\nline'), 'x');
  fs.writeFileSync(inside('linked'), 'hard');
  fs.linkSync(inside('linked'), inside('linked too'));
  fs.symlinkSync('nowhere/at all', inside('symlink'));
  fs.linkSync(inside('symlink'), inside('symlink too'));
  fs.symlinkSync(Buffer.alloc(4095, 0x61), inside('longest symlink'));
  fs.writeFileSync(inside('setuid'), '#!');
  fs.chmodSync(inside('setuid'), 0o6755);
  fs.mkdirSync(inside('sticky'), 0o1777);
  fs.mkdirSync(inside('empty'));
  const sparse = fs.openSync(inside('sparse'), 'w');
  fs.ftruncateSync(sparse, 1 << 20);
  fs.closeSync(sparse);
  mknodAt(AT_FDCWD, at(directory, 'fifo'), 0o010644, 0, 0);
  mknodAt(AT_FDCWD, at(directory, 'character device'), 0o020644, 1, 3);
  mknodAt(AT_FDCWD, at(directory, 'block device'), 0o060644, 250, 70000);
  await makeSocket(inside('socket'));
  fs.writeFileSync(inside('old'), 'x');
  utimensAt(AT_FDCWD, at(directory, 'old'), 0, 0, -86401, 123_456_789);
  fs.writeFileSync(inside('owned'), 'x');
  fs.chownSync(inside('owned'), 12345, 4294967294);
}
