/** The filters, run by an interpreter of classic BPF: what each profile says to each call, on both architectures. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { auditArchitecture, type CallName, callNumber } from '../../src/privsep/calls.ts';
import { noRingsProgram, PROFILES, type Profile, profileProgram } from '../../src/privsep/seccomp.ts';

const PID = 4711;
const MACHINES = ['x64', 'arm64'];
const ALLOWED = 'allowed';
const KILLED = 'killed';
const EPERM = 'errno 1';
const ENOSYS = 'errno 38';

interface Call {
  readonly number: number;
  readonly audit: number;
  readonly args: readonly number[];
}

/** The 32-bit word at `offset` of struct seccomp_data. */
function word(call: Call, offset: number): number {
  if (offset === 0) return call.number >>> 0;
  if (offset === 4) return call.audit;
  assert(offset >= 16 && offset < 64, `offset ${offset}`);
  const value = BigInt.asUintN(64, BigInt(call.args[(offset - 16) >> 3] ?? 0));
  return Number((offset & 4) === 0 ? value & 0xffffffffn : value >> 32n);
}

/** Runs a program as the kernel would; only the instructions that seccomp.ts makes. */
function run(program: Buffer, call: Call): string {
  let a = 0;
  for (let at = 0; at < program.length / 8; at++) {
    const operation = program.readUInt16LE(8 * at);
    const jt = program[8 * at + 2] ?? 0;
    const jf = program[8 * at + 3] ?? 0;
    const k = program.readUInt32LE(8 * at + 4);
    if (operation === 0x20) a = word(call, k);
    else if (operation === 0x54) a = (a & k) >>> 0;
    else if (operation === 0x15) at += a === k ? jt : jf;
    else if (operation === 0x35) at += a >= k ? jt : jf;
    else if (operation === 0x06) {
      if (k === 0x7fff0000) return ALLOWED;
      if (k === 0x80000000) return KILLED;
      assert.equal(k >>> 16, 5);
      return `errno ${k & 0xffff}`;
    } else assert.fail(`instruction ${operation}`);
  }
  return assert.fail('ran past the end');
}

const verdicts = (profile: Profile, machine: string) => {
  const program = profileProgram(profile, PID, machine);
  const audit = auditArchitecture(machine);
  return {
    byNumber: (number: number, ...args: number[]) => run(program, { number, audit, args }),
    /** undefined where the machine has no such call */
    of(name: CallName, ...args: number[]): string | undefined {
      const number = callNumber(name, machine);
      return number === undefined ? undefined : run(program, { number, audit, args });
    },
  };
};

for (const machine of MACHINES) {
  describe(`filters for ${machine}`, () => {
    for (const profile of PROFILES) {
      test(`${profile}: what all have in common`, () => {
        const { of, byNumber } = verdicts(profile, machine);
        for (const name of [
          'read',
          'futex',
          'mmap',
          'sendmsg',
          'recvmsg',
          'exit_group',
          'memfd_create',
        ] as const)
          assert.equal(of(name), ALLOWED, name);
        for (const name of ['execve', 'execveat', 'ptrace', 'mount', 'bpf', 'keyctl', 'init_module'] as const)
          assert.equal(of(name), KILLED, name);
        for (const name of ['clone3', 'openat2', 'io_uring_setup', 'io_uring_enter'] as const)
          assert.equal(of(name), ENOSYS, name);
        assert.equal(of('open_by_handle_at'), KILLED);
        assert.equal(byNumber(9999), ENOSYS);
        assert.equal(byNumber(machine === 'x64' ? 105 : 146), EPERM, 'setuid');
        assert.equal(of('kill', PID, 9), ALLOWED);
        assert.equal(of('kill', PID + 1, 0), EPERM);
        assert.equal(of('kill', -1, 9), EPERM);
        assert.equal(of('tgkill', PID, 1, 6), ALLOWED);
        assert.equal(of('clone', 0x3d0f00), ALLOWED, 'pthread_create');
        assert.equal(of('clone', 17), EPERM, 'fork');
        assert.equal(of('clone', 0x3d0f00 | 0x10000000), EPERM, 'a user namespace');
        assert.equal(of('prlimit64', 0, 7, 0, 1), ALLOWED);
        assert.equal(of('prlimit64', 0, 7, 2 ** 40, 0), EPERM);
        assert.equal(of('sendto', 3, 1, 1, 0, 0, 0), ALLOWED);
        assert.equal(
          of('sendto', 3, 1, 1, 0, 2 ** 32, 110),
          EPERM,
          'an address of which only the high word is set',
        );
        assert.equal(of('socketpair', 1, 1 | 0x80800), ALLOWED);
        assert.equal(of('socketpair', 1, 2), EPERM, 'datagrams');
        assert.equal(of('ioctl', 1, 0x5421), ALLOWED, 'FIONBIO');
        assert.equal(of('ioctl', 0, 0x5412), EPERM, 'TIOCSTI');
        assert.equal(of('fcntl', 3, 8), EPERM, 'F_SETOWN');
      });

      test(`${profile}: files and network`, () => {
        const { of } = verdicts(profile, machine);
        const may = (allowed: boolean): string => (allowed ? ALLOWED : EPERM);
        const [scans, stores] = [profile === 'scanner', profile === 'storage'];
        assert.equal(of('openat', -100, 1, 0o2400000), may(scans || stores), 'read');
        for (const flags of [1, 2, 3, 0o100, 0o1000, 0o2000, 0o20200000])
          assert.equal(of('openat', -100, 1, flags), may(stores), `flags ${flags.toString(8)}`);
        if (machine === 'x64') assert.equal(of('open', 1, 0o101), may(stores));
        for (const name of ['getdents64', 'readlinkat', 'fchdir'] as const)
          assert.equal(of(name), may(scans || stores), name);
        for (const name of ['unlinkat', 'renameat2', 'mkdirat', 'fsync', 'linkat'] as const)
          assert.equal(of(name), may(stores), name);
        for (const name of ['lgetxattr', 'inotify_add_watch'] as const)
          assert.equal(of(name), may(scans), name);
        const remote = profile === 'remote';
        assert.equal(of('socket', 2, 1 | 0x80800, 6), may(remote));
        assert.equal(of('socket', 1, 1, 0), EPERM, 'a Unix socket');
        assert.equal(of('socket', 2, 3, 1), EPERM, 'a raw socket');
        assert.equal(of('connect'), may(remote));
        assert.equal(of('accept4'), may(profile === 'control'));
      });
    }

    test('another architecture kills', () => {
      const program = profileProgram('storage', PID, machine);
      for (const audit of [0x40000003, ...MACHINES.filter((each) => each !== machine).map(auditArchitecture)])
        assert.equal(run(program, { number: 0, audit, args: [] }), KILLED);
    });

    test('the parent refuses rings alone', () => {
      const program = noRingsProgram(machine);
      const audit = auditArchitecture(machine);
      for (let number = 0; number < 500; number++)
        assert.equal(run(program, { number, audit, args: [] }), number === 425 ? ENOSYS : ALLOWED);
    });
  });
}

test('calls of the x32 kind kill', () => {
  assert.equal(verdicts('worker', 'x64').byNumber(0x40000000), KILLED);
  assert.equal(verdicts('worker', 'x64').byNumber(-1), KILLED);
});

test('each architecture has its own numbers, and others none', () => {
  assert.equal(callNumber('getpid', 'x64'), 39);
  assert.equal(callNumber('getpid', 'arm64'), 172);
  assert.equal(callNumber('open', 'arm64'), undefined);
  assert.throws(() => callNumber('read', 'mips'), /confine mips/);
});
