/**
 * Compares two file trees in everything that a restore has to bring back. The
 * quick start calls it, on a directory and its restored copy. It reads with
 * Node's own calls, not with the code that made the copy, so that it can
 * disagree; only extended attributes need src/sys.
 *
 * Invariant: what it does not report is equal: names, types, modes, owners,
 * sizes, modification times to the nanosecond, contents, symbolic links'
 * targets, device numbers, which names are one file, extended attributes.
 */

import * as fs from 'node:fs';
import { Failure } from '../src/error.ts';
import { ENOTSUP, errnoError } from '../src/sys/errno.ts';
import { getXattr, listXattr } from '../src/sys/xattrs.ts';

export interface Comparison {
  /** Files, directories and all else that was looked at in the original, its top included. */
  entries: number;
  /** Bytes of file contents that were compared. */
  bytes: number;
  /** One line for each difference, up to DIFFERENCES_MAX. */
  readonly differences: string[];
  /** Paths that changed in the original after `sinceMs`, and so may differ. */
  readonly changed: string[];
}

/** Differences that are listed; after so many the comparison stops. */
const DIFFERENCES_MAX = 100;
/** Read at a time from each of two files. */
const BLOCK_BYTES = 1 << 20;
/** Linux gives no longer list or value than this (XATTR_LIST_MAX, XATTR_SIZE_MAX). */
const XATTR_MAX_BYTES = 65536;

const SLASH = Buffer.from('/');
const TYPES: readonly (readonly [number, string])[] = [
  [fs.constants.S_IFREG, 'file'],
  [fs.constants.S_IFDIR, 'directory'],
  [fs.constants.S_IFLNK, 'symbolic link'],
  [fs.constants.S_IFIFO, 'fifo'],
  [fs.constants.S_IFSOCK, 'socket'],
  [fs.constants.S_IFBLK, 'block device'],
  [fs.constants.S_IFCHR, 'character device'],
];

function typeOf(stat: fs.BigIntStats): string {
  const bits = Number(stat.mode) & fs.constants.S_IFMT;
  return TYPES.find(([type]) => type === bits)?.[1] ?? `type ${bits}`;
}

/** A path as text; bytes that are no UTF-8 show as a replacement character. */
function shown(name: Buffer): string {
  return name.length === 0 ? '.' : name.toString('utf8');
}

