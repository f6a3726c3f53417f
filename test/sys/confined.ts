/**
 * A process that gives everything up and then uses src/sys: for process.test.ts,
 * to which it prints what it saw as JSON. Its argument is its new root.
 */
import fs from 'node:fs';
import {
  AT_FDCWD,
  CAP_DAC_READ_SEARCH,
  O_RDONLY,
  RLIMIT_CORE,
  RLIMIT_NOFILE,
} from '../../src/sys/constants.ts';
import { errnoName } from '../../src/sys/errno.ts';
import { mkdirAt, openAt, readDirectory, Stat, statAt } from '../../src/sys/files.ts';
import { mapShared, memfdCreate, unmap } from '../../src/sys/memory.ts';
import { NUMBERS } from '../../src/sys/numbers.ts';
import * as sys from '../../src/sys/process.ts';
import { receiveDescriptors, sendDescriptors, socketpair } from '../../src/sys/socket.ts';
import { listXattr } from '../../src/sys/xattrs.ts';

const UID = 12_345;
const seen: Record<string, unknown> = {};

function attempt(name: string, action: () => unknown): void {
  try {
    seen[name] = action();
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    seen[name] = (cause as NodeJS.ErrnoException).code ?? String(cause);
  }
}

/** Lets everything pass but mkdirat, which fails with ENOTTY (25). */
function filter(): Buffer {
  const rows: readonly (readonly [number, number, number, number])[] = [
    [0x20, 0, 0, 0],
    [0x15, 0, 1, NUMBERS.mkdirat],
    [0x06, 0, 0, 0x0005_0019],
    [0x06, 0, 0, 0x7fff_0000],
  ];
  const program = Buffer.alloc(8 * rows.length);
  rows.forEach(([code, yes, no, k], i) => {
    program.writeUInt16LE(code, 8 * i);
    program.writeUInt8(yes, 8 * i + 2);
    program.writeUInt8(no, 8 * i + 3);
    program.writeUInt32LE(k, 8 * i + 4);
  });
  return program;
}

// threads of the pool, from before
await fs.promises.stat('/');
sys.setProcessName('plakard: a long name');
seen.name = fs.readFileSync('/proc/self/comm', 'latin1').trim();
const task = fs.openSync('/proc/self', 'r');
sys.chrootTo(fs.openSync(process.argv[2] ?? '', fs.constants.O_DIRECTORY));
sys.keepCapabilities();
sys.dropBoundingSet();
sys.setGroups([]);
sys.setResGid(UID);
sys.setResUid(UID);
const readSearch = 1n << BigInt(CAP_DAC_READ_SEARCH);
sys.setCapabilities({ permitted: readSearch, effective: readSearch, inheritable: 0n });
sys.setDumpable(false);
sys.setParentDeathSignal(9);
sys.setRlimit(RLIMIT_CORE, 0, 0);
seen.core = sys.getRlimit(RLIMIT_CORE);
const { hard } = sys.getRlimit(RLIMIT_NOFILE);
sys.setRlimit(RLIMIT_NOFILE, 100, hard);
seen.files = sys.getRlimit(RLIMIT_NOFILE).soft;
attempt('noSeccompBefore', () => sys.installSeccomp(filter()));
sys.setNoNewPrivs();
sys.installSeccomp(filter());
fs.closeSync(task);

seen.uid = sys.getResUid();
seen.gid = sys.getResGid();
seen.groups = process.getgroups?.();
seen.capabilities = sys.getCapabilities().permitted === readSearch;
seen.dumpable = sys.getDumpable();
seen.noNewPrivs = sys.getNoNewPrivs();
attempt('setResUid', () => sys.setResUid(0));
attempt('setGroups', () => sys.setGroups([0]));
attempt('chroot', () => sys.chrootTo(fs.openSync('/', fs.constants.O_DIRECTORY)));
seen.mkdir = errnoName(mkdirAt(AT_FDCWD, Buffer.from('new'), 0o700));
attempt('secret', () => fs.readFileSync('/secret', 'latin1'));
attempt('write', () => fs.writeFileSync('/secret', 'x'));
attempt('outside', () => fs.readFileSync('/etc/passwd').length);

const stat = new Stat();
seen.stat = statAt(AT_FDCWD, Buffer.from('secret'), stat) === 0 && stat.size === 6;
const root = openAt(AT_FDCWD, Buffer.from('/'), O_RDONLY);
seen.directory = readDirectory(root, Buffer.alloc(4096)) > 0;
seen.xattrs = listXattr(Buffer.from('secret'), Buffer.alloc(10));
seen.missing = errnoName(openAt(AT_FDCWD, Buffer.from('none'), O_RDONLY));
attempt('descriptors', () => {
  const [a, b] = socketpair('seqpacket');
  sendDescriptors(a, [root], Buffer.from('x'));
  return receiveDescriptors(b, 1, Buffer.alloc(1))?.fds.length;
});
attempt('memory', () => {
  const memory = mapShared(memfdCreate('ring', 4096), 4096, 'write');
  memory.fill(1);
  unmap(memory);
  return true;
});
await fs.promises.readFile('/secret', 'latin1').then(
  (text) => {
    seen.pool = text;
  },
  (error: NodeJS.ErrnoException) => {
    seen.pool = error.code;
  },
);
process.stdout.write(JSON.stringify(seen));
