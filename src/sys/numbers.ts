/**
 * System call numbers, of asm/unistd.h, for the two architectures that plakard
 * runs on. Used by src/sys, and by privsep to write its seccomp profiles.
 */
import { arch } from 'node:process';
import { Failure } from '../error.ts';

const X64 = {
  lseek: 8,
  mmap: 9,
  munmap: 11,
  socket: 41,
  connect: 42,
  recvfrom: 45,
  sendmsg: 46,
  recvmsg: 47,
  socketpair: 53,
  setsockopt: 54,
  getsockopt: 55,
  fcntl: 72,
  ftruncate: 77,
  fchdir: 81,
  fchmod: 91,
  fchown: 93,
  getresuid: 118,
  getresgid: 120,
  capget: 125,
  capset: 126,
  prctl: 157,
  chroot: 161,
  lsetxattr: 189,
  fsetxattr: 190,
  lgetxattr: 192,
  fgetxattr: 193,
  llistxattr: 195,
  flistxattr: 196,
  lremovexattr: 198,
  fremovexattr: 199,
  getdents64: 217,
  fadvise64: 221,
  openat: 257,
  mkdirat: 258,
  mknodat: 259,
  fchownat: 260,
  unlinkat: 263,
  linkat: 265,
  symlinkat: 266,
  readlinkat: 267,
  fchmodat: 268,
  utimensat: 280,
  prlimit64: 302,
  renameat2: 316,
  seccomp: 317,
  memfd_create: 319,
  statx: 332,
  close_range: 436,
  openat2: 437,
  fchmodat2: 452,
} as const;

/** The name of a system call that src/sys makes. */
export type SystemCall = keyof typeof X64;

const ARM64: Readonly<Record<SystemCall, number>> = {
  lsetxattr: 6,
  fsetxattr: 7,
  lgetxattr: 9,
  fgetxattr: 10,
  llistxattr: 12,
  flistxattr: 13,
  lremovexattr: 15,
  fremovexattr: 16,
  fcntl: 25,
  mknodat: 33,
  mkdirat: 34,
  unlinkat: 35,
  symlinkat: 36,
  linkat: 37,
  ftruncate: 46,
  fchdir: 50,
  chroot: 51,
  fchmod: 52,
  fchmodat: 53,
  fchownat: 54,
  fchown: 55,
  openat: 56,
  getdents64: 61,
  lseek: 62,
  readlinkat: 78,
  utimensat: 88,
  capget: 90,
  capset: 91,
  getresuid: 148,
  getresgid: 150,
  prctl: 167,
  socket: 198,
  socketpair: 199,
  connect: 203,
  recvfrom: 207,
  setsockopt: 208,
  getsockopt: 209,
  sendmsg: 211,
  recvmsg: 212,
  munmap: 215,
  mmap: 222,
  fadvise64: 223,
  prlimit64: 261,
  renameat2: 276,
  seccomp: 277,
  memfd_create: 279,
  statx: 291,
  close_range: 436,
  openat2: 437,
  fchmodat2: 452,
};

function table(): Readonly<Record<SystemCall, number>> {
  if (arch === 'x64') return X64;
  if (arch === 'arm64') return ARM64;
  throw new Failure('start', arch, { cause: 'unsupported architecture', remedy: 'use x64 or arm64' });
}

/** The numbers of this machine. */
export const NUMBERS = table();
