import { DT_DIR, DT_REG, DT_UNKNOWN } from '../sys/constants.ts';
import { EINVAL, ELOOP, ENOENT, errnoError } from '../sys/errno.ts';
import { type Attributes, attributesOf } from './attributes.ts';
import type { Excludes } from './exclude.ts';
import type { Frame, Frames } from './frame.ts';
import type { OldTree } from './oldtree.ts';
import { type Opener, REPLACED } from './opener.ts';
import { startOf, VIRTUAL_STAT, VirtualDirectory, type WalkRoot } from './roots.ts';
import { Filesystems, isReplaced, isSame, notDirectory } from './same.ts';
import { DEPTH_MAX } from './stream.ts';
import type { Teller } from './teller.ts';
import {
  beginEntry,
  DIRECTORY,
  type EntryReader,
  type EntryStat,
  FILE,
  FLAG_INCONSISTENT,
  FLAG_LINKED,
  FLAG_UNREADABLE,
  typeOfMode,
} from './tree.ts';
import { UNKNOWN, type Visit } from './visits.ts';
import type { Place, Watched, WatchedWalk } from './watched.ts';

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
  /** of a watched source */
  readonly watch: { readonly source: Watched; readonly walk: WatchedWalk } | undefined;
}

export class Merge {
  readonly #options: MergeOptions;
  readonly #frames: Frames;
  readonly #teller: Teller;
  readonly #opener: Opener;
  readonly #excludes: Excludes;
  readonly #old: OldTree | undefined;
  readonly #filesystems: Filesystems;
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
    this.#filesystems = new Filesystems(options.watch?.walk.filesystems ?? new Map());
  }

  /** The made-up start: it has one entry, the root directory, which the old tree's root node has too. */
  start(): void {
    const start = startOf(this.#options.roots, (root) => this.#isDirectory(root));
    const frame = this.#frames.push(0);
    frame.old.reset(this.#old !== undefined);
    const visits = this.#options.watch?.walk.visits;
    if (visits !== undefined) frame.visit = { listed: true, children: new Map([['', visits]]) };
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
      if (frame.visit !== undefined && !this.#endVisit(frame, frame.visit.listed))
        return this.#wantLeaf(frame);
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
      if (frame.visit?.listed === false) this.#keepOld(frame);
      else this.#dropOld(frame);
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

  /** The current old entry is not looked at, and stays. */
  #keepOld(frame: Frame): void {
    frame.extendRun();
    frame.old.advance();
  }

  /** The rest of what is old in a directory stays, or is no more; false if there is another leaf. */
  #endVisit(frame: Frame, listed: boolean): boolean {
    while (frame.old.isAt)
      if (listed) this.#dropOld(frame);
      else this.#keepOld(frame);
    return frame.old.last;
  }

  /** The current old entry is no more. */
  #dropOld(frame: Frame): void {
    this.#doubtLinks(frame.old.entries.flags);
    this.#teller.differs();
    this.#passOld(frame);
  }

  /** Goes to the next old entry; what is below the current one is not wanted. */
  #passOld(frame: Frame): void {
    const { old } = frame;
    if (old.entries.type === DIRECTORY && old.entries.hasDirectory && this.#isSent(frame)) old.skips++;
    old.advance();
  }

  /** Whether the nodes of the current old entry, a directory, come. */
  #isSent({ visit, old }: Frame): boolean {
    return visit === undefined || visit.children.has(old.entries.name().toString('latin1'));
  }

  /** A file's other names do not tell that it changed. */
  #doubtLinks(flags: number): void {
    const { watch } = this.#options;
    if (watch?.walk.visits !== undefined && (flags & FLAG_LINKED) !== 0) watch.source.doubt();
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
    if (frame.visit?.listed === false) this.#options.watch?.source.gone(frame.place, this.#latinName());
    return this.#next(frame, matched);
  }

  #latinName(): string {
    return this.#ownName().toString('latin1');
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
      if (typeHint === DT_DIR && this.#enterUnseen(frame, matched)) return GO;
      if (typeHint === DT_REG && !matched && this.#takeUnseen(frame)) return GO;
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
    const child = directory.children.get(this.#latinName());
    if (child instanceof VirtualDirectory) {
      const made = this.#push(frame, matched, VIRTUAL_STAT, 0, true);
      made.place = this.#met(frame);
      this.#listVirtual(made, child);
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
    frame.own.excluded++;
    return this.#absent(frame, matched, -ENOENT);
  }

  #isUnchanged(old: EntryReader, filesystem: number, type: number): boolean {
    const { seen } = this.#opener;
    if (!isSame(old, seen, filesystem)) return false;
    return type !== FILE || (old.size === seen.size && old.ctimeSec < this.#options.trustBeforeSec);
  }

  #count(frame: Frame, type: number, size: number): void {
    const { counts } = this.#teller;
    const { own } = frame;
    if (type === FILE) {
      counts.files++;
      counts.bytes += size;
      own.files++;
      own.bytes += size;
    } else {
      counts.others++;
      own.others++;
    }
  }

  #countDifferent(matched: boolean): void {
    if (matched) this.#teller.counts.changed++;
    else this.#teller.counts.new++;
  }

  #unchanged(frame: Frame, type: number): number {
    this.#count(frame, type, this.#opener.seen.size);
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
    if (fd < 0) this.#teller.unreadable('open', fd, this.#ownName());
    return this.#openedFile(frame, matched, filesystem, fd);
  }

  /**
   * Takes a file that is new, as it was opened: what its directory says of it is enough to open it, and saves a second
   * look at each. False where it has to be looked at first.
   */
  #takeUnseen(frame: Frame): boolean {
    const fd = this.#opener.openUnseen(this.#dirfd, this.#leaf, this.#leafStart, this.#leafEnd, FILE);
    if (fd < 0) return false;
    this.#openedFile(frame, false, this.#filesystems.numberOf(this.#opener.opened), fd);
    return true;
  }

  /** Takes a file: `fd`, or what was seen of it where that is -errno. */
  #openedFile(frame: Frame, matched: boolean, filesystem: number, fd: number): number {
    const stat = fd < 0 ? this.#opener.seen : this.#opener.opened;
    const attributes = fd < 0 ? NO_ATTRIBUTES : this.#checked(attributesOf(fd), this.#name);
    if (matched) this.#doubtLinks(frame.old.entries.flags);
    if (stat.nlink > 1) this.#doubtLinks(FLAG_LINKED);
    this.#teller.differs();
    const flags = fd < 0 ? FLAG_UNREADABLE : 0;
    this.#teller.file(stat, filesystem, flags, this.#name, this.#nameStart, this.#nameEnd, fd, attributes);
    this.#count(frame, FILE, stat.size);
    if (frame.virtual !== undefined) this.#options.watch?.source.fail(notDirectory(this.#ownName()));
    this.#countDifferent(matched);
    return this.#next(frame, matched);
  }

  #special(frame: Frame, matched: boolean, filesystem: number, type: number): number {
    const content = this.#opener.content(this.#dirfd, this.#leaf, this.#leafStart, this.#leafEnd);
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
    this.#count(frame, type, 0);
    return this.#next(frame, matched);
  }

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
    if (this.#isUnmarked(frame, matched, filesystem)) {
      this.#countDirectory(frame);
      frame.extendRun();
      return this.#next(frame, true);
    }
    const isElsewhere = seen.devMinor !== this.#rootMinor || seen.devMajor !== this.#rootMajor;
    if (this.#options.oneFilesystem && isElsewhere) {
      const elsewhere = this.#push(frame, matched, seen, filesystem, true);
      elsewhere.place = this.#met(frame);
      return GO;
    }
    const fd = this.#frames.depth < DEPTH_MAX ? this.#openDirectory() : -ELOOP;
    if (fd === -ENOENT && !isRoot) {
      this.#teller.vanished(this.#ownName());
      return this.#absent(frame, matched, fd);
    }
    if (isReplaced(fd)) return this.#again(frame, matched, fd);
    if (fd < 0) return this.#unreadableDirectory(frame, matched, filesystem, fd);
    this.#openedDirectory(frame, matched, filesystem, fd);
    return GO;
  }

  /** Enters a directory without looking at its name first, where nothing depends on that; false where it could not. */
  #enterUnseen(frame: Frame, matched: boolean): boolean {
    if (frame.visit !== undefined || this.#options.oneFilesystem || this.#frames.depth >= DEPTH_MAX)
      return false;
    const fd = this.#opener.openUnseen(this.#dirfd, this.#leaf, this.#leafStart, this.#leafEnd, DIRECTORY);
    if (fd < 0) return false;
    this.#openedDirectory(frame, matched, this.#filesystems.numberOf(this.#opener.opened), fd);
    return true;
  }

  /** Whether it is a directory that is watched, and that nothing marked since the parent snapshot's walk. */
  #isUnmarked(frame: Frame, matched: boolean, filesystem: number): boolean {
    const { watch } = this.#options;
    const { entries } = frame.old;
    if (frame.visit === undefined || watch === undefined || !matched || entries.type !== DIRECTORY)
      return false;
    const name = this.#latinName();
    if (frame.visit.children.has(name) || !isSame(entries, this.#opener.seen, filesystem)) return false;
    return watch.source.holds(watch.walk, frame.place, name, this.#opener.seen);
  }

  /** The place of a directory that is not watched. */
  #met(frame: Frame): Place | undefined {
    const { watch } = this.#options;
    return watch?.source.met(watch.walk, frame.place, this.#latinName());
  }

  /** The directory that was just opened is watched from now on. */
  #watchOpened(frame: Frame, fd: number): Place | undefined {
    const { watch } = this.#options;
    if (watch === undefined) return undefined;
    return watch.source.entered(watch.walk, frame.place, this.#latinName(), fd, this.#opener.opened);
  }

  #countDirectory(frame: Frame): void {
    const { counts } = this.#teller;
    counts.directories++;
    frame.own.directories++;
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

  #openedDirectory(frame: Frame, matched: boolean, filesystem: number, fd: number): void {
    const { names } = this.#frames;
    const child = this.#push(frame, matched, this.#opener.opened, filesystem, true);
    child.fd = fd;
    child.identify(this.#opener.opened);
    child.canReopen = frame.virtual === undefined;
    child.place = this.#watchOpened(frame, fd);
    const failed = this.#readNames(child, fd);
    if (failed < 0) {
      child.flags = FLAG_INCONSISTENT;
      this.#teller.unreadable('read directory', failed);
    }
    names.sort(child.first);
    child.end = names.count;
    const far = this.#frames.depth - 1 - OPEN_DIRECTORIES_MAX;
    if (far > 0 && this.#frames.at(far).canReopen) this.#close(this.#frames.at(far));
  }

  /** All names in a directory, or those of the directories in it that are visited. */
  #readNames({ visit }: Frame, fd: number): number {
    const { names } = this.#frames;
    if (visit === undefined || visit.listed) return this.#opener.readNames(fd, names);
    for (const name of visit.children.keys()) {
      const bytes = Buffer.from(name, 'latin1');
      names.add(bytes, 0, bytes.length, DT_DIR);
    }
    return 0;
  }

  /** What of the directory that is being visited is visited. */
  #visitOf(frame: Frame): Visit | undefined {
    return frame.visit && (frame.visit.children.get(this.#latinName()) ?? UNKNOWN);
  }

  /** Enters the directory that is being visited; its names are still to be added. */
  #push(frame: Frame, matched: boolean, stat: EntryStat, filesystem: number, readable: boolean): Frame {
    const { entries } = frame.old;
    const wasDirectory = matched && entries.type === DIRECTORY;
    const isSameSelf = wasDirectory && isSame(entries, stat, filesystem);
    const visit = this.#visitOf(frame);
    const child = this.#frames.push(frame.next);
    child.visit = visit;
    beginEntry(this.#frames.heads, stat, filesystem, 0, this.#name, this.#nameStart, this.#nameEnd);
    child.matched = matched;
    child.sameSelf = isSameSelf;
    child.old.reset(readable && wasDirectory && entries.hasDirectory && visit !== UNKNOWN);
    if (this.#frames.depth > 2) this.#countDirectory(frame);
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
    this.#leavePlace(frame);
    this.#frames.pop();
    if (frame.matched) this.#passOldDirectory(parent, frame);
    parent.next++;
    parent.attempts = 0;
    if (parent.fd < 0 && parent.canReopen) this.#reopen(parent, fd);
    if (fd >= 0) this.#opener.close(fd);
  }

  #leavePlace({ place, visit, own }: Frame): void {
    const { watch } = this.#options;
    if (place !== undefined && visit?.listed !== false) watch?.source.left(watch.walk, place, own);
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
