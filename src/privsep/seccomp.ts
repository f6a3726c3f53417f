/**
 * The system calls that a child may make, as seccomp filters. Called by
 * confine.ts, once in each child.
 *
 * A profile is a list of rules; a rule names calls, and may demand something of
 * their arguments. What no rule allows gets EPERM, or ENOSYS where the call is
 * newer than the table, so that a runtime which probes for it takes another
 * way. What no program of ours ever calls by mistake kills the process.
 *
 * Invariant: the filter looks at numbers only. Nothing behind a pointer can be
 * checked (it may change under the kernel's eyes), so calls that hide their
 * arguments there (clone3, openat2, io_uring) are refused altogether.
 */
import { auditArchitecture, type CallName, callNumber } from './calls.ts';

/** One instruction of classic BPF, linux/filter.h: code, jump if true, jump if false, operand. */
type Instruction = readonly [code: number, jt: number, jf: number, k: number];

// linux/bpf_common.h
const LOAD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const AND = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN = 0x06; // BPF_RET | BPF_K
const INSTRUCTION_BYTES = 8;

// linux/seccomp.h
const ALLOW = 0x7fff0000;
const KILL = 0x80000000;
const refuse = (errno: number): number => 0x00050000 | errno;
const EPERM = 1;
const ENOSYS = 38;

// struct seccomp_data: i32 nr, u32 arch, u64 instruction pointer, u64 args[6]
const AT_NUMBER = 0;
const AT_ARCH = 4;
const atArgument = (index: number): number => 16 + 8 * index;

/** x32 calls on x86-64 carry this bit. */
const X32 = 0x40000000;
/** From here on numbers are the same on all architectures, and new calls are added. */
const FIRST_NEW = 424;

/** What an argument must be. */
type Demand =
  /** the low 32 bits, masked, must be one of these */
  | { readonly argument: number; readonly mask?: number; readonly oneOf: readonly number[] }
  /** all 64 bits must be zero: no pointer is given */
  | { readonly argument: number; readonly none: true };

interface Rule {
  readonly calls: readonly CallName[];
  readonly demands?: readonly Demand[];
}

/** Which calls a role needs. */
export type Profile = 'worker' | 'control' | 'scanner' | 'storage' | 'remote';

/** As a list, for shapes and tests. */
export const PROFILES = ['worker', 'control', 'scanner', 'storage', 'remote'] as const;

const KILLED: readonly CallName[] = [
  ...(['execve', 'execveat', 'ptrace', 'process_vm_readv', 'process_vm_writev', 'kcmp'] as const),
  ...(['pidfd_getfd', 'mount', 'umount2', 'pivot_root', 'open_tree', 'move_mount', 'fsopen'] as const),
  ...(['fsconfig', 'fsmount', 'fspick', 'mount_setattr', 'chroot', 'setns', 'unshare'] as const),
  ...(['swapon', 'swapoff', 'init_module', 'finit_module', 'delete_module', 'create_module'] as const),
  ...(['kexec_load', 'kexec_file_load', 'reboot', 'bpf', 'perf_event_open', 'userfaultfd'] as const),
  ...(['add_key', 'request_key', 'keyctl', 'open_by_handle_at', 'fanotify_init'] as const),
  ...(['iopl', 'ioperm', 'modify_ldt', 'acct', 'quotactl', 'nfsservctl'] as const),
];

/** Refused with ENOSYS though their numbers are known: the caller has another way. */
const ABSENT: readonly CallName[] = ['clone3', 'openat2', 'io_uring_setup', 'io_uring_enter'];

const ALWAYS: readonly CallName[] = [
  ...(['read', 'write', 'readv', 'writev', 'pread64', 'pwrite64', 'preadv', 'pwritev'] as const),
  ...(['preadv2', 'pwritev2', 'futex', 'epoll_wait', 'epoll_pwait', 'epoll_ctl', 'recvmsg'] as const),
  ...(['sendmsg', 'recvfrom', 'close', 'close_range', 'lseek', 'fstat', 'newfstatat', 'statx'] as const),
  ...(['poll', 'ppoll', 'pselect6', 'select', 'epoll_create1', 'epoll_pwait2', 'eventfd2'] as const),
  ...(['pipe2', 'dup', 'dup2', 'dup3', 'mmap', 'mprotect', 'munmap', 'mremap', 'madvise', 'brk'] as const),
  ...(['msync', 'mincore', 'membarrier', 'pkey_alloc', 'pkey_free', 'pkey_mprotect'] as const),
  ...(['rt_sigaction', 'rt_sigprocmask', 'rt_sigreturn', 'rt_sigpending', 'rt_sigtimedwait'] as const),
  ...(['rt_sigsuspend', 'sigaltstack', 'restart_syscall', 'futex_wait', 'futex_wake'] as const),
  ...(['futex_waitv', 'futex_requeue', 'set_robust_list', 'get_robust_list', 'rseq'] as const),
  ...(['set_tid_address', 'exit', 'exit_group', 'sched_yield', 'sched_getaffinity'] as const),
  ...(['sched_getparam', 'sched_getscheduler', 'sched_get_priority_max'] as const),
  ...(['sched_get_priority_min', 'getcpu', 'nanosleep', 'clock_nanosleep', 'clock_gettime'] as const),
  ...(['clock_getres', 'gettimeofday', 'time', 'times', 'getrusage', 'sysinfo', 'uname'] as const),
  ...(['getpid', 'gettid', 'getppid', 'getpgrp', 'getpgid', 'getsid', 'getuid', 'geteuid'] as const),
  ...(['getgid', 'getegid', 'getresuid', 'getresgid', 'getgroups', 'capget', 'getpriority'] as const),
  ...(['getrandom', 'getcwd', 'umask', 'getrlimit', 'memfd_create', 'ftruncate', 'fadvise64'] as const),
  ...(['shutdown', 'getsockopt', 'getsockname', 'getpeername'] as const),
];

