/**
 * Landlock, as far as privsep uses it: a ruleset that names what a process may
 * do with files at all, and beneath which directories; restricting the calling
 * thread, or one of the pool's, to it. See landlock(7) and linux/landlock.h.
 *
 * Invariant: a right that the kernel does not know yet is never asked for, so
 * an older kernel holds what it can hold.
 */
import fs from 'node:fs';
import { O_PATH } from './constants.ts';
import { check, ENOSYS, EOPNOTSUPP } from './errno.ts';
import { addressOf, pinned, syscall, syscallOnPool, writeWord } from './foreign.ts';
import { NUMBERS } from './numbers.ts';

const CREATE_RULESET_VERSION = 1;
const RULE_PATH_BENEATH = 1;
/** Restricts all threads of the process at once: from version 8 on. */
const RESTRICT_SELF_TSYNC = 8;
const TSYNC_VERSION = 8;

/** LANDLOCK_ACCESS_FS_…: its bit, and the version of the interface that brought it. */
const ACCESS = {
  execute: [0, 1],
  'write file': [1, 1],
  'read file': [2, 1],
  'read directory': [3, 1],
  'remove directory': [4, 1],
  'remove file': [5, 1],
  'make character device': [6, 1],
  'make directory': [7, 1],
  'make file': [8, 1],
  'make socket': [9, 1],
  'make fifo': [10, 1],
  'make block device': [11, 1],
  'make symbolic link': [12, 1],
  'link elsewhere': [13, 2],
  truncate: [14, 3],
  'control device': [15, 5],
} as const;

/** Something that can be done with a file. */
export type FileAccess = keyof typeof ACCESS;

/** LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP. */
const NET_ALL = 3;
const NET_VERSION = 4;
/** LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL. */
const SCOPE_ALL = 3;
const SCOPE_VERSION = 6;

/** The version of a result of landlock_create_ruleset: 0 where there is no Landlock, or it is turned off. */
export function landlockVersionOf(result: number): number {
  if (result === -ENOSYS || result === -EOPNOTSUPP) return 0;
  return check(result, 'landlock_create_ruleset', 'version');
}

/** The version of this kernel's Landlock; 0 for none. */
export function landlockVersion(): number {
  return landlockVersionOf(syscall(NUMBERS.landlock_create_ruleset, 0, 0, CREATE_RULESET_VERSION));
}

/** The bits of those that `version` knows. */
export function accessMask(accesses: Iterable<FileAccess>, version: number): number {
  let mask = 0;
  for (const access of accesses) {
    const [bit, since] = ACCESS[access];
    if (since <= version) mask |= 1 << bit;
  }
  return mask;
}

/** What a ruleset takes away, beside all access to files that no rule gives back. */
export interface Refusal {
  /** binding and connecting TCP sockets */
  readonly tcp: boolean;
}

/**
 * struct landlock_ruleset_attr, as long as `version` knows it:
 *
 *   offset  size  field               since
 *   0       8     handled_access_fs   1
 *   8       8     handled_access_net  4
 *   16      8     scoped              6
 */
export function rulesetAttributes(version: number, { tcp }: Refusal): Buffer {
  const lengthBytes = version >= SCOPE_VERSION ? 24 : version >= NET_VERSION ? 16 : 8;
  const attributes = pinned(lengthBytes);
  writeWord(attributes, accessMask(Object.keys(ACCESS) as FileAccess[], version), 0);
  if (version >= NET_VERSION) writeWord(attributes, tcp ? NET_ALL : 0, 8);
  if (version >= SCOPE_VERSION) writeWord(attributes, SCOPE_ALL, 16);
  return attributes;
}

/**
 * struct landlock_path_beneath_attr, which is packed:
 *
 *   offset  size  field
 *   0       8     allowed_access
 *   8       4     parent_fd
 */
export function pathBeneathAttributes(mask: number, directory: number): Buffer {
  const attributes = pinned(12);
  writeWord(attributes, mask, 0);
  attributes.writeInt32LE(directory, 8);
  return attributes;
}

/** The descriptor of a new ruleset, which refuses everything that `version` knows. */
export function createRuleset(version: number, refusal: Refusal): number {
  const attributes = rulesetAttributes(version, refusal);
  const fd = syscall(NUMBERS.landlock_create_ruleset, addressOf(attributes), attributes.length, 0);
  return check(fd, 'landlock_create_ruleset', '');
}

/** Allows these accesses beneath a directory. */
export function allowBeneath(
  ruleset: number,
  path: string,
  accesses: readonly FileAccess[],
  version: number,
): void {
  const directory = fs.openSync(path, O_PATH);
  try {
    const attributes = pathBeneathAttributes(accessMask(accesses, version), directory);
    const result = syscall(NUMBERS.landlock_add_rule, ruleset, RULE_PATH_BENEATH, addressOf(attributes), 0);
    check(result, 'landlock_add_rule', path);
  } finally {
    fs.closeSync(directory);
  }
}

/** Whether `restrictSelf` holds for all threads at once, or for the calling one and those that it starts later. */
export function restrictsAll(version: number): boolean {
  return version >= TSYNC_VERSION;
}

/** Restricts the calling thread, or the process where the kernel can. Needs no_new_privs on each of them. */
export function restrictSelf(ruleset: number, version: number): void {
  const flags = restrictsAll(version) ? RESTRICT_SELF_TSYNC : 0;
  check(syscall(NUMBERS.landlock_restrict_self, ruleset, flags), 'landlock_restrict_self', '');
}

/** Restricts one thread of the pool, whichever is free: 0, or not. */
export function restrictPoolThread(ruleset: number): Promise<number> {
  return syscallOnPool(NUMBERS.landlock_restrict_self, ruleset, 0);
}
