/**
 * What a process gives up, and how it is named: identity, root directory,
 * capabilities, limits, seccomp. Called by src/privsep alone, at child start.
 *
 * Invariant: user and group ids change through libc, which changes them on
 * every thread; the bare system calls would leave libuv's pool as root.
 */
import { Failure } from '../error.ts';
import { check, EINVAL } from './errno.ts';
import { addressOf, call, entry, pinned, syscall, writeWord } from './foreign.ts';
import { NUMBERS } from './numbers.ts';

const setgroups = entry('setgroups');
const setresgid = entry('setresgid');
const setresuid = entry('setresuid');

// prctl.h
const PR_SET_PDEATHSIG = 1;
const PR_GET_DUMPABLE = 3;
const PR_SET_DUMPABLE = 4;
const PR_SET_KEEPCAPS = 8;
const PR_SET_NAME = 15;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_GET_NO_NEW_PRIVS = 39;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;

const CAPABILITY_VERSION_3 = 0x20080522;
/** Capability numbers fit the 64 bits of capset. */
const CAPABILITIES_MAX = 64;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
/** BPF_MAXINSNS, of linux/bpf_common.h. */
const SECCOMP_INSTRUCTIONS_MAX = 4096;
const INSTRUCTION_BYTES = 8;
/** TASK_COMM_LEN, without the NUL. */
const NAME_MAX_BYTES = 15;
/** NGROUPS_MAX is 65536; nobody here needs more than a few. */
const GROUPS_MAX = 1024;

const ids = pinned(12);
const IDS = addressOf(ids);

const HERE = pinned(2);
HERE.write('.\0', 'latin1');

/** Makes an open directory the root directory of the process, and the current one. */
export function chrootTo(directory: number): void {
  check(syscall(NUMBERS.fchdir, directory), 'fchdir', `descriptor ${directory}`);
  check(syscall(NUMBERS.chroot, addressOf(HERE)), 'chroot', '.');
}

/** Sets the supplementary groups, on all threads. */
export function setGroups(groups: readonly number[]): void {
  if (groups.length > GROUPS_MAX) check(-EINVAL, 'setgroups', `${groups.length} groups`);
  const list = pinned(4 * Math.max(1, groups.length));
  groups.forEach((group, i) => {
    list.writeUInt32LE(group, 4 * i);
  });
  check(call(setgroups, groups.length, addressOf(list)), 'setgroups', groups.join(' '));
}

/** Sets real, effective and saved group id to `gid`, on all threads. */
export function setResGid(gid: number): void {
  check(call(setresgid, gid, gid, gid), 'setresgid', String(gid));
}

/** Sets real, effective and saved user id to `uid`, on all threads. */
export function setResUid(uid: number): void {
  check(call(setresuid, uid, uid, uid), 'setresuid', String(uid));
}

/** Real, effective and saved id. */
export interface Ids {
  readonly real: number;
  readonly effective: number;
  readonly saved: number;
}

function readIds(number: number, name: string): Ids {
  check(syscall(number, IDS, IDS + 4, IDS + 8), name, '');
  return { real: ids.readUInt32LE(0), effective: ids.readUInt32LE(4), saved: ids.readUInt32LE(8) };
}

/** The user ids of the calling thread. */
export function getResUid(): Ids {
  return readIds(NUMBERS.getresuid, 'getresuid');
}

/** The group ids of the calling thread. */
export function getResGid(): Ids {
  return readIds(NUMBERS.getresgid, 'getresgid');
}

function prctl(option: number, name: string, a = 0, b = 0): number {
  return check(syscall(NUMBERS.prctl, option, a, b, 0, 0), 'prctl', name);
}

/** Keeps the permitted capabilities over the next change of user id, on this thread. */
export function keepCapabilities(): void {
  prctl(PR_SET_KEEPCAPS, 'keep capabilities', 1);
}

/** Sets of capabilities, as bit masks (1n << BigInt(number)). */
export interface Capabilities {
  readonly permitted: bigint;
  readonly effective: bigint;
  readonly inheritable: bigint;
}

// struct __user_cap_header_struct: u32 version, i32 pid; then twice (low and
// high words) u32 effective, permitted, inheritable
const capabilityHeader = pinned(8);
const capabilityData = pinned(24);
const CAPABILITY_HEADER = addressOf(capabilityHeader);
const CAPABILITY_DATA = addressOf(capabilityData);

/** Sets the capabilities of this thread, and of threads that it starts later; clears the ambient set. */
export function setCapabilities({ permitted, effective, inheritable }: Capabilities): void {
  capabilityHeader.writeUInt32LE(CAPABILITY_VERSION_3, 0);
  capabilityHeader.writeInt32LE(0, 4);
  [effective, permitted, inheritable].forEach((set, i) => {
    capabilityData.writeUInt32LE(Number(set & 0xffffffffn), 4 * i);
    capabilityData.writeUInt32LE(Number((set >> 32n) & 0xffffffffn), 12 + 4 * i);
  });
  check(syscall(NUMBERS.capset, CAPABILITY_HEADER, CAPABILITY_DATA), 'capset', permitted.toString(16));
  prctl(PR_CAP_AMBIENT, 'clear ambient capabilities', PR_CAP_AMBIENT_CLEAR_ALL);
}

