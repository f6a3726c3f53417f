/**
 * plakard, as the checkout has it: a daemon for each repository, up and with
 * the repository unlocked before anything is measured, as it would be; and
 * plakarctl as the client. Nothing is set but where things are and who owns
 * them, unless the tool's name says so. Invariant: no daemon outlives the run.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Failure } from '../../src/error.ts';
import { VERSION } from '../../src/version.ts';
import { type Command, follow, run } from './command.ts';
import type { Store, Tool } from './tool.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const START_MS = 60_000;
const STOP_MS = 30_000;
const POLL_MS = 10;
/** Snapshots that one plakarctl is asked for when many are made. */
const PUSHES_AT_ONCE = 100;
const LOG_TAIL_LINES = 20;

export interface PlakardOptions {
  /** a statement's value, as `zstd 3`; plakard's own default where absent */
  readonly compression?: string;
  /** crypto workers, each pinned to a core of its own; plakard's own choice where absent */
  readonly workers?: number;
}

/** Ids without an entry in passwd, so that nothing has to be installed; the roles as the design groups them. */
const USERS = { control: 52001, scanner: 52001, chunker: 52002, crypto: 52002, storage: 52003 } as const;

function configuration(directory: string, source: string, { compression, workers }: PlakardOptions): string {
  return [
    `set socket "${directory}/socket"`,
    `set state "${directory}/state"`,
    ...Object.entries(USERS).map(([role, id]) => `set user ${role} ${id}`),
    ...(workers === undefined ? [] : [`set cpu ${workers}`]),
    `repository "bench" at "${directory}/repository" {`,
    `        passphrase file "${directory}/passphrase"`,
    ...(compression === undefined ? [] : [`        compression ${compression}`]),
    '}',
    `source "data" { path "${source}" }`,
    '',
  ].join('\n');
}

async function accepts(socket: string): Promise<boolean> {
  const connection = connect(socket);
  try {
    await once(connection, 'connect');
    return true;
  } catch {
    // not there yet, or not listening yet
    return false;
  } finally {
    connection.destroy();
  }
}

class PlakardStore implements Store {
  readonly path: string;
  readonly #directory: string;
  readonly #process: ChildProcess;
  readonly #exit: Promise<unknown[]>;

  constructor(directory: string, source: string, options: PlakardOptions) {
    this.#directory = directory;
    this.path = path.join(directory, 'repository');
    mkdirSync(path.join(directory, 'state'), { mode: 0o700 });
    writeFileSync(path.join(directory, 'passphrase'), `${randomBytes(24).toString('base64')}\n`, {
      mode: 0o600,
    });
    const file = path.join(directory, 'plakard.conf');
    writeFileSync(file, configuration(directory, source, options), { mode: 0o600 });
    const log = openSync(path.join(directory, 'log'), 'w', 0o600);
    this.#process = spawn(path.join(ROOT, 'bin/plakard'), ['-d', '-f', file], {
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    follow(this.#process);
    this.#exit = once(this.#process, 'exit');
  }

  get daemon(): number | undefined {
    return this.#process.pid;
  }

  get #ended(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  #command(...args: string[]): Command {
    return { argv: [path.join(ROOT, 'bin/plakarctl'), '-s', `${this.#directory}/socket`, ...args] };
  }

  /** Resolves when the repository is made, unlocked, and its processes are up. */
  async ready(workers: number | undefined): Promise<void> {
    const deadline = performance.now() + START_MS;
    while (!(await accepts(`${this.#directory}/socket`))) {
      if (this.#ended || performance.now() > deadline)
        throw new Failure('start plakard', this.#directory, { cause: this.#logTail() });
      await delay(POLL_MS);
    }
    run(this.#command('create'));
    run(this.snapshots());
    if (workers !== undefined) this.#pin();
  }

  #logTail(): string {
    const lines = readFileSync(path.join(this.#directory, 'log'), 'utf8').trimEnd().split('\n');
    return lines.slice(-LOG_TAIL_LINES).join('\n');
  }

  /** Gives each crypto worker a core of its own. */
  #pin(): void {
    const [line] = run(this.#command('-j', 'status')).split('\n');
    const { processes } = JSON.parse(line ?? '');
    for (const { role, instance, pid } of processes) {
      if (role !== 'crypto') continue;
      const worker = Number(/\/(\d+)$/.exec(instance)?.[1]);
      run({ argv: ['taskset', '--all-tasks', '--pid', '--cpu-list', `${worker}`, `${pid}`] });
    }
  }

  push(): Command {
    return this.#command('push', 'data');
  }

  pull(to: string): Command {
    return this.#command('pull', '-to', to, 'latest');
  }

  restored(to: string): string {
    return to;
  }

  check(): Command {
    return this.#command('check');
  }

  tree(): Command {
    return this.#command('ls', '-R', 'latest');
  }

  snapshots(): Command {
    return this.#command('ls');
  }

  cat(name: string): Command {
    return this.#command('cat', `latest:/${name}`);
  }

  status(): Command {
    return this.#command('status');
  }

  async multiply(count: number): Promise<void> {
    for (let made = 0; made < count; made += PUSHES_AT_ONCE)
      run(this.#command('push', ...Array(Math.min(PUSHES_AT_ONCE, count - made)).fill('data')));
  }

  async close(): Promise<void> {
    if (this.#ended) throw new Failure('run plakard', this.#directory, { cause: this.#logTail() });
    run(this.#command('stop'));
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_MS);
    const [code, signal] = await this.#exit;
    clearTimeout(timer);
    if (code !== 0)
      throw new Failure('stop plakard', this.#directory, { cause: `${signal ?? `exit code ${code}`}` });
  }
}

export function plakard(name: string, options: PlakardOptions = {}): Tool {
  const settings = Object.entries(options).map(([setting, value]) => `${setting} ${value}`);
  return {
    name,
    about: [`plakard ${VERSION}`, ...settings].join(', '),
    create: async (directory, source) => {
      const store = new PlakardStore(directory, source, options);
      await store.ready(options.workers);
      return store;
    },
  };
}
