/**
 * The walker's hands: looks at names, and opens them. Called by the walker.
 * Invariants: nothing is followed; what is returned open is the file that was
 * looked at, by device and inode, or of the type that its directory said, and
 * was looked at since; access times are left alone where the kernel
 * allows that; a full descriptor table ends the walk, as a snapshot that lacks
 * every file from there on would be no snapshot.
 */
import fs from 'node:fs';
import {
  AT_FDCWD,
  O_DIRECTORY,
  O_NOATIME,
  O_NOCTTY,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
} from '../sys/constants.ts';
import { EMFILE, ENAMETOOLONG, ENFILE, EPERM, errnoError } from '../sys/errno.ts';
import * as sysFiles from '../sys/files.ts';
import { trace, tracing } from '../trace.ts';
import { type Attributes, attributesAt } from './attributes.ts';
import { Bytes } from './bytes.ts';
import type { Frame } from './frame.ts';
import type { Names } from './names.ts';
import {
  BLOCK_DEVICE,
  CHARACTER_DEVICE,
  DIRECTORY,
  FILE,
  SYMLINK,
  TARGET_MAX_BYTES,
  typeOfMode,
} from './tree.ts';

/** The calls of src/sys/files.ts that a walk makes; a test may put itself between. */
export type FileCalls = Pick<
  typeof sysFiles,
  'statAt' | 'statFd' | 'openAt' | 'readDirectory' | 'readlinkAt' | 'changeDirectory'
>;

/** What was opened is not what was looked at. */
export const REPLACED = -0x10000;

/** getdents64 is asked for this much at a time. */
const DIRECTORY_BUFFER_BYTES = 64 << 10;
const DOT = 0x2e;
const DOT_DOT = Buffer.from('..');
const CURRENT = Buffer.from('.');

/** A name for a trace. */
function textOf(name: Uint8Array, start: number, end: number): string {
  return Buffer.from(name.subarray(start, end)).toString();
}

export class Opener {
  /** What `look` filled: the name itself. */
  readonly seen = new sysFiles.Stat();
  /** What `open...` filled: the file that was opened. */
  readonly opened = new sysFiles.Stat();
  readonly #files: FileCalls;
  readonly #uid: number;
  readonly #buffer = sysFilesBuffer(DIRECTORY_BUFFER_BYTES);
  readonly #target = sysFilesBuffer(TARGET_MAX_BYTES + 1);
  readonly #content = new Bytes(64);

  /** @param uid effective; its files may be opened without changing their access time, and root may do so with all */
  constructor(uid: number, files: FileCalls = sysFiles) {
    this.#uid = uid;
    this.#files = files;
  }

  /** 0 or -errno */
  look(dirfd: number, name: Uint8Array, start: number, end: number): number {
    return this.#files.statAt(dirfd, name, this.seen, start, end);
  }

  /** Opens the regular file that was looked at: descriptor, -errno, or REPLACED. */
  openFile(dirfd: number, name: Uint8Array, start: number, end: number): number {
    if (tracing.walk) trace('walk', `open file ${textOf(name, start, end)}`);
    this.#isOwn = this.#uid !== 0 && this.seen.uid === this.#uid;
    return this.#verified(this.#open(dirfd, name, start, end, O_RDONLY | O_NONBLOCK | O_NOCTTY), FILE);
  }

