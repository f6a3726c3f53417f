/**
 * The walk itself: the file tree and the parent snapshot's tree, merged name by
 * name. Called by the walker, step by step. The open directories are a stack of
 * frames, without recursion; each one's names are sorted, and merged with its
 * old entries in one pass.
 *
 * Invariants:
 * - every name is told as what it was when it was opened, or as gone;
 * - an entry stays (and with a directory all that is below it) only if type,
 *   mode, owner, inode, file system, both times and, of a file, size are as they
 *   were, and it was whole;
 * - at most 64 directories are open beside the roots, however deep the tree is;
 * - per entry nothing is allocated while nothing differs.
 */
import { DT_DIR, DT_UNKNOWN } from '../sys/constants.ts';
import { EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO, errnoError } from '../sys/errno.ts';
import type { Stat } from '../sys/files.ts';
import { type Attributes, attributesOf } from './attributes.ts';
import { Bytes } from './bytes.ts';
import type { Excludes } from './exclude.ts';
import type { Frame, Frames } from './frame.ts';
import type { OldTree } from './oldtree.ts';
import { type Opener, REPLACED } from './opener.ts';
import { startOf, VIRTUAL_STAT, VirtualDirectory, type WalkRoot } from './roots.ts';
import { DEPTH_MAX } from './stream.ts';
import type { Teller } from './teller.ts';
import {
  BLOCK_DEVICE,
  beginEntry,
  CHARACTER_DEVICE,
  DIRECTORY,
  type EntryReader,
  type EntryStat,
  FILE,
  FLAG_INCONSISTENT,
  FLAG_UNREADABLE,
  SYMLINK,
  TARGET_MAX_BYTES,
  typeOfMode,
} from './tree.ts';

/** Directories that are open at one time, beside the roots. */
const OPEN_DIRECTORIES_MAX = 64;
/** How often a name is looked at again that turned out to be something else when it was opened. */
const ATTEMPTS_MAX = 3;
const NO_ATTRIBUTES: Attributes = { xattrs: [], failed: 0 };
const EMPTY = new Uint8Array(0);

/** What a step led to. */
export const GO = 0;
export const DONE = 1;
/** The next of the old tree has not come yet. */
export const WAIT_OLD = 2;

export interface MergeOptions {
  readonly roots: readonly WalkRoot[];
  readonly old: OldTree | undefined;
  readonly excludes: Excludes;
  readonly oneFilesystem: boolean;
  readonly trustBeforeSec: number;
}

export class Merge {
  readonly #options: MergeOptions;
  readonly #frames: Frames;
  readonly #teller: Teller;
  readonly #opener: Opener;
  readonly #excludes: Excludes;
  readonly #old: OldTree | undefined;
  readonly #filesystems = new Filesystems();
  /** device of the root that the walk is in */
  #rootMajor = 0;
  #rootMinor = 0;
  /** the entry that is being visited: its name, and where to find it */
  #name: Uint8Array = EMPTY;
  #nameStart = 0;
  #nameEnd = 0;
  #dirfd = -1;
  #leaf: Uint8Array = EMPTY;
  #leafStart = 0;
  #leafEnd = 0;

  constructor(options: MergeOptions, frames: Frames, teller: Teller, opener: Opener) {
    this.#options = options;
    this.#frames = frames;
    this.#teller = teller;
    this.#opener = opener;
    this.#excludes = options.excludes;
    this.#old = options.old;
  }

