/**
 * A real daemon of which one child at a time is taken over, and what the tests
 * here look at: who was sent which bytes, which files the parent touched (as
 * strace saw it), and whether a push works when it is over.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Channel } from '../../src/ipc/channel.ts';
import { connect } from '../../src/ipc/connect.ts';
import type { MessageType } from '../../src/ipc/message.ts';
import {
  CREATE,
  CREATED,
  PROBLEM,
  PROGRESS,
  PUSH,
  PUSHED,
  STATUS,
  STATUS_IS,
} from '../../src/messages/client.ts';
import { RUNTIME_FLAGS } from '../installed.ts';
import { startOf } from '../parent/daemon.ts';
import { entriesOf, type Life } from './taken.ts';
import type { Outcomes, tryMemory } from './walls.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const MAIN = path.join(import.meta.dirname, 'main.ts');
const CHILDREN = path.join(import.meta.dirname, 'taken.ts');
const USERS = { control: 61001, scanner: 61001, chunker: 61002, crypto: 61002, storage: 61003 };
const PATIENCE_MS = 120_000;
const CONNECT_MS = 5000;
/** Calls that name a file, and those that run one. */
const TRACED = '%file,execve,execveat,open_by_handle_at';
export const ROLES = ['control', 'scanner', 'chunker', 'crypto', 'storage', 'keys'] as const;

/** Where the parent may look besides what is configured: the runtime, the libraries, accounts, time zone, and /proc. */
const SYSTEM = [
  ...[
    '/usr/',
    '/lib',
    '/proc/self/',
    '/proc/sys/',
    '/proc/meminfo',
    '/proc/version',
    '/sys/',
    '/dev/',
    '/var/empty',
  ],
  ...[
    '/etc/passwd',
    '/etc/group',
    '/etc/ld.so.',
    '/etc/localtime',
    '/etc/ssl/',
    '/etc/timezone',
    '/proc/stat',
  ],
];

function within(promise: Promise<unknown>, what: () => string): Promise<unknown> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(what())), PATIENCE_MS);
  return Promise.race([promise, late.promise]).finally(() => clearTimeout(timer));
}

