/**
 * A real daemon for a test: in a directory of its own, with users that nobody
 * else has, so that its processes can be told from all others. Owns the promise
 * that after `end` no process, no socket and no stray file is left, and asserts it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { forEveryone } from '../installed.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const PLAKARD = path.join(ROOT, 'bin/plakard');
const PLAKARCTL = path.join(ROOT, 'bin/plakarctl');
/** What a step may take on a machine that is busy with other tests. */
const PATIENCE_MS = 60_000;
/** Between looks at /proc, where there is no event. */
const LOOK_MS = 10;
const USERS_PER_RIG = 4;
export const NOBODY = 65534;

let rigs = 0;

/** What a command came to. */
export interface Result {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: Buffer;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly uid?: number;
  readonly cwd?: string;
  /** Standard input is a pipe, and the caller's to write to. */
  readonly input?: true;
}

/** A command that is at work. */
export interface Running {
  readonly process: ChildProcess;
  readonly result: Promise<Result>;
}

/** One of the daemon's processes. */
export interface Process {
  readonly pid: number;
  /** `storage local`, as `ps` shows it behind `plakard: ` */
  readonly name: string;
}

/** Resolves when `isTrue`; for what /proc alone knows. */
export async function until(what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await isTrue())) {
    assert.ok(performance.now() < deadline, `${what}: not within ${PATIENCE_MS} ms`);
    await delay(LOOK_MS);
  }
}

async function finished(process: ChildProcess): Promise<Result> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  process.stdout?.on('data', (bytes: Buffer) => out.push(bytes));
  process.stderr?.on('data', (bytes: Buffer) => err.push(bytes));
  const [code, signal] = await once(process, 'close');
  const all = Buffer.concat(out);
  return { code, signal, out: all, stdout: all.toString(), stderr: Buffer.concat(err).toString() };
}

function readProc(pid: number | string, file: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    // it ended meanwhile
    return '';
  }
}

/** Where a daemon and all of its files are. */
export class Rig {
  readonly top: string;
  readonly users: Readonly<Record<'control' | 'scanner' | 'chunker' | 'crypto' | 'storage', number>>;
  /** lines that the daemon has logged since its start */
  log: string[] = [];
  #daemon: ChildProcess | undefined;
  #ended: Promise<Result> | undefined;
  #heard: (() => void)[] = [];
  readonly #known = new Set(['plakard.conf']);
  /** users whose processes are another rig's too */
  readonly #shared = new Set<string>();

