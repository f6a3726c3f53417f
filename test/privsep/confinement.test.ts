/** What the kernel says about running children, and what it lets them do. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type CallName, callNumber } from '../../src/privsep/calls.ts';
import { parseStatus } from '../../src/privsep/threads.ts';
import { type Family, family, NAMES, POOL_THREADS, USERS } from './family.ts';

const EPERM = -1;
const ENOSYS = -38;
const DAC_READ_SEARCH = '0000000000000004';
const NOTHING = '0000000000000000';
const IDS: Readonly<Record<string, { uid: number; gid: number }>> = {
  control: { uid: USERS.plakard, gid: USERS.plakard },
  scanner: { uid: USERS.plakard, gid: USERS.plakard },
  chunker: { uid: USERS.plakarc, gid: USERS.plakarc },
  crypto: { uid: USERS.plakarc, gid: USERS.plakarc },
  storage: USERS.plakarq,
};
const ROOTS: Readonly<Record<string, string>> = { scanner: 'source', storage: 'repository' };

function call(name: CallName): number {
  const number = callNumber(name);
  assert(number !== undefined, name);
  return number;
}

describe('children that run', () => {
  let made: Family;
  before(async () => {
    made = family();
    await made.start(NAMES);
    // so that every thread there will ever be exists
    await Promise.all(NAMES.map((name) => made.ask(name, 'work')));
  });
  after(() => made.shutdown());

  const of = (name: string, file: string): string => `/proc/${made.pid(name)}/${file}`;
  const role = (name: string): string => name.split(' ')[0] ?? '';

  for (const name of NAMES) {
    test(`${name}: every thread has given up root`, () => {
      const threads = fs.readdirSync(of(name, 'task'));
      assert(threads.length > 4, 'the thread pool runs');
      for (const thread of threads) {
        const fields = parseStatus(fs.readFileSync(of(name, `task/${thread}/status`), 'latin1'));
        const ids = IDS[role(name)];
        assert.equal(fields.get('Uid'), Array(4).fill(ids?.uid).join(' '));
        assert.equal(fields.get('Gid'), Array(4).fill(ids?.gid).join(' '));
        assert.equal(fields.get('Groups'), '');
        const kept = role(name) === 'scanner' && fields.get('Tgid') === thread ? DAC_READ_SEARCH : NOTHING;
        assert.equal(fields.get('CapPrm'), kept);
        assert.equal(fields.get('CapEff'), kept);
        assert.equal(fields.get('CapInh'), NOTHING);
        assert.equal(fields.get('CapAmb'), NOTHING);
        assert.equal(fields.get('NoNewPrivs'), '1');
        assert.equal(fields.get('Seccomp'), '2');
      }
    });

    test(`${name}: its root directory is the declared one`, () => {
      assert.equal(fs.readlinkSync(of(name, 'root')), made.path(ROOTS[role(name)] ?? 'empty'));
      assert.equal(fs.readlinkSync(of(name, 'cwd')), made.path(ROOTS[role(name)] ?? 'empty'));
    });

    test(`${name}: holds its channels and what the runtime needs`, () => {
      const targets = fs.readdirSync(of(name, 'fd')).map((fd) => fs.readlinkSync(of(name, `fd/${fd}`)));
      const kinds = new Map<string, number>();
      for (const target of targets) {
        const kind = target.replace(/:\[\d+\]$/, '');
        kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      }
      const peers: Record<string, number> = { chunker: 3, crypto: 2, storage: 3 };
      // standard output and error, the parent, and the peers; two each
      assert.equal(kinds.get('socket'), 4 + 2 * (peers[role(name)] ?? 0));
      kinds.delete('socket');
      const allowed = ['/dev/null', 'anon_inode:[eventfd]', 'anon_inode:[eventpoll]', 'pipe'];
      assert.deepEqual(
        [...kinds.keys()].filter((kind) => !allowed.includes(kind)),
        [],
      );
    });

    test(`${name}: ps shows its title`, () => {
      const shown = execFileSync('ps', ['-o', 'args=', '-p', String(made.pid(name))], { encoding: 'utf8' });
      assert.equal(shown.trim(), `plakard: ${name}`);
    });

    test(`${name}: has limits, no terminal and a clean environment`, () => {
      assert.match(fs.readFileSync(of(name, 'limits'), 'latin1'), /^Max core file size +0 +0 /m);
      // pid (comm) state ppid pgrp session tty
      const fields = fs
        .readFileSync(of(name, 'stat'), 'latin1')
        .replace(/^.*\) /, '')
        .split(' ');
      assert.equal(fields[3], String(made.pid(name)));
      assert.equal(fields[4], '0');
      const names = fs
        .readFileSync(of(name, 'environ'), 'latin1')
        .split('\0')
        .map((each) => each.replace(/=.*/s, ''));
      const allowed = ['', 'NODE_COMPILE_CACHE', 'UV_THREADPOOL_SIZE', 'TZ', 'LANG', 'LC_ALL'];
      assert.deepEqual(
        names.filter((each) => !allowed.includes(each)),
        [],
      );
    });

    test(`${name}: its pool has as many threads as it is declared to have`, () => {
      const tasks = of(name, 'task');
      const names = fs
        .readdirSync(tasks)
        .map((id) => fs.readFileSync(`${tasks}/${id}/comm`, 'latin1').trim());
      const libuvs = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
      assert.equal(
        names.filter((each) => each === 'libuv-worker').length,
        role(name) === 'crypto' ? POOL_THREADS : libuvs,
      );
    });

    test(`${name}: root cannot be regained, on main thread or pool`, async () => {
      for (const way of ['setuid', 'setresuid', 'setgid'] as const) {
        const number = { setuid: 105, setresuid: 117, setgid: 106 }[way];
        const arm = { setuid: 146, setresuid: 147, setgid: 144 }[way];
        const numbers = [process.arch === 'x64' ? number : arm, 0, 0, 0];
        assert.equal(await made.ask(name, 'call', '', numbers), EPERM, way);
        assert.equal(await made.ask(name, 'call on pool', '', numbers), EPERM, way);
      }
      assert.equal(await made.ask(name, 'setuid on pool'), EPERM);
      const { uid, gid } = IDS[role(name)] ?? { uid: 0, gid: 0 };
      assert.equal(await made.ask(name, 'ids'), `${uid}:${gid}`);
    });

    test(`${name}: makes no sockets, connections or processes`, async () => {
      for (const how of ['call', 'call on pool']) {
        assert.equal(await made.ask(name, how, '', [call('socket'), 1, 1, 0]), EPERM);
        assert.equal(await made.ask(name, how, '', [call('socket'), 2, 1, 0]), EPERM);
        assert.equal(await made.ask(name, how, '', [call('connect'), 3, 0, 0]), EPERM);
        // a datagram pair could send to any address
        assert.equal(await made.ask(name, how, '', [call('socketpair'), 1, 2, 0, 0]), EPERM);
        // SIGCHLD alone: a process
        assert.equal(await made.ask(name, how, '', [call('clone'), 17, 0, 0, 0, 0]), EPERM);
      }
      assert.equal(await made.ask(name, 'call', '', [call('clone3'), 0, 0]), ENOSYS);
      assert.equal(await made.ask(name, 'call', '', [call('io_uring_setup'), 8, 0]), ENOSYS);
      assert.equal(await made.ask(name, 'call', '', [call('io_uring_enter'), 3, 1, 0, 0]), ENOSYS);
      assert.equal(await made.ask(name, 'call', '', [call('openat2'), -100, 0, 0, 0]), ENOSYS);
      // a call that no kernel has yet
      assert.equal(await made.ask(name, 'call', '', [9999]), ENOSYS);
      assert.match(String(await made.ask(name, 'spawn')), /EPERM/);
    });

    test(`${name}: signals nobody else`, async () => {
      assert.equal(await made.ask(name, 'call', '', [call('kill'), made.pid(name) ?? 0, 0]), '');
      for (const other of NAMES.filter((each) => each !== name))
        assert.equal(await made.ask(name, 'call', '', [call('kill'), made.pid(other) ?? 0, 0]), EPERM);
      assert.equal(await made.ask(name, 'call', '', [call('kill'), -1, 0]), EPERM);
    });
  }

  test('workers and control open no files', async () => {
    for (const name of ['chunker local', 'crypto local/1', 'control']) {
      assert.equal(await made.ask(name, 'read', '/etc/passwd'), 'EPERM');
      assert.equal(await made.ask(name, 'read on pool', '/etc/passwd'), 'EPERM');
      assert.equal(await made.ask(name, 'list', '/'), 'EPERM');
      assert.equal(await made.ask(name, 'write', '/new'), 'EPERM');
    }
  });

  test('the scanner reads all of its source, and writes nothing', async () => {
    assert.equal(await made.ask('scanner home', 'read', '/secret'), 'root only');
    assert.equal(await made.ask('scanner home', 'list', '/'), 'secret');
    // the pool's threads are older than the capability, and have none
    assert.equal(await made.ask('scanner home', 'read on pool', '/secret'), 'EACCES');
    assert.equal(await made.ask('scanner home', 'read', '/etc/passwd'), 'ENOENT');
    assert.equal(await made.ask('scanner home', 'write', '/new'), 'EPERM');
    assert.equal(await made.ask('scanner home', 'write', '/secret'), 'EPERM');
  });

  test('storage reads and writes its repository, and nothing else', async () => {
    assert.equal(await made.ask('storage local', 'list', '/'), 'pack');
    assert.equal(await made.ask('storage local', 'read', '/pack'), 'sealed');
    assert.equal(await made.ask('storage local', 'read', '../../etc/passwd'), 'ENOENT');
    assert.equal(await made.ask('storage local', 'write', '/pack 2'), 'written');
    assert.equal(fs.readFileSync(made.path('repository/pack 2'), 'utf8'), 'written');
  });

  test('settings arrive as declared', async () => {
    const settings = JSON.stringify({ repository: 'local', sizes: [1, 2 ** 40] });
    assert.equal(await made.ask('storage local', 'settings'), settings);
    assert.equal(await made.ask('control', 'settings'), 'undefined');
  });

  test('who starts at once has a runtime that does not collect meanwhile', async () => {
    const option = /--external-memory-accounted-in-global-limit/;
    assert.match(String(await made.ask('scanner home', 'options')), option);
    assert.doesNotMatch(String(await made.ask('storage local', 'options')), option);
  });
});