export class TakenRig {
  readonly top = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'plakard-'));
  readonly log: string[] = [];
  #heard: (() => void)[] = [];
  #daemon: ChildProcess | undefined;
  #ended: Promise<unknown[]> = Promise.resolve([]);
  pid = 0;

  path(...names: string[]): string {
    return path.join(this.top, ...names);
  }

  /** Starts the daemon under strace, makes the repository and a first snapshot. */
  async start(): Promise<void> {
    fs.chmodSync(this.top, 0o755);
    fs.mkdirSync(this.path('source'));
    fs.mkdirSync(this.path('records'));
    fs.mkdirSync(this.path('etc'));
    for (let i = 0; i < 20; i++) fs.writeFileSync(this.path('source', `file ${i}`), randomBytes(1000));
    fs.writeFileSync(this.path('canary'), 'nobody asked for this');
    fs.writeFileSync(this.path('key'), randomBytes(32), { mode: 0o600 });
    fs.writeFileSync(
      this.path('children.ts'),
      `import { runTaken } from '${CHILDREN}';\nawait runTaken('${this.path('records')}');\n`,
    );
    fs.writeFileSync(this.path('etc', 'plakard.conf'), this.#configuration(), { mode: 0o600 });
    this.#setPlan([]);
    const traced = [
      '-D',
      '-f',
      '-qq',
      '-y',
      '--seccomp-bpf',
      '-e',
      `trace=${TRACED}`,
      '-e',
      'signal=none',
      '-o',
      this.path('trace'),
    ];
    const argv = [
      ...traced,
      process.execPath,
      ...RUNTIME_FLAGS,
      MAIN,
      this.path('children.ts'),
      '-d',
      '-f',
      this.path('etc', 'plakard.conf'),
    ];
    const daemon = spawn('strace', argv, {
      stdio: ['ignore', 'inherit', 'pipe'],
    });
    this.#daemon = daemon;
    this.#ended = once(daemon, 'exit');
    assert.ok(daemon.stderr);
    createInterface(daemon.stderr).on('line', (line) => {
      this.log.push(line);
      for (const heard of this.#heard.splice(0)) heard();
    });
    await this.#until('ready', () => this.log.some((line) => /ready on/.test(line)));
    await this.#ask(CREATE, { repository: undefined, noEncryption: undefined }, CREATED);
    await this.push();
    this.pid = (await this.#ask(STATUS, {}, STATUS_IS)).pid;
    assert.equal(this.pid, daemon.pid);
  }

  #configuration(): string {
    const users = Object.entries(USERS).map(([role, id]) => `set user ${role} ${id}`);
    return [
      `set socket "${this.path('socket')}"`,
      `set state "${this.path('state')}"`,
      'set cpu 1',
      ...users,
      `repository "local" at "${this.path('repository')}" { key file "${this.path('key')}" }`,
      `source "home" { path "${this.path('source')}" }`,
      '',
    ].join('\n');
  }

  #setPlan(lives: readonly Life[]): void {
    fs.writeFileSync(this.path('records', 'plan.json.new'), JSON.stringify(lives));
    fs.renameSync(this.path('records', 'plan.json.new'), this.path('records', 'plan.json'));
  }

  #plan(): Life[] {
    return JSON.parse(fs.readFileSync(this.path('records', 'plan.json'), 'utf8')) as Life[];
  }

  /** Resolves once it holds, looked at after each line of the log. */
  async #until(what: string, holds: () => boolean): Promise<void> {
    const state = (): string => `${what}: not yet, of:\n${this.log.slice(-200).join('\n')}`;
    while (!holds()) {
      const line = new Promise<void>((resolve) => this.#heard.push(resolve));
      const over = this.#ended.then(() => {
        throw new Error(`the daemon ended: ${state()}`);
      });
      await within(Promise.race([line, over]), state);
    }
  }

  async #ask<T, R>(type: MessageType<T>, payload: T, reply: MessageType<R>, timeoutMs = 20_000): Promise<R> {
    const channel = new Channel(connect(this.path('socket'), CONNECT_MS), { name: 'plakard' });
    for (const told of [PROGRESS, PROBLEM]) channel.handler<unknown>(told, () => undefined);
    channel.dispatch().catch(() => undefined);
    try {
      return (await channel.query(type, payload, reply, { timeoutMs })).payload;
    } finally {
      channel.close();
    }
  }

  /** A push that must succeed; the snapshot. */
  async push(): Promise<string> {
    const payload = { repository: undefined, source: 'home', tags: [] };
    return (await this.#ask(PUSH, payload, PUSHED, PATIENCE_MS)).snapshot;
  }

  /** Kills a child that runs, so that it starts again. */
  async #kill(role: string): Promise<void> {
    const { processes } = await this.#ask(STATUS, {}, STATUS_IS);
    const found = processes.find((each) => each.role === role);
    if (found !== undefined) process.kill(found.pid, 'SIGKILL');
  }

  /** Takes over one life after another, and has work done meanwhile, of which some fails; then a push must work. */
  async takeOver(planned: readonly Life[]): Promise<void> {
    this.#setPlan(planned);
    for (let left = this.#plan(); left.length > 0; ) {
      const { role = '' } = left[0] ?? {};
      // whoever opens slots is started with the repository's processes
      await this.#kill(role === 'keys' ? 'storage' : role).catch(() => undefined);
      await this.push().catch(() => undefined);
      for (let now = this.#plan(); ; now = this.#plan()) {
        const taken = now.length < left.length;
        left = now;
        if (!taken) break;
        await this.push().catch(() => undefined);
      }
    }
    while (ROLES.some((role) => this.#isTaken(role))) await this.push().catch(() => undefined);
    await this.goesOn();
  }

  /** Whether one of the processes of a role that were taken over is still there. */
  #isTaken(role: string): boolean {
    return this.notes(role).some((note) => {
      const [, pid, started] = /^began (\d+) at (\d+),/.exec(note) ?? [];
      return pid !== undefined && startOf(Number(pid)) === started;
    });
  }

  /** What attackers of a role noted about themselves. */
  notes(role: string): string[] {
    return this.#entries(role, 'note').map(String);
  }

  /** What the kernel refused the first process of a role. */
  walls(role: string): Outcomes {
    return JSON.parse(String(this.#entries(role, 'walls')[0] ?? '{}'));
  }

  /** What came of changing each memory that a role was given. */
  memories(role: string): ReturnType<typeof tryMemory>[] {
    return this.#entries(role, 'memory').flatMap((each) => JSON.parse(String(each)));
  }

  #entries(role: string, entry: string): Buffer[] {
    const file = this.path('records', `${role}.record`);
    if (!fs.existsSync(file)) return [];
    return [...entriesOf(fs.readFileSync(file))]
      .filter((each) => each.entry === entry)
      .map(({ bytes }) => bytes);
  }

  /** The parent is the same, no larger than it may be, and the daemon does its work, at the latest once what died is back. */
  async goesOn(): Promise<void> {
    const failed: unknown[] = [];
    for (let i = 0; i < 10; i++) {
      try {
        await this.push();
        break;
      } catch (error) {
        failed.push(error);
      }
    }
    assert.ok(failed.length < 10, `no push works:\n${failed.join('\n')}\n${this.log.slice(-100).join('\n')}`);
    assert.equal((await this.#ask(STATUS, {}, STATUS_IS)).pid, this.pid);
    const rss = /^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${this.pid}/status`, 'latin1'))?.[1];
    assert.ok(Number(rss) < 300 << 10, `the parent has ${rss} kB`);
  }

  /** Asserts that no role was ever sent a key that belongs to another, nor the credential. */
  assertKeysKept(): void {
    const keys = new Map<string, Buffer[]>();
    for (const role of ['chunker', 'crypto']) keys.set(role, this.#entries(role, 'key'));
    assert.ok(
      (keys.get('chunker') ?? []).length >= 2 && (keys.get('crypto') ?? []).length >= 4,
      'keys were recorded',
    );
    const credential = fs.readFileSync(this.path('key'));
    for (const role of ROLES) {
      const sent = Buffer.concat(this.#entries(role, 'bytes'));
      assert.ok(sent.length > 0, `${role} was recorded`);
      if (role !== 'keys') assert.equal(sent.includes(credential), false, `${role} was sent the credential`);
      for (const [owner, owned] of keys)
        if (owner !== role)
          for (const key of owned)
            assert.equal(sent.includes(key), false, `${role} was sent a key of ${owner}`);
      // so the search finds what is there
      const own = keys.get(role)?.[0];
      if (own !== undefined) assert.ok(sent.includes(own));
    }
    assert.ok(Buffer.concat(this.#entries('keys', 'bytes')).includes(credential));
  }

  /** Paths that threads of the parent named in a system call. */
  #touched(): Set<string> {
    const threads = new Set([String(this.pid)]);
    const touched = new Set<string>();
    const lines = fs.readFileSync(this.path('trace'), 'latin1').split('\n');
    for (const thread of fs.readdirSync(`/proc/${this.pid}/task`)) threads.add(thread);
    for (const line of lines) {
      const match = /^(\d+)\s+\w+\((.*)/.exec(line);
      if (match === null || !threads.has(match[1] ?? '')) continue;
      const below = /^\w+<([^>]*)>/.exec(match[2] ?? '')?.[1] ?? '';
      for (const [, name = ''] of (match[2] ?? '').matchAll(/"((?:[^"\\]|\\.)*)"/g)) {
        // without a name it is a descriptor that was opened before
        if (name !== '') touched.add(below.startsWith('/') ? path.resolve(below, name) : name);
        // the rest of the line is not about names
        if (/^\d+\s+(?:execve)/.test(line)) break;
      }
    }
    return touched;
  }

  /** Asserts that the parent touched nothing but what is configured, the program and the system's own. */
  assertPathsKept(): void {
    const state = this.path('state');
    const allowed = [...SYSTEM, `${ROOT}/`, `${path.dirname(process.execPath)}/`, state];
    const exact = [
      'etc',
      'etc/plakard.conf',
      'key',
      'socket',
      'source',
      'children.ts',
      'repository',
      'repository/config',
    ];
    const system = ['/', '/etc', '/proc', '/usr', '/etc/alpine-release'];
    const named = new Set([...system, ...exact.map((name) => this.path(name))]);
    const isAbove = (name: string): boolean =>
      [`${ROOT}/`, `${this.top}/`].some((each) => each.startsWith(`${name}/`));
    const touched = this.#touched();
    assert.ok(touched.has(this.path('repository', 'config')), 'the trace has what the parent does');
    const strange = [...touched].filter(
      (name) =>
        !named.has(name) &&
        !isAbove(name) &&
        !allowed.some((start) => name.startsWith(start)) &&
        // where the runtime looks for packages
        !/\/\.?node_(modules|libraries)$/.test(name),
    );
    assert.deepEqual(strange, []);
  }

  /** Stops it in good order, and removes everything. */
  async end(): Promise<void> {
    if (this.#daemon?.exitCode === null && this.pid !== 0) process.kill(this.pid, 'SIGTERM');
    else this.#daemon?.kill('SIGKILL');
    const [code] = await this.#ended;
    fs.rmSync(this.top, { recursive: true, force: true });
    assert.equal(code, 0, this.log.slice(-50).join('\n'));
  }
}
