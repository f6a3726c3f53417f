/**
 * Symlinks, fifos, sockets and devices: what has no contents to write, and can
 * be opened by name alone. Called by the walk. Invariant: owner and mode are set
 * by name only where nobody else can exchange what the name stands for; in a
 * directory that others can change, or that hands down ACLs, the thing is made
 * in a private directory first, and moved to its place complete.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { O_DIRECTORY, O_RDONLY } from '../sys/constants.ts';
import { EEXIST, EPERM, errnoError } from '../sys/errno.ts';
import {
  mkdirAt,
  mknodAt,
  openAt,
  readlinkAt,
  renameAt,
  Stat,
  statAt,
  statFd,
  symlinkAt,
  unlinkAt,
} from '../sys/files.ts';
import { fremoveXattr } from '../sys/xattrs.ts';
import type { Directory } from './restore-directory.ts';
import type { Writing } from './restore-file.ts';
import { exists } from './restore-link.ts';
import { failureOf } from './restore-report.ts';
import { BLOCK_DEVICE, CHARACTER_DEVICE, type EntryReader, SYMLINK, TARGET_MAX_BYTES } from './tree.ts';

const PRIVATE_DIRECTORY = 0o700;
const PRIVATE = 0o600;
const TYPE = 0o170000;
const SETGID = 0o2000;
/** The name of the only thing in a private directory. */
const STAGED = Buffer.from('x');
const ACCESS_ACL = Buffer.from('system.posix_acl_access');
const DEFAULT_ACL = Buffer.from('system.posix_acl_default');

function create(dirfd: number, name: Buffer, entry: EntryReader): number {
  if (entry.type === SYMLINK) return symlinkAt(entry.target(), dirfd, name);
  const isDevice = entry.type === CHARACTER_DEVICE || entry.type === BLOCK_DEVICE;
  const major = isDevice ? entry.deviceMajor : 0;
  const minor = isDevice ? entry.deviceMinor : 0;
  return mknodAt(dirfd, name, (entry.mode & TYPE) | PRIVATE, major, minor);
}

export class Specials {
  readonly #writing: Writing;
  readonly #stat = new Stat();
  readonly #target = Buffer.allocUnsafeSlow(TARGET_MAX_BYTES);

  constructor(writing: Writing) {
    this.#writing = writing;
  }

  /** Restores what `entry` names; what fails is reported. */
  make(directory: Directory, entry: EntryReader): void {
    const { directories, links, report } = this.#writing;
    let done = false;
    try {
      if (this.#make(directory, entry)) report.counts.others++;
      else report.counts.kept++;
      done = true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const path = directories.pathOf(directory, entry.name());
      report.problem(path, error.operation === 'restore' ? error : failureOf(path, error));
    }
    links.settle(directory, entry, done);
  }

  /** False where an equal one was there already. */
  #make(directory: Directory, entry: EntryReader): boolean {
    const { directories, overwrite } = this.#writing;
    const dirfd = directories.open(directory);
    const name = entry.name();
    if (!directory.shared && !directory.hasDefaultAcl) {
      const result = create(dirfd, name, entry);
      if (result === 0) {
        this.#complete(dirfd, name, directory.newGid, directory, entry);
        return true;
      }
      if (result !== -EEXIST) throw refused(result, entry);
    }
    if (!overwrite && statAt(dirfd, name, this.#stat) === 0) {
      if (this.#isSame(dirfd, name, entry)) return false;
      throw exists(directories.pathOf(directory, name).toString());
    }
    this.#stage(dirfd, directory, entry);
    return true;
  }

  #complete(dirfd: number, name: Buffer, gid: number, directory: Directory, entry: EntryReader): void {
    const { directories, metadata, report } = this.#writing;
    const path = () => directories.pathOf(directory, entry.name());
    const failure = metadata.applyToName(dirfd, name, entry, gid, () => path().toString());
    if (failure !== undefined) report.flaw(path(), failure);
  }

  /** Whether what #stat describes is what the entry asks for. */
  #isSame(dirfd: number, name: Buffer, entry: EntryReader): boolean {
    if (!this.#writing.metadata.matches(entry, this.#stat)) return false;
    if (entry.type === SYMLINK) {
      const length = readlinkAt(dirfd, name, this.#target);
      return length >= 0 && entry.target().equals(this.#target.subarray(0, length));
    }
    if (entry.type !== CHARACTER_DEVICE && entry.type !== BLOCK_DEVICE) return true;
    return this.#stat.rdevMajor === entry.deviceMajor && this.#stat.rdevMinor === entry.deviceMinor;
  }

  /** Makes it in a directory that only we can enter, and moves it to its place. */
  #stage(dirfd: number, directory: Directory, entry: EntryReader): void {
    const { metadata, overwrite, temporary } = this.#writing;
    const stage = temporary();
    let result = mkdirAt(dirfd, stage, PRIVATE_DIRECTORY);
    if (result < 0) throw errnoError(result, 'mkdirat', '');
    const fd = openAt(dirfd, stage, O_RDONLY | O_DIRECTORY);
    if (fd < 0) throw errnoError(fd, 'openat', '');
    try {
      const stat = this.#stat;
      if (statFd(fd, stat) !== 0 || stat.uid !== metadata.rights.uid)
        throw new Failure('make a private directory', '', { cause: 'it was replaced by another' });
      const isKnown = stat.gid === metadata.rights.gid || (stat.mode & SETGID) !== 0;
      const gid = isKnown ? stat.gid : -1;
      if (directory.hasDefaultAcl) {
        fremoveXattr(fd, DEFAULT_ACL);
        fremoveXattr(fd, ACCESS_ACL);
      }
      result = create(fd, STAGED, entry);
      if (result < 0) throw refused(result, entry);
      this.#complete(fd, STAGED, gid, directory, entry);
      result = renameAt(fd, STAGED, dirfd, entry.name(), { replace: overwrite });
      if (result < 0) {
        unlinkAt(fd, STAGED);
        throw errnoError(result, 'renameat2', '');
      }
    } finally {
      fs.closeSync(fd);
      unlinkAt(dirfd, stage, true);
    }
  }
}

function refused(result: number, entry: EntryReader): Failure {
  const isDevice = entry.type === CHARACTER_DEVICE || entry.type === BLOCK_DEVICE;
  const error = errnoError(result, entry.type === SYMLINK ? 'symlinkat' : 'mknodat', '');
  if (result !== -EPERM || !isDevice) return error;
  return new Failure('make device', '', { cause: error, remedy: 'only root can make devices' });
}
