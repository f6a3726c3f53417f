/**
 * plakarctl(8), the daemon's client: the main. Reads the command line, runs the
 * one command, and makes the exit code, here and nowhere else. What a command
 * needs is loaded by the command.
 */
import type { EventEmitter } from 'node:events';
import fs from 'node:fs';
import { keepCompiled } from './builtin.ts';
import { argumentBytes, type CommandLine, parseArguments } from './client/arguments.ts';
import { COMMANDS } from './client/commands.ts';
import { runCommand } from './client/run.ts';
import { Session } from './client/session.ts';
import { describe, EXIT_CODES, kindOf } from './error.ts';

/** How long a command that was interrupted may clean up. */
const CLEANUP_MAX_MS = 5000;

function commandLine(): CommandLine {
  const texts = process.argv.slice(2);
  return parseArguments(
    argumentBytes(texts, () => fs.readFileSync('/proc/self/cmdline')),
    COMMANDS,
  );
}

/** Ends the program when it is asked to: once in good order, the second time at once. */
function hearSignals(session: Session): void {
  const exit = () => void end(EXIT_CODES.interrupted);
  const hear = (signal: NodeJS.Signals) => {
    if (signal === 'SIGINT' && session.interruptInner()) return;
    if (session.signal.aborted) exit();
    session.interrupt();
    setTimeout(exit, CLEANUP_MAX_MS);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, hear);
}

async function main(): Promise<number> {
  let session: Session;
  let line: CommandLine;
  try {
    line = commandLine();
    session = new Session(line, COMMANDS);
  } catch (error) {
    fs.writeSync(2, `plakarctl: ${describe(error)}\n`);
    return EXIT_CODES[kindOf(error)];
  }
  hearSignals(session);
  const failure = await runCommand(session, line);
  // bin/start.cjs keeps what was compiled for it
  (process as EventEmitter).emit('plakard compiled', line.command.name);
  return failure === undefined ? 0 : EXIT_CODES[kindOf(failure)];
}

/**
 * Ends the process, as the kernel does it. process.exit() waits for threads,
 * of which one may be in a write to a pipe that nobody reads, or, in the
 * compiler, wait for us.
 */
async function end(exitCode: number): Promise<never> {
  const { exitNow } = await import('./sys/exit.ts');
  keepCompiled();
  return exitNow(exitCode);
}

/** Awaited by nobody: modules that are bundled (scripts/bundle.ts) cannot wait while they are loaded. */
async function run(): Promise<void> {
  const exitCode = await main();
  // what never talked to the daemon has not loaded src/sys, and is not held up for it
  if (!Session.hasConnected) process.exit(exitCode);
  await end(exitCode);
}
void run();
