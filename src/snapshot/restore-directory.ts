/**
 * The directories that a restore is writing into: made in the walk, held while
 * anything below them is still to come, and given their metadata when the last
 * of it is there. Everything else of the restore names files relative to the
 * descriptors that come from here.
 *
 * At most DESCRIPTORS_MAX directories are open. One that was closed is opened
 * again from an open child ("..") or step by step from an open ancestor.
 * Invariant: a directory's descriptor is that of the directory that was made or
 * found here in the first place, by device and inode, and no link was followed
 * on the way; so nothing is written outside the target, whoever renames what.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { O_DIRECTORY, O_RDONLY, S_IFDIR, S_IFMT } from '../sys/constants.ts';
import { EEXIST, errnoError } from '../sys/errno.ts';
import { mkdirAt, openAt, Stat, statAt, statFd, unlinkAt } from '../sys/files.ts';
import { fgetXattr, fremoveXattr } from '../sys/xattrs.ts';
import { exists } from './restore-link.ts';
import type { Metadata } from './restore-metadata.ts';
import { failureOf, type Report } from './restore-report.ts';
import { AT_NAME_LENGTH, EntryReader } from './tree.ts';

/** Directories that are open at a time. */
const DESCRIPTORS_MAX = 128;
/** Directories that are kept open for hands, at most. */
const LENT_MAX = 256;
/** Bytes of names and metadata of directories that are not complete. */
const RECORDS_MAX_BYTES = 256 << 20;
/** Directories that get their metadata only at the very end. */
const DEFERRED_MAX = 1 << 16;
/** A path in a problem; what is above is left out. */
const PATH_SHOWN_MAX_BYTES = 16 << 10;

const PRIVATE = 0o700;
const SETGID = 0o2000;
/** Group and others may write. */
const SHARED = 0o022;
const DOT_DOT = Buffer.from('..');
const SLASH = Buffer.from('/');
const ACCESS_ACL = Buffer.from('system.posix_acl_access');
const DEFAULT_ACL = Buffer.from('system.posix_acl_default');
const NOTHING = Buffer.alloc(0);

/** One directory of the target. */
export class Directory {
  readonly parent: Directory | undefined;
  /** its entry in the snapshot, for its metadata */
  readonly record: Buffer;
  readonly name: Buffer;
  /** -1 while it is closed */
  fd = -1;
  /** when it was last used, for closing the one that was not used longest */
  used = 0;
  /** what is still to come in it, the walk included */
  pending = 1;
  pins = 0;
  /** files that hands are making in it: it stays open */
  lent = 0;
  /** the group that a new file in it gets; -1 where that is not known */
  newGid = -1;
  /** others can change its names, so a name is not proof of what was made */
  shared = false;
  /** files made in it inherit an ACL */
  hasDefaultAcl = false;
  /** its own metadata are to be those of `record` */
  ownsMetadata = true;
  devMajor = 0;
  devMinor = 0;
  inoLow = 0;
  inoHigh = 0;

  constructor(parent: Directory | undefined, record: Buffer, name: Buffer) {
    this.parent = parent;
    this.record = record;
    this.name = name;
  }
}

export class Directories {
  readonly #report: Report;
  readonly #metadata: Metadata;
  readonly #overwrite: boolean;
  readonly #open: Directory[] = [];
  readonly #deferred: Directory[] = [];
  readonly #stat = new Stat();
  readonly #entry = new EntryReader();
  #draining = false;
  #clock = 0;
  #lent = 0;
  #recordBytes = 0;

  constructor(report: Report, metadata: Metadata, overwrite: boolean) {
    this.#report = report;
    this.#metadata = metadata;
    this.#overwrite = overwrite;
  }

