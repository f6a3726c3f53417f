/**
 * The command `plakard`: its arguments, and the life of the parent from there.
 * Called by the main, where no role is named.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import { closeSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Configuration, parseDefinition, print } from './config/config.ts';
import { describe, EXIT_CODES, Failure, kindOf } from './error.ts';
import { type Log, openLog, type WriteLine } from './log.ts';
import { ConfigurationRefused, readConfiguration } from './processes/parent/configuration.ts';
import { isJournal, journal } from './processes/parent/journal.ts';
import { ServiceManager } from './processes/parent/notify.ts';
import { trustState } from './processes/parent/state.ts';
import { hasSyslog, syslog } from './processes/parent/syslog.ts';
import { Parent, type ParentOptions } from './processes/parent.ts';
import { VERSION } from './version.ts';

const DEFAULT_CONFIGURATION = '/etc/plakard.conf';
const USAGE = 'usage: plakard [-dnvV] [-D macro=value] [-f file]';
/** A daemon that goes to the background must be ready within this. */
const READY_TIMEOUT_MS = 60_000;
/** Tells a process in the background to say that it is ready, on descriptor 3. */
const READY_VARIABLE = 'PLAKARD_READY_FD';
const MACROS_MAX = 256;
/** What a daemon that does not start has to say. */
const SAID_MAX_CHARS = 64 << 10;
/** In the state directory. */
const PID_FILE = 'plakard.pid';

interface Options {
  readonly foreground: boolean;
  readonly check: boolean;
  readonly verbose: boolean;
  readonly file: string;
  readonly macros: Readonly<Record<string, string>>;
}

const OPTIONS = {
  foreground: { type: 'boolean', short: 'd' },
  check: { type: 'boolean', short: 'n' },
  verbose: { type: 'boolean', short: 'v' },
  version: { type: 'boolean', short: 'V' },
  define: { type: 'string', short: 'D', multiple: true },
  file: { type: 'string', short: 'f' },
} as const;

/** The arguments, or undefined where only the version was asked for. */
function parse(args: readonly string[]): Options | undefined {
  let values: ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values'];
  try {
    ({ values } = parseArgs({ args: [...args], options: OPTIONS }));
  } catch (error) {
    const text = error instanceof Error ? error.message.split('.')[0] : String(error);
    throw new Failure(`plakard: ${text?.toLowerCase()}`, '', { remedy: USAGE, kind: 'usage' });
  }
  if (values.version === true) return undefined;
  const macros: Record<string, string> = {};
  const definitions = values.define ?? [];
  if (definitions.length > MACROS_MAX)
    throw new Failure('plakard: -D', '', { cause: `more than ${MACROS_MAX} macros`, kind: 'usage' });
  for (const definition of definitions) {
    const [name, value] = parseDefinition(definition);
    macros[name] = value;
  }
  return {
    foreground: values.foreground ?? false,
    check: values.check ?? false,
    verbose: values.verbose ?? false,
    file: path.resolve(values.file ?? DEFAULT_CONFIGURATION),
    macros,
  };
}

function say(line: string): void {
  writeSync(2, `${line}\n`);
}

/** What went wrong: a line for each error of a configuration. */
function linesOf(error: unknown): readonly string[] {
  if (error instanceof ConfigurationRefused) return error.lines;
  if (error instanceof StartRefused) return error.message.split('\n');
  const text = describe(error);
  return [text.startsWith('plakard: ') ? text : `plakard: ${text}`];
}

/** Prints what went wrong, here and where this was started from, and sets the exit code. */
function report(error: unknown): void {
  const lines = linesOf(error);
  for (const line of lines) say(line);
  process.exitCode = error instanceof StartRefused ? error.exitCode : EXIT_CODES[kindOf(error)];
  sayReady([process.exitCode, ...lines].join('\n'));
}

/** Runs the command; sets the exit code. `main` is what is run for processes of its own. */
export async function runDaemon(
  args: readonly string[],
  main: string,
  timeouts: ParentOptions['timeouts'] = {},
): Promise<void> {
  try {
    const options = parse(args);
    if (options === undefined) {
      process.stdout.write(`plakard ${VERSION}\n`);
      return;
    }
    if (options.check) {
      checkOnly(options);
      return;
    }
    if (process.getuid?.() !== 0)
      throw new Failure('start', '', {
        cause: 'plakard must be started as root, as it gives that up child by child',
        kind: 'not-permitted',
      });
    const { configuration } = readConfiguration({ path: options.file, macros: options.macros });
    if (options.foreground) await runForeground(options, configuration, main, timeouts);
    else await detach(args, configuration, main);
  } catch (error) {
    report(error);
  }
}

function checkOnly({ file, macros, verbose }: Options): void {
  const { configuration } = readConfiguration({ path: file, macros });
  if (verbose) process.stdout.write(print(configuration));
  else say('configuration OK');
}