// asm-generic/fcntl.h, linux/fcntl.h: duplicates, flags, locks, seals; not F_SETOWN, which aims signals
const FCNTL = [0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032, 1033, 1034];
// TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX; not TIOCSTI, which types into a terminal
const IOCTL = [0x5401, 0x5413, 0x541b, 0x5421, 0x5450, 0x5451];
// PR_SET_NAME, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_SET_VMA
const PRCTL = [15, 16, 39, 0x53564d41];
const CLONE_THREAD = 0x00010000;
// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
const CLONE_NAMESPACES = 0x7e020000;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_SEQPACKET = 5;
const SOCK_TYPE = 0xf;
// O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND, __O_TMPFILE: none of them may be set to read
const OPEN_TO_WRITE = 0o20003103;

/** Allowed to all, under conditions. A process may signal itself (abort does), and no other. */
function conditional(pid: number): readonly Rule[] {
  return [
    { calls: ['fcntl'], demands: [{ argument: 1, oneOf: FCNTL }] },
    { calls: ['ioctl'], demands: [{ argument: 1, oneOf: IOCTL }] },
    { calls: ['prctl'], demands: [{ argument: 0, oneOf: PRCTL }] },
    { calls: ['prlimit64'], demands: [{ argument: 2, none: true }] },
    { calls: ['tgkill', 'kill'], demands: [{ argument: 0, oneOf: [pid] }] },
    // threads, but neither processes nor namespaces
    {
      calls: ['clone'],
      demands: [{ argument: 0, mask: CLONE_THREAD | CLONE_NAMESPACES, oneOf: [CLONE_THREAD] }],
    },
    // with an address, a datagram socket could reach any socket of the machine's
    { calls: ['sendto'], demands: [{ argument: 4, none: true }] },
    {
      calls: ['socketpair'],
      demands: [
        { argument: 0, oneOf: [AF_UNIX] },
        { argument: 1, mask: SOCK_TYPE, oneOf: [SOCK_STREAM, SOCK_SEQPACKET] },
      ],
    },
  ];
}

const LOOK: readonly CallName[] = [
  ...(['stat', 'lstat', 'access', 'faccessat', 'faccessat2', 'readlink', 'readlinkat'] as const),
  ...(['getdents64', 'chdir', 'fchdir', 'statfs', 'fstatfs', 'readahead'] as const),
];
const ATTRIBUTES: readonly CallName[] = [
  ...(['getxattr', 'lgetxattr', 'fgetxattr', 'listxattr', 'llistxattr', 'flistxattr'] as const),
];
const CHANGE: readonly CallName[] = [
  ...(['open', 'openat', 'creat', 'fsync', 'fdatasync', 'sync_file_range', 'fallocate', 'flock'] as const),
  ...(['sendfile', 'copy_file_range', 'truncate', 'mkdir', 'mkdirat', 'rmdir', 'unlink'] as const),
  ...(['unlinkat', 'rename', 'renameat', 'renameat2', 'link', 'linkat', 'chmod', 'fchmod'] as const),
  ...(['fchmodat', 'fchmodat2', 'utime', 'utimes', 'utimensat', 'syncfs'] as const),
];

