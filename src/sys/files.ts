/**
 * Files by directory descriptor and name, where names are bytes. Called for
 * every file by the scanner, the chunker and restore, so nothing here allocates,
 * and nothing throws: a call returns what the kernel did, or -errno, which
 * errnoError() in errno.ts makes an error of. Extended attributes are in
 * xattrs.ts.
 *
 * `dirfd` is a directory's descriptor, or AT_FDCWD. No call here follows a
 * symbolic link in the last component of a name.
 */
import fs from 'node:fs';
import {
  AT_EMPTY_PATH,
  AT_NO_AUTOMOUNT,
  AT_REMOVEDIR,
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  O_CLOEXEC,
  O_DIRECT,
  O_NOFOLLOW,
  O_PATH,
  RENAME_NOREPLACE,
} from './constants.ts';
import { EINVAL, EIO, ENOSYS } from './errno.ts';
import { addressOf, LastAddress, pinned, syscall, writeWord } from './foreign.ts';
import { NAME, type Name, putName, putSecondName, SECOND_NAME } from './names.ts';
import { NUMBERS } from './numbers.ts';

const TWO_32 = 0x1_0000_0000;
/** LOCK_EX | LOCK_NB. */
const LOCK_EX_NB = 6;
/** STATX_BASIC_STATS | STATX_MNT_ID. */
const STATX_WANTED = 0x17ff;

// struct statx as 32-bit words:
//   0 mask  2 attributes  4 nlink  5 uid  6 gid  7 mode (low half)  8 ino (2)
//   10 size (2)  12 blocks (2)  16 atime  20 btime  24 ctime  28 mtime
//   32 rdev major, minor  34 dev major, minor  36 mount id (2)
// a time is seconds (i64), nanoseconds (u32), padding
const STATX_BYTES = 256;

/** What statx said of a file, to be filled again and again. */
export class Stat {
  readonly #bytes = pinned(STATX_BYTES);
  readonly #words = new Uint32Array(this.#bytes.buffer);
  readonly #signed = new Int32Array(this.#bytes.buffer);
  /** Where the kernel writes it; for this file alone. */
  readonly address = addressOf(this.#bytes);

  #word(index: number): number {
    return this.#words[index] as number;
  }