/** Whether two files' contents differ, read a block at a time. */
function contentsDiffer(original: Buffer, copy: Buffer, blocks: readonly [Buffer, Buffer]): boolean {
  const [a, b] = blocks;
  const first = fs.openSync(original, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  try {
    const second = fs.openSync(copy, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
    try {
      for (;;) {
        const read = fs.readSync(first, a);
        // A regular file gives what was asked for until its end.
        if (fs.readSync(second, b) !== read) return true;
        if (read === 0) return false;
        if (a.compare(b, 0, read, 0, read) !== 0) return true;
      }
    } finally {
      fs.closeSync(second);
    }
  } finally {
    fs.closeSync(first);
  }
}

/** Extended attributes by name, sorted; values in hex. */
function xattrs(file: Buffer, buffer: Buffer): string[] {
  const length = listXattr(file, buffer);
  // Of a file system that has none.
  if (length === -ENOTSUP) return [];
  if (length < 0) throw errnoError(-length, 'llistxattr', shown(file));
  const names = buffer.toString('latin1', 0, length).split('\0').slice(0, -1).sort();
  return names.map((name) => {
    const size = getXattr(file, Buffer.from(name, 'latin1'), buffer);
    if (size < 0) throw errnoError(-size, 'lgetxattr', shown(file));
    return `${name}=${buffer.toString('hex', 0, size)}`;
  });
}

class Walk {
  readonly result: Comparison = { entries: 0, bytes: 0, differences: [], changed: [] };
  readonly #original: Buffer;
  readonly #copy: Buffer;
  readonly #sinceNs: bigint;
  readonly #skip: Buffer | undefined;
  readonly #blocks: readonly [Buffer, Buffer] = [
    Buffer.allocUnsafe(BLOCK_BYTES),
    Buffer.allocUnsafe(BLOCK_BYTES),
  ];
  readonly #xattrs = Buffer.allocUnsafe(XATTR_MAX_BYTES);
  /** The copy's inode for each of the original's that has several names. */
  readonly #links = new Map<string, bigint>();

  constructor(original: string, copy: string, { sinceMs, skip }: CompareOptions) {
    this.#original = Buffer.from(original);
    this.#copy = Buffer.from(copy);
    this.#sinceNs = sinceMs === undefined ? -1n : BigInt(Math.trunc(sinceMs)) * 1_000_000n;
    this.#skip = skip === undefined ? undefined : Buffer.from(skip);
  }

  /** Compares everything below the two tops. Directories wait on a stack, so depth costs no call. */
  run(): Comparison {
    const waiting: Buffer[] = [Buffer.alloc(0)];
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      if (this.result.differences.length >= DIFFERENCES_MAX) break;
      for (const child of this.#entry(name)) waiting.push(child);
    }
    return this.result;
  }

  #below(top: Buffer, name: Buffer): Buffer {
    return name.length === 0 ? top : Buffer.concat([top, SLASH, name]);
  }

  /** Compares one entry; the names below it, where both are directories. */
  #entry(name: Buffer): Buffer[] {
    const [original, copy] = [this.#below(this.#original, name), this.#below(this.#copy, name)];
    if (this.#skip !== undefined && original.equals(this.#skip)) return [];
    const before = fs.lstatSync(original, { bigint: true, throwIfNoEntry: false });
    const after = fs.lstatSync(copy, { bigint: true, throwIfNoEntry: false });
    if (before === undefined || after === undefined) {
      this.#missing(name, before);
      return [];
    }
    this.result.entries++;
    const differences = this.#differences(original, copy, before, after);
    if (differences.length > 0) this.#report(before, name, differences.join(', '));
    if (!before.isDirectory() || !after.isDirectory()) return [];
    return this.#children(name, original, copy);
  }

  #missing(name: Buffer, original: fs.BigIntStats | undefined): void {
    if (original !== undefined) this.#report(original, name, 'is missing in the copy');
    // Gone from the original since it was listed, or never there.
    else this.result.changed.push(shown(name));
  }

  /** A difference counts unless the original has changed since the snapshot was begun. */
  #report(original: fs.BigIntStats, name: Buffer, what: string): void {
    if (this.#sinceNs >= 0n && original.ctimeNs >= this.#sinceNs) this.result.changed.push(shown(name));
    else this.result.differences.push(`${shown(name)}: ${what}`);
  }

  #differences(original: Buffer, copy: Buffer, before: fs.BigIntStats, after: fs.BigIntStats): string[] {
    const type = typeOf(before);
    if (type !== typeOf(after)) return [`a ${type} became a ${typeOf(after)}`];
    const found: string[] = [];
    const compare = (what: string, was: unknown, is: unknown): void => {
      if (was !== is) found.push(`${what} was ${was}, is ${is}`);
    };
    compare('mode', (before.mode & 0o7777n).toString(8), (after.mode & 0o7777n).toString(8));
    compare('owner', `${before.uid}:${before.gid}`, `${after.uid}:${after.gid}`);
    compare('modification time', before.mtimeNs, after.mtimeNs);
    if (type.endsWith('device')) compare('device number', before.rdev, after.rdev);
    if (!before.isDirectory()) this.#compareLinks(before, after, found);
    if (before.isSymbolicLink()) {
      const targets = [original, copy].map((link) => fs.readlinkSync(link, 'latin1'));
      compare('target', targets[0], targets[1]);
    }
    if (before.isFile()) {
      compare('size', before.size, after.size);
      if (before.size === after.size && contentsDiffer(original, copy, this.#blocks))
        found.push('contents differ');
      this.result.bytes += Number(before.size);
    }
    const attributes = [original, copy].map((file) => xattrs(file, this.#xattrs).join(' '));
    if (attributes[0] !== attributes[1]) found.push('extended attributes differ');
    return found;
  }

  /** Two names of one file must be two names of one copy. */
  #compareLinks(before: fs.BigIntStats, after: fs.BigIntStats, found: string[]): void {
    if (before.nlink === 1n) return;
    const key = `${before.dev}:${before.ino}`;
    const known = this.#links.get(key);
    if (known === undefined) this.#links.set(key, after.ino);
    else if (known !== after.ino) found.push('is no longer a hard link to the same file');
  }

  #children(name: Buffer, original: Buffer, copy: Buffer): Buffer[] {
    const here = fs.readdirSync(original, { encoding: 'buffer' });
    const known = new Set(here.map((child) => child.toString('latin1')));
    const prefix = name.length === 0 ? name : Buffer.concat([name, SLASH]);
    for (const child of fs.readdirSync(copy, { encoding: 'buffer' }))
      if (!known.has(child.toString('latin1'))) this.#extra(Buffer.concat([prefix, child]), original);
    return here.map((child) => Buffer.concat([prefix, child]));
  }

  /** In the copy alone: fine if it was removed from the original directory meanwhile. */
  #extra(name: Buffer, directory: Buffer): void {
    this.#report(fs.lstatSync(directory, { bigint: true }), name, 'is in the copy only');
  }
}

export interface CompareOptions {
  /** What has changed in the original since then (in ms since 1970) is listed apart. */
  readonly sinceMs?: number;
  /** A path in the original that is left out, with all below it. */
  readonly skip?: string;
}

/** Compares the directory `original` with `copy`. Both must be absolute paths. */
export function compareTrees(original: string, copy: string, options: CompareOptions = {}): Comparison {
  try {
    return new Walk(original, copy, options).run();
  } catch (cause) {
    throw new Failure('compare', `${original} with ${copy}`, { cause });
  }
}
