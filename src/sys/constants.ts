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
export const { O_NONBLOCK, O_NOCTTY, O_DIRECTORY, O_NOFOLLOW, O_NOATIME, O_DIRECT } = constants;
export const O_CLOEXEC = 0x80000;
export const O_PATH = 0x200000;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_NO_AUTOMOUNT = 0x800;
export const AT_EMPTY_PATH = 0x1000;
export const AT_STATX_DONT_SYNC = 0x4000;
export const RENAME_NOREPLACE = 1;

// openat2.h
export const RESOLVE_NO_MAGICLINKS = 2;
export const RESOLVE_NO_SYMLINKS = 4;
export const RESOLVE_BENEATH = 8;

// stat.h: a mode's type
export const { S_IFMT, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK } = constants;

// dirent.h: the type in a directory record, where the file system knows it
export const DT_UNKNOWN = 0;
export const DT_DIR = 4;
export const DT_REG = 8;

// stat.h: instead of nanoseconds in utimensat
export const UTIME_OMIT = 0x3ffffffe;

// xattr.h
export const XATTR_CREATE = 1;

// limits.h
/** Counts the NUL at the end. */
export const PATH_MAX = 4096;

/** Most descriptors in one message: SCM_MAX_FD of net/scm.h. */
export const DESCRIPTORS_MAX = 253;

// capability.h: bit numbers
export const CAP_DAC_READ_SEARCH = 2;

// resource.h
export const RLIMIT_CORE = 4;
export const RLIMIT_NOFILE = 7;