const OWN: Readonly<Record<Profile, readonly Rule[]>> = {
  /** Computes on what it is sent: chunker, crypto, keys. */
  worker: [],
  /** Accepts on a descriptor that it was given. */
  control: [{ calls: ['accept', 'accept4', 'listen', 'setsockopt'] }],
  /** Reads files and directories, and watches them. */
  scanner: [
    { calls: LOOK },
    { calls: ATTRIBUTES },
    { calls: ['inotify_init1', 'inotify_add_watch', 'inotify_rm_watch'] },
    { calls: ['openat'], demands: [{ argument: 2, mask: OPEN_TO_WRITE, oneOf: [0] }] },
    { calls: ['open'], demands: [{ argument: 1, mask: OPEN_TO_WRITE, oneOf: [0] }] },
  ],
  /** Reads and writes files. */
  storage: [{ calls: LOOK }, { calls: CHANGE }],
  /** Talks to a server over TCP or TLS, and reads nothing here. */
  remote: [
    { calls: ['connect', 'bind', 'setsockopt', 'sendmmsg', 'recvmmsg'] },
    {
      calls: ['socket'],
      demands: [
        { argument: 0, oneOf: [AF_INET, AF_INET6] },
        { argument: 1, mask: SOCK_TYPE, oneOf: [SOCK_STREAM, SOCK_DGRAM] },
      ],
    },
  ],
};

function demandCode(demand: Demand): Instruction[] {
  const low = atArgument(demand.argument);
  const refused: Instruction = [RETURN, 0, 0, refuse(EPERM)];
  if ('none' in demand)
    return [[LOAD, 0, 0, low], [JUMP_EQUAL, 0, 2, 0], [LOAD, 0, 0, low + 4], [JUMP_EQUAL, 1, 0, 0], refused];
  const code: Instruction[] = [[LOAD, 0, 0, low]];
  if (demand.mask !== undefined) code.push([AND, 0, 0, demand.mask]);
  const count = demand.oneOf.length;
  // each comparison that holds jumps over the rest and over the refusal
  demand.oneOf.forEach((value, i) => {
    code.push([JUMP_EQUAL, count - i, 0, value]);
  });
  code.push(refused);
  return code;
}

function callCode(number: number, demands: readonly Demand[], verdict: number): Instruction[] {
  const body: Instruction[] = [...demands.flatMap(demandCode), [RETURN, 0, 0, verdict]];
  return [[JUMP_EQUAL, 0, body.length, number], ...body];
}

function encode(code: readonly Instruction[]): Buffer {
  const program = Buffer.alloc(code.length * INSTRUCTION_BYTES);
  code.forEach(([operation, jt, jf, k], i) => {
    const at = i * INSTRUCTION_BYTES;
    program.writeUInt16LE(operation, at);
    program.writeUInt8(jt, at + 2);
    program.writeUInt8(jf, at + 3);
    program.writeUInt32LE(k >>> 0, at + 4);
  });
  return program;
}

function prologue(machine: string): Instruction[] {
  return [
    [LOAD, 0, 0, AT_ARCH],
    [JUMP_EQUAL, 1, 0, auditArchitecture(machine)],
    [RETURN, 0, 0, KILL],
    [LOAD, 0, 0, AT_NUMBER],
  ];
}

/**
 * The filter of `profile` for the process `pid`, as an array of struct
 * sock_filter. `machine` is a value of process.arch.
 */
export function profileProgram(profile: Profile, pid: number, machine: string = process.arch): Buffer {
  const code = prologue(machine);
  const add = (calls: readonly CallName[], demands: readonly Demand[], verdict: number): void => {
    for (const name of calls) {
      const number = callNumber(name, machine);
      if (number !== undefined) code.push(...callCode(number, demands, verdict));
    }
  };
  if (machine === 'x64') code.push([JUMP_AT_LEAST, 0, 1, X32], [RETURN, 0, 0, KILL]);
  add(ALWAYS, [], ALLOW);
  for (const rule of [...conditional(pid), ...OWN[profile]]) add(rule.calls, rule.demands ?? [], ALLOW);
  add(KILLED, [], KILL);
  add(ABSENT, [], refuse(ENOSYS));
  code.push([JUMP_AT_LEAST, 0, 1, FIRST_NEW], [RETURN, 0, 0, refuse(ENOSYS)], [RETURN, 0, 0, refuse(EPERM)]);
  return encode(code);
}

/**
 * A filter for the parent: io_uring_setup fails with ENOSYS, everything else is
 * allowed. libuv makes a ring in every event loop, before any of our code
 * runs; what is submitted through one passes by the filter of the process. A
 * filter is inherited through exec, so children start without rings.
 */
export function noRingsProgram(machine: string = process.arch): Buffer {
  const number = callNumber('io_uring_setup', machine) ?? FIRST_NEW;
  return encode([
    [LOAD, 0, 0, AT_ARCH],
    [JUMP_EQUAL, 0, 3, auditArchitecture(machine)],
    [LOAD, 0, 0, AT_NUMBER],
    [JUMP_EQUAL, 0, 1, number],
    [RETURN, 0, 0, refuse(ENOSYS)],
    [RETURN, 0, 0, ALLOW],
  ]);
}
