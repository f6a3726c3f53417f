/**
 * What a taken-over child tries of the kernel: each call on its main thread and
 * on a thread of the pool, with what came of it. Used by taken.ts, inside the
 * confined process of every role; takeover.test.ts says what must come of it.
 */
import ffi from 'ffi-napi';
import { type CallName, callNumber } from '../../src/privsep/calls.ts';
import { addressOf, pinned, syscall } from '../../src/sys/foreign.ts';

const { syscall: onPool } = ffi.Library(null, {
  syscall: ['long', ['long', 'long', 'long', 'long', 'long', 'long', 'long']],
}) as unknown as { syscall: { async(...given: unknown[]): void } };

/** What is not in the tables of src/privsep, as no profile allows it: [x86-64, arm64]. */
const UNLISTED = {
  setuid: [105, 146],
  setgid: [106, 144],
  setresuid: [117, 147],
  setgroups: [116, 159],
  setsid: [112, 157],
  capset: [126, 91],
  personality: [135, 92],
  sethostname: [170, 161],
  settimeofday: [164, 170],
  seccomp: [317, 277],
  tkill: [200, 130],
  rt_sigqueueinfo: [129, 138],
  symlinkat: [266, 36],
  mknodat: [259, 33],
  fchownat: [260, 54],
  fsetxattr: [190, 7],
  shmget: [29, 194],
  msgget: [68, 186],
  setpriority: [141, 140],
} as const;

type Name = CallName | keyof typeof UNLISTED;
type Try = readonly [what: string, call: Name, ...given: number[]];
/** What came of a try: 0 or more, or -errno, on the main thread; on the pool, or -1, whatever the error. */
export type Outcomes = Record<string, readonly [main: number, pool: number]>;

const AT_FDCWD = -100;
const CREATE = 0o101;
const SIGCHLD = 17;
const F_GET_SEALS = 1034;
const PR = { setDumpable: 4, keepCapabilities: 8, setSeccomp: 22, dropBounding: 24, noNewPrivs: 39 };
const RLIMIT = { core: 4, nofile: 7 };

/** What the kernel is given the address of stays where it is. */
const kept: Buffer[] = [];

function text(of: string): number {
  const bytes = pinned(64);
  bytes.write(`${of}\0`);
  kept.push(bytes);
  return addressOf(bytes);
}

const NAME = text('taken');
const TOP = text('/');
const ZEROS = text('');
const scratch = text('');