  #double(index: number): number {
    return this.#word(index + 1) * TWO_32 + this.#word(index);
  }

  #seconds(index: number): number {
    return (this.#signed[index + 1] as number) * TWO_32 + this.#word(index);
  }

  /** Type and permissions. */
  get mode(): number {
    return this.#word(7) & 0xffff;
  }
  get nlink(): number {
    return this.#word(4);
  }
  get uid(): number {
    return this.#word(5);
  }
  get gid(): number {
    return this.#word(6);
  }
  /** The inode number's low 32 bits; it can exceed 2^53 as a whole. */
  get inoLow(): number {
    return this.#word(8);
  }
  get inoHigh(): number {
    return this.#word(9);
  }
  /** The whole inode number; allocates. */
  get ino(): bigint {
    return (BigInt(this.#word(9)) << 32n) | BigInt(this.#word(8));
  }
  /** In bytes; exact, as no file system holds more than 2^53. */
  get size(): number {
    return this.#double(10);
  }
  /** In units of 512 bytes. */
  get blocks(): number {
    return this.#double(12);
  }
  get atimeSec(): number {
    return this.#seconds(16);
  }
  get atimeNsec(): number {
    return this.#word(18);
  }
  get ctimeSec(): number {
    return this.#seconds(24);
  }
  get ctimeNsec(): number {
    return this.#word(26);
  }
  get mtimeSec(): number {
    return this.#seconds(28);
  }
  get mtimeNsec(): number {
    return this.#word(30);
  }
  get rdevMajor(): number {
    return this.#word(32);
  }
  get rdevMinor(): number {
    return this.#word(33);
  }
  get devMajor(): number {
    return this.#word(34);
  }
  get devMinor(): number {
    return this.#word(35);
  }
  /** Tells bind mounts of one file system apart; 0 before Linux 5.8. */
  get mountId(): number {
    return this.#double(36);
  }
  /** STATX_ATTR_… bits. */
  get attributes(): number {
    return this.#word(2);
  }
}

/** Fills `stat` for a name, which may be bytes `start` to `end` of a longer buffer. 0 or -errno. */
export function statAt(dirfd: number, name: Name, stat: Stat, start = 0, end = name.length): number {
  const refused = putName(name, start, end);
  if (refused !== 0) return refused;
  const flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
  return syscall(NUMBERS.statx, dirfd, NAME, flags, STATX_WANTED, stat.address);
}

/** Fills `stat` for an open file. 0 or -errno. */
export function statFd(fd: number, stat: Stat): number {
  putName(EMPTY);
  return syscall(NUMBERS.statx, fd, NAME, AT_EMPTY_PATH, STATX_WANTED, stat.address);
}
const EMPTY = new Uint8Array(0);

/** Opens a name, close-on-exec and never following a link: the descriptor or -errno. */
export function openAt(
  dirfd: number,
  name: Name,
  flags: number,
  mode = 0,
  start = 0,
  end = name.length,
): number {
  const refused = putName(name, start, end);
  if (refused !== 0) return refused;
  return syscall(NUMBERS.openat, dirfd, NAME, flags | O_CLOEXEC | O_NOFOLLOW, mode);
}

// struct open_how: u64 flags, u64 mode, u64 resolve
const how = pinned(24);
const HOW = addressOf(how);

/**
 * openat2: opens a path of several components under the RESOLVE_… rules of
 * `resolve`: the descriptor or -errno (-ENOSYS before Linux 5.6, -EXDEV for a
 * path that leaves `dirfd` under RESOLVE_BENEATH, -EAGAIN if a rename made that
 * uncertain).
 */
export function openBeneath(dirfd: number, path: Name, flags: number, mode: number, resolve: number): number {
  const refused = putName(path);
  if (refused !== 0) return refused;
  writeWord(how, flags | O_CLOEXEC, 0);
  writeWord(how, mode, 8);
  writeWord(how, resolve, 16);
  return syscall(NUMBERS.openat2, dirfd, NAME, HOW, 24);
}

/** Locks an open file until it is closed, if nobody else has: 0 or -errno (-EAGAIN if somebody has). */
export function lockFile(fd: number): number {
  return syscall(NUMBERS.flock, fd, LOCK_EX_NB);
}

/** Makes `fd`, an open directory, the current one. 0 or -errno. */
export function changeDirectory(fd: number): number {
  return syscall(NUMBERS.fchdir, fd);
}

const lastRead = new LastAddress();

/**
 * Reads the next records of an open directory into `buffer` (32 KiB are usual):
 * the bytes filled, 0 at the end, or -errno. A record (struct linux_dirent64) is
 * u64 inode, i64 offset, u16 record length, u8 type (DT_…), name, NUL; see
 * DIRECTORY_RECORD.
 */
export function readDirectory(fd: number, buffer: Buffer): number {
  return syscall(NUMBERS.getdents64, fd, lastRead.of(buffer), buffer.length);
}

/** Offsets within a record of `readDirectory`. */
export const DIRECTORY_RECORD = { inode: 0, length: 16, type: 18, name: 19 } as const;

/** Makes a directory. 0 or -errno. */
export function mkdirAt(dirfd: number, name: Name, mode: number): number {
  return putName(name) || syscall(NUMBERS.mkdirat, dirfd, NAME, mode);
}

/**
 * Makes a fifo, socket or device; `mode` has the type. 0 or -errno; -EINVAL for
 * device numbers that the kernel has no room for (12 and 20 bits).
 */
export function mknodAt(dirfd: number, name: Name, mode: number, major: number, minor: number): number {
  if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff) return -EINVAL;
  const device = (minor & 0xff) + (major << 8) + (minor >>> 8) * 2 ** 20;
  return putName(name) || syscall(NUMBERS.mknodat, dirfd, NAME, mode, device);
}

