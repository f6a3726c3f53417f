/**
 * What tells the walk that something is as it was, or no longer what it was a
 * moment ago. Used by merge.ts. Invariant: file systems have the numbers in whose
 * order they are met, so that equal trees are numbered equally.
 */
import { Failure } from '../error.ts';
import { EISDIR, ELOOP, ENOTDIR, ENXIO } from '../sys/errno.ts';
import type { Stat } from '../sys/files.ts';
import { REPLACED } from './opener.ts';
import { type EntryReader, type EntryStat, FLAG_INCONSISTENT, FLAG_UNREADABLE } from './tree.ts';

export function notDirectory(name: Buffer): Failure {
  return new Failure('watch', name.toString(), { cause: 'it is no directory' });
}

/** Errors of opening what was looked at, if it is something else meanwhile. */
export function isReplaced(fd: number): boolean {
  return fd === REPLACED || fd === -ENOTDIR || fd === -ELOOP || fd === -ENXIO || fd === -EISDIR;
}

/** Whether an old entry's metadata is that of the file, and the entry is whole. */
export function isSame(old: EntryReader, stat: EntryStat, filesystem: number): boolean {
  return (
    old.ctimeNsec === stat.ctimeNsec &&
    old.ctimeSec === stat.ctimeSec &&
    old.mtimeNsec === stat.mtimeNsec &&
    old.mtimeSec === stat.mtimeSec &&
    old.inoLow === stat.inoLow &&
    old.inoHigh === stat.inoHigh &&
    old.filesystem === filesystem &&
    old.mode === stat.mode &&
    old.uid === stat.uid &&
    old.gid === stat.gid &&
    (old.flags & (FLAG_INCONSISTENT | FLAG_UNREADABLE)) === 0
  );
}

/** Numbers file systems in the order in which they are met. */
export class Filesystems {
  readonly #numbers: Map<number, number>;
  #device = -1;
  #number = 0;

  constructor(numbers: Map<number, number>) {
    this.#numbers = numbers;
  }

  numberOf(stat: Stat): number {
    const device = stat.devMajor * 0x1_0000_0000 + stat.devMinor;
    if (device === this.#device) return this.#number;
    let number = this.#numbers.get(device);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(device, number);
    }
    this.#device = device;
    this.#number = number;
    return number;
  }
}
