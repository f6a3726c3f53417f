/**
 * What may stand among the statements of any table: macros and includes in the
 * outermost, conditions everywhere. Called by the grammar before it tries rows.
 *
 * What a condition rules out is not read at all: only its braces and quotes must
 * match. So it may use macros and files that this machine does not have.
 */

import path from 'node:path';
import { describe, Failure } from '../error.ts';
import { openFile } from './file.ts';
import type { Grammar, Scope } from './grammar.ts';
import { type Input, MACRO_TOKENS_MAX, Mistake, type Session } from './input.ts';
import type { Token } from './lexer.ts';
import { type Position, shown } from './model.ts';
import { braced, word } from './value.ts';

/** Blocks and branches within each other, over all files. */
const DEPTH_MAX = 16;
/** Files that include each other: the outermost is the first. */
const INCLUDE_DEPTH_MAX = 16;

const MACRO_NAME = /^[A-Za-z][A-Za-z0-9_]*$/;
/** A value that is one word, and so may be a keyword; any other is one string. */
const PLAIN = /^[\w./:@+%-]+$/;

/** The grammar's `statements`, which this cannot import as it is imported there. */
type Statements = <D>(input: Input, rows: Grammar<D>, into: Scope<D>, nested: boolean) => void;

/** Reads the next statement if it is a directive; returns whether it was. */
export function directive<D>(input: Input, rows: Grammar<D>, into: Scope<D>, read: Statements): boolean {
  const { kind, text } = input.raw();
  if (kind !== 'word') return false;
  if (rows.top && input.raw(1).kind === '=') define(input, rows.keywords);
  else if (rows.top && text === 'include') include(input, rows, into, read);
  else if (text === 'if') condition(input, rows, into, read);
  else return false;
  return true;
}

/** Takes the `{` of a block or branch. */
export function openBlock(input: Input): Position {
  const { kind, at } = input.peek();
  if (kind !== '{') throw input.unexpected(`'{'`);
  if (input.depth >= DEPTH_MAX) throw new Mistake(at, `more than ${DEPTH_MAX} blocks within each other`);
  input.take();
  input.depth++;
  return at;
}

/** Takes the `}` of the block that was opened at `open`. */
export function closeBlock(input: Input, open: Position): void {
  if (input.peek().kind !== '}') throw new Mistake(open, `this '{' is never closed`);
  input.take();
  input.depth--;
}

/** `name = value…`, to the end of the line or, within braces, over many. */
function define(input: Input, keywords: ReadonlySet<string>): void {
  const { text: name, at } = input.takeRaw();
  if (!MACRO_NAME.test(name)) throw new Mistake(at, `${shown(name)} cannot name a macro`);
  if (keywords.has(name)) throw new Mistake(at, `'${name}' begins a statement, and cannot name a macro`);
  input.takeRaw();
  const tokens: Token[] = [];
  let depth = 0;
  for (;;) {
    const token = input.peek();
    if (token.kind === 'end' || (depth === 0 && (token.kind === 'newline' || token.kind === '}'))) break;
    if (token.kind === '{') depth++;
    if (token.kind === '}') depth--;
    if (tokens.length >= MACRO_TOKENS_MAX) {
      throw new Mistake(at, `macro ${shown(name)} has more than ${MACRO_TOKENS_MAX} words`);
    }
    tokens.push(input.take());
  }
  if (depth > 0) throw new Mistake(at, `macro ${shown(name)} has a '{' that is never closed`);
  if (tokens.length === 0) throw input.unexpected(`a value for macro ${shown(name)}`);
  input.session.define(name, tokens, at);
}

/** Sets a macro as `-D` does: to one word or string, which no file changes. Throws a Mistake at `at`. */
export function defineFixed(session: Session, name: string, value: string, at: Position): void {
  if (!MACRO_NAME.test(name)) throw new Mistake(at, `${shown(name)} cannot name a macro`);
  const kind = PLAIN.test(value) ? 'word' : 'string';
  session.define(name, [{ kind, text: value, at, expands: false }], at, true);
}

/** `include PATH`: a relative path is beside the file that includes. */
function include<D>(input: Input, rows: Grammar<D>, into: Scope<D>, read: Statements): void {
  input.takeRaw();
  const { at } = input.peek();
  const { text } = word(`a file's path`).parse(input);
  const file = path.isAbsolute(text) ? text : path.join(path.dirname(input.file), text);
  if (input.chain.length >= INCLUDE_DEPTH_MAX) {
    throw new Mistake(at, `more than ${INCLUDE_DEPTH_MAX} files that include each other`);
  }
  let included: Input;
  try {
    included = openFile(input.session, file, input.chain);
  } catch (error) {
    throw new Mistake(at, describe(new Failure('include', file, { cause: error })));
  }
  included.depth = input.depth;
  read(included, rows, into, false);
}

/** `if … { … } else if … { … } else { … }`. */
function condition<D>(input: Input, rows: Grammar<D>, into: Scope<D>, read: Statements): void {
  let settled = false;
  for (let last = false; ; ) {
    if (!last) input.takeRaw();
    const holds = last || test(input);
    const open = openBlock(input);
    if (holds && !settled) read(input, rows, into, true);
    else skipBranch(input);
    closeBlock(input, open);
    settled ||= holds;
    if (last || !acceptElse(input)) return;
    const next = input.raw();
    last = next.kind !== 'word' || next.text !== 'if';
  }
}

/** Takes an `else`, on this line or a later one. */
function acceptElse(input: Input): boolean {
  let newlines = 0;
  while (input.raw(newlines).kind === 'newline') newlines++;
  const { kind, text } = input.raw(newlines);
  if (kind !== 'word' || text !== 'else') return false;
  for (let taken = 0; taken <= newlines; taken++) input.takeRaw();
  return true;
}

/** Goes to the `}` of a branch that is not read. */
function skipBranch(input: Input): void {
  let depth = 0;
  for (let token = input.raw(); token.kind !== 'end'; token = input.raw()) {
    if (token.kind === '}' && depth-- === 0) return;
    if (token.kind === '{') depth++;
    if (token.kind === 'invalid') input.session.report(token.at, token.text);
    input.takeRaw();
  }
}

/** `[not] defined NAME`, `[not] host NAME`, `[not] system NAME`, `[not] VALUE = VALUE`. */
function test(input: Input): boolean {
  const not = input.accept('not');
  return not !== comparison(input);
}

function comparison(input: Input): boolean {
  const { host, system } = input.session.machine;
  if (input.accept('defined')) {
    return input.session.macro(word(`a macro's name`).parse(input).text) !== undefined;
  }
  if (input.accept('host')) return compare(input, [host, host.split('.', 1)[0] ?? host], true);
  if (input.accept('system')) return compare(input, [system], true);
  const value = word(`'host', 'system', 'defined' or a macro`).parse(input);
  return compare(input, [value.text], false);
}

/** An operator, which a fact may go without, and the words that one of `values` is to be among. */
function compare(input: Input, values: readonly string[], fact: boolean): boolean {
  const { kind } = input.peek();
  const operator = kind === '=' || kind === '==' || kind === '!=';
  if (operator) input.take();
  else if (!fact) throw input.unexpected(`'=' or '!='`);
  const item = word('a name');
  const wanted = input.peek().kind === '{' ? braced(item).parse(input) : [item.parse(input)];
  const same = (a: string, b: string) => (fact ? a.toLowerCase() === b.toLowerCase() : a === b);
  return (kind === '!=') !== wanted.some(({ text }) => values.some((value) => same(value, text)));
}
