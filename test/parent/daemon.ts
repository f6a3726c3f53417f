/**
 * A whole daemon for the tests here: on a directory, a socket, users and a
 * configuration of its own, with what it logs at hand, and plakarctl to talk to it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseStatus } from '../../src/privsep/threads.ts';
import type { ParentOptions } from '../../src/processes/parent.ts';
import { RUNTIME_FLAGS } from '../installed.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const PLAKARCTL = path.join(ROOT, 'src/plakarctl.ts');
const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));
export const USERS = { control: 61001, scanner: 61001, chunker: 61002, crypto: 61002, storage: 61003 };

/** What a command came to. */
interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running plakarctl. */
interface Command {
  readonly process: ChildProcess;
  readonly done: Promise<Outcome>;
}

interface Status {
  readonly processes: readonly { readonly role: string; readonly instance: string; readonly pid: number }[];
  readonly [field: string]: unknown;
}

/** When a process that is not yet dead was started, in ticks since boot. With its number that names it: numbers come again, for threads too. */
export function startOf(pid: number | 'self'): string | undefined {
  try {
    const { State = '', Tgid, Pid } = Object.fromEntries(parseStatus(read(pid, 'status')));
    if (Tgid !== Pid || /^[ZX]/.test(State)) return undefined;
    // pid (comm) state ppid …: the 22nd
    return read(pid, 'stat')
      .replace(/^.*\) /s, '')
      .split(' ')[19];
  } catch {
    return undefined;
  }
}

function read(pid: number | 'self', file: string): string {
  return fs.readFileSync(`/proc/${pid}/${file}`, 'latin1');
}

/** Whether a process exists that is not yet dead. */
export function lives(pid: number): boolean {
  return startOf(pid) !== undefined;
}

/** Has a stopped process go on, unless it has ended: it may between being looked at and being sent the signal. */
export function wake(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export class Daemon {
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  readonly lines: string[] = [];
  /** variables beside our own */
  readonly environment: Record<string, string> = {};
  #listeners: (() => void)[] = [];
  #process: ChildProcess | undefined;
  #exit: Promise<unknown[]> = Promise.resolve([]);
  readonly #timeouts: ParentOptions['timeouts'];

  constructor(timeouts: ParentOptions['timeouts'] = {}) {
    this.#timeouts = timeouts;
    fs.chmodSync(this.directory, 0o755);
    fs.mkdirSync(this.path('source'));
    fs.writeFileSync(this.path('source/file'), 'contents');
    // which costs nothing to open the repository with, as often as it is started
    fs.writeFileSync(this.path('key'), randomBytes(32), { mode: 0o600 });
    this.configure();
  }

  path(name: string): string {
    return path.join(this.directory, name);
  }

  /** Writes the configuration; `more` comes after what every one has, `inSource` into the source "home". */
  configure(more = '', inSource = ''): void {
    const users = Object.entries(USERS).map(([role, id]) => `set user ${role} ${id}`);
    const text = [
      `set socket "${this.path('socket')}" mode 0666`,
      `set state "${this.path('state')}"`,
      'set cpu 1',
      ...users,
      `repository "local" at "${this.path('repository')}" {`,
      `  key file "${this.path('key')}"`,
      '}',
      'source "home" {',
      `  path "${this.path('source')}"`,
      inSource,
      '}',
      more,
    ];
    this.write(`${text.join('\n')}\n`);
  }

  /** Replaces the configuration file, as an editor does. */
  write(text: string): void {
    const next = this.path('plakard.conf.new');
    fs.writeFileSync(next, text, { mode: 0o600 });
    fs.renameSync(next, this.path('plakard.conf'));
  }

  /** Starts it; resolves when clients can connect. */
  async start(...args: string[]): Promise<void> {
    const daemon = spawn(
      process.execPath,
      [
        ...RUNTIME_FLAGS,
        MAIN,
        JSON.stringify(this.#timeouts),
        '-d',
        '-f',
        this.path('plakard.conf'),
        ...args,
      ],
      { stdio: ['ignore', 'inherit', 'pipe'], env: { ...process.env, ...this.environment } },
    );
    this.#process = daemon;
    this.#exit = once(daemon, 'exit');
    assert.ok(daemon.stderr);
    createInterface(daemon.stderr).on('line', (line) => {
      this.lines.push(line);
      for (const listener of this.#listeners) listener();
    });
    await this.logged(/ready on/, this.lines.length);
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  kill(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  /** Resolves with the first line from `from` on that matches. */
  async logged(pattern: RegExp, from = 0): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const look = (): void => {
      const found = this.lines.slice(from).find((line) => pattern.test(line));
      if (found !== undefined) resolve(found);
    };
    this.#listeners.push(look);
    this.#exit.then(([code]) =>
      reject(new Error(`ended with ${code}, without ${pattern}:\n${this.lines.join('\n')}`)),
    );
    look();
    try {
      return await promise;
    } finally {
      this.#listeners = this.#listeners.filter((listener) => listener !== look);
    }
  }

  /** Begins a command of plakarctl. */
  begin(...args: string[]): Command {
    const command = spawn(
      process.execPath,
      [...RUNTIME_FLAGS, PLAKARCTL, '-s', this.path('socket'), ...args],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      command[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
      });
    const done = once(command, 'close').then(([code]) => ({ code: code as number | null, ...output }));
    return { process: command, done };
  }

  /** Runs a command of plakarctl. */
  run(...args: string[]): Promise<Outcome> {
    return this.begin(...args).done;
  }

  /** Runs one that must succeed, and returns what it printed. */
  async ok(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...args);
    assert.equal(code, 0, `${args.join(' ')}: ${stderr}\n${this.lines.join('\n')}`);
    return stdout;
  }

  async status(): Promise<Status> {
    return JSON.parse(await this.ok('-j', 'status'));
  }

  /** The process id of a child: `storage local`. */
  async child(name: string): Promise<number> {
    const { processes } = await this.status();
    const found = processes.find(({ role, instance }) => `${role} ${instance}`.trim() === name);
    assert.ok(found, `${name} does not run`);
    return found.pid;
  }

  /** All its processes. */
  async pids(): Promise<number[]> {
    return (await this.status()).processes.map(({ pid }) => pid);
  }

  /** Resolves with its exit code or signal. */
  async ended(): Promise<unknown> {
    const [code, signal] = await this.#exit;
    return code ?? signal;
  }

  /** Stops it, and removes everything. */
  async clear(): Promise<void> {
    this.#process?.kill('SIGTERM');
    await this.#exit;
    fs.rmSync(this.directory, { recursive: true });
  }
}

/** Writes a file that takes a push a while: random bytes, which do not compress. */
export function writeLarge(file: string, megabytes: number): void {
  const fd = fs.openSync(file, 'w');
  for (let i = 0; i < megabytes; i++) fs.writeSync(fd, randomBytes(1 << 20));
  fs.closeSync(fd);
}

/** Begins a push that does not end by itself: `held` is stopped. Resolves when it is at work. */
export async function holdPush(daemon: Daemon, held: number): Promise<Command> {
  process.kill(held, 'SIGSTOP');
  const push = daemon.begin('push', 'home');
  let isOver = false;
  void push.done.then(() => {
    isOver = true;
  });
  for (;;) {
    assert.ok(!isOver, 'the push ended by itself');
    const jobs = (await daemon.status()).jobs as { operation: string }[];
    if (jobs.some(({ operation }) => operation === 'push')) return push;
  }
}
