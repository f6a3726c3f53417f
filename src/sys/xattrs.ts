/**
 * Extended attributes. Called for every file by the scanner and restore; like
 * files.ts, these return what the kernel did, or -errno.
 *
 * The calls that take a name have no directory descriptor before Linux 6.13:
 * names are relative to the current directory (changeDirectory in files.ts),
 * and no link is followed.
 *
 * A buffer of length 0 asks for the size alone. The kernel allocates as much as it
 * is offered, each time: with 64 KiB a call takes 1.8 µs, with 1 KiB 1.0.
 */
import { addressOf, LastAddress, syscall } from './foreign.ts';
import { NAME, type Name, putName, putSecondName, SECOND_NAME } from './names.ts';
import { NUMBERS } from './numbers.ts';

/** The attributes of a name, each ended by a NUL, into `buffer`: bytes or -errno (-ERANGE: too many). */
export function listXattr(name: Name, buffer: Buffer, start = 0, end = name.length): number {
  const refused = putName(name, start, end);
  if (refused !== 0) return refused;
  return syscall(NUMBERS.llistxattr, NAME, addressOf(buffer), buffer.length);
}

const lastList = new LastAddress();

/** The attributes of an open file, likewise. */
export function flistXattr(fd: number, buffer: Buffer): number {
  return syscall(NUMBERS.flistxattr, fd, lastList.of(buffer), buffer.length);
}

/** An attribute's value into `buffer`: bytes or -errno (-ENODATA: there is none, -ERANGE: too long). */
export function getXattr(name: Name, attribute: Name, buffer: Buffer): number {
  return (
    putName(name) ||
    putSecondName(attribute) ||
    syscall(NUMBERS.lgetxattr, NAME, SECOND_NAME, addressOf(buffer), buffer.length)
  );
}

/** An attribute's value of an open file, likewise. */
export function fgetXattr(fd: number, attribute: Name, buffer: Buffer): number {
  return putName(attribute) || syscall(NUMBERS.fgetxattr, fd, NAME, addressOf(buffer), buffer.length);
}

/** Sets an attribute; `flags` are XATTR_… or 0. 0 or -errno. */
export function setXattr(name: Name, attribute: Name, value: Buffer, flags = 0): number {
  return (
    putName(name) ||
    putSecondName(attribute) ||
    syscall(NUMBERS.lsetxattr, NAME, SECOND_NAME, addressOf(value), value.length, flags)
  );
}

/** Sets an attribute of an open file. 0 or -errno. */
export function fsetXattr(fd: number, attribute: Name, value: Buffer, flags = 0): number {
  return putName(attribute) || syscall(NUMBERS.fsetxattr, fd, NAME, addressOf(value), value.length, flags);
}

/** Removes an attribute. 0 or -errno. */
export function removeXattr(name: Name, attribute: Name): number {
  return putName(name) || putSecondName(attribute) || syscall(NUMBERS.lremovexattr, NAME, SECOND_NAME);
}

/** Removes an attribute of an open file. 0 or -errno. */
export function fremoveXattr(fd: number, attribute: Name): number {
  return putName(attribute) || syscall(NUMBERS.fremovexattr, fd, NAME);
}