/** Makes a symbolic link at `name` that holds `target`. 0 or -errno. */
export function symlinkAt(target: Name, dirfd: number, name: Name): number {
  return putName(target) || putSecondName(name) || syscall(NUMBERS.symlinkat, NAME, dirfd, SECOND_NAME);
}

/**
 * Writes memory that does not move to an open file, at `offset`, or at its
 * position where that is -1: 0 when all is written, or -errno.
 */
export function writeMemory(fd: number, address: number, lengthBytes: number, offset: number): number {
  for (let done = 0; done < lengthBytes; ) {
    const left = lengthBytes - done;
    const written =
      offset < 0
        ? syscall(NUMBERS.write, fd, address + done, left)
        : syscall(NUMBERS.pwrite64, fd, address + done, left, offset + done);
    // nothing written, and no error either, would go on for ever
    if (written <= 0) return written || -EIO;
    done += written;
  }
  return 0;
}

/** Cuts an open file off, or lengthens it by a hole: 0 or -errno. */
export function resizeFile(fd: number, sizeBytes: number): number {
  return syscall(NUMBERS.ftruncate, fd, sizeBytes);
}

/** Makes another name of a file (of a link itself, if it is one). 0 or -errno. */
export function linkAt(fromDirfd: number, from: Name, toDirfd: number, to: Name): number {
  return (
    putName(from) || putSecondName(to) || syscall(NUMBERS.linkat, fromDirfd, NAME, toDirfd, SECOND_NAME, 0)
  );
}

/** Removes a name, of an empty directory if `directory` is set. 0 or -errno. */
export function unlinkAt(dirfd: number, name: Name, directory = false): number {
  return putName(name) || syscall(NUMBERS.unlinkat, dirfd, NAME, directory ? AT_REMOVEDIR : 0);
}

/** Renames; what is at `to` is replaced, unless `replace` is false: then -EEXIST. 0 or -errno. */
export function renameAt(
  fromDirfd: number,
  from: Name,
  toDirfd: number,
  to: Name,
  { replace = true } = {},
): number {
  const flags = replace ? 0 : RENAME_NOREPLACE;
  return (
    putName(from) ||
    putSecondName(to) ||
    syscall(NUMBERS.renameat2, fromDirfd, NAME, toDirfd, SECOND_NAME, flags)
  );
}

/** Reads a symbolic link into `buffer`: its length (all of `buffer` if there is more) or -errno. */
export function readlinkAt(dirfd: number, name: Name, buffer: Buffer, start = 0, end = name.length): number {
  const refused = putName(name, start, end);
  if (refused !== 0) return refused;
  return syscall(NUMBERS.readlinkat, dirfd, NAME, addressOf(buffer), buffer.length);
}

/** Changes the owner of a name (of a link itself). 0 or -errno. */
export function chownAt(dirfd: number, name: Name, uid: number, gid: number): number {
  return putName(name) || syscall(NUMBERS.fchownat, dirfd, NAME, uid, gid, AT_SYMLINK_NOFOLLOW);
}

/** Changes the owner of an open file. 0 or -errno. */
export function chownFd(fd: number, uid: number, gid: number): number {
  return syscall(NUMBERS.fchown, fd, uid, gid);
}

/** Changes the permissions of an open file. 0 or -errno. */
export function chmodFd(fd: number, mode: number): number {
  return syscall(NUMBERS.fchmod, fd, mode);
}

/**
 * Changes the permissions of a name, of any type, not following it: 0 or
 * -errno; -EOPNOTSUPP for a link. Before Linux 6.6 this goes through /proc.
 */
