/**
 * plakarctl(8), the daemon's client: the main. Reads the command line, runs the
 * one command, and makes the exit code, here and nowhere else. What a command
 * needs is loaded by the command.
 */
import fs from 'node:fs';
import { argumentBytes, type CommandLine, parseArguments } from './client/arguments.ts';
import { COMMANDS } from './client/commands.ts';
import { Session } from './client/session.ts';
import { ReaderGone } from './client/sink.ts';
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
  const exit = () => process.exit(EXIT_CODES.interrupted);
  const hear = () => {
    if (session.signal.aborted) exit();
    session.interrupt();
    setTimeout(exit, CLEANUP_MAX_MS);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, hear);
}

async function main(): Promise<number> {
  let session: Session | undefined;
  try {
    const line = commandLine();
    session = new Session(line, COMMANDS);
    hearSignals(session);
    const command = await line.command.load();
    await command.run(session, line.given);
    await session.finish();
    return 0;
  } catch (error) {
    const failure = session?.signal.aborted === true ? session.signal.reason : error;
    const exitCode = EXIT_CODES[kindOf(failure)];
    // whoever read our output has left: there is nobody to tell
    if (failure instanceof ReaderGone) return exitCode;
    if (session === undefined) fs.writeSync(2, `plakarctl: ${describe(failure)}\n`);
    else await session.finish(failure);
    return exitCode;
  }
}

process.exit(await main());
