/**
 * One run of plakarctl: the context that its command is given, made from the
 * command line. Called by the main. Owns the connection, the reader sessions
 * and the output, and ends them in good order.
 */
import fs from 'node:fs';
import { describe, EXIT_CODES, Failure, kindOf } from '../error.ts';
import type { CommandLine, CommandRow } from './arguments.ts';
import type { Connection, ReaderOperation } from './connection.ts';
import type { Context } from './context.ts';
import { Reported } from './operands.ts';
import { Output } from './output.ts';
import { ERROR_EVENT } from './problems.ts';
import { ProgressLine, type Terminal } from './progress.ts';
import type { Reader } from './reader.ts';
import { runCommand } from './run.ts';
import { ReaderGone, Sink } from './sink.ts';

const SOCKET_DEFAULT = '/var/run/plakard.sock';
/** The environment's word on where the daemon is; -s goes before it. */
const SOCKET_VARIABLE = 'PLAKARD_SOCKET';
const STDOUT = 1;
const STDERR = 2;

/** node:tty loads node:net, so it is asked about devices alone. */
function isTerminal(fd: number): boolean {
  try {
    if (!fs.fstatSync(fd).isCharacterDevice()) return false;
  } catch {
    // it is closed
    return false;
  }
  return process.getBuiltinModule('node:tty').isatty(fd);
}

/** Standard error, where it is a terminal and may be drawn on. */
function terminalOf(line: CommandLine, write: (text: string) => void): Terminal | undefined {
  if (line.quiet || line.json || !isTerminal(STDERR)) return undefined;
  return {
    get columns() {
      return process.stderr.columns;
    },
    write,
  };
}

/** Whether both are the same terminal, file or pipe. */
function isSame(one: number, other: number): boolean {
  try {
    const [a, b] = [fs.fstatSync(one), fs.fstatSync(other)];
    return a.dev === b.dev && a.ino === b.ino;
  } catch {
    // one is closed: who writes to it will hear of that
    return false;
  }
}

export class Session implements Context {
  /** Whether this process has tried to reach the daemon. */
  static hasConnected = false;
  readonly command: CommandRow;
  readonly commands: readonly CommandRow[];
  readonly repository: string | undefined;
  readonly output: Output;
  readonly now = () => performance.now();
  readonly wallClock = () => Date.now();
  readonly socket: string;
  /** Made for whoever asks: short commands do not, and to load it takes them a millisecond. */
  #abort: AbortController | undefined;
  #interrupted: Failure | undefined;
  readonly #readers: Reader[] = [];
  #connection: Promise<Connection> | undefined;
  #inner: Session | undefined;

  constructor(line: CommandLine, commands: readonly CommandRow[]) {
    this.command = line.command;
    this.commands = commands;
    this.repository = line.repository;
    this.socket = line.socket ?? process.env[SOCKET_VARIABLE] ?? SOCKET_DEFAULT;
    const stdout = new Sink(STDOUT, 'standard output');
    const stderr = isSame(STDOUT, STDERR) ? undefined : new Sink(STDERR, 'standard error');
    const { json, quiet, verbose } = line;
    const progress = new ProgressLine(
      terminalOf(line, (text) => this.output.draw(text)),
      this.now,
    );
    this.output = new Output({ json, quiet, verbose, stdout, stderr, progress });
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#interrupted !== undefined) this.#abort.abort(this.#interrupted);
    }
    return this.#abort.signal;
  }

  /** Runs a command line within this run, as the shell does: what interrupts, interrupts that. */
  async runInner(line: CommandLine): Promise<unknown> {
    const inner = new Session({ ...line, socket: line.socket ?? this.socket }, this.commands);
    this.#inner = inner;
    try {
      return await runCommand(inner, line);
    } finally {
      this.#inner = undefined;
    }
  }

  /** Interrupts the command within, the first time; false where there is none to interrupt. */
  interruptInner(): boolean {
    if (this.#inner === undefined || this.#inner.signal.aborted) return false;
    this.#inner.interrupt();
    return true;
  }

  /** Ends what is under way: whatever the command waits for rejects, and it cleans up. */
  interrupt(): void {
    this.#inner?.interrupt();
    const reason = new Failure('interrupted', '', { kind: 'interrupted' });
    this.#interrupted ??= reason;
    this.#abort?.abort(reason);
    this.output.giveUp(reason);
    this.#close();
  }

  connect(): Promise<Connection> {
    this.#connection ??= this.#connect();
    return this.#connection;
  }

  async #connect(): Promise<Connection> {
    Session.hasConnected = true;
    const { Connection } = await import('./connection.ts');
    const connection = Connection.open(this.socket, this.output);
    if (this.#interrupted !== undefined) connection.close();
    return connection;
  }

  async openReader(operation: ReaderOperation): Promise<Reader> {
    const connection = await this.connect();
    // what reads a repository may take hours
    const { collectInTime } = await import('../collect.ts');
    collectInTime();
    const reader = await connection.openReader(operation, this.repository);
    this.#readers.push(reader);
    if (this.#interrupted !== undefined) reader.close();
    return reader;
  }

  report(error: unknown): void {
    if (error instanceof Reported || error instanceof ReaderGone) return;
    const kind = kindOf(error);
    this.output.emit(ERROR_EVENT, { kind, text: describe(error), exitCode: EXIT_CODES[kind] });
  }

  /**
   * Closes everything, says the failure if there was one, and waits until all
   * is written. Rejects where standard output cannot be written, or its reader left.
   */
  async finish(failure?: unknown): Promise<void> {
    this.#close();
    if (failure !== undefined) this.report(failure);
    await this.output.flush();
  }

  /** Closes everything and says on standard error alone why the run ended. */
  async fail(failure: unknown): Promise<void> {
    this.#close();
    this.report(failure);
    await this.output.flushErrors();
  }

  #close(): void {
    for (const reader of this.#readers) reader.close();
    // what could not be connected is nothing to close, and was said where it was asked for
    this.#connection?.then(
      (connection) => connection.close(),
      () => undefined,
    );
  }
}
