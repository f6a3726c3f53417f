/**
 * Owner, xattrs, mode and times of what restore writes, in the one order that
 * is right: the owner first (a change of owner clears setuid and capabilities),
 * then xattrs, then the mode with its setuid bits, then the times, which
 * everything before would change. Called for every name that is restored.
 * Invariant: no setuid or setgid bit is set on a file whose owner or group is
 * another than the snapshot says.
 */
import type { Failure } from '../error.ts';
import { UTIME_OMIT } from '../sys/constants.ts';
import { errnoError } from '../sys/errno.ts';
import {
  changeDirectory,
  chmodAt,
  chmodFd,
  chownAt,
  chownFd,
  type Stat,
  utimensAt,
  utimensFd,
} from '../sys/files.ts';
import { fremoveXattr, fsetXattr, setXattr } from '../sys/xattrs.ts';
import { type EntryReader, FILE, FLAG_XATTRS, SYMLINK } from './tree.ts';

const SETUID = 0o4000;
const SETGID = 0o2000;
const PERMISSIONS = 0o7777;
/** What open(2) may be given. */
const ACCESS = 0o777;
const PRIVATE = 0o600;
const ACCESS_ACL = Buffer.from('system.posix_acl_access');
/** -1 as uid or gid leaves it as it is. */
const UNCHANGED = 0xffff_ffff;
/** Seconds that a number holds exactly; what is beyond, no file system has. */
const SECONDS_MAX = Number.MAX_SAFE_INTEGER;

/** As whom restore runs. */
export interface Rights {
  readonly uid: number;
  readonly gid: number;
  /** all groups of the caller */
  readonly groups: ReadonlySet<number>;
}

function seconds(entry: EntryReader): number {
  return Math.max(-SECONDS_MAX, Math.min(SECONDS_MAX, entry.mtimeSec));
}

export class Metadata {
  readonly rights: Rights;
  readonly privileged: boolean;

  constructor(rights: Rights) {
    this.rights = rights;
    this.privileged = rights.uid === 0;
  }