/** The capabilities of this thread. */
export function getCapabilities(): Capabilities {
  capabilityHeader.writeUInt32LE(CAPABILITY_VERSION_3, 0);
  capabilityHeader.writeInt32LE(0, 4);
  check(syscall(NUMBERS.capget, CAPABILITY_HEADER, CAPABILITY_DATA), 'capget', '');
  const set = (i: number): bigint =>
    BigInt(capabilityData.readUInt32LE(4 * i)) | (BigInt(capabilityData.readUInt32LE(12 + 4 * i)) << 32n);
  return { effective: set(0), permitted: set(1), inheritable: set(2) };
}

/** Drops every capability from the bounding set, so that no exec can bring one back; needs CAP_SETPCAP. */
export function dropBoundingSet(): void {
  for (let capability = 0; capability < CAPABILITIES_MAX; capability++) {
    const result = syscall(NUMBERS.prctl, PR_CAPBSET_DROP, capability, 0, 0, 0);
    if (result === -EINVAL) return; // past the last that this kernel knows
    check(result, 'prctl', `drop capability ${capability}`);
  }
}

/** Nothing that this process executes gains privileges. Cannot be undone. */
export function setNoNewPrivs(): void {
  prctl(PR_SET_NO_NEW_PRIVS, 'no new privileges', 1);
}

/** Whether `setNoNewPrivs` holds. */
export function getNoNewPrivs(): boolean {
  return prctl(PR_GET_NO_NEW_PRIVS, 'no new privileges') === 1;
}

/** Whether the process leaves core dumps and can be traced by its own user. A change of user id resets it. */
export function setDumpable(dumpable: boolean): void {
  prctl(PR_SET_DUMPABLE, 'dumpable', dumpable ? 1 : 0);
}

/** What `setDumpable` last said, or a change of user id. */
export function getDumpable(): boolean {
  return prctl(PR_GET_DUMPABLE, 'dumpable') === 1;
}

/** Names the main thread, as `ps -o comm` shows it; 15 bytes are kept. */
export function setProcessName(name: string): void {
  const text = pinned(NAME_MAX_BYTES + 1);
  text.write(name, 0, NAME_MAX_BYTES, 'utf8');
  prctl(PR_SET_NAME, 'name', addressOf(text));
}

/** The signal that this process gets when its parent dies. A change of user id resets it. */
export function setParentDeathSignal(signal: number): void {
  prctl(PR_SET_PDEATHSIG, 'parent death signal', signal);
}

const limits = pinned(16);
const LIMITS = addressOf(limits);
/** RLIM64_INFINITY is all ones. */
const UNLIMITED_WORD = 0xffffffff;

function writeLimit(value: number, offset: number): void {
  if (value === Number.POSITIVE_INFINITY) {
    limits.writeUInt32LE(UNLIMITED_WORD, offset);
    limits.writeUInt32LE(UNLIMITED_WORD, offset + 4);
  } else writeWord(limits, value, offset);
}

function readLimit(offset: number): number {
  const value = limits.readBigUInt64LE(offset);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(value);
}

/** Sets a limit (RLIMIT_…); Infinity for none. */
export function setRlimit(resource: number, soft: number, hard: number): void {
  writeLimit(soft, 0);
  writeLimit(hard, 8);
  check(syscall(NUMBERS.prlimit64, 0, resource, LIMITS, 0), 'prlimit64', `limit ${resource}`);
}

/** A limit (RLIMIT_…); Infinity for none. */
export function getRlimit(resource: number): { soft: number; hard: number } {
  check(syscall(NUMBERS.prlimit64, 0, resource, 0, LIMITS), 'prlimit64', `limit ${resource}`);
  return { soft: readLimit(0), hard: readLimit(8) };
}

/**
 * Installs a seccomp filter: `program` is an array of struct sock_filter, 8
 * bytes each. With `tsync` it holds for every thread at once. Needs
 * `setNoNewPrivs` first.
 */
export function installSeccomp(program: Buffer, { tsync = true } = {}): void {
  const count = program.length / INSTRUCTION_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > SECCOMP_INSTRUCTIONS_MAX)
    check(-EINVAL, 'seccomp', `a program of ${program.length} bytes`);
  const filter = pinned(program.length);
  program.copy(filter);
  const description = pinned(16); // struct sock_fprog: u16 count, 6 bytes of padding, pointer
  description.writeUInt16LE(count, 0);
  writeWord(description, addressOf(filter), 8);
  const flags = tsync ? SECCOMP_FILTER_FLAG_TSYNC : 0;
  const result = syscall(NUMBERS.seccomp, SECCOMP_SET_MODE_FILTER, flags, addressOf(description));
  check(result, 'seccomp', 'filter');
  // with tsync, a thread that could not follow is reported by its id
  if (result > 0) throw new Failure('seccomp', 'filter', { cause: `thread ${result} could not follow` });
}