  /** The made-up start: it has one entry, the root directory, which the old tree's root node has too. */
  start(): void {
    const start = startOf(this.#options.roots, (root) => this.#isDirectory(root));
    const frame = this.#frames.push(0);
    frame.old.reset(this.#old !== undefined);
    this.#listVirtual(frame, start);
  }

  #isDirectory(root: WalkRoot): boolean {
    const failed = this.#opener.look(root.dirfd, root.name, 0, root.name.length);
    if (failed < 0) throw errnoError(failed, 'open', root.path.toString());
    return typeOfMode(this.#opener.seen.mode) === DIRECTORY;
  }

  #listVirtual(frame: Frame, directory: VirtualDirectory): void {
    const { names } = this.#frames;
    frame.virtual = directory;
    for (const name of directory.children.keys()) {
      const bytes = Buffer.from(name, 'latin1');
      names.add(bytes, 0, bytes.length, DT_UNKNOWN);
    }
    names.sort(frame.first);
    frame.end = names.count;
  }

  /** Visits one name of the innermost directory, or leaves it: GO, DONE, or WAIT_OLD if it could do nothing. */
  step(): number {
    const frame = this.#frames.top;
    const { old } = frame;
    if (old.isWaiting && !this.#takeLeaf(frame)) return WAIT_OLD;
    if (frame.next >= frame.end) {
      if (this.#frames.depth === 1) return DONE;
      this.#leave(frame);
      return GO;
    }
    const { names } = this.#frames;
    names.at(frame.next);
    const { type } = names;
    this.#name = names.buffer;
    this.#nameStart = names.start;
    this.#nameEnd = names.end;
    let matched = false;
    while (old.isAt) {
      const order = old.entries.compareName(this.#name, this.#nameStart, this.#nameEnd);
      matched = order === 0;
      if (order >= 0) break;
      this.#dropOld(frame);
    }
    if (old.isAt || old.last) return this.#visit(frame, matched, type);
    return this.#wantLeaf(frame);
  }

  #takeLeaf(frame: Frame): boolean {
    const depth = this.#frames.depth - 1;
    const holder = frame.old.part < 0 && depth > 0 ? depth - 1 : depth;
    const item = this.#old?.seek(depth, this.#frames.at(holder).old, holder);
    if (item === undefined) return false;
    frame.old.take(item);
    // what cannot be read of the old tree cannot stay
    if (frame.old.damaged && depth > 0) this.#teller.differs();
    return true;
  }

  #wantLeaf(frame: Frame): number {
    this.#teller.endLeaf();
    frame.old.isWaiting = true;
    return GO;
  }

  /** The current old entry is no more. */
  #dropOld(frame: Frame): void {
    this.#teller.differs();
    this.#passOld(frame);
  }

  /** Goes to the next old entry; what is below the current one is not wanted. */
  #passOld(frame: Frame): void {
    const { old } = frame;
    if (old.entries.type === DIRECTORY && old.entries.hasDirectory) old.skips++;
    old.advance();
  }

