/**
 * plakarctl shell: commands from standard input, line by line, each as it would
 * be after `plakarctl` and with the options that the shell was given. On a
 * terminal it prompts, completes, and goes on after a failure; elsewhere it is
 * a script, and ends with the first command that fails.
 */
import readline from 'node:readline';
import tty from 'node:tty';
import { Failure } from '../error.ts';
import { type CommandLine, type Given, parseArguments, usageFailure } from './arguments.ts';
import { complete } from './complete.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { Reported } from './operands.ts';
import { splitWords } from './words.ts';

const STDIN = 0;
const STDERR = 2;
/** Lines that can be had back with the arrow keys. */
const HISTORY_MAX = 1000;
/** A line is a command; longer ones are a mistake. */
const LINE_MAX_CHARS = 1 << 20;
/** What ends the shell, beside the end of the input. */
const EXITS: ReadonlySet<string> = new Set(['exit', 'quit']);

export async function run(context: Context, given: Given): Promise<void> {
  void given;
  if (tty.isatty(STDIN) && tty.isatty(STDERR)) await converse(context);
  else await script(context);
}

/** The command of a line with what the shell was given; undefined for a line without one. */
function commandOf(context: Context, text: string): CommandLine | 'exit' | undefined {
  if (text.length > LINE_MAX_CHARS)
    throw usageFailure('line', '', `longer than ${LINE_MAX_CHARS} characters`);
  const words = splitWords(text);
  const [first] = words;
  if (first === undefined) return undefined;
  if (words.length === 1 && EXITS.has(first.toString())) return 'exit';
  const line = parseArguments(words, context.commands);
  if (line.command === context.command) throw usageFailure('shell', '', 'this is one');
  const { json, quiet, verbose } = context.output;
  return {
    ...line,
    json: json || line.json,
    quiet: quiet || line.quiet,
    verbose: verbose || line.verbose,
    repository: line.repository ?? context.repository,
  };
}

/** Runs a line; its failure, which has been said, or undefined. */
async function runLine(context: Context, text: string): Promise<unknown> {
  let line: CommandLine | 'exit' | undefined;
  try {
    line = commandOf(context, text);
  } catch (error) {
    context.report(error);
    await context.output.flush();
    return error;
  }
  return line === undefined || line === 'exit' ? undefined : context.runInner(line);
}

function isExit(text: string): boolean {
  return EXITS.has(text.trim());
}

async function script(context: Context): Promise<void> {
  const lines = readline.createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  context.signal.addEventListener('abort', () => lines.close(), { once: true });
  for await (const text of lines) {
    if (isExit(text)) break;
    const failure = await runLine(context, text);
    context.signal.throwIfAborted();
    if (failure !== undefined) throw new Reported(failure);
  }
  context.signal.throwIfAborted();
}

async function converse(context: Context): Promise<void> {
  context.output.note('help lists the commands, exit ends the shell');
  await context.output.flush();
  let history: string[] = [];
  for (;;) {
    const asked = await ask(context, history);
    context.signal.throwIfAborted();
    if (asked === undefined || isExit(asked.text)) return;
    history = asked.history;
    await runLine(context, asked.text);
    context.signal.throwIfAborted();
  }
}

interface Asked {
  readonly text: string;
  /** newest first */
  readonly history: string[];
}

/** Where to go on from what is left of the input; undefined at its end. */
function ask(context: Context, history: string[]): Promise<Asked | undefined> {
  // made anew for each line: while a command runs, the terminal is as it was
  const prompt = readline.createInterface({
    input: process.stdin,
    output: process.stderr,
    prompt: `plakard${context.repository === undefined ? '' : ` ${safeText(context.repository)}`}> `,
    history,
    historySize: HISTORY_MAX,
    removeHistoryDuplicates: true,
    completer: (line: string, done: (error: null, result: [string[], string]) => void) => {
      complete(context, line).then(
        (result) => done(null, result),
        // no daemon, no permission: there is nothing to offer, and the command will say why
        () => done(null, [[], line]),
      );
    },
  });
  return new Promise((resolve, reject) => {
    const past: string[][] = [history];
    const abort = () => prompt.close();
    prompt.on('history', (lines: string[]) => past.push([...lines]));
    prompt.once('line', (text) => {
      resolve({ text, history: past.at(-1) ?? [] });
      prompt.close();
    });
    prompt.once('close', () => {
      context.signal.removeEventListener('abort', abort);
      resolve(undefined);
    });
    prompt.once('error', (cause) => reject(new Failure('read', 'standard input', { cause })));
    // as in sh: the line is given up, not the shell
    prompt.on('SIGINT', () => {
      process.stderr.write('^C\n');
      prompt.write(null, { ctrl: true, name: 'e' });
      prompt.write(null, { ctrl: true, name: 'u' });
      prompt.prompt();
    });
    context.signal.addEventListener('abort', abort, { once: true });
    prompt.prompt();
  });
}