/** Where the log goes: to whoever started us with -d, to the journal by its fields, or, in the background, to syslog where there is one. */
function writerOf(isBackground: boolean): WriteLine {
  const toStandardError: WriteLine = (line) => writeSync(2, line);
  if (isJournal(process.env)) return journal(toStandardError);
  return isBackground && hasSyslog() ? syslog(toStandardError, process.pid) : toStandardError;
}

/** Runs the parent until it has stopped. */
async function runForeground(
  options: Options,
  configuration: Configuration,
  main: string,
  timeouts: ParentOptions['timeouts'] = {},
): Promise<void> {
  process.title = 'plakard: parent';
  const { file, macros } = options;
  const log = openLog(
    configuration.log,
    options.verbose,
    writerOf(process.env[READY_VARIABLE] !== undefined),
  );
  const manager = new ServiceManager({
    log,
    environment: process.env,
    pid: process.pid,
    monotonicUsec: () => process.hrtime.bigint() / 1000n,
  });
  const parent = new Parent(
    {
      path: file,
      macros,
      main,
      log,
      now: Date.now,
      nowMs: () => performance.now(),
      random: randomBytes,
      manager,
      timeouts,
    },
    configuration,
  );
  hearSignals(parent, log, manager);
  const pidFile = path.join(configuration.state, PID_FILE);
  try {
    await parent.start();
    writePid(pidFile);
  } catch (error) {
    await parent.stop();
    throw error;
  }
  manager.ready(`serves ${configuration.socket.path}`);
  sayReady('ready');
  // bin/start.cjs keeps what was compiled for it
  (process as EventEmitter).emit('plakard compiled', 'parent');
  try {
    await parent.finished();
  } finally {
    rmSync(pidFile, { force: true });
  }
  log.info('stopped', { process: 'parent' });
}

function hearSignals(parent: Parent, log: Log, manager: ServiceManager): void {
  parent.stopping.addEventListener('abort', () => manager.stopping());
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => {
      log.info(`stopping, on ${signal}`, { process: 'parent' });
      void parent.stop();
    });
  process.on('SIGHUP', () => {
    parent.reload().catch((error: unknown) => {
      const lines = error instanceof ConfigurationRefused ? error.lines : [describe(error)];
      for (const line of lines) log.error(`reload: ${line} (nothing was changed)`, { process: 'parent' });
    });
  });
}

/** Written when it can be relied on: whoever reads it finds a daemon that serves. */
function writePid(file: string): void {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(`${file}.new`, `${process.pid}\n`, { mode: 0o644 });
  renameSync(`${file}.new`, file);
}

/** Tells whoever detached us: that clients can connect, or what went wrong. */
function sayReady(text: string): void {
  const fd = Number(process.env[READY_VARIABLE] ?? '');
  if (!Number.isInteger(fd) || fd < 3) return;
  delete process.env[READY_VARIABLE];
  writeSync(fd, text);
  closeSync(fd);
}

/** Starts this command again in the background, and waits until it is ready; what it prints goes to the state directory. */
async function detach(args: readonly string[], configuration: Configuration, main: string): Promise<void> {
  trustState(configuration.state);
  const logPath = path.join(configuration.state, 'plakard.log');
  const log = openSync(logPath, 'a', 0o600);
  const child = spawn(process.execPath, [...process.execArgv, main, '-d', ...args], {
    detached: true,
    stdio: ['ignore', log, log, 'pipe'],
    env: { ...process.env, [READY_VARIABLE]: '3' },
  });
  closeSync(log);
  const said = await firstWord(child);
  child.unref();
  if (said === 'ready') return;
  if (said !== '') throw new StartRefused(said);
  throw new Failure('start', '', { cause: 'the daemon ended before it was ready', remedy: `see ${logPath}` });
}

/** What the daemon in the background said went wrong, as it would have said it in the foreground. */
class StartRefused extends Error {
  readonly exitCode: number;

  /** `said` is the exit code, and then what would have been printed. */
  constructor(said: string) {
    const [code, ...lines] = said.split('\n');
    super(lines.join('\n'));
    this.exitCode = Number(code) || EXIT_CODES.failed;
  }
}

/** What the process in the background says until it closes the pipe: `ready`, or why it is not; empty if nothing. */
function firstWord(child: ChildProcess): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const pipe = child.stdio[3];
  if (pipe === null || pipe === undefined || !('setEncoding' in pipe))
    throw new Failure('start', '', { cause: 'no pipe' });
  let said = '';
  const timer = setTimeout(() => resolve(''), READY_TIMEOUT_MS);
  pipe.setEncoding('utf8');
  pipe.on('data', (text: string) => {
    said = (said + text).slice(0, SAID_MAX_CHARS);
  });
  pipe.on('end', () => resolve(said));
  child.on('error', () => resolve(''));
  return promise.finally(() => {
    clearTimeout(timer);
    pipe.destroy();
  });
}
