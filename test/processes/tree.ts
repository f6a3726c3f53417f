/** Source trees for the tests of the real daemon, and how two trees are compared. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

/** Bytes that do not compress, the same for the same seed. */
export function noise(seed: string, bytes: number): Buffer {
  return createHash('shake256', { outputLength: bytes }).update(seed).digest();
}

/** A small tree of ordinary files, one of which has several chunks. */
export function plantOrdinary(directory: string): void {
  fs.mkdirSync(path.join(directory, 'a/b'), { recursive: true });
  fs.writeFileSync(path.join(directory, 'a/hello'), 'hello, world\n');
  fs.writeFileSync(path.join(directory, 'a/b/noise'), noise('noise', 3 << 20));
  fs.writeFileSync(path.join(directory, 'empty'), '');
  for (let i = 0; i < 40; i++)
    fs.writeFileSync(path.join(directory, `a/b/file ${i}`), noise(`file ${i}`, 1000 + i));
}

/** What rsync would have to change to make `copy` the same as `original`; empty if nothing. */
export function rsyncDifferences(original: string, copy: string): string {
  const options = ['-aHAXn', '--delete', '--itemize-changes', '--checksum'];
  return execFileSync('rsync', [...options, `${original}/`, `${copy}/`], { encoding: 'utf8' });
}

export function assertSame(original: string, copy: string): void {
  assert.equal(rsyncDifferences(original, copy), '');
}

/** Every object of a repository and its size, but those that get another name meanwhile. */
export function objects(repository: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const entry of fs.readdirSync(repository, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) {
      const file = path.join(entry.parentPath, entry.name);
      const stat = fs.statSync(file, { throwIfNoEntry: false });
      if (stat !== undefined) found.set(path.relative(repository, file), stat.size);
    }
  return found;
}
