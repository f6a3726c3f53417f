/**
 * What the benchmark runs: commands, as whole processes. Called by everything
 * in this directory. Invariant: a command that fails fails the benchmark, with
 * what it said; nothing is measured that did not do its work.
 */
import { type ChildProcess, type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { Failure } from '../../src/error.ts';

export interface Command {
  readonly argv: readonly [string, ...string[]];
  /** the work directory where absent */
  readonly cwd?: string;
  /** added to the environment */
  readonly env?: Readonly<Record<string, string>>;
}

/** Of what a failed command said, so much is shown. */
export const SAID_MAX_BYTES = 4096;
const OUTPUT_MAX_BYTES = 64 << 20;

export function failed(command: Command, how: string, said: string): Failure {
  const text = said.trim().slice(-SAID_MAX_BYTES);
  return new Failure('run', command.argv.join(' '), { cause: text === '' ? how : `${how}: ${text}` });
}

/** Runs a command that is not measured, and returns what it printed. */
export function run(command: Command): string {
  const [program, ...args] = command.argv;
  const result: SpawnSyncReturns<string> = spawnSync(program, args, {
    cwd: command.cwd,
    env: { ...process.env, ...command.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: OUTPUT_MAX_BYTES,
  });
  if (result.error !== undefined) throw failed(command, result.error.message, '');
  if (result.status !== 0)
    throw failed(command, result.signal ?? `exit code ${result.status}`, result.stderr);
  return result.stdout;
}

const running = new Set<ChildProcess>();

/** Notes a process that was started, to be ended by force where the benchmark ends early. */
export function follow(child: ChildProcess): void {
  running.add(child);
  child.once('exit', () => running.delete(child));
}

export function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** Tells whoever watches how far it is; the table alone goes to standard output. */
export function progress(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
