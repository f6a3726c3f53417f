/** What the kernel says about the processes of a daemon that has worked: identities, descriptors, mappings, calls. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { parseStatus } from '../../src/privsep/threads.ts';
import { type Process, Rig } from './daemon.ts';
import { plantOrdinary } from './tree.ts';

const NONE = '0000000000000000';
const DAC_READ_SEARCH = '0000000000000004';
const PARENT_MAX_KB = 100 << 10;
const CHILD_MAX_KB = 512 << 10;
const OPEN_MAX = 4096;
const CHILDREN = ['control', 'scanner home', 'chunker local', 'crypto local/0', 'storage local'] as const;
/** Who maps which memory, and how; nobody maps anything else that is shared. */
const MAPPINGS: Readonly<Record<string, readonly string[]>> = {
  parent: [],
  control: [],
  scanner: [],
  chunker: ['plain rw', 'reader rw', 'table r'],
  crypto: ['plain rw', 'sealed rw'],
  storage: ['sealed rw', 'table rw'],
};
/** What every process of the runtime has open. */
const RUNTIME = ['/dev/null', 'anon_inode:[eventfd]', 'anon_inode:[eventpoll]', 'pipe', 'socket'];
const EXTRA: Readonly<Record<string, readonly RegExp[]>> = {
  // the state directory, which is locked
  parent: [/^anon_inode:\[io_uring\]$/, /^anon_inode:inotify$/, /\/state$/],
  control: [],
  scanner: [],
  chunker: [/^\/memfd:plakard plain/, /^\/memfd:plakard reader/],
  crypto: [/^\/memfd:plakard (plain|sealed)/],
  storage: [/^\/memfd:plakard (sealed|table)/, /\/repository\/(packs|index|leases|tmp|log)(\/|$)/],
};

const roleOf = (name: string): string => name.split(' ')[0] ?? '';