const TRIES: readonly Try[] = [
  ['a Unix socket', 'socket', 1, 1, 0],
  ['a TCP socket', 'socket', 2, 1, 0],
  ['a netlink socket', 'socket', 16, 3, 0],
  ['a datagram pair', 'socketpair', 1, 2, 0, scratch],
  ['connect', 'connect', 3, NAME, 16],
  ['bind', 'bind', 3, NAME, 16],
  ['send to an address', 'sendto', 3, ZEROS, 1, 0, NAME, 16],
  ['signal init', 'kill', 1, 0],
  ['signal the parent', 'kill', process.ppid, 0],
  ['signal everybody', 'kill', -1, 0],
  ['signal a thread of the parent', 'tgkill', process.ppid, process.ppid, 0],
  ['signal any thread', 'tkill', process.ppid, 0],
  ['queue a signal', 'rt_sigqueueinfo', process.ppid, 0, ZEROS],
  ['become root', 'setuid', 0],
  ['become root for good', 'setresuid', 0, 0, 0],
  ['join group 0', 'setgid', 0],
  ['take groups', 'setgroups', 0, 0],
  ['take capabilities', 'capset', ZEROS, ZEROS],
  ['be dumpable', 'prctl', PR.setDumpable, 1, 0, 0, 0],
  ['keep capabilities', 'prctl', PR.keepCapabilities, 1, 0, 0, 0],
  ['drop from the bounding set', 'prctl', PR.dropBounding, 0, 0, 0, 0],
  ['another filter', 'prctl', PR.setSeccomp, 2, ZEROS, 0, 0],
  ['another filter, by its own call', 'seccomp', 1, 0, ZEROS],
  ['no new privileges', 'prctl', PR.noNewPrivs, 0, 0, 0, 0],
  ['raise a limit', 'prlimit64', 0, RLIMIT.nofile, ZEROS, 0],
  ['dump core', 'prlimit64', 0, RLIMIT.core, ZEROS, 0],
  ['a process', 'clone', SIGCHLD, 0, 0, 0, 0],
  ['a process, by the newer call', 'clone3', ZEROS, 64],
  ['a ring', 'io_uring_setup', 8, scratch],
  ['submit to a ring', 'io_uring_enter', 3, 1, 0, 0],
  ['open by rules', 'openat2', AT_FDCWD, TOP, ZEROS, 24],
  ['a session', 'setsid'],
  ['another personality', 'personality', 0xffff_ffff],
  ['name the machine', 'sethostname', NAME, 5],
  ['set the clock', 'settimeofday', ZEROS, 0],
  ['priority', 'setpriority', 0, 0, -10],
  ['shared memory of System V', 'shmget', 0, 4096, 0o1600],
  ['a queue of System V', 'msgget', 0, 0o1600],
  ['a link', 'symlinkat', TOP, AT_FDCWD, NAME],
  ['a device', 'mknodat', AT_FDCWD, NAME, 0o020600, 0x103],
  ['change an owner', 'fchownat', AT_FDCWD, TOP, 0, 0, 0],
  ['an attribute', 'fsetxattr', 3, NAME, ZEROS, 0, 0],
  ['read', 'openat', AT_FDCWD, TOP, 0, 0],
  ['write', 'openat', AT_FDCWD, NAME, 1, 0],
  ['read and write', 'openat', AT_FDCWD, NAME, 2, 0],
  ['create', 'openat', AT_FDCWD, NAME, CREATE, 0o600],
  ['truncate', 'openat', AT_FDCWD, NAME, 0o1000, 0],
  ['a file without a name', 'openat', AT_FDCWD, TOP, 0o20200002, 0o600],
  ['a directory', 'mkdirat', AT_FDCWD, NAME, 0o700],
  ['remove', 'unlinkat', AT_FDCWD, NAME, 0],
  ['rename', 'renameat2', AT_FDCWD, NAME, AT_FDCWD, NAME, 0],
  ['look into a directory', 'getdents64', 0, scratch, 64],
];

function numberOf(name: Name): number {
  const number =
    name in UNLISTED
      ? UNLISTED[name as keyof typeof UNLISTED][process.arch === 'x64' ? 0 : 1]
      : callNumber(name as CallName);
  if (number === undefined) throw new Error(`there is no call ${name} here`);
  return number;
}

/** One call on a thread of the pool: what it returns, or -1. */
function callOnPool(name: Name, given: readonly number[]): Promise<number> {
  const all = [numberOf(name), ...given, 0, 0, 0, 0, 0, 0].slice(0, 7);
  return new Promise((resolve, reject) => {
    onPool.async(...all, (error: Error | null, result: number) =>
      error === null ? resolve(Number(result)) : reject(error),
    );
  });
}

/** Makes a call, of which the process may die. */
export async function callOn(thread: 'main' | 'pool', name: CallName): Promise<void> {
  if (thread === 'main') syscall(numberOf(name), 0, 0, 0, 0, 0);
  else await callOnPool(name, [0, 0, 0, 0, 0]);
}

/** Tries everything. */
export async function tryWalls(): Promise<Outcomes> {
  const outcomes: Outcomes = {};
  for (const [what, name, ...given] of TRIES)
    outcomes[what] = [syscall(numberOf(name), ...given), await callOnPool(name, given)];
  return outcomes;
}

/** What came of changing memory that is shared: it must neither shrink, nor grow, nor lose its seals. */
export function tryMemory(fd: number): {
  readonly shrink: number;
  readonly grow: number;
  readonly seals: number;
} {
  return {
    shrink: syscall(numberOf('ftruncate'), fd, 0),
    grow: syscall(numberOf('ftruncate'), fd, 2 ** 40),
    seals: syscall(numberOf('fcntl'), fd, F_GET_SEALS),
  };
}
