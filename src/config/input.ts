/**
 * What the grammar reads from: the tokens of one file with macros expanded, and
 * the state that all files of one run share (macros, names, errors, budget).
 *
 * It owns two invariants: a run reads at most STEPS_MAX tokens whatever macros
 * and includes multiply, and reports at most ERRORS_MAX errors. Past either, all
 * input is at its end, so that every loop of the grammar ends too.
 */

import { Failure } from '../error.ts';
import { TEXT_MAX_CHARS, type Token } from './lexer.ts';
import type { ConfigError, FileSource, Position } from './model.ts';
import { shown } from './model.ts';
import { Names } from './names.ts';
import { suggestion } from './suggest.ts';

/** Errors reported in one run. */
const ERRORS_MAX = 100;
/** Tokens read in one run, over all files and expansions. */
export const STEPS_MAX = 1_000_000;
/** Macros in one run. */
const MACROS_MAX = 4096;
/** Tokens in one macro's value. */
export const MACRO_TOKENS_MAX = 1024;

const REFERENCE = /\$([A-Za-z][A-Za-z0-9_]*)/g;

/** What is wrong with a statement: ends the statement, is reported, and reading goes on after it. */
export class Mistake extends Failure {
  readonly at: Position;

  constructor(at: Position, message: string) {
    super(message, '');
    this.at = at;
  }
}

/** The facts that `if` may ask about. */
export interface Machine {
  /** The host's name, short or fully qualified. */
  readonly host: string;
  /** `linux`, as process.platform has it. */
  readonly system: string;
}

interface Macro {
  readonly tokens: readonly Token[];
  /** Set on the command line: the files' own definitions give way. */
  readonly fixed: boolean;
}

/** What all files of one run share. */
export class Session {
  readonly files: FileSource;
  readonly machine: Machine;
  readonly names = new Names();
  readonly errors: ConfigError[] = [];
  /** Paths read, in order, each once. */
  readonly read = new Set<string>();
  /** Files opened so far, and their lengths together. */
  opened = 0;
  bytes = 0;
  /** Tokens read so far. */
  steps = 0;
  stopped = false;
  readonly #macros = new Map<string, Macro>();

  constructor(files: FileSource, machine: Machine) {
    this.files = files;
    this.machine = machine;
  }

  report(at: Position, message: string): void {
    if (this.stopped) return;
    this.stopped = this.errors.length === ERRORS_MAX - 1;
    const { file, line, column } = at;
    this.errors.push({ file, line, column, message: this.stopped ? 'too many errors' : message });
  }

  /** Counts one token against the budget. */
  step(at: Position): void {
    if (++this.steps <= STEPS_MAX) return;
    this.report(at, `more than ${STEPS_MAX} words in all files and macros`);
    this.stopped = true;
  }

  macro(name: string): readonly Token[] | undefined {
    return this.#macros.get(name)?.tokens;
  }

  define(name: string, tokens: readonly Token[], at: Position, fixed = false): void {
    if (this.#macros.get(name)?.fixed === true) return;
    if (this.#macros.size >= MACROS_MAX && !this.#macros.has(name)) {
      throw new Mistake(at, `more than ${MACROS_MAX} macros`);
    }
    this.#macros.set(name, { tokens, fixed });
  }

  macroNames(): Iterable<string> {
    return this.#macros.keys();
  }
}

/** One file's tokens, as the grammar reads them. */
export class Input {
  readonly session: Session;
  /** The file's name, for includes. */
  readonly file: string;
  /** Files that include this one, by identity; the file itself is the last. */
  readonly chain: readonly string[];
  /** The words that begin statements in the block being read; unquoted, they end a list. */
  reserved: ReadonlySet<string> = new Set();
  /** Blocks and branches around the token being read. */
  depth = 0;
  readonly #tokens: readonly Token[];
  readonly #end: Token;
  #next = 0;
  /** What a macro left to be read before the rest of the file. */
  #expanded: readonly Token[] = [];
  #expandedNext = 0;
  #last: Token | undefined;

  /** `tokens` as from `lex`, so the last is `end`. */
  constructor(session: Session, file: string, chain: readonly string[], tokens: readonly Token[]) {
    this.session = session;
    this.file = file;
    this.chain = chain;
    this.#tokens = tokens;
    this.#end = tokens.at(-1) ?? {
      kind: 'end',
      text: 'the end of the file',
      at: { file, line: 1, column: 1 },
      expands: false,
    };
  }