test('forbidden system calls kill, on main thread and pool', async () => {
  const made = family();
  made.on('death', () => undefined);
  const killers: CallName[] = ['execve', 'ptrace', 'mount', 'bpf', 'keyctl', 'open_by_handle_at', 'unshare'];
  const names = ['scanner home', 'crypto local/1'];
  for (const [i, name] of killers.entries()) {
    const victim = names[i % 2] ?? '';
    await made.start([victim]);
    const how = i % 3 === 0 ? 'call on pool' : 'call';
    const ended = new Promise((resolve) => made.once('exit', resolve));
    await assert.rejects(made.ask(victim, how, '', [call(name), 0, 0, 0, 0, 0]));
    const exit = (await ended) as { signal: string; name: string };
    assert.deepEqual([exit.signal, exit.name], ['SIGSYS', victim], name);
  }
  await made.shutdown();
});

test('what was left open and inheritable does not reach a child', async () => {
  // the shell leaves descriptor 9 open to the parent, which starts a child without knowing of it
  const file = fileURLToPath(new URL('leak.ts', import.meta.url));
  const script = `exec 9</etc/hostname; exec "$0" "$1"`;
  const shown = execFileSync('bash', ['-c', script, process.execPath, file], { encoding: 'utf8' });
  assert.deepEqual(JSON.parse(shown), { parent: true, child: false });
});
