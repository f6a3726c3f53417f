/**
 * plakarctl's command line: `[-jqv] [-s socket] [on REPOSITORY] COMMAND …`.
 * Called once by the main. Arguments are bytes, as names of files are; options
 * and the words of the grammar are ASCII. Owns the rules that any unambiguous
 * prefix names a command, that long options take one dash or two, that `--`
 * ends the options, and that everything else is a usage error with a suggestion.
 */
import { Failure } from '../error.ts';
import type { Context } from './context.ts';
import { safeName, safeText } from './escape.ts';

/** One option of a command: `-name`, or `-name ARGUMENT` where `argument` is given. */
export interface OptionRow {
  readonly name: string;
  /** The placeholder of its argument in the help. */
  readonly argument?: string;
  /** May be given more than once. */
  readonly repeated?: true;
  readonly summary: string;
}

/** What a command's module exports. */
export interface CommandModule {
  run(context: Context, given: Given): Promise<void>;
}

/** One row of the command table. */
export interface CommandRow {
  readonly name: string;
  readonly summary: string;
  /** What follows the name in a usage line. */
  readonly usage: string;
  readonly options: readonly OptionRow[];
  /** Fewest and most operands. */
  readonly operands: readonly [min: number, max: number];
  readonly load: () => Promise<CommandModule>;
}

/** The options and operands that a command was given. */
export class Given {
  /** As they were given, bytes. */
  readonly operands: readonly Buffer[];
  readonly #options: ReadonlyMap<string, readonly Buffer[]>;

  constructor(operands: readonly Buffer[], options: ReadonlyMap<string, readonly Buffer[]>) {
    this.operands = operands;
    this.#options = options;
  }

  has(name: string): boolean {
    return this.#options.has(name);
  }

  /** The option's argument, or undefined where it was not given. */
  value(name: string): Buffer | undefined {
    return this.#options.get(name)?.[0];
  }

  values(name: string): readonly Buffer[] {
    return this.#options.get(name) ?? [];
  }
}

/** The whole command line, understood. */
export interface CommandLine {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly socket: string | undefined;
  readonly repository: string | undefined;
  readonly command: CommandRow;
  readonly given: Given;
}

/** A usage error about `object`, which is safe to print; kind 'usage', exit code 2. */
export function usageFailure(operation: string, object: string, cause: string, remedy?: string): Failure {
  return new Failure(operation, object, {
    cause,
    kind: 'usage',
    ...(remedy === undefined ? {} : { remedy }),
  });
}

const DASH = 0x2d;
/** Words that differ in more than so many letters are not offered as what was meant. */
const SUGGESTION_DISTANCE_MAX = 2;
/** The longest word worth comparing. */
const SUGGESTION_CHARS_MAX = 32;

/** How many letters must be added, dropped or exchanged to make `a` of `b`. */
function distance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const line = [row];
    for (let column = 1; column <= b.length; column++) {
      const exchange = (above[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      line.push(Math.min(exchange, (above[column] ?? 0) + 1, (line[column - 1] ?? 0) + 1));
    }
    above = line;
  }
  return above[b.length] ?? 0;
}

/** The word of `words` that was probably meant, if any is near. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  if (word.length > SUGGESTION_CHARS_MAX) return undefined;
  let best: string | undefined;
  let least = Math.min(SUGGESTION_DISTANCE_MAX, word.length - 1) + 1;
  for (const candidate of words) {
    const letters = distance(word, candidate);
    if (letters < least) [best, least] = [candidate, letters];
  }
  return best;
}

/** The command that `word` names, by its name or an unambiguous prefix of it. */
export function findCommand(word: string, commands: readonly CommandRow[]): CommandRow {
  const exact = commands.find((row) => row.name === word);
  if (exact !== undefined) return exact;
  const matching = word === '' ? [] : commands.filter((row) => row.name.startsWith(word));
  const [only] = matching;
  if (only !== undefined && matching.length === 1) return only;
  if (only !== undefined) {
    const names = matching.map((row) => row.name).join(' or ');
    throw usageFailure('command', word, `ambiguous: ${names}`);
  }
  const meant = nearest(
    word,
    commands.map((row) => row.name),
  );
  const remedy = meant === undefined ? 'plakarctl help lists the commands' : `did you mean ${meant}?`;
  throw usageFailure('command', word, 'unknown', remedy);
}

