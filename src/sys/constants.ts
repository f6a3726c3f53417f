/**
 * Numbers of the kernel's interface, from the uapi headers, that callers of
 * src/sys pass or compare. Those that differ between architectures come from
 * Node.
 */
import { constants } from 'node:fs';

/** Instead of a directory's descriptor: relative to the current directory. */
export const AT_FDCWD = -100;

// fcntl.h
export const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = constants;
export const { O_NONBLOCK, O_NOCTTY, O_DIRECTORY, O_NOFOLLOW, O_NOATIME } = constants;
export const O_CLOEXEC = 0x80000;
export const O_PATH = 0x200000;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_NO_AUTOMOUNT = 0x800;
export const AT_EMPTY_PATH = 0x1000;
export const AT_STATX_DONT_SYNC = 0x4000;
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;

// openat2.h
export const RESOLVE_NO_XDEV = 1;
export const RESOLVE_NO_MAGICLINKS = 2;
export const RESOLVE_NO_SYMLINKS = 4;
export const RESOLVE_BENEATH = 8;

// stat.h: a mode's type
export const { S_IFMT, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK } = constants;

// dirent.h: the type in a directory record, where the file system knows it
export const DT_UNKNOWN = 0;
export const DT_FIFO = 1;
export const DT_CHR = 2;
export const DT_DIR = 4;
export const DT_BLK = 6;
export const DT_REG = 8;
export const DT_LNK = 10;
export const DT_SOCK = 12;

// fadvise.h
export const POSIX_FADV_NORMAL = 0;
export const POSIX_FADV_SEQUENTIAL = 2;
export const POSIX_FADV_WILLNEED = 3;
export const POSIX_FADV_DONTNEED = 4;

// stat.h: instead of nanoseconds in utimensat
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;

// xattr.h
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

// limits.h
export const NAME_MAX = 255;
/** Counts the NUL at the end. */
export const PATH_MAX = 4096;

/** Most descriptors in one message: SCM_MAX_FD of net/scm.h. */
export const DESCRIPTORS_MAX = 253;

// capability.h: bit numbers
export const CAP_DAC_READ_SEARCH = 2;

// resource.h
export const RLIMIT_FSIZE = 1;
export const RLIMIT_CORE = 4;
export const RLIMIT_NPROC = 6;
export const RLIMIT_NOFILE = 7;
export const RLIMIT_MEMLOCK = 8;
export const RLIMIT_AS = 9;

// stat.h: attributes that statx reports
export const STATX_ATTR_IMMUTABLE = 0x10;
export const STATX_ATTR_APPEND = 0x20;
export const STATX_ATTR_NODUMP = 0x40;
export const STATX_ATTR_MOUNT_ROOT = 0x2000;