  /** With `owner`, another machine on its repository: the objects in there belong to one user. */
  constructor(owner?: Rig) {
    this.top = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'plakard-'));
    fs.chmodSync(this.top, 0o755);
    const base = 1_000_000_000 + (process.pid % 1_000_000) * 1000 + rigs++ * USERS_PER_RIG;
    const storage = owner?.users.storage ?? base + 2;
    this.users = { control: base, scanner: base, chunker: base + 1, crypto: base + 1, storage };
    for (const rig of owner === undefined ? [] : [owner, this]) rig.#shared.add(String(storage));
  }

  /** A path in the rig's directory; what is made elsewhere in it is stray. */
  path(name: string, ...more: string[]): string {
    this.#known.add(name);
    return path.join(this.top, name, ...more);
  }

  get socket(): string {
    return path.join(this.top, 'plakard.sock');
  }

  /** A key file, which costs nothing to open a repository with. */
  keyFile(name = 'key'): string {
    const file = this.path(name);
    if (!fs.existsSync(file)) fs.writeFileSync(file, randomBytes(32), { mode: 0o600 });
    return file;
  }

  /** Writes the configuration: socket, state and users, and then `statements`. */
  configure(statements: string): void {
    const users = Object.entries(this.users).map(([role, id]) => `set user ${role} ${id}\n`);
    const text = `set socket "${this.socket}" mode 0666
set state "${this.path('state')}"
set cpu 1
${users.join('')}${statements}\n`;
    fs.writeFileSync(path.join(this.top, 'plakard.conf'), text, { mode: 0o600 });
  }

  /** The usual configuration: one repository `local` in `repository`, opened by a key file, and one source `home`. */
  configureUsual(more = ''): void {
    fs.mkdirSync(this.path('home'), { recursive: true });
    this.configure(`repository "local" at "${this.path('repository')}" { key file "${this.keyFile()}" }
source "home" { path "${this.path('home')}" }
${more}`);
  }

  // ---- the daemon

  /** Runs plakard to its end. */
  plakard(args: readonly string[], options: RunOptions = {}): Promise<Result> {
    return finished(this.#spawn(PLAKARD, args, options));
  }

  #spawn(program: string, args: readonly string[], { uid, cwd, input }: RunOptions): ChildProcess {
    const identity = uid === undefined ? {} : { uid, gid: uid };
    return spawn(uid === undefined ? program : forEveryone(program), [...args], {
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      cwd: cwd ?? this.top,
      ...identity,
    });
  }

  /** Starts the daemon and resolves when clients can connect. */
  async start(...args: string[]): Promise<void> {
    assert.equal(this.#daemon, undefined, 'it runs already');
    this.log = [];
    const daemon = this.#spawn(PLAKARD, ['-d', '-f', 'plakard.conf', ...args], {});
    this.#daemon = daemon;
    let rest = '';
    daemon.stderr?.on('data', (bytes: Buffer) => {
      const lines = (rest + bytes).split('\n');
      rest = lines.pop() ?? '';
      this.log.push(...lines);
      for (const heard of this.#heard.splice(0)) heard();
    });
    this.#ended = finished(daemon);
    this.#ended.then(() => {
      this.#daemon = undefined;
      for (const heard of this.#heard.splice(0)) heard();
    });
    await this.logged(/ready on/);
  }

  get pid(): number {
    const pid = this.#daemon?.pid;
    assert.ok(pid !== undefined, `the daemon does not run:\n${this.log.join('\n')}`);
    return pid;
  }

  /** Resolves with the first line of the log that matches, once there is one. */
  async logged(pattern: RegExp, from = 0): Promise<string> {
    const deadline = AbortSignal.timeout(PATIENCE_MS);
    for (;;) {
      const line = this.log.slice(from).find((each) => pattern.test(each));
      if (line !== undefined) return line;
      const state = `no ${pattern} in the log:\n${this.log.join('\n')}`;
      assert.ok(this.#daemon !== undefined && !deadline.aborted, state);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#heard.push(resolve);
      deadline.addEventListener('abort', () => resolve(), { once: true });
      await promise;
    }
  }

  /** Resolves when the daemon has ended, with its result. */
  async ended(): Promise<Result> {
    assert.ok(this.#ended !== undefined, 'it was not started');
    return this.#ended;
  }

  /** Stops the daemon as rc(8) does; it must go in good order. */
  async stop(): Promise<void> {
    const { pid } = this;
    process.kill(pid, 'SIGTERM');
    const { code, signal } = await this.ended();
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, this.log.join('\n'));
    this.assertGone();
  }

  /** The daemon's processes, parent first; those that run as its users, whoever their parent is. */
  processes(): Process[] {
    const parent = this.#daemon?.pid;
    const ids = new Set(Object.values(this.users).map(String));
    const found: Process[] = [];
    for (const entry of fs.readdirSync('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      const status = readProc(entry, 'status');
      if (/^State:\t[ZX]/m.test(status)) continue;
      const uid = /^Uid:\t(\d+)/m.exec(status)?.[1] ?? '';
      const ppid = Number(/^PPid:\t(\d+)/m.exec(status)?.[1] ?? -1);
      const isOurs = ids.has(uid) && !this.#shared.has(uid);
      if (!isOurs && ppid !== parent && Number(entry) !== parent) continue;
      const title = (readProc(entry, 'cmdline').split('\0')[0] ?? '').trim();
      found.push({ pid: Number(entry), name: title.replace(/^plakard: /, '') });
    }
    return found.sort((a, b) => Number(b.pid === parent) - Number(a.pid === parent) || a.pid - b.pid);
  }

  process(name: string): Process {
    const found = this.processes().find((each) => each.name === name);
    assert.ok(found !== undefined, `${name} does not run`);
    return found;
  }

  // ---- clients

  /** Starts plakarctl. */
  client(args: readonly string[], options: RunOptions = {}): Running {
    const child = this.#spawn(PLAKARCTL, ['-s', this.socket, ...args], options);
    return { process: child, result: finished(child) };
  }

  /** Runs plakarctl to its end. */
  ctl(...args: string[]): Promise<Result> {
    return this.client(args).result;
  }

  /** Runs plakarctl, which must succeed and have nothing to complain of; returns what it printed. */
  async ok(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.ctl(...args);
    assert.equal(code, 0, `plakarctl ${args.join(' ')}: ${stderr}\n${this.log.join('\n')}`);
    return stdout;
  }

  /** Pushes a source and returns the snapshot's id. */
  async push(source = 'home', ...options: string[]): Promise<string> {
    return (await this.ok('-q', ...options, 'push', source)).trim();
  }

  /** Runs plakarctl -j, which must succeed; the events. */
  async json(...args: string[]): Promise<Record<string, unknown>[]> {
    return events(await this.ok('-j', ...args));
  }

  /** What is at work, as `status` tells it. */
  async jobs(): Promise<unknown[]> {
    const [status] = await this.json('status');
    assert.ok(Array.isArray(status?.jobs));
    return status.jobs;
  }

  // ---- the end

  /** Asserts that no process and no socket is left. */
  assertGone(): void {
    assert.deepEqual(this.processes(), []);
    assert.equal(fs.existsSync(this.socket), false, 'the socket is left');
  }

  /** Ends the daemon, whatever state it is in, asserts that nothing is left, and removes everything. */
  async end(): Promise<void> {
    try {
      if (this.#daemon !== undefined) await this.stop();
      this.assertGone();
      const stray = fs.readdirSync(this.top).filter((name) => !this.#known.has(name));
      assert.deepEqual(stray, [], 'stray files');
      assert.deepEqual(fs.readdirSync('/var/empty'), []);
    } finally {
      for (const { pid } of this.processes()) process.kill(pid, 'SIGKILL');
      fs.rmSync(this.top, { recursive: true, force: true });
    }
  }
}

/** The objects of plakarctl -j; every line must be one. */
export function events(text: string): Record<string, unknown>[] {
  assert.ok(text === '' || text.endsWith('\n'));
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const event: unknown = JSON.parse(line);
      assert.ok(typeof event === 'object' && event !== null && 'event' in event, line);
      return event as Record<string, unknown>;
    });
}

/** The one line that a failed command printed. */
export function oneLine(result: Result, code: number): string {
  assert.equal(result.code, code, result.stderr);
  assert.match(result.stderr, /^[^\n]+\n$/);
  return result.stderr.trimEnd();
}