  /** Opens the directory that was looked at. */
  openDirectory(dirfd: number, name: Uint8Array, start: number, end: number): number {
    if (tracing.walk) trace('walk', `open directory ${textOf(name, start, end)}`);
    this.#isOwn = this.#uid !== 0 && this.seen.uid === this.#uid;
    return this.#verified(
      this.#open(dirfd, name, start, end, O_RDONLY | O_NONBLOCK | O_DIRECTORY),
      DIRECTORY,
    );
  }

  /**
   * Opens what nobody has looked at but its directory, which says that it is of `type`; `opened` tells about it. A
   * descriptor, or below 0 where it has to be looked at first, whatever the reason.
   */
  openUnseen(
    dirfd: number,
    name: Uint8Array,
    start: number,
    end: number,
    type: typeof DIRECTORY | typeof FILE,
  ): number {
    // its access time could be left alone, but only its owner may ask for that
    if (this.#isOwn) return -1;
    const isRoot = this.#uid === 0;
    const flags = O_RDONLY | O_NONBLOCK | (type === FILE ? O_NOCTTY : O_DIRECTORY);
    const fd = this.#open(dirfd, name, start, end, flags, isRoot);
    if (fd < 0) return fd;
    const failed = this.#files.statFd(fd, this.opened);
    this.#isOwn = !isRoot && this.opened.uid === this.#uid;
    if (failed === 0 && !this.#isOwn && typeOfMode(this.opened.mode) === type) {
      if (tracing.walk)
        trace('walk', `open ${type === FILE ? 'file' : 'directory'} ${textOf(name, start, end)}`);
      return fd;
    }
    fs.closeSync(fd);
    return -1;
  }
  /** what was opened last belongs to this process's user */
  #isOwn = false;

  /** `mayHideAccess`: root may with all, an owner with what is its own. */
  #open(
    dirfd: number,
    name: Uint8Array,
    start: number,
    end: number,
    flags: number,
    mayHideAccess = this.#uid === 0 || this.seen.uid === this.#uid,
  ): number {
    let fd = this.#files.openAt(dirfd, name, mayHideAccess ? flags | O_NOATIME : flags, 0, start, end);
    if (fd === -EPERM && mayHideAccess) fd = this.#files.openAt(dirfd, name, flags, 0, start, end);
    if (fd === -EMFILE || fd === -ENFILE) throw errnoError(fd, 'openat', '');
    return fd;
  }

  #verified(fd: number, type: number): number {
    if (fd < 0) return fd;
    const failed = this.#files.statFd(fd, this.opened);
    const { seen, opened } = this;
    if (
      failed === 0 &&
      typeOfMode(opened.mode) === type &&
      opened.inoLow === seen.inoLow &&
      opened.inoHigh === seen.inoHigh &&
      opened.devMinor === seen.devMinor &&
      opened.devMajor === seen.devMajor
    )
      return fd;
    fs.closeSync(fd);
    return failed < 0 ? failed : REPLACED;
  }

  /**
   * Opens the directory that `frame` stands for again: as `..` of `child`, or by its name in `dirfd`. -1 if that is
   * another directory now.
   */
  reopen(dirfd: number, name: Uint8Array | undefined, frame: Frame): number {
    const fd = this.#files.openAt(dirfd, name ?? DOT_DOT, O_RDONLY | O_NONBLOCK | O_DIRECTORY);
    if (fd === -EMFILE || fd === -ENFILE) throw errnoError(fd, 'openat', '');
    if (fd < 0) return -1;
    if (this.#files.statFd(fd, this.opened) === 0 && frame.isIdentified(this.opened)) return fd;
    fs.closeSync(fd);
    return -1;
  }

  /** Adds all names in an open directory to `names`. 0, -errno, or -ENFILE where there is no more room for names. */
  readNames(fd: number, names: Names): number {
    for (;;) {
      const bytes = this.#files.readDirectory(fd, this.#buffer);
      if (bytes <= 0) return bytes;
      if (!this.#parseNames(bytes, names)) return -ENFILE;
    }
  }

  #parseNames(bytes: number, names: Names): boolean {
    const buffer = this.#buffer;
    const { length, type, name } = sysFiles.DIRECTORY_RECORD;
    for (let at = 0; at + name < bytes; ) {
      const start = at + name;
      const next = at + ((buffer[at + length] as number) | ((buffer[at + length + 1] as number) << 8));
      let end = start;
      while (end < next && buffer[end] !== 0) end++;
      if (next <= at) return true;
      const isDots =
        buffer[start] === DOT && (end === start + 1 || (end === start + 2 && buffer[start + 1] === DOT));
      if (!isDots && end > start && !names.add(buffer, start, end, buffer[at + type] as number)) return false;
      at = next;
    }
    return true;
  }

  /** What the entry of a symlink or device that was looked at holds, until the next; or -errno. */
  content(dirfd: number, name: Uint8Array, start: number, end: number): Uint8Array | number {
    const { seen } = this;
    const type = typeOfMode(seen.mode);
    const out = this.#content;
    out.truncate(0);
    if (type === SYMLINK) {
      const bytes = this.#files.readlinkAt(dirfd, name, this.#target, start, end);
      if (bytes < 0) return bytes;
      if (bytes === 0 || bytes > TARGET_MAX_BYTES) return -ENAMETOOLONG;
      out.u32(bytes);
      out.bytes(this.#target, 0, bytes);
    } else if (type === CHARACTER_DEVICE || type === BLOCK_DEVICE) {
      out.u32(seen.rdevMajor);
      out.u32(seen.rdevMinor);
    }
    return out.since(0);
  }

  /** Attributes of a name that is not opened; the current directory is changed only meanwhile. */
  attributes(dirfd: number, name: Uint8Array): Attributes {
    const current = this.#files.openAt(AT_FDCWD, CURRENT, O_PATH | O_DIRECTORY);
    if (current < 0) return { xattrs: [], failed: current };
    try {
      const moved = this.#files.changeDirectory(dirfd);
      return moved < 0 ? { xattrs: [], failed: moved } : attributesAt(name);
    } finally {
      this.#files.changeDirectory(current);
      fs.closeSync(current);
    }
  }

  close(fd: number): void {
    fs.closeSync(fd);
  }
}

/** The kernel writes to it by address, so it must not move. */
function sysFilesBuffer(bytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(bytes));
}