  /** Goes to the next name. */
  #next(frame: Frame, matched: boolean): number {
    if (matched) this.#passOld(frame);
    frame.next++;
    frame.attempts = 0;
    return GO;
  }

  /** The name has no entry; `errno` says why, for a root that there must be. */
  #absent(frame: Frame, matched: boolean, errno: number): number {
    if (this.#frames.depth === 1)
      throw errnoError(errno, 'open', this.#options.roots[0]?.path.toString() ?? '');
    if (matched) this.#teller.differs();
    return this.#next(frame, matched);
  }

  #ownName(): Buffer {
    return Buffer.from(this.#name.subarray(this.#nameStart, this.#nameEnd));
  }

  /** The name is something else than a moment ago: it is looked at again, a few times. */
  #again(frame: Frame, matched: boolean, errno: number): number {
    if (++frame.attempts < ATTEMPTS_MAX) return GO;
    this.#teller.problem('it was replaced again and again while it was opened', this.#ownName());
    return this.#absent(frame, matched, errno === REPLACED ? -ENOENT : errno);
  }

  #visit(frame: Frame, matched: boolean, typeHint: number): number {
    if (frame.virtual !== undefined) {
      if (this.#visitVirtual(frame, matched, frame.virtual)) return GO;
    } else {
      this.#dirfd = frame.fd;
      this.#leaf = this.#name;
      this.#leafStart = this.#nameStart;
      this.#leafEnd = this.#nameEnd;
      if (typeHint !== DT_UNKNOWN && this.#isExcluded(typeHint === DT_DIR))
        return this.#excluded(frame, matched);
    }
    const failed = this.#opener.look(this.#dirfd, this.#leaf, this.#leafStart, this.#leafEnd);
    if (failed < 0) {
      if (failed !== -ENOENT) this.#teller.unreadable('stat', failed, this.#ownName());
      return this.#absent(frame, matched, failed);
    }
    const { seen } = this.#opener;
    const type = typeOfMode(seen.mode);
    if (typeHint === DT_UNKNOWN && frame.virtual === undefined && this.#isExcluded(type === DIRECTORY))
      return this.#excluded(frame, matched);
    const filesystem = this.#filesystems.numberOf(seen);
    if (type === DIRECTORY) return this.#directory(frame, matched, filesystem);
    if (matched && this.#isUnchanged(frame.old.entries, filesystem, type))
      return this.#unchanged(frame, type);
    if (type === FILE) return this.#file(frame, matched, filesystem);
    return this.#special(frame, matched, filesystem, type);
  }

  /** Enters a made-up directory; false where the name is one of the roots, which is then looked at. */
  #visitVirtual(frame: Frame, matched: boolean, directory: VirtualDirectory): boolean {
    const child = directory.children.get(this.#ownName().toString('latin1'));
    if (child instanceof VirtualDirectory) {
      this.#listVirtual(this.#push(frame, matched, VIRTUAL_STAT, 0, true), child);
      return true;
    }
    if (child === undefined) return true;
    this.#dirfd = child.dirfd;
    this.#leaf = child.name;
    this.#leafStart = 0;
    this.#leafEnd = child.name.length;
    return false;
  }

  #isExcluded(isDirectory: boolean): boolean {
    if (this.#excludes.isEmpty) return false;
    const { path } = this.#frames;
    return this.#excludes.matches(
      this.#name,
      this.#nameStart,
      this.#nameEnd,
      path.buffer,
      path.length,
      isDirectory,
    );
  }

  #excluded(frame: Frame, matched: boolean): number {
    this.#teller.counts.excluded++;
    return this.#absent(frame, matched, -ENOENT);
  }

  #isUnchanged(old: EntryReader, filesystem: number, type: number): boolean {
    const { seen } = this.#opener;
    if (!isSame(old, seen, filesystem)) return false;
    return type !== FILE || (old.size === seen.size && old.ctimeSec < this.#options.trustBeforeSec);
  }

  #count(type: number, size: number): void {
    const { counts } = this.#teller;
    if (type === FILE) {
      counts.files++;
      counts.bytes += size;
    } else counts.others++;
  }

  #countDifferent(matched: boolean): void {
    if (matched) this.#teller.counts.changed++;
    else this.#teller.counts.new++;
  }

  #unchanged(frame: Frame, type: number): number {
    this.#count(type, this.#opener.seen.size);
    if (type === FILE) this.#teller.counts.unchanged++;
    frame.extendRun();
    return this.#next(frame, true);
  }

  #file(frame: Frame, matched: boolean, filesystem: number): number {
    const fd = this.#opener.openFile(this.#dirfd, this.#leaf, this.#leafStart, this.#leafEnd);
    if (fd === -ENOENT) {
      this.#teller.vanished(this.#ownName());
      return this.#absent(frame, matched, fd);
    }
    if (isReplaced(fd)) return this.#again(frame, matched, fd);
    const stat = fd < 0 ? this.#opener.seen : this.#opener.opened;
    if (fd < 0) this.#teller.unreadable('open', fd, this.#ownName());
    const attributes = fd < 0 ? NO_ATTRIBUTES : this.#checked(attributesOf(fd), this.#name);
    this.#teller.differs();
    const flags = fd < 0 ? FLAG_UNREADABLE : 0;
    this.#teller.file(stat, filesystem, flags, this.#name, this.#nameStart, this.#nameEnd, fd, attributes);
    this.#count(FILE, stat.size);
    this.#countDifferent(matched);
    return this.#next(frame, matched);
  }

  #special(frame: Frame, matched: boolean, filesystem: number, type: number): number {
    const content = this.#content(type);
    if (typeof content === 'number') {
      if (content === -EINVAL || content === -ENOENT) return this.#again(frame, matched, content);
      this.#teller.unreadable('readlink', content, this.#ownName());
      return this.#absent(frame, matched, content);
    }
    const name = this.#leaf.subarray(this.#leafStart, this.#leafEnd);
    const attributes = this.#checked(this.#opener.attributes(this.#dirfd, name), name);
    this.#teller.differs();
    const { seen } = this.#opener;
    this.#teller.special(seen, filesystem, this.#name, this.#nameStart, this.#nameEnd, content, attributes);
    this.#count(type, 0);
    return this.#next(frame, matched);
  }

  /** What its entry holds of a symlink or device; or -errno. */
  #content(type: number): Uint8Array | number {
    const { seen } = this.#opener;
    const out = this.#scratch;
    out.truncate(0);
    if (type === SYMLINK) {
      const target = this.#opener.target(this.#dirfd, this.#leaf, this.#leafStart, this.#leafEnd);
      if (typeof target === 'number') return target;
      if (target.length === 0 || target.length > TARGET_MAX_BYTES) return -ENAMETOOLONG;
      out.u32(target.length);
      out.bytes(target);
    } else if (type === CHARACTER_DEVICE || type === BLOCK_DEVICE) {
      out.u32(seen.rdevMajor);
      out.u32(seen.rdevMinor);
    }
    return out.since(0);
  }
  readonly #scratch = new Bytes(64);

  #checked(attributes: Attributes, name: Uint8Array | undefined): Attributes {
    if (attributes.failed === 0) return attributes;
    this.#teller.unreadable('read attributes', attributes.failed, name && this.#ownName());
    return attributes;
  }

  /** Closes what is open. */
  close(): void {
    for (let i = this.#frames.depth - 1; i >= 0; i--) this.#close(this.#frames.at(i));
  }

  waitForOld(): Promise<void> {
    return this.#old === undefined ? Promise.resolve() : this.#old.wait();
  }

  // ---- directories

  #directory(frame: Frame, matched: boolean, filesystem: number): number {
    const { seen } = this.#opener;
    const isRoot = frame.virtual !== undefined;
    if (isRoot) {
      this.#rootMajor = seen.devMajor;
      this.#rootMinor = seen.devMinor;
    }
    const isElsewhere = seen.devMinor !== this.#rootMinor || seen.devMajor !== this.#rootMajor;
    if (this.#options.oneFilesystem && isElsewhere) {
      this.#push(frame, matched, seen, filesystem, true);
      return GO;
    }
    const fd = this.#frames.depth < DEPTH_MAX ? this.#openDirectory() : -ELOOP;
    if (fd === -ENOENT && !isRoot) {
      this.#teller.vanished(this.#ownName());
      return this.#absent(frame, matched, fd);
    }
    if (isReplaced(fd)) return this.#again(frame, matched, fd);
    if (fd < 0) return this.#unreadableDirectory(frame, matched, filesystem, fd);
    return this.#openedDirectory(frame, matched, filesystem, fd);
  }

  #openDirectory(): number {
    return this.#opener.openDirectory(this.#dirfd, this.#leaf, this.#leafStart, this.#leafEnd);
  }

  #unreadableDirectory(frame: Frame, matched: boolean, filesystem: number, errno: number): number {
    if (this.#frames.depth === 1) return this.#absent(frame, matched, errno);
    this.#teller.unreadable('open', errno, this.#ownName());
    const child = this.#push(frame, matched, this.#opener.seen, filesystem, false);
    child.flags = FLAG_UNREADABLE;
    return GO;
  }

  #openedDirectory(frame: Frame, matched: boolean, filesystem: number, fd: number): number {
    const { names } = this.#frames;
    const child = this.#push(frame, matched, this.#opener.opened, filesystem, true);
    child.fd = fd;
    child.identify(this.#opener.opened);
    child.canReopen = frame.virtual === undefined;
    const failed = this.#opener.readNames(fd, names);
    if (failed < 0) {
      child.flags = FLAG_INCONSISTENT;
      this.#teller.unreadable('read directory', failed);
    }
    names.sort(child.first);
    child.end = names.count;
    const far = this.#frames.depth - 1 - OPEN_DIRECTORIES_MAX;
    if (far > 0 && this.#frames.at(far).canReopen) this.#close(this.#frames.at(far));
    return GO;
  }

  /** Enters the directory that is being visited; its names are still to be added. */
  #push(frame: Frame, matched: boolean, stat: EntryStat, filesystem: number, readable: boolean): Frame {
    const { entries } = frame.old;
    const wasDirectory = matched && entries.type === DIRECTORY;
    const isSameSelf = wasDirectory && isSame(entries, stat, filesystem);
    const child = this.#frames.push(frame.next);
    beginEntry(this.#frames.heads, stat, filesystem, 0, this.#name, this.#nameStart, this.#nameEnd);
    child.matched = matched;
    child.sameSelf = isSameSelf;
    child.old.reset(readable && wasDirectory && entries.hasDirectory);
    if (this.#frames.depth > 2) {
      const { counts } = this.#teller;
      counts.directories++;
    }
    return child;
  }

  /** All names of the innermost directory have been visited. */
  #leave(frame: Frame): void {
    const { old } = frame;
    const parent = this.#frames.at(this.#frames.depth - 2);
    const isOldLeft = old.isAt || !old.last;
    if (this.#teller.isEntered || !old.exists || !frame.sameSelf || frame.flags !== 0 || isOldLeft) {
      const attributes = frame.fd < 0 ? NO_ATTRIBUTES : this.#checked(attributesOf(frame.fd), undefined);
      this.#teller.differs();
      this.#teller.leave(frame, attributes);
    } else if (this.#frames.depth > 2) {
      parent.extendRun();
    }
    const { fd } = frame;
    frame.fd = -1;
    this.#frames.pop();
    if (frame.matched) this.#passOldDirectory(parent, frame);
    parent.next++;
    parent.attempts = 0;
    if (parent.fd < 0 && parent.canReopen) this.#reopen(parent, fd);
    if (fd >= 0) this.#opener.close(fd);
  }

  /** Goes past the old entry of a directory that was left; of its nodes, those that were not used are skipped. */
  #passOldDirectory(parent: Frame, { old }: Frame): void {
    if (!old.exists) {
      this.#passOld(parent);
      return;
    }
    if (!old.last) parent.old.skips++;
    parent.old.advance();
  }

  #close(frame: Frame): void {
    if (frame.fd < 0) return;
    this.#opener.close(frame.fd);
    frame.fd = -1;
  }

  /** Opens the innermost directory again, which was closed while deeper ones were open; `childFd` is one in it. */
  #reopen(frame: Frame, childFd: number): void {
    if (childFd >= 0) frame.fd = this.#opener.reopen(childFd, undefined, frame);
    if (frame.fd < 0) frame.fd = this.#descend();
    if (frame.fd >= 0) return;
    this.#teller.problem('it was moved while it was read');
    frame.flags |= FLAG_INCONSISTENT;
    frame.canReopen = false;
    frame.next = frame.end;
  }

  /** Goes down to the innermost directory from the nearest one that is open: its descriptor or -1. */
  #descend(): number {
    const { names, depth } = this.#frames;
    let at = depth - 2;
    while (at > 0 && this.#frames.at(at).fd < 0) at--;
    let fd = this.#frames.at(at).fd;
    for (let i = at + 1; i < depth && fd >= 0; i++) {
      const frame = this.#frames.at(i);
      names.at(frame.name);
      const next = this.#opener.reopen(fd, names.buffer.subarray(names.start, names.end), frame);
      if (i > at + 1) this.#opener.close(fd);
      fd = next;
    }
    return fd;
  }
}

/** Errors of opening what was looked at, if it is something else meanwhile. */
function isReplaced(fd: number): boolean {
  return fd === REPLACED || fd === -ENOTDIR || fd === -ELOOP || fd === -ENXIO || fd === -EISDIR;
}

/** Whether an old entry's metadata is that of the file, and the entry is whole. */
function isSame(old: EntryReader, stat: EntryStat, filesystem: number): boolean {
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
class Filesystems {
  readonly #numbers = new Map<number, number>();
  #device = -1;
  #number = 0;

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
