/**
 * What every command is given: what the user asked of the whole program, where
 * to print, and how to reach the daemon. Made once by the main. Connections
 * and readers are made when first asked for, and their modules are loaded then,
 * so that a command that needs neither does not pay for them.
 */
import type { CommandLine, CommandRow } from './arguments.ts';
import type { Connection, ReaderOperation } from './connection.ts';
import type { Output } from './output.ts';
import type { Reader } from './reader.ts';

export interface Context {
  readonly command: CommandRow;
  /** All commands, for help. */
  readonly commands: readonly CommandRow[];
  /** The repository after `on`; undefined means the first of the configuration. */
  readonly repository: string | undefined;
  readonly output: Output;
  /** Aborted by SIGINT, SIGTERM and SIGHUP; commands clean up and reject. */
  readonly signal: AbortSignal;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly wallClock: () => number;
  /** Runs another command line, with a session of its own; resolves with its failure, which has been said. */
  runInner(line: CommandLine): Promise<unknown>;
  /** Says an error that does not end the command. */
  report(error: unknown): void;
  /** The control connection, made at the first call. */
  connect(): Promise<Connection>;
  /** A reader session on the repository, for `operation`'s permission. The main closes it. */
  openReader(operation: ReaderOperation): Promise<Reader>;
}
