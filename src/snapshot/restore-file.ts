/**
 * Regular files. One that is a single chunk is made, written and completed in
 * one go, under its own name; a longer one is written at its offsets, in
 * whatever order its chunks come, under a temporary name that becomes its own
 * at the end. Called by the walk (files without chunks) and by the window.
 * Invariants: no half-written file is ever left under a name of the snapshot
 * (a small one by a kill between two system calls at most), and a file that was
 * there before is replaced as a whole, with -overwrite alone, or compared.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { O_CREAT, O_DIRECT, O_EXCL, O_NONBLOCK, O_RDONLY, O_WRONLY } from '../sys/constants.ts';
import { EEXIST, EINVAL, ENOSYS, errnoError } from '../sys/errno.ts';
import {
  linkAt,
  openAt,
  renameAt,
  resizeFile,
  Stat,
  seekData,
  statAt,
  statFd,
  unlinkAt,
} from '../sys/files.ts';
import type { Directories, Directory } from './restore-directory.ts';
import { exists, type Links, replace } from './restore-link.ts';
import type { Metadata } from './restore-metadata.ts';
import { failureOf, type Report } from './restore-report.ts';
import { EntryReader } from './tree.ts';

/** Files of several chunks that are open at a time. */
const OPEN_MAX = 64;
const PRIVATE = 0o600;
/** A part of an existing file that is compared at a time. */
const COMPARE_BYTES = 1 << 20;

/** A file that is written, or compared, in several parts. */
export class LargeFile {
  readonly directory: Directory;
  /** its entry in the snapshot, as far as the metadata */
  readonly record: Buffer;
  /** what it is written to; undefined where an existing file is compared */
  readonly temporary: Buffer | undefined;
  fd = -1;
  /** opened another time, to write past the page cache; -1 where that cannot be done */
  direct = -1;
  /** parts that are still to come, the planning of them included */
  pending = 1;
  /** parts that hands are writing: it stays open */
  lent = 0;
  failure: Failure | undefined;
  devMajor = 0;
  devMinor = 0;
  inoLow = 0;
  inoHigh = 0;

  constructor(directory: Directory, record: Buffer, temporary: Buffer | undefined) {
    this.directory = directory;
    this.record = record;
    this.temporary = temporary;
  }
}

/** What the parts of a restore that write share. */
export interface Writing {
  readonly directories: Directories;
  readonly links: Links;
  readonly metadata: Metadata;
  readonly report: Report;
  readonly overwrite: boolean;
  /** a name that nobody can foresee */
  readonly temporary: () => Buffer;
}

function writeAll(fd: number, data: Buffer, position: number | null): void {
  let done = 0;
  while (done < data.length)
    done += fs.writeSync(fd, data, done, data.length - done, position === null ? null : position + done);
}

export class Files {
  readonly #writing: Writing;
  readonly #stat = new Stat();
  readonly #entry = new EntryReader();
  readonly #compared = Buffer.allocUnsafeSlow(COMPARE_BYTES);
  /** open ones, the least recently used first; all that are not complete are in `#unfinished` */
  readonly #open = new Set<LargeFile>();
  readonly #unfinished = new Set<LargeFile>();

  constructor(writing: Writing) {
    this.#writing = writing;
  }

  /** Restores a file whose contents are `data`, all of it. */
  whole(directory: Directory, entry: EntryReader, data: Buffer): void {
    let done = false;
    try {
      this.#whole(directory, entry, data);
      done = true;
    } catch (error) {
      this.#problem(directory, entry, error);
    }
    this.#writing.links.settle(directory, entry, done);
  }

  /** A hand has restored a file of so many bytes that `whole` would have restored. */
  made(directory: Directory, entry: EntryReader, bytes: number): void {
    const { report, links } = this.#writing;
    report.counts.files++;
    report.counts.bytes += bytes;
    links.settle(directory, entry, true);
  }

  /** Gives up a file whose chunk cannot be had. */
  lost(directory: Directory, entry: EntryReader, cause: Failure): void {
    this.#problem(directory, entry, cause);
    this.#writing.links.settle(directory, entry, false);
  }

