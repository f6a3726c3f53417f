/**
 * The engine of the grammar: statements are rows of a table (statement.ts), each
 * a list of keywords and values and what to do with them; this reads statements
 * by such a table. Conditions, includes and macros are the same in every table,
 * and are in directive.ts.
 *
 * A mistake ends its statement alone: it is reported with its place, and reading
 * goes on with the next statement, so that one run tells all that is wrong.
 */

import { closeBlock, directive, openBlock } from './directive.ts';
import { type Input, Mistake } from './input.ts';
import type { Token } from './lexer.ts';
import { type Position, shown } from './model.ts';
import { suggestion } from './suggest.ts';
import type { Value } from './value.ts';

/** A keyword, or a value. */
type Part = string | Value<unknown>;

/** The values among the parts, in order. */
type ValuesOf<P extends readonly Part[]> = P extends readonly [infer H, ...infer R extends readonly Part[]]
  ? H extends Value<infer T>
    ? [T, ...ValuesOf<R>]
    : ValuesOf<R>
  : [];

/** A block being filled: what its statements write to, and which of them it has had. */
export interface Scope<D> {
  readonly draft: D;
  readonly given: Map<string, Position>;
}

export function scope<D>(draft: D): Scope<D> {
  return { draft, given: new Map() };
}

/** The statement that a row's action is called for. */
export interface Statement<D> {
  readonly draft: D;
  readonly at: Position;
  /** Nothing within the statement was wrong; if something was, what is missing may be just that. */
  readonly sound: boolean;
  /** Refuses the statement if this block has had `label` before. */
  once(label: string): void;
  /** The mistake to throw when the statement as a whole makes no sense. */
  mistake(message: string): Mistake;
}

/** A row of a table. */
export interface Rule<D> {
  readonly parts: readonly Part[];
  readonly apply: (statement: Statement<D>, values: readonly unknown[]) => void;
}

/** The statements of one kind of block. */
export interface Grammar<D> {
  readonly rules: readonly Rule<D>[];
  /** Whether macros may be defined and files included here. */
  readonly top: boolean;
  readonly keywords: ReadonlySet<string>;
}

/** Makes rows that write to a `D`: `row(['set', 'cpu', integer], ({ draft }, cpu) => …)`. */
export function rowsFor<D>() {
  return <const P extends readonly Part[]>(
    parts: P,
    action: (statement: Statement<D>, ...values: ValuesOf<P>) => void,
  ): Rule<D> => ({
    parts,
    // The values come from these very parts, in their order.
    apply: (statement, values) => action(statement, ...(values as ValuesOf<P>)),
  });
}

/** Words that begin a statement in every block, and in the outermost alone. */
const EVERYWHERE = ['if', 'else'];
const OUTERMOST = ['include'];

export function grammar<D>(rules: readonly Rule<D>[], { top = false } = {}): Grammar<D> {
  const first = rules.map((rule) => rule.parts[0]).filter((part) => typeof part === 'string');
  return { rules, top, keywords: new Set([...first, ...EVERYWHERE, ...(top ? OUTERMOST : [])]) };
}

/** Reads statements until the file ends or, where `nested`, until the `}` that is left to the caller. */
export function statements<D>(input: Input, rows: Grammar<D>, into: Scope<D>, nested: boolean): void {
  const outer = input.reserved;
  input.reserved = rows.keywords;
  for (;;) {
    const token = input.raw();
    if (token.kind === 'end' || (token.kind === '}' && nested)) break;
    if (token.kind === '}') input.session.report(token.at, `unexpected '}'`);
    if (token.kind === '}' || token.kind === 'newline') input.takeRaw();
    else guarded(input, rows, into);
  }
  input.reserved = outer;
}

function guarded<D>(input: Input, rows: Grammar<D>, into: Scope<D>): void {
  const start = input.mark();
  const { depth, reserved } = input;
  try {
    if (!directive(input, rows, into, statements)) statement(input, rows, into);
    endOfStatement(input);
  } catch (error) {
    if (!(error instanceof Mistake)) throw error;
    input.depth = depth;
    input.reserved = reserved;
    input.session.report(error.at, error.message);
    input.recover(start);
  }
}

/** `{ … }` with statements of its own, which fill what `make` makes. */
export function block<D>(rows: Grammar<D>, make: () => D): Value<D> {
  return {
    expected: `'{'`,
    parse(input) {
      const draft = make();
      const open = openBlock(input);
      statements(input, rows, scope(draft), true);
      closeBlock(input, open);
      return draft;
    },
  };
}

/** Reads one statement by the row that its keywords choose. */
function statement<D>(input: Input, rows: Grammar<D>, { draft, given }: Scope<D>): void {
  const { at } = input.peek();
  const { errors } = input.session;
  const before = errors.length;
  const [rule, read] = choose(input, rows);
  const values: unknown[] = [];
  for (const part of rule.parts.slice(read)) {
    if (typeof part !== 'string') values.push(part.parse(input));
    else if (!input.accept(part)) throw input.unexpected(shown(part));
  }
  const once = (label: string) => {
    const first = given.get(label);
    if (first !== undefined) {
      throw new Mistake(at, `'${label}' is given twice (first at ${first.file}:${first.line})`);
    }
    given.set(label, at);
  };
  const sound = errors.length === before;
  rule.apply({ draft, at, sound, once, mistake: (message) => new Mistake(at, message) }, values);
}

/** Takes keywords as long as they tell rows apart; returns the row, and how many of its parts were taken. */
function choose<D>(input: Input, rows: Grammar<D>): [rule: Rule<D>, read: number] {
  let candidates = rows.rules;
  for (let read = 0; ; read++) {
    const token = input.peek();
    const matching = candidates.filter(({ parts }) => token.kind === 'word' && parts[read] === token.text);
    const [first, second] = matching;
    if (first === undefined) throw noRow(input, token, candidates, read, rows);
    input.take();
    if (second === undefined) return [first, read + 1];
    candidates = matching;
  }
}

/** The mistake of a token that begins or continues no row. */
function noRow<D>(
  input: Input,
  token: Token,
  candidates: readonly Rule<D>[],
  read: number,
  rows: Grammar<D>,
) {
  const words = read === 0 ? [...rows.keywords] : candidates.map(({ parts }) => String(parts[read]));
  const expected = [...new Set(words)].filter((word) => word !== 'else').join(', ');
  if (token.kind === 'string' && words.includes(token.text)) {
    return new Mistake(token.at, `${shown(token.text)} means something here only without quotes`);
  }
  if (token.kind !== 'word') return input.unexpected(`one of ${expected}`);
  if (token.text === 'else') return new Mistake(token.at, `'else' without an 'if'`);
  const near = suggestion(token.text, words);
  if (near === '') return input.unexpected(`one of ${expected}`);
  return new Mistake(token.at, `unknown ${read === 0 ? 'statement' : 'word'} ${shown(token.text)}${near}`);
}

/** A statement ends with its line, a comma, or the block it is in. */
function endOfStatement(input: Input): void {
  const { kind } = input.peek();
  if (kind === ',') input.take();
  else if (kind !== 'newline' && kind !== '}' && kind !== 'end') {
    if (input.last?.kind === ',' || input.last?.kind === 'newline') return;
    throw input.unexpected('the end of the statement');
  }
}