export function chmodAt(dirfd: number, name: Name, mode: number): number {
  const refused = putName(name);
  if (refused !== 0) return refused;
  const result = syscall(NUMBERS.fchmodat2, dirfd, NAME, mode, AT_SYMLINK_NOFOLLOW);
  return result === -ENOSYS ? chmodThroughProc(dirfd, name, mode) : result;
}

/** chmodAt where fchmodat2 is missing; exported for its test. */
export function chmodThroughProc(dirfd: number, name: Name, mode: number): number {
  const fd = openAt(dirfd, name, O_PATH);
  if (fd < 0) return fd;
  // fchmodat has no flags and follows links: this one, which leads to the file itself
  putName(Buffer.from(`/proc/self/fd/${fd}`, 'latin1'));
  const result = syscall(NUMBERS.fchmodat, dirfd, NAME, mode);
  fs.closeSync(fd);
  return result;
}

// struct timespec[2]: i64 seconds, i64 nanoseconds
const times = pinned(32);
const TIMES = addressOf(times);

function putTimes(atimeSec: number, atimeNsec: number, mtimeSec: number, mtimeNsec: number): void {
  times.writeInt32LE(Math.floor(atimeSec / TWO_32), 4);
  times.writeUInt32LE(atimeSec >>> 0, 0);
  writeWord(times, atimeNsec, 8);
  times.writeInt32LE(Math.floor(mtimeSec / TWO_32), 20);
  times.writeUInt32LE(mtimeSec >>> 0, 16);
  writeWord(times, mtimeNsec, 24);
}

/**
 * Sets the times of a name (of a link itself); seconds may be negative,
 * nanoseconds may be UTIME_OMIT or UTIME_NOW. 0 or -errno.
 */
export function utimensAt(
  dirfd: number,
  name: Name,
  atimeSec: number,
  atimeNsec: number,
  mtimeSec: number,
  mtimeNsec: number,
): number {
  putTimes(atimeSec, atimeNsec, mtimeSec, mtimeNsec);
  return putName(name) || syscall(NUMBERS.utimensat, dirfd, NAME, TIMES, AT_SYMLINK_NOFOLLOW);
}

/** The same for an open file. */
export function utimensFd(
  fd: number,
  atimeSec: number,
  atimeNsec: number,
  mtimeSec: number,
  mtimeNsec: number,
): number {
  putTimes(atimeSec, atimeNsec, mtimeSec, mtimeNsec);
  return syscall(NUMBERS.utimensat, fd, 0, TIMES, 0);
}

const POSIX_FADV_WILLNEED = 3;

/** Has the kernel begin to read `length` bytes from `offset` on, where they are not in memory. It may do so or not. */
export function readAhead(fd: number, offset: number, length: number): void {
  syscall(NUMBERS.fadvise64, fd, offset, length, POSIX_FADV_WILLNEED);
}

/** What this process has had read from disks since it began, in blocks: getrusage(2). */
export function blocksRead(): number {
  return process.resourceUsage().fsRead;
}

const F_GETFL = 3;
const F_SETFL = 4;

/** Has writes go past the page cache, or not: O_DIRECT. 0, or -EINVAL where the file system knows no such thing. */
export function setDirect(fd: number, direct: boolean): number {
  const flags = syscall(NUMBERS.fcntl, fd, F_GETFL);
  if (flags < 0) return flags;
  return syscall(NUMBERS.fcntl, fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT);
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** Where the next data begin, at or after `offset`: or -errno; -ENXIO when there are none. Moves the file's offset. */
export function seekData(fd: number, offset: number): number {
  return syscall(NUMBERS.lseek, fd, offset, SEEK_DATA);
}

/** Where the next hole begins, at or after `offset` (the end of the file counts as one): or -errno. */
export function seekHole(fd: number, offset: number): number {
  return syscall(NUMBERS.lseek, fd, offset, SEEK_HOLE);
}