/** A cursor over the arguments. */
class Words {
  readonly #words: readonly Buffer[];
  #at = 0;

  constructor(words: readonly Buffer[]) {
    this.#words = words;
  }

  next(): Buffer | undefined {
    const word = this.#words[this.#at];
    if (word !== undefined) this.#at++;
    return word;
  }

  peek(): Buffer | undefined {
    return this.#words[this.#at];
  }
}

interface Globals {
  json: boolean;
  quiet: boolean;
  verbose: boolean;
  help: boolean;
  version: boolean;
  socket: string | undefined;
  repository: string | undefined;
}

/** The options before the command that take no argument: letter and long name to what they set. */
const FLAGS: ReadonlyMap<string, 'json' | 'quiet' | 'verbose' | 'help' | 'version'> = new Map([
  ['j', 'json'],
  ['q', 'quiet'],
  ['v', 'verbose'],
  ['h', 'help'],
  ['json', 'json'],
  ['quiet', 'quiet'],
  ['verbose', 'verbose'],
  ['help', 'help'],
  ['version', 'version'],
]);
/** The usage line of the whole program. */
export const GLOBAL_USAGE = 'plakarctl [-jqv] [-s socket] [on REPOSITORY] COMMAND ...';

/** Takes one word of options that stands before the command. */
function takeGlobal(word: string, words: Words, globals: Globals): void {
  const long = FLAGS.get(word.replace(/^--?/, ''));
  if (long !== undefined && word.length > 2) {
    globals[long] = true;
    return;
  }
  if (word.startsWith('--'))
    throw usageFailure('option', safeText(word), 'unknown', `usage: ${GLOBAL_USAGE}`);
  for (let at = 1; at < word.length; at++) {
    const letter = word[at] ?? '';
    const flag = FLAGS.get(letter);
    if (flag !== undefined) globals[flag] = true;
    else if (letter === 's') {
      const rest = word.slice(at + 1);
      globals.socket = rest !== '' ? rest : words.next()?.toString();
      if (globals.socket === undefined) throw usageFailure('option', '-s', 'needs a path');
      return;
    } else throw usageFailure('option', `-${safeText(letter)}`, 'unknown', `usage: ${GLOBAL_USAGE}`);
  }
}

function takeGlobals(words: Words): Globals {
  const globals: Globals = {
    json: false,
    quiet: false,
    verbose: false,
    help: false,
    version: false,
    socket: undefined,
    repository: undefined,
  };
  for (let word = words.peek()?.toString(); word !== undefined; word = words.peek()?.toString()) {
    if (word === 'on') {
      words.next();
      globals.repository = words.next()?.toString();
      if (globals.repository === undefined) throw usageFailure('on', '', 'needs the name of a repository');
    } else if (word.length > 1 && word.startsWith('-')) {
      words.next();
      takeGlobal(word, words, globals);
    } else break;
  }
  return globals;
}

/** Takes one option of `row`; those of the whole program are understood here as well. */
function takeOption(
  word: Buffer,
  row: CommandRow,
  words: Words,
  globals: Globals,
  options: Map<string, Buffer[]>,
): void {
  const start = word[1] === DASH ? 2 : 1;
  const equals = word.indexOf('=', start);
  const name = word.toString('utf8', start, equals < 0 ? word.length : equals);
  const option = row.options.find((candidate) => candidate.name === name);
  if (option === undefined) {
    const flag = FLAGS.get(name);
    if (flag === undefined || flag === 'version' || equals >= 0) throw unknownOption(name, row);
    globals[flag] = true;
    return;
  }
  if (option.argument === undefined) {
    if (equals >= 0) throw usageFailure(row.name, `-${name}`, 'takes no argument');
    options.set(name, []);
    return;
  }
  const value = equals >= 0 ? word.subarray(equals + 1) : words.next();
  if (value === undefined) throw usageFailure(row.name, `-${name}`, `needs ${option.argument}`);
  const before = options.get(name);
  if (before !== undefined && option.repeated === undefined)
    throw usageFailure(row.name, `-${name}`, 'given twice');
  options.set(name, [...(before ?? []), value]);
}