describe('the processes of a daemon that has worked', () => {
  let rig: Rig;
  let found: Process[];
  before(async () => {
    rig = new Rig();
    rig.configureUsual();
    plantOrdinary(rig.path('home'));
    await rig.start();
    await rig.ok('create');
    await rig.push();
    await rig.ok('pull', '-to', rig.path('out'), 'latest');
    found = rig.processes();
  });
  after(() => rig.end());

  const proc = (pid: number, file: string): string => `/proc/${pid}/${file}`;
  const pidOf = (name: string): number => rig.process(name).pid;

  test('are those that were declared, and no others', () => {
    assert.deepEqual(found.map(({ name }) => name).sort(), ['parent', ...CHILDREN].sort());
  });

  for (const name of CHILDREN)
    test(`${name}: every thread has its user, no other privilege, and a filter`, () => {
      const pid = pidOf(name);
      const role = roleOf(name) as keyof Rig['users'];
      const id = String(rig.users[role]);
      const threads = fs.readdirSync(proc(pid, 'task'));
      const names = threads.map((thread) => fs.readFileSync(proc(pid, `task/${thread}/comm`), 'latin1'));
      assert.ok(names.includes('libuv-worker\n'), 'the thread pool runs');
      for (const thread of threads) {
        const fields = parseStatus(fs.readFileSync(proc(pid, `task/${thread}/status`), 'latin1'));
        const field = (key: string): string => fields.get(key) ?? 'missing';
        assert.equal(field('Uid'), `${id} ${id} ${id} ${id}`);
        assert.equal(field('Gid'), `${id} ${id} ${id} ${id}`);
        assert.equal(field('Groups'), '');
        const kept = role === 'scanner' && thread === String(pid) ? DAC_READ_SEARCH : NONE;
        assert.deepEqual([field('CapPrm'), field('CapEff')], [kept, kept]);
        assert.deepEqual([field('CapInh'), field('CapAmb')], [NONE, NONE]);
        // each thread has a bounding set of its own, and only the first can exec; but no_new_privs makes it moot
        if (thread === String(pid)) assert.equal(field('CapBnd'), NONE);
        assert.deepEqual([field('NoNewPrivs'), field('Seccomp')], ['1', '2']);
      }
    });

  test('none of them dumps core, can be looked into by its own user, or opens more than its share', () => {
    const limitsOf = (name: string): string => fs.readFileSync(proc(pidOf(name), 'limits'), 'latin1');
    assert.match(limitsOf('parent'), /^Max core file size +0 +0 /m);
    for (const name of CHILDREN) {
      const limits = limitsOf(name);
      assert.match(limits, /^Max core file size +0 +0 /m, name);
      const [, soft, hard] = /^Max open files +(\d+) +(\d+) /m.exec(limits) ?? [];
      assert.ok(soft === hard && Number(hard) <= OPEN_MAX, `${name}: ${soft} of ${hard}`);
      // of a process that is dumpable it belongs to its user
      assert.equal(fs.statSync(proc(pidOf(name), 'environ')).uid, 0, name);
    }
  });

  test('the parent is root, filtered too, and small', () => {
    const fields = parseStatus(fs.readFileSync(proc(rig.pid, 'status'), 'latin1'));
    assert.equal(fields.get('Uid'), '0 0 0 0');
    const sizeKb = (pid: number): number =>
      Number(/^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(proc(pid, 'status'), 'latin1'))?.[1]);
    assert.ok(sizeKb(rig.pid) < PARENT_MAX_KB, `${sizeKb(rig.pid)} kB`);
    for (const { pid, name } of found) assert.ok(sizeKb(pid) < CHILD_MAX_KB, `${name}: ${sizeKb(pid)} kB`);
  });

  test('each has its own root directory, and stands in it', () => {
    const roots: Record<string, string> = { scanner: rig.path('home'), storage: rig.path('repository') };
    for (const name of CHILDREN) {
      const expected = roots[roleOf(name)] ?? '/var/empty';
      assert.equal(fs.readlinkSync(proc(pidOf(name), 'root')), expected, name);
      assert.equal(fs.readlinkSync(proc(pidOf(name), 'cwd')), expected, name);
    }
  });

  test('each has open what it needs, and no file else', () => {
    for (const { name, pid } of found) {
      const role = roleOf(name);
      for (const fd of fs.readdirSync(proc(pid, 'fd'))) {
        // standard output and error of the daemon are what it was started with
        if (role === 'parent' && Number(fd) <= 2) continue;
        const target = fs.readlinkSync(proc(pid, `fd/${fd}`));
        const isExpected =
          RUNTIME.includes(target.replace(/:\[\d+\]$/, '')) ||
          (EXTRA[role] ?? []).some((each) => each.test(target));
        assert.ok(isExpected, `${name} has ${target} open`);
      }
    }
  });

  test('only those who may map plaintext, ciphertext and the table, and write what is theirs to write', () => {
    for (const { name, pid } of found) {
      const mapped = new Set<string>();
      for (const line of fs.readFileSync(proc(pid, 'maps'), 'latin1').split('\n')) {
        const match = /^\S+ (\S)(\S)\S(s) .*?(\/memfd:plakard (\w+)|\S*)/.exec(line);
        const memory = /\/memfd:plakard (\w+)/.exec(line)?.[1];
        if (match === null || memory === undefined) continue;
        mapped.add(`${memory} ${match[1]}${match[2]}`.replace('-', ''));
      }
      const may = MAPPINGS[roleOf(name)] ?? [];
      assert.deepEqual(
        [...mapped].filter((each) => !may.includes(each)),
        [],
        name,
      );
      // a reader's ring goes with its session
      const must = may.filter((each) => !each.startsWith('reader'));
      assert.deepEqual(
        must.filter((each) => !mapped.has(each)),
        [],
        name,
      );
    }
  });

  test('no key and no plaintext is where it has no use', () => {
    const key = fs.readFileSync(rig.keyFile());
    const plaintext = Buffer.from('hello, world\n');
    // the parent wipes the key file when it has handed it on
    for (const name of ['parent', 'control', 'storage local'])
      assert.deepEqual(memoryHolds(pidOf(name), [key, plaintext]), [false, false], name);
    // so the search finds what is there
    assert.deepEqual(memoryHolds(pidOf('chunker local'), [key, plaintext]), [false, true]);
  });

  test('ps shows what each is', () => {
    for (const { pid, name } of found) {
      const shown = execFileSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' });
      assert.equal(shown.trim(), `plakard: ${name}`);
    }
  });
});

/** Whether the writable memory of a process holds each of these. */
function memoryHolds(pid: number, wanted: readonly Buffer[]): boolean[] {
  const found = wanted.map(() => false);
  const overlap = Math.max(...wanted.map((bytes) => bytes.length));
  const fd = fs.openSync(`/proc/${pid}/mem`, 'r');
  try {
    const part = Buffer.alloc(8 << 20);
    for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
      const match = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
      if (match === null) continue;
      const end = Number.parseInt(match[2] ?? '', 16);
      for (let at = Number.parseInt(match[1] ?? '', 16); at < end; at += part.length - overlap) {
        const length = readMemory(fd, part, Math.min(part.length, end - at), at);
        wanted.forEach((bytes, i) => {
          found[i] ||= part.subarray(0, length).includes(bytes);
        });
        if (end - at <= part.length) break;
      }
    }
    return found;
  } finally {
    fs.closeSync(fd);
  }
}

function readMemory(fd: number, part: Buffer, length: number, at: number): number {
  try {
    return fs.readSync(fd, part, 0, length, at);
  } catch {
    // what is mapped but has no page behind it cannot be read
    return 0;
  }
}
