/**
 * The quick start, `npm start [-- DIRECTORY]`: brings the daemon up on a
 * configuration of its own, snapshots a real directory, restores it, compares,
 * and stops what it started. It shows every command as one would type it, and
 * what it leaves behind in ./quickstart can be gone on with by hand.
 *
 * Invariant: nothing outside ./quickstart is written, and no process that it
 * started outlives it.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, Failure } from '../src/error.ts';
import { compareTrees } from './compare.ts';
import { type Paths, pathsBelow, quickstartConfiguration, sourceName } from './configuration.ts';

const ROOT = path.join(import.meta.dirname, '..');
/** The daemon must answer within this, and be gone within this after `stop`. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const POLL_MS = 50;
/** Lines of the daemon's log that are shown when something fails. */
const LOG_TAIL_LINES = 25;
/** What plakarctl exits with when some files could not be read. */
const PARTIAL = 3;

const bold = (text: string): string => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);

function say(text: string): void {
  process.stdout.write(`\n${text}\n`);
}

/** Shows a command as a person would type it from the checkout; one that runs on has ` &` behind it. */
function show(words: readonly string[], runsOn = ''): void {
  const quoted = words.map((word) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`,
  );
  process.stdout.write(`${bold(`$ ${quoted.join(' ')}${runsOn}`)}\n`);
}

/** Removes what the last quick start left; its daemon too, should it still be running. */
async function clear(paths: Paths): Promise<void> {
  if (!fs.existsSync(paths.top)) return;
  // Only a directory of our own making is ever removed.
  if (!fs.existsSync(paths.configuration))
    throw new Failure('use', paths.top, { cause: 'it is not a quick start', remedy: 'move it away' });
  if (await accepts(paths.socket)) {
    say('A daemon still runs on the last quick start: stopping it.');
    plakarctl(paths, 'stop');
    const deadline = performance.now() + STOP_TIMEOUT_MS;
    while (fs.existsSync(paths.socket)) {
      if (performance.now() > deadline)
        throw new Failure('stop', 'the daemon on quickstart/plakard.conf', { cause: 'it does not end' });
      await delay(POLL_MS);
    }
  }
  fs.rmSync(paths.top, { recursive: true });
}

function prepare(paths: Paths, directory: string): void {
  fs.mkdirSync(paths.top, { mode: 0o755 });
  fs.writeFileSync(paths.passphrase, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 });
  fs.writeFileSync(paths.configuration, quickstartConfiguration(paths, directory), { mode: 0o600 });
}

/** The daemon, as the quick start runs it: in the foreground, its log in a file. */
class Daemon {
  readonly #paths: Paths;
  readonly #process: ChildProcess;
  /** Listening from the start, so that an early end is not missed. */
  readonly #exit: Promise<unknown[]>;

  constructor(paths: Paths) {
    this.#paths = paths;
    const log = fs.openSync(paths.log, 'a', 0o600);
    const command = ['bin/plakard', '-d', '-f', path.relative(ROOT, paths.configuration)] as const;
    show(command, ' &');
    this.#process = spawn(path.join(ROOT, command[0]), command.slice(1), {
      cwd: ROOT,
      // A group of its own: ^C is for the quick start, which then stops the daemon.
      detached: true,
      stdio: ['ignore', log, log],
    });
    fs.closeSync(log);
    this.#exit = once(this.#process, 'exit');
  }

  get #ended(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  /** Resolves when the control socket accepts. */
  async ready(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!(await accepts(this.#paths.socket))) {
      if (this.#ended) throw new Failure('start the daemon', '', { cause: 'it ended at once' });
      if (performance.now() > deadline)
        throw new Failure('start the daemon', '', { cause: 'it does not answer' });
      await delay(POLL_MS);
    }
  }

  /** Resolves when the daemon has ended after `plakarctl stop`; throws unless it did so in good order. */
  async stopped(): Promise<void> {
    const [code, signal] =
      (await Promise.race([this.#exit, delay(STOP_TIMEOUT_MS, [], { ref: false })])) ?? [];
    if (code !== 0) {
      const cause = this.#ended ? `it ended with ${signal ?? `exit code ${code}`}` : 'it does not end';
      throw new Failure('stop the daemon', '', { cause });
    }
  }

  /** Ends the daemon in whatever state it is; its children see their channels close. */
  async kill(): Promise<void> {
    if (!this.#ended) {
      this.#process.kill('SIGTERM');
      await Promise.race([this.#exit, delay(STOP_TIMEOUT_MS, undefined, { ref: false })]);
    }
    if (!this.#ended) {
      this.#process.kill('SIGKILL');
      await this.#exit;
    }
  }

  logTail(): string {
    return fs.readFileSync(this.#paths.log, 'utf8').trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
  }
}

async function accepts(socket: string): Promise<boolean> {
  const connection = net.connect(socket);
  try {
    await once(connection, 'connect');
    return true;
  } catch {
    // Not there, or not listening yet: whether that lasts is for the caller to judge.
    return false;
  } finally {
    connection.destroy();
  }
}

/** Runs plakarctl and shows it; throws if it fails. */
function plakarctl(paths: Paths, ...args: string[]): void {
  const command = ['bin/plakarctl', '-s', path.relative(ROOT, paths.socket), ...args] as const;
  show(command);
  const result = spawnSync(path.join(ROOT, command[0]), command.slice(1), {
    cwd: ROOT,
    stdio: ['ignore', 1, 2],
  });
  if (result.error !== undefined) throw new Failure('run', command.join(' '), { cause: result.error });
  if (result.status === PARTIAL)
    process.stdout.write('(some files could not be read; the rest is in the snapshot)\n');
  else if (result.status !== 0)
    throw new Failure('run', command.join(' '), { cause: result.signal ?? `exit code ${result.status}` });
}

function compare(paths: Paths, directory: string, sinceMs: number): void {
  process.stdout.write(`${bold(`compare ${directory} ${path.relative(ROOT, paths.restored)}`)}\n`);
  const { entries, bytes, differences, changed } = compareTrees(directory, paths.restored, {
    sinceMs,
    skip: paths.top,
  });
  if (differences.length > 0)
    throw new Failure('compare', `${directory} with ${paths.restored}`, { cause: differences.join('; ') });
  const meanwhile =
    changed.length === 0 ? '' : `; ${changed.length} changed meanwhile: ${changed.slice(0, 5)}`;
  process.stdout.write(
    `identical: ${entries} entries, ${bytes} bytes of contents, all metadata${meanwhile}\n`,
  );
}

/** What the quick start is about, on a daemon that runs. */
function tour(paths: Paths, directory: string): void {
  const name = sourceName(directory);
  say('A repository, encrypted with the passphrase in quickstart/passphrase:');
  plakarctl(paths, 'create');
  say(`A snapshot of ${directory}:`);
  const sinceMs = Date.now();
  plakarctl(paths, 'push', name);
  plakarctl(paths, 'ls');
  say('Is everything there, and does it verify?');
  plakarctl(paths, 'check');
  say('The snapshot restored beside the original, and compared with it:');
  plakarctl(paths, 'pull', '-to', path.relative(ROOT, paths.restored), 'latest');
  compare(paths, directory, sinceMs);
  say('What a second snapshot costs when nothing has changed:');
  plakarctl(paths, 'push', name);
  plakarctl(paths, 'ls');
}

async function run(directory: string): Promise<void> {
  const paths = pathsBelow(path.join(ROOT, 'quickstart'));
  await clear(paths);
  prepare(paths, directory);
  say(`The daemon, on ${path.relative(ROOT, paths.configuration)}:`);
  const daemon = new Daemon(paths);
  const interrupt = (): void => void daemon.kill().then(() => process.exit(130));
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  try {
    await daemon.ready();
    tour(paths, directory);
    say('Done with it:');
    plakarctl(paths, 'stop');
    await daemon.stopped();
  } catch (error) {
    await daemon.kill();
    process.stdout.write(`\nThe end of ${path.relative(ROOT, paths.log)}:\n${daemon.logTail()}\n\n`);
    throw error;
  }
  say('To go on by hand (the repository stays until the next npm start):');
  show(['bin/plakard', '-f', 'quickstart/plakard.conf']);
  show(['bin/plakarctl', '-s', 'quickstart/plakard.sock', 'ls', 'latest']);
}

/** The directory to snapshot, from the command line. */
function wanted(args: readonly string[]): string {
  const directory = path.resolve(process.env.INIT_CWD ?? process.cwd(), args[0] ?? '/etc');
  if (args.length > 1) throw new Failure('one directory at most', '', { kind: 'usage' });
  if (!fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory())
    throw new Failure('snapshot', directory, { cause: 'not a directory', kind: 'usage' });
  return fs.realpathSync(directory);
}

try {
  if (process.getuid?.() !== 0)
    throw new Failure('the daemon starts as root, to give up what it does not need', '', {
      remedy: 'try sudo npm start',
    });
  await run(wanted(process.argv.slice(2)));
} catch (error) {
  process.stderr.write(`quick start: ${describe(error)}\n`);
  process.exitCode = 1;
}