  /**
   * Whether a file with the entry's owner, mode and xattrs is what open(2) makes with that mode, where `newGid` is
   * the group that a new file gets (-1: not known).
   */
  #isPlain(entry: EntryReader, newGid: number): boolean {
    return (
      (entry.mode & 0o7000) === 0 &&
      (entry.flags & FLAG_XATTRS) === 0 &&
      entry.gid === newGid &&
      (entry.uid === this.rights.uid || !this.privileged)
    );
  }

  /** The mode to make a file with, in a directory whose new files get the group `newGid`. */
  newMode(entry: EntryReader, newGid: number, hasDefaultAcl: boolean): number {
    return !hasDefaultAcl && this.#isPlain(entry, newGid) ? entry.mode & ACCESS : PRIVATE;
  }

  /**
   * Completes a file that was made with `mode` in such a directory, and has its contents. Goes on after a failure; the
   * first is returned. `path` names it in the failure.
   */
  complete(
    fd: number,
    entry: EntryReader,
    mode: number,
    newGid: number,
    hasDefaultAcl: boolean,
    path: () => string,
  ): Failure | undefined {
    // a plain file needs nothing but its times; a failure there is told with the rest
    const isAsMade = !hasDefaultAcl && this.#isPlain(entry, newGid) && mode === (entry.mode & ACCESS);
    if (isAsMade && this.#setTimes(fd, entry) === 0) return undefined;
    if (hasDefaultAcl) fremoveXattr(fd, ACCESS_ACL);
    return this.applyToFd(fd, entry, newGid, path);
  }

  /** The times of an open file: 0 or -errno. */
  #setTimes(fd: number, entry: EntryReader): number {
    return utimensFd(fd, 0, UTIME_OMIT, seconds(entry), entry.mtimeNsec);
  }

  /**
   * Everything, on an open file or directory whose owner is the caller and whose group is `gid` (-1: not known).
   * Goes on after a failure; the first is returned. `path` names it in the failure.
   */
  applyToFd(fd: number, entry: EntryReader, gid: number, path: () => string): Failure | undefined {
    let failure: Failure | undefined;
    const check = (result: number, call: string) => {
      if (result < 0) failure ??= errnoError(result, call, path());
    };
    const owner = this.#owner(entry, gid);
    let result = owner.changes ? chownFd(fd, owner.uid, owner.gid) : 0;
    check(result, 'fchown');
    if ((entry.flags & FLAG_XATTRS) !== 0)
      for (const { name, value } of entry.xattrs())
        if (this.#maySet(name)) check(fsetXattr(fd, name, value), 'fsetxattr');
    result = chmodFd(fd, this.#mode(entry, owner, gid, result === 0));
    check(result, 'fchmod');
    check(this.#setTimes(fd, entry), 'futimens');
    return failure;
  }

  /**
   * The same for a name of any type, which nobody else can replace meanwhile. Xattrs are set through the current
   * directory, which changes.
   */
  applyToName(
    dirfd: number,
    name: Buffer,
    entry: EntryReader,
    gid: number,
    path: () => string,
  ): Failure | undefined {
    let failure: Failure | undefined;
    const check = (result: number, call: string) => {
      if (result < 0) failure ??= errnoError(result, call, path());
    };
    const owner = this.#owner(entry, gid);
    const chowned = owner.changes ? chownAt(dirfd, name, owner.uid, owner.gid) : 0;
    check(chowned, 'fchownat');
    if ((entry.flags & FLAG_XATTRS) !== 0) {
      check(changeDirectory(dirfd), 'fchdir');
      for (const xattr of entry.xattrs())
        if (failure === undefined && this.#maySet(xattr.name))
          check(setXattr(name, xattr.name, xattr.value), 'lsetxattr');
    }
    if (entry.type !== SYMLINK)
      check(chmodAt(dirfd, name, this.#mode(entry, owner, gid, chowned === 0)), 'fchmodat2');
    check(utimensAt(dirfd, name, 0, UTIME_OMIT, seconds(entry), entry.mtimeNsec), 'utimensat');
    return failure;
  }

  /** Whether what `stat` describes has the entry's type, mode, size, time and, as far as the caller sets it, owner. */
  matches(entry: EntryReader, stat: Stat): boolean {
    return (
      stat.mode === entry.mode &&
      stat.mtimeSec === seconds(entry) &&
      stat.mtimeNsec === entry.mtimeNsec &&
      (entry.type !== FILE || stat.size === entry.size) &&
      (!this.privileged || (stat.uid === entry.uid && stat.gid === entry.gid))
    );
  }

  /** Others than root keep their own uid, and give away only to groups they are in. */
  #owner(entry: EntryReader, gid: number): { changes: boolean; uid: number; gid: number } {
    const { rights } = this;
    const uid = this.privileged && entry.uid !== rights.uid ? entry.uid : UNCHANGED;
    const mayGroup = this.privileged || (entry.uid === rights.uid && rights.groups.has(entry.gid));
    const newGid = mayGroup && entry.gid !== gid ? entry.gid : UNCHANGED;
    return { changes: uid !== UNCHANGED || newGid !== UNCHANGED, uid, gid: newGid };
  }

  #mode(entry: EntryReader, owner: { uid: number; gid: number }, gid: number, ownerWasSet: boolean): number {
    const uidRight = owner.uid === UNCHANGED ? entry.uid === this.rights.uid : ownerWasSet;
    const gidRight = owner.gid === UNCHANGED ? entry.gid === gid : ownerWasSet;
    return entry.mode & PERMISSIONS & ~(uidRight ? 0 : SETUID) & ~(gidRight ? 0 : SETGID);
  }

  /** Namespaces that are root's; others than root leave them out, as they do owners. */
  #maySet(name: Buffer): boolean {
    if (this.privileged) return true;
    const text = name.toString('latin1', 0, 9);
    return !text.startsWith('security.') && !text.startsWith('trusted.');
  }
}