  #problem(directory: Directory, entry: EntryReader, error: unknown): void {
    const { directories, report } = this.#writing;
    const path = directories.pathOf(directory, entry.name());
    if (error instanceof Failure && error.operation === 'restore') report.problem(path, error);
    else if (error instanceof Error) report.problem(path, failureOf(path, error));
    else throw error;
  }

  #whole(directory: Directory, entry: EntryReader, data: Buffer): void {
    const { metadata, directories, report, overwrite } = this.#writing;
    const dirfd = directories.open(directory);
    const mode = metadata.newMode(entry, directory.newGid, directory.hasDefaultAcl);
    const { buffer, nameStart, nameEnd } = entry;
    const fd = openAt(dirfd, buffer, O_WRONLY | O_CREAT | O_EXCL, mode, nameStart, nameEnd);
    if (fd >= 0) {
      this.#fill(fd, dirfd, entry.name(), directory, entry, data, mode);
    } else if (fd !== -EEXIST) {
      throw errnoError(fd, 'openat', '');
    } else if (overwrite) {
      this.#replaceWhole(dirfd, directory, entry, data);
    } else {
      this.#compareWhole(dirfd, directory, entry, data);
      return;
    }
    report.counts.files++;
    report.counts.bytes += data.length;
  }

  /** Writes and completes a new file, or removes it. */
  #fill(
    fd: number,
    dirfd: number,
    name: Buffer,
    directory: Directory,
    entry: EntryReader,
    data: Buffer,
    mode: number,
  ): void {
    try {
      try {
        if (data.length > 0) writeAll(fd, data, null);
        this.#complete(fd, directory, entry, mode);
      } finally {
        fs.closeSync(fd);
      }
    } catch (error) {
      unlinkAt(dirfd, name);
      throw error;
    }
  }

  #complete(fd: number, directory: Directory, entry: EntryReader, mode: number): void {
    const { metadata, directories, report } = this.#writing;
    const path = () => directories.pathOf(directory, entry.name());
    const { newGid, hasDefaultAcl } = directory;
    const failure = metadata.complete(fd, entry, mode, newGid, hasDefaultAcl, () => path().toString());
    if (failure !== undefined) report.flaw(path(), failure);
  }

  #replaceWhole(dirfd: number, directory: Directory, entry: EntryReader, data: Buffer): void {
    const temporary = this.#writing.temporary();
    const fd = openAt(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL, PRIVATE);
    if (fd < 0) throw errnoError(fd, 'openat', '');
    this.#fill(fd, dirfd, temporary, directory, entry, data, PRIVATE);
    replace(dirfd, temporary, entry.name(), () => this.#pathOf(directory, entry));
  }

  #pathOf(directory: Directory, entry: EntryReader): string {
    return this.#writing.directories.pathOf(directory, entry.name()).toString();
  }

  #compareWhole(dirfd: number, directory: Directory, entry: EntryReader, data: Buffer): void {
    const fd = this.#openSame(dirfd, directory, entry);
    try {
      if (!this.#isEqual(fd, data, 0)) throw exists(this.#pathOf(directory, entry));
    } finally {
      fs.closeSync(fd);
    }
    this.#writing.report.counts.kept++;
  }

  /** Opens the existing file, which must have the entry's metadata; #stat is its. */
  #openSame(dirfd: number, directory: Directory, entry: EntryReader): number {
    const { metadata } = this.#writing;
    // looked at before it is opened: it may be a device
    if (statAt(dirfd, entry.name(), this.#stat) !== 0 || !metadata.matches(entry, this.#stat))
      throw exists(this.#pathOf(directory, entry));
    const fd = openAt(dirfd, entry.name(), O_RDONLY | O_NONBLOCK);
    if (fd < 0) throw errnoError(fd, 'openat', '');
    if (statFd(fd, this.#stat) === 0 && metadata.matches(entry, this.#stat)) return fd;
    fs.closeSync(fd);
    throw exists(this.#pathOf(directory, entry));
  }

  #isEqual(fd: number, data: Buffer, offset: number): boolean {
    for (let done = 0; done < data.length; ) {
      const wanted = Math.min(COMPARE_BYTES, data.length - done);
      const got = fs.readSync(fd, this.#compared, 0, wanted, offset + done);
      if (got === 0 || this.#compared.compare(data, done, done + got, 0, got) !== 0) return false;
      done += got;
    }
    return true;
  }

  /** Whether `offset`..`end` of an existing file reads as zeros; holes in it are passed over. */
  #isZero(fd: number, offset: number, end: number): boolean {
    for (let at = seekData(fd, offset); at >= 0 && at < end; at = seekData(fd, at)) {
      const got = fs.readSync(fd, this.#compared, 0, Math.min(COMPARE_BYTES, end - at), at);
      for (let i = 0; i < got; i++) if (this.#compared[i] !== 0) return false;
      if (got === 0) return true;
      at += got;
    }
    return true;
  }

  /** Begins a file of several parts; undefined where that failed, which is reported. */
  begin(directory: Directory, entry: EntryReader): LargeFile | undefined {
    try {
      const file = this.#begin(directory, entry);
      this.#unfinished.add(file);
      this.#writing.directories.hold(directory);
      return file;
    } catch (error) {
      this.#problem(directory, entry, error);
      this.#writing.links.settle(directory, entry, false);
      return undefined;
    }
  }

  #begin(directory: Directory, entry: EntryReader): LargeFile {
    const { directories, overwrite, temporary } = this.#writing;
    const dirfd = directories.open(directory);
    const record = Buffer.from(entry.record());
    const isThere = !overwrite && statAt(dirfd, entry.name(), this.#stat) === 0;
    const file = new LargeFile(directory, record, isThere ? undefined : temporary());
    const fd =
      file.temporary === undefined
        ? this.#openSame(dirfd, directory, entry)
        : openAt(dirfd, file.temporary, O_WRONLY | O_CREAT | O_EXCL, PRIVATE);
    if (fd < 0) throw errnoError(fd, 'openat', '');
    if (!isThere) statFd(fd, this.#stat);
    file.devMajor = this.#stat.devMajor;
    file.devMinor = this.#stat.devMinor;
    file.inoLow = this.#stat.inoLow;
    file.inoHigh = this.#stat.inoHigh;
    this.#keep(file, fd);
    return file;
  }

  #keep(file: LargeFile, fd: number): void {
    file.fd = fd;
    this.#open.add(file);
    if (this.#open.size <= OPEN_MAX) return;
    for (const oldest of this.#open) {
      if (oldest.lent > 0) continue;
      this.#close(oldest);
      break;
    }
  }

  #close(file: LargeFile): void {
    if (!this.#open.delete(file)) return;
    const { fd, direct } = file;
    file.fd = -1;
    file.direct = -1;
    if (direct >= 0) fs.closeSync(direct);
    fs.closeSync(fd);
  }

  /** The file's descriptor, opened again where it was closed. */
  #descriptor(file: LargeFile): number {
    if (file.fd >= 0) {
      // to the end of the order of use
      this.#open.delete(file);
      this.#open.add(file);
      return file.fd;
    }
    const flags = file.temporary === undefined ? O_RDONLY | O_NONBLOCK : O_WRONLY | O_NONBLOCK;
    const fd = this.#again(file, flags);
    if (fd < 0) throw errnoError(fd, 'openat', '');
    this.#keep(file, fd);
    return fd;
  }

  /** Opens the file another time: a descriptor or -errno. Throws if its name is another's now. */
  #again(file: LargeFile, flags: number): number {
    const dirfd = this.#writing.directories.open(file.directory);
    const name = file.temporary ?? this.#load(file).name();
    const fd = openAt(dirfd, name, flags);
    if (fd < 0) return fd;
    const stat = this.#stat;
    const isSame =
      statFd(fd, stat) === 0 &&
      stat.inoLow === file.inoLow &&
      stat.inoHigh === file.inoHigh &&
      stat.devMajor === file.devMajor &&
      stat.devMinor === file.devMinor;
    if (isSame) return fd;
    fs.closeSync(fd);
    throw new Failure('open', name.toString(), { cause: 'it was replaced meanwhile' });
  }

  #load(file: LargeFile): EntryReader {
    return this.#entry.loadRecord(file.record, 0, file.record.length, true);
  }

  /** The descriptor to have a hand write a part through, until `giveBack`; undefined where `part` has to do it. */
  lend(file: LargeFile): number | undefined {
    if (file.failure !== undefined || file.temporary === undefined) return undefined;
    try {
      const fd = this.#descriptor(file);
      if (file.lent === 0 && file.direct < 0) this.#openDirect(file);
      file.lent++;
      return fd;
    } catch (error) {
      this.#failed(file, error);
      return undefined;
    }
  }

  giveBack(file: LargeFile): void {
    file.lent--;
  }

  /** Makes ready what is lent for writing past the page cache. */
  #openDirect(file: LargeFile): void {
    file.direct = this.#again(file, O_WRONLY | O_DIRECT);
    // at its full length, so that parts can be written beside each other; whether it can have it is told at the end
    if (file.direct >= 0) resizeFile(file.fd, this.#load(file).size);
  }

  /** Takes one part of the file. */
  part(file: LargeFile, offset: number, data: Buffer): void {
    if (file.failure === undefined) {
      try {
        const fd = this.#descriptor(file);
        if (file.temporary !== undefined) writeAll(fd, data, offset);
        else if (!this.#isEqual(fd, data, offset)) file.failure = exists(this.#pathOfFile(file));
      } catch (error) {
        this.#failed(file, error);
      }
    }
    this.release(file);
  }

  /** The part from `offset` to `end` is a hole: nothing to write, but to compare. */
  hole(file: LargeFile, offset: number, end: number): void {
    if (file.failure !== undefined || file.temporary !== undefined) return;
    try {
      if (!this.#isZero(this.#descriptor(file), offset, end)) file.failure = exists(this.#pathOfFile(file));
    } catch (error) {
      this.#failed(file, error);
    }
  }

  /** A part cannot be had: the file will not be there. */
  partLost(file: LargeFile, cause: unknown): void {
    this.#failed(file, cause);
    this.release(file);
  }

  #failed(file: LargeFile, error: unknown): void {
    if (!(error instanceof Error)) throw error;
    file.failure ??= failureOf(this.#directoryPath(file), error);
  }

  #directoryPath(file: LargeFile): Buffer {
    return this.#writing.directories.pathOf(file.directory, this.#load(file).name());
  }

  #pathOfFile(file: LargeFile): string {
    return this.#directoryPath(file).toString();
  }

  /** One part less is to come; after the last the file is completed or, if it failed, removed. */
  release(file: LargeFile): void {
    file.pending--;
    if (file.pending > 0) return;
    const { directories, links, report } = this.#writing;
    if (file.failure === undefined) {
      try {
        this.#finish(file);
      } catch (error) {
        this.#failed(file, error);
      }
    }
    const { failure } = file;
    this.#unfinished.delete(file);
    if (failure !== undefined) this.#discard(file);
    else this.#count(file);
    if (failure !== undefined) report.problem(this.#directoryPath(file), failure);
    links.settle(file.directory, this.#load(file), failure === undefined);
    directories.release(file.directory);
  }

  #count(file: LargeFile): void {
    const { counts } = this.#writing.report;
    if (file.temporary === undefined) counts.kept++;
    else {
      counts.files++;
      counts.bytes += this.#load(file).size;
    }
  }

  #finish(file: LargeFile): void {
    if (file.temporary === undefined) {
      this.#close(file);
      return;
    }
    const fd = this.#descriptor(file);
    const entry = this.#load(file);
    // whatever ends in a hole has no byte written at its end
    fs.ftruncateSync(fd, entry.size);
    this.#complete(fd, file.directory, entry, PRIVATE);
    this.#close(file);
    const dirfd = this.#writing.directories.open(file.directory);
    this.#rename(file, dirfd, file.temporary);
  }

  #rename(file: LargeFile, dirfd: number, temporary: Buffer): void {
    const name = this.#load(file).name();
    const isNew = !this.#writing.overwrite;
    let result = renameAt(dirfd, temporary, dirfd, name, { replace: !isNew });
    if (isNew && (result === -EINVAL || result === -ENOSYS)) {
      // a file system that cannot rename without replacing can link without
      result = linkAt(dirfd, temporary, dirfd, name);
      if (result === 0) unlinkAt(dirfd, temporary);
    }
    if (result === -EEXIST && isNew) throw exists(this.#pathOfFile(file));
    if (result < 0) throw errnoError(result, 'renameat2', '');
  }

  #discard(file: LargeFile): void {
    this.#close(file);
    if (file.temporary === undefined) return;
    try {
      unlinkAt(this.#writing.directories.open(file.directory), file.temporary);
    } catch (error) {
      // the directory is gone, and the file with it; why is in the file's own failure
      if (!(error instanceof Failure)) throw error;
    }
  }

  /** Removes every file that is not complete: the restore ends here. */
  abandon(): void {
    for (const file of this.#unfinished) this.#discard(file);
    this.#unfinished.clear();
  }
}