  /**
   * The target itself, open as `fd`, which stays the caller's. `record` is the root entry whose metadata it gets when
   * everything is there; without one it keeps its own.
   */
  target(fd: number, record: Buffer | undefined): Directory {
    const directory = new Directory(undefined, record ?? NOTHING, NOTHING);
    directory.ownsMetadata = record !== undefined;
    directory.fd = fd;
    const result = statFd(fd, this.#stat);
    if (result < 0) throw errnoError(result, 'statx', '');
    this.#describe(directory, false);
    return directory;
  }

  /** Makes, or finds, the directory of `entry`; undefined where that failed, which is reported. */
  make(parent: Directory, entry: EntryReader): Directory | undefined {
    const record = Buffer.from(entry.record());
    const name = record.subarray(entry.nameStart - entry.start, entry.nameEnd - entry.start);
    const directory = new Directory(parent, record, name);
    try {
      this.#make(parent, directory);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#report.problem(this.pathOf(directory), error);
      return undefined;
    }
    this.#recordBytes += record.length;
    if (this.#recordBytes > RECORDS_MAX_BYTES)
      throw failureOf(this.pathOf(directory), 'too many directories are open at once');
    this.hold(parent);
    this.#report.counts.directories++;
    return directory;
  }

  #make(parent: Directory, directory: Directory): void {
    const path = () => this.pathOf(directory).toString();
    const dirfd = this.open(parent);
    let result = mkdirAt(dirfd, directory.name, PRIVATE);
    if (result === -EEXIST && this.#clear(dirfd, directory.name, path))
      result = mkdirAt(dirfd, directory.name, PRIVATE);
    const isNew = result === 0;
    if (!isNew && result !== -EEXIST) throw errnoError(result, 'mkdirat', path());
    const fd = openAt(dirfd, directory.name, O_RDONLY | O_DIRECTORY);
    if (fd < 0) throw errnoError(fd, 'openat', path());
    result = statFd(fd, this.#stat);
    if (result < 0 || (isNew && this.#stat.uid !== this.#metadata.rights.uid)) {
      fs.closeSync(fd);
      throw result < 0
        ? errnoError(result, 'statx', path())
        : new Failure('restore', path(), { cause: 'the new directory was replaced by another' });
    }
    directory.fd = fd;
    if (isNew && parent.hasDefaultAcl) {
      fremoveXattr(fd, DEFAULT_ACL);
      fremoveXattr(fd, ACCESS_ACL);
    }
    this.#describe(directory, isNew);
    this.#keep(directory);
  }

  /** Whether there is no directory in the way of one: what else was there, is removed if it may be. */
  #clear(dirfd: number, name: Buffer, path: () => string): boolean {
    if (statAt(dirfd, name, this.#stat) !== 0) return true;
    if ((this.#stat.mode & S_IFMT) === S_IFDIR) return false;
    if (!this.#overwrite) throw exists(path());
    const result = unlinkAt(dirfd, name);
    if (result < 0) throw errnoError(result, 'unlinkat', path());
    return true;
  }

  /** Notes what `#stat` says of the directory, which is open. */
  #describe(directory: Directory, isNew: boolean): void {
    const stat = this.#stat;
    const { rights } = this.#metadata;
    directory.devMajor = stat.devMajor;
    directory.devMinor = stat.devMinor;
    directory.inoLow = stat.inoLow;
    directory.inoHigh = stat.inoHigh;
    // where the directory's group is ours, a new file gets it whatever the mount says; with setgid it gets the directory's
    if (stat.gid === rights.gid || (stat.mode & SETGID) !== 0) directory.newGid = stat.gid;
    if (isNew) return;
    directory.shared = stat.uid !== rights.uid || (stat.mode & SHARED) !== 0;
    directory.hasDefaultAcl = fgetXattr(directory.fd, DEFAULT_ACL, NOTHING) > 0;
  }

  /** The directory's descriptor, which stays open until many others were asked for. Throws a Failure. */
  open(directory: Directory): number {
    directory.used = ++this.#clock;
    if (directory.fd >= 0) return directory.fd;
    const child = this.#open.find((candidate) => candidate.parent === directory);
    if (child !== undefined && this.#reopen(directory, child.fd, DOT_DOT)) return directory.fd;
    const steps: Directory[] = [];
    let above: Directory | undefined = directory;
    for (; above !== undefined && above.fd < 0; above = above.parent) steps.push(above);
    for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
      const dirfd: number = above?.fd ?? -1;
      if (above !== undefined) above.used = ++this.#clock;
      if (!this.#reopen(step, dirfd, step.name))
        throw new Failure('restore', this.pathOf(directory).toString(), {
          cause: `${this.pathOf(step).toString()} was replaced or removed meanwhile`,
        });
      above = step;
    }
    return directory.fd;
  }

  #reopen(directory: Directory, dirfd: number, name: Buffer): boolean {
    const fd = openAt(dirfd, name, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return false;
    const stat = this.#stat;
    const isSame =
      statFd(fd, stat) === 0 &&
      stat.inoLow === directory.inoLow &&
      stat.inoHigh === directory.inoHigh &&
      stat.devMajor === directory.devMajor &&
      stat.devMinor === directory.devMinor;
    if (!isSame) {
      fs.closeSync(fd);
      return false;
    }
    directory.fd = fd;
    this.#keep(directory);
    return true;
  }

  #keep(directory: Directory): void {
    directory.used = ++this.#clock;
    if (this.#open.length >= DESCRIPTORS_MAX) this.#evict();
    this.#open.push(directory);
  }

  #evict(): void {
    let oldest = -1;
    let used = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.#open.length; i++) {
      const candidate = this.#open[i];
      if (candidate === undefined || candidate.pins > 0 || candidate.lent > 0) continue;
      if (candidate.used >= used) continue;
      oldest = i;
      used = candidate.used;
    }
    if (oldest >= 0) this.#closeAt(oldest);
  }

  #closeAt(index: number): void {
    const directory = this.#open[index];
    const last = this.#open.pop();
    if (directory === undefined || last === undefined) return;
    if (last !== directory) this.#open[index] = last;
    fs.closeSync(directory.fd);
    directory.fd = -1;
  }

  /**
   * The descriptor to have a hand make a file through, until `giveBack`; undefined where it cannot be opened, or too
   * many are lent.
   */
  lend(directory: Directory): number | undefined {
    if (directory.lent === 0 && this.#lent >= LENT_MAX) return undefined;
    try {
      const fd = this.open(directory);
      if (directory.lent++ === 0) this.#lent++;
      return fd;
    } catch (error) {
      // whoever makes the file here meets it again, and tells
      if (error instanceof Failure) return undefined;
      throw error;
    }
  }

  giveBack(directory: Directory): void {
    if (--directory.lent === 0) this.#lent--;
  }

  /** Keeps it open until `unpin`, while another is opened. */
  pin(directory: Directory): void {
    directory.pins++;
  }

  unpin(directory: Directory): void {
    directory.pins--;
  }

  /** One thing more is to come in it. */
  hold(directory: Directory): void {
    directory.pending++;
  }

  /** One thing less is to come; after the last it gets its metadata, and so may those above it. */
  release(directory: Directory): void {
    for (let at: Directory | undefined = directory; at !== undefined; ) {
      at.pending--;
      if (at.pending > 0 || this.#defers(at)) return;
      this.#finish(at);
      at = at.parent;
    }
  }

  /**
   * Others than root cannot come back into a directory that its mode closes to its owner, and a hard link may want
   * to: such ones wait for the end.
   */
  #defers(directory: Directory): boolean {
    if (this.#draining || this.#metadata.privileged || directory.record.length === 0) return false;
    const mode = this.#load(directory).mode;
    if ((mode & PRIVATE) === PRIVATE || this.#deferred.length >= DEFERRED_MAX) return false;
    this.#deferred.push(directory);
    return true;
  }

  #load(directory: Directory): EntryReader {
    const { record } = directory;
    // the root entry of a snapshot has no name
    const isRoot = record.readUInt16LE(AT_NAME_LENGTH) === 0;
    return this.#entry.loadRecord(record, 0, record.length, true, isRoot);
  }

  #finish(directory: Directory): void {
    if (directory.ownsMetadata) this.#apply(directory);
    if (directory.parent === undefined) return;
    this.#recordBytes -= directory.record.length;
    const index = this.#open.indexOf(directory);
    if (index < 0) return;
    // whoever needs the parent next finds it through the child, so it is opened while that is there
    if (directory.parent.fd < 0) this.#reopen(directory.parent, directory.fd, DOT_DOT);
    const at = this.#open.indexOf(directory);
    if (at >= 0) this.#closeAt(at);
  }

  #apply(directory: Directory): void {
    const path = () => this.pathOf(directory).toString();
    let failure: Failure | undefined;
    try {
      const fd = this.open(directory);
      // its group as it is now: a directory that was there may have any
      const gid = statFd(fd, this.#stat) === 0 ? this.#stat.gid : -1;
      failure = this.#metadata.applyToFd(fd, this.#load(directory), gid, path);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failure = error;
    }
    if (failure !== undefined) this.#report.flaw(this.pathOf(directory), failure);
  }

  /** Gives their metadata to those that waited for the end. */
  finish(): void {
    this.#draining = true;
    for (const directory of this.#deferred) {
      this.#finish(directory);
      if (directory.parent !== undefined) this.release(directory.parent);
    }
    this.#deferred.length = 0;
  }

  /** Closes every descriptor but the target's. */
  close(): void {
    while (this.#open.length > 0) this.#closeAt(this.#open.length - 1);
  }

  /** The path of `name` in it (or its own), relative to the target; the beginning of a very long one is left out. */
  pathOf(directory: Directory, name?: Uint8Array): Buffer {
    const parts: Uint8Array[] = name === undefined ? [] : [Buffer.from(name)];
    let bytes = 0;
    for (let at: Directory | undefined = directory; at?.parent !== undefined; at = at.parent) {
      parts.push(at.name);
      bytes += at.name.length + 1;
      if (bytes > PATH_SHOWN_MAX_BYTES) {
        parts.push(Buffer.from('...'));
        break;
      }
    }
    if (parts.length === 0) return Buffer.from('.');
    return Buffer.concat(parts.reverse().flatMap((part, i) => (i === 0 ? [part] : [SLASH, part])));
  }
}