  /** The token last taken. */
  get last(): Token | undefined {
    return this.#last;
  }

  /** The file's token `offset` places ahead, macros as they are written. */
  raw(offset = 0): Token {
    if (this.session.stopped) return this.#end;
    return this.#tokens[this.#next + offset] ?? this.#end;
  }

  /** Takes a token as it is written. */
  takeRaw(): Token {
    this.#expandedNext = this.#expanded.length;
    const token = this.raw();
    this.session.step(token.at);
    if (token.kind !== 'end') this.#next++;
    this.#last = token;
    return token;
  }

  /** The next token, macros expanded. An invalid one is a mistake. */
  peek(): Token {
    if (this.session.stopped) return this.#end;
    const pending = this.#expanded[this.#expandedNext];
    if (pending !== undefined) return pending;
    const token = this.raw();
    if (token.kind === 'invalid') throw new Mistake(token.at, token.text);
    if (!token.expands) return token;
    const expanded = this.#expand(token);
    this.#expanded = expanded;
    this.#expandedNext = 0;
    this.#next++;
    return expanded[0] ?? this.#end;
  }

  take(): Token {
    const token = this.peek();
    this.session.step(token.at);
    if (this.#expandedNext < this.#expanded.length) this.#expandedNext++;
    else if (token.kind !== 'end') this.#next++;
    this.#last = token;
    return token;
  }

  /** Takes the next token if it is the unquoted word `keyword`. */
  accept(keyword: string): boolean {
    const token = this.peek();
    if (token.kind !== 'word' || token.text !== keyword) return false;
    this.take();
    return true;
  }

  /** The mistake of finding the next token where `expected` belongs. */
  unexpected(expected: string): Mistake {
    const token = this.peek();
    const found = token.kind === 'word' || token.kind === 'string' || token.text.length < 3;
    return new Mistake(token.at, `expected ${expected}, found ${found ? shown(token.text) : token.text}`);
  }

  skipNewlines(): void {
    while (this.peek().kind === 'newline') this.take();
  }

  /** Where the next token is, for `recover`. */
  mark(): number {
    return this.#next;
  }

  /**
   * After a mistake in the statement that began at `start`: goes on behind it and
   * the blocks in it. A `}` that closes the block around it is left.
   */
  recover(start: number): void {
    const failed = this.#next;
    let depth = 0;
    this.#next = start;
    for (let token = this.raw(); token.kind !== 'end'; token = this.raw()) {
      const goesOn = depth > 0 || this.#next < failed || this.#last?.kind === ',';
      if (token.kind === 'newline' && !goesOn) return;
      if (token.kind === '}' && depth-- === 0) return;
      if (token.kind === '{') depth++;
      this.takeRaw();
    }
  }

  /** What a word that names macros stands for: all of a macro's tokens, or one word made of several. */
  #expand(token: Token): readonly Token[] {
    const whole = /^\$(\w+)$/.exec(token.text)?.[1];
    if (whole !== undefined) {
      const { at } = token;
      return this.#macro(whole, at).map((part) => ({ ...part, at }));
    }
    let quoted = false;
    const text = token.text.replace(REFERENCE, (_, name: string) => {
      const [only, more] = this.#macro(name, token.at);
      if (only === undefined || more !== undefined || (only.kind !== 'word' && only.kind !== 'string')) {
        throw new Mistake(
          token.at,
          `macro ${shown(name)} holds several values, and cannot be part of a word`,
        );
      }
      quoted ||= only.kind === 'string';
      return only.text;
    });
    if (text.length > TEXT_MAX_CHARS) throw new Mistake(token.at, 'the word is too long, once expanded');
    return [{ kind: quoted ? 'string' : 'word', text, at: token.at, expands: false }];
  }

  #macro(name: string, at: Position): readonly Token[] {
    const tokens = this.session.macro(name);
    if (tokens !== undefined) return tokens;
    throw new Mistake(
      at,
      `macro ${shown(name)} is not defined${suggestion(name, this.session.macroNames())}`,
    );
  }
}