function unknownOption(name: string, row: CommandRow): Failure {
  const known = row.options.map((option) => option.name);
  const meant = nearest(name, known);
  const usage = `plakarctl ${row.name} ${row.usage}`.trimEnd();
  return usageFailure(
    row.name,
    `-${safeText(name)}`,
    'unknown option',
    meant === undefined ? `usage: ${usage}` : `did you mean -${meant}?`,
  );
}

/**
 * Understands the arguments after the program's name. Without a command, or
 * with -h or -version, the command is `help` or `version`. Throws a Failure of
 * kind 'usage'.
 */
export function parseArguments(words: readonly Buffer[], commands: readonly CommandRow[]): CommandLine {
  const rest = new Words(words);
  const globals = takeGlobals(rest);
  const word = rest.next();
  if (globals.version) return lineOf(globals, findCommand('version', commands), [], new Map());
  if (word === undefined) {
    if (!globals.help) throw usageFailure('command', '', 'missing', `usage: ${GLOBAL_USAGE}`);
    return lineOf(globals, findCommand('help', commands), [], new Map());
  }
  const row = findCommand(safeName(word), commands);
  const options = new Map<string, Buffer[]>();
  const operands = takeOperands(row, rest, globals, options);
  if (globals.help) return lineOf(globals, findCommand('help', commands), [Buffer.from(row.name)], new Map());
  const [min, max] = row.operands;
  const usage = `usage: plakarctl ${row.name} ${row.usage}`.trimEnd();
  if (operands.length < min) throw usageFailure(row.name, '', 'missing operand', usage);
  if (operands.length > max)
    throw usageFailure(row.name, safeName(operands[max] ?? Buffer.alloc(0)), 'unexpected operand', usage);
  return lineOf(globals, row, operands, options);
}

function takeOperands(
  row: CommandRow,
  words: Words,
  globals: Globals,
  options: Map<string, Buffer[]>,
): Buffer[] {
  const operands: Buffer[] = [];
  let ended = false;
  for (let word = words.next(); word !== undefined; word = words.next()) {
    if (ended || word[0] !== DASH || word.length === 1) operands.push(word);
    else if (word.length === 2 && word[1] === DASH) ended = true;
    else takeOption(word, row, words, globals, options);
  }
  return operands;
}

function lineOf(
  globals: Globals,
  command: CommandRow,
  operands: readonly Buffer[],
  options: ReadonlyMap<string, readonly Buffer[]>,
): CommandLine {
  const { json, quiet, verbose, socket, repository } = globals;
  return { json, quiet, verbose, socket, repository, command, given: new Given(operands, options) };
}

/**
 * The process's arguments as the bytes they are. Node gives them as text, in
 * which a byte that is not UTF-8 is lost; the kernel still has it.
 * @param commandLine the contents of /proc/self/cmdline, asked for only where a byte was lost
 */
export function argumentBytes(texts: readonly string[], commandLine: () => Buffer): Buffer[] {
  if (!texts.some((text) => text.includes('\ufffd'))) return texts.map((text) => Buffer.from(text));
  const all: Buffer[] = [];
  const line = commandLine();
  for (let start = 0; start < line.length; ) {
    const end = line.indexOf(0, start);
    all.push(line.subarray(start, end < 0 ? line.length : end));
    start = end < 0 ? line.length : end + 1;
  }
  return all.slice(all.length - texts.length);
}
