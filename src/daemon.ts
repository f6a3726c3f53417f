/**
 * The command `plakard`: its arguments, and the life of the parent from there.
 * Called by the main, where no role is named.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Configuration, print } from './config/config.ts';
import { describe, EXIT_CODES, Failure, kindOf } from './error.ts';
import { openLog } from './log.ts';
import { ConfigurationRefused, readConfiguration } from './processes/parent/configuration.ts';
import { Parent, type ParentOptions } from './processes/parent.ts';
import { VERSION } from './version.ts';

const DEFAULT_CONFIGURATION = '/etc/plakard.conf';
const USAGE = 'usage: plakard [-dnvV] [-D macro=value] [-f file]';
/** A daemon that goes to the background must be ready within this. */
const READY_TIMEOUT_MS = 60_000;
/** Tells a process in the background to say that it is ready, on descriptor 3. */
const READY_VARIABLE = 'PLAKARD_READY_FD';
const MACROS_MAX = 256;

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
  for (const definition of (values.define ?? []).slice(0, MACROS_MAX)) {
    const equals = definition.indexOf('=');
    if (equals < 1)
      throw new Failure('plakard: -D', definition, {
        cause: 'not macro=value',
        remedy: USAGE,
        kind: 'usage',
      });
    macros[definition.slice(0, equals)] = definition.slice(equals + 1);
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

/** Prints what went wrong, a line for each error of a configuration, and sets the exit code. */
function report(error: unknown): void {
  if (error instanceof ConfigurationRefused) for (const line of error.lines) say(line);
  else {
    const text = describe(error);
    say(text.startsWith('plakard: ') ? text : `plakard: ${text}`);
  }
  process.exitCode = EXIT_CODES[kindOf(error)];
}

/** Runs the command; sets the exit code. */
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
    else await detach(args, configuration);
  } catch (error) {
    report(error);
  }
}

function checkOnly({ file, macros, verbose }: Options): void {
  const { configuration } = readConfiguration({ path: file, macros });
  if (verbose) process.stdout.write(print(configuration));
  else say('configuration OK');
}

async function runForeground(
  options: Options,
  configuration: Configuration,
  main: string,
  timeouts: ParentOptions['timeouts'] = {},
): Promise<void> {
  process.title = 'plakard: parent';
  const log = openLog(configuration.log, options.verbose, (line) => writeSync(2, line));
  const { file, macros } = options;
  const parent = new Parent(
    {
      path: file,
      macros,
      main,
      log,
      now: Date.now,
      nowMs: () => performance.now(),
      random: randomBytes,
      timeouts,
    },
    configuration,
  );
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => {
      log.info(`stopping, on ${signal}`, { process: 'parent' });
      void parent.stop();
    });
  process.on('SIGHUP', () => {
    parent.reload().catch((error: unknown) => {
      const lines = error instanceof ConfigurationRefused ? error.lines : [describe(error)];
      for (const line of lines) log.error(line, { process: 'parent' });
      log.error('the configuration has errors, and nothing was changed', { process: 'parent' });
    });
  });
  try {
    await parent.start();
  } catch (error) {
    await parent.stop();
    throw error;
  }
  sayReady();
  await parent.finished();
  log.info('stopped', { process: 'parent' });
}

/** Tells whoever detached us that clients can connect. */
function sayReady(): void {
  const fd = Number(process.env[READY_VARIABLE] ?? '');
  if (!Number.isInteger(fd) || fd < 3) return;
  delete process.env[READY_VARIABLE];
  writeSync(fd, 'ready');
  closeSync(fd);
}

/** Starts this command again in the background, and waits until it is ready; its log goes to the state directory. */
async function detach(args: readonly string[], configuration: Configuration): Promise<void> {
  mkdirSync(configuration.state, { recursive: true, mode: 0o700 });
  const logPath = path.join(configuration.state, 'plakard.log');
  const log = openSync(logPath, 'a', 0o600);
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', '-d', ...args], {
    detached: true,
    stdio: ['ignore', log, log, 'pipe'],
    env: { ...process.env, [READY_VARIABLE]: '3' },
  });
  closeSync(log);
  if (!(await isReady(child)))
    throw new Failure('start', '', {
      cause: 'the daemon ended before it was ready',
      remedy: `see ${logPath}`,
    });
  child.unref();
}

/** Whether the process in the background says that it is ready, rather than ending. */
function isReady(child: ChildProcess): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), READY_TIMEOUT_MS);
  const pipe = child.stdio[3];
  if (pipe === null || pipe === undefined || !('on' in pipe))
    throw new Failure('start', '', { cause: 'no pipe' });
  pipe.on('data', () => resolve(true));
  child.on('exit', () => resolve(false));
  child.on('error', () => resolve(false));
  return promise.finally(() => {
    clearTimeout(timer);
    pipe.destroy();
  });
}
