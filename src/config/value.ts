/**
 * The values of statements: how each kind of word, number, size, time, path and
 * list is read and what it may be. One reads a value's tokens, checks it against
 * its bounds, and throws a Mistake at it. What one accepts, print.ts writes so
 * that it reads back the same.
 */

import { type Input, Mistake } from './input.ts';
import type { Token } from './lexer.ts';
import { type RateLimit, shown } from './model.ts';
import { suggestion } from './suggest.ts';

/** A kind of value: how to read one, and what to call it where it is missing. */
export interface Value<T> {
  readonly expected: string;
  /** Takes the value's tokens; throws a Mistake. */
  parse(input: Input): T;
}

/** Items in one list. */
export const LIST_MAX = 4096;
/** PATH_MAX, without its NUL. */
const PATH_MAX_BYTES = 4095;
/** As long as a duration can be: a hundred years. */
const DURATION_MAX_S = 100 * 365 * 86_400;
/** Longer digits are no number that fits. */
const DIGITS_MAX = 16;

/** Suffixes of sizes, and their bytes. */
export const SIZE_UNITS: readonly (readonly [suffix: string, bytes: number])[] = [
  ['P', 1024 ** 5],
  ['T', 1024 ** 4],
  ['G', 1024 ** 3],
  ['M', 1024 ** 2],
  ['K', 1024],
];
/** Suffixes of durations, and their seconds. */
export const DURATION_UNITS: readonly (readonly [suffix: string, seconds: number])[] = [
  ['w', 7 * 86_400],
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
  ['s', 1],
];

/** A word or string, whatever it holds. */
export function word(expected: string): Value<Token> {
  return {
    expected,
    parse(input) {
      const { kind } = input.peek();
      if (kind !== 'word' && kind !== 'string') throw input.unexpected(expected);
      return input.take();
    },
  };
}

/** A word or string that `convert` makes a T of; undefined where it cannot. */
export function text<T>(expected: string, convert: (text: string) => T | undefined): Value<T> {
  const any = word(expected);
  return {
    expected,
    parse(input) {
      const token = any.parse(input);
      const value = convert(token.text);
      if (value === undefined) {
        throw new Mistake(token.at, `expected ${expected}, found ${shown(token.text)}`);
      }
      return value;
    },
  };
}

/** `value`, and `check` says what is wrong with it, or nothing. */
export function checked<T>(value: Value<T>, check: (value: T) => string | undefined): Value<T> {
  return {
    expected: value.expected,
    parse(input) {
      const { at } = input.peek();
      const read = value.parse(input);
      const wrong = check(read);
      if (wrong !== undefined) throw new Mistake(at, wrong);
      return read;
    },
  };
}

/** One of `words`. */
export function oneOf<const W extends string>(words: readonly W[]): Value<W> {
  const expected = words.length === 1 ? shown(words[0] ?? '') : `one of ${words.join(', ')}`;
  const any = word(expected);
  return {
    expected,
    parse(input) {
      const { text: found, at } = any.parse(input);
      const value = words.find((candidate) => candidate === found);
      if (value !== undefined) return value;
      const near = suggestion(found, words);
      throw new Mistake(
        at,
        near === '' ? `expected ${expected}, found ${shown(found)}` : `unknown word ${shown(found)}${near}`,
      );
    },
  };
}

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number): Value<number> {
  return text(`a number from ${min} to ${max}`, (digits) => {
    if (!/^\d+$/.test(digits) || digits.length > DIGITS_MAX) return undefined;
    const number = Number(digits);
    return number >= min && number <= max ? number : undefined;
  });
}

/** Bytes: `64M`, `1G`, or a plain number of them. */
function bytes(size: string): number | undefined {
  const [, digits = '', suffix = ''] = /^(\d{1,16})([KMGTP]?)$/i.exec(size) ?? [];
  const unit = SIZE_UNITS.find(([name]) => name === suffix.toUpperCase())?.[1] ?? 1;
  const value = Number(digits) * unit;
  return digits !== '' && Number.isSafeInteger(value) ? value : undefined;
}

/** A size in bytes, at least `min`. */
export function size(min: number): Value<number> {
  return checked(text('a size such as 64M', bytes), (value) =>
    value < min ? `the size is too small: at least ${min} bytes are needed` : undefined,
  );
}

/** Bytes a second: `10M`, `10M/s`. */
const rate: Value<number> = text('a rate such as 10M', (found) => {
  const value = bytes(found.replace(/\/s$/, ''));
  return value === 0 ? undefined : value;
});

/** Seconds: `90s`, `1h`, `1h30m`; undefined where it is no duration. */
export function parseDuration(found: string): number | undefined {
  if (!/^(?:\d{1,10}[smhdw]){1,5}$/.test(found)) return undefined;
  let seconds = 0;
  for (const [, digits, suffix] of found.matchAll(/(\d+)([smhdw])/g)) {
    seconds += Number(digits) * (DURATION_UNITS.find(([name]) => name === suffix)?.[1] ?? 0);
  }
  return seconds > 0 && seconds <= DURATION_MAX_S ? seconds : undefined;
}

export const duration: Value<number> = text('a duration such as 1h', parseDuration);

/** Minutes after midnight: `03:30`. */
export const clock: Value<number> = text('a time such as 03:30', (found) => {
  const [, hour, minute] = /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(found) ?? [];
  return hour === undefined ? undefined : Number(hour) * 60 + Number(minute);
});

/** What `clock` reads. */
export function timeOfDay(minuteOfDay: number): string {
  const pad = (number: number): string => String(number).padStart(2, '0');
  return `${pad(Math.floor(minuteOfDay / 60))}:${pad(minuteOfDay % 60)}`;
}

/** A rate, and the times of day that it holds between: `10M between 08:00 and 18:00`. */
export const rateLimit: Value<RateLimit> = {
  expected: rate.expected,
  parse(input) {
    const bytesPerSecond = rate.parse(input);
    if (!input.accept('between')) return { bytesPerSecond };
    const from = clock.parse(input);
    if (!input.accept('and')) throw input.unexpected(`'and'`);
    const { at } = input.peek();
    const to = clock.parse(input);
    if (from === to) throw new Mistake(at, 'the two times are the same');
    return { bytesPerSecond, between: { from, to } };
  },
};

/** Permission bits in octal: `0660`. */
export const mode: Value<number> = text('a mode such as 0660', (found) =>
  /^0?[0-7]{3}$/.test(found) ? Number.parseInt(found, 8) : undefined,
);

/** An absolute path, normalized, of at most `maxBytes`. */
export function absolutePath(maxBytes = PATH_MAX_BYTES): Value<string> {
  return checked(
    text('an absolute path', (found) => (found.startsWith('/') ? tidy(found) : undefined)),
    (found) => wrongPath(found, maxBytes),
  );
}

/** Without `//`, `/./` and a slash at the end. */
export function tidy(found: string): string {
  const parts = found.split('/').filter((part) => part !== '' && part !== '.');
  return `/${parts.join('/')}`;
}

/** What is wrong with a tidy path, if anything. A `..` is refused, as links make it lead elsewhere. */
export function wrongPath(found: string, maxBytes = PATH_MAX_BYTES): string | undefined {
  if (Buffer.byteLength(found) > maxBytes) return `the path is longer than ${maxBytes} bytes`;
  if (found.split('/').includes('..')) return `the path must not contain '..'`;
  return undefined;
}

/** A user's or group's name, or its number; never `root`'s where `unprivileged`. */
export function account(kind: 'user' | 'group', { unprivileged = false } = {}): Value<string> {
  const named = text(`a ${kind}'s name or number`, (found) => {
    if (/^\d+$/.test(found)) return numericId(found)?.toString();
    return /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?$/.test(found) ? found : undefined;
  });
  return checked(named, (found) =>
    unprivileged && (found === '0' || found === 'root') ? 'children never run as root' : undefined,
  );
}

/** The largest user id; the one after it means "none" to the system. */
const ID_MAX = 2 ** 32 - 2;

/** The id that decimal digits stand for; undefined if they are none. */
export function numericId(digits: string): number | undefined {
  if (!/^\d{1,10}$/.test(digits)) return undefined;
  const id = Number(digits);
  return id <= ID_MAX ? id : undefined;
}

/**
 * `{ a, b }`, over any number of lines, or `a, b` to the end of the statement,
 * where a line may end after a comma. Commas may be left out. The words `until`
 * end it too.
 */
export function list<T>(item: Value<T>, { until = [] }: { until?: readonly string[] } = {}): Value<T[]> {
  return {
    expected: item.expected,
    parse: (input) => {
      if (input.peek().kind === '{') return braced(item).parse(input);
      const items: T[] = [];
      do push(items, item.parse(input), input);
      while (continues(input, until));
      return items;
    },
  };
}

/** `{ a, b }` alone. */
export function braced<T>(item: Value<T>): Value<T[]> {
  return {
    expected: `a list such as { ${item.expected} }`,
    parse(input) {
      const open = input.peek();
      if (open.kind !== '{') throw input.unexpected(`'{'`);
      input.take();
      const items: T[] = [];
      for (;;) {
        const { kind } = input.peek();
        if (kind === 'end') throw new Mistake(open.at, `this '{' is never closed`);
        if (kind === ',' || kind === 'newline') input.take();
        else if (kind === '}') break;
        else push(items, item.parse(input), input);
      }
      input.take();
      if (items.length === 0) throw new Mistake(open.at, 'the list is empty');
      return items;
    },
  };
}

function push<T>(items: T[], item: T, input: Input): void {
  if (items.length >= LIST_MAX) throw new Mistake(input.peek().at, `more than ${LIST_MAX} in one list`);
  items.push(item);
}

/** Whether a list without braces goes on; takes the comma, and the line's end after it. */
function continues(input: Input, until: readonly string[]): boolean {
  if (input.peek().kind === ',') {
    input.take();
    input.skipNewlines();
  }
  const { kind, text } = input.peek();
  return kind === 'string' || (kind === 'word' && !input.reserved.has(text) && !until.includes(text));
}

/** Values that each follow a keyword, each at most once, in any order. */
export function options<const O extends Readonly<Record<string, Value<unknown>>>>(
  values: O,
): Value<{ [K in keyof O]?: O[K] extends Value<infer T> ? T : never }> {
  return {
    expected: Object.keys(values).join(', '),
    parse(input) {
      const found: Record<string, unknown> = {};
      for (let token = input.peek(); token.kind === 'word'; token = input.peek()) {
        const value = Object.hasOwn(values, token.text) ? values[token.text] : undefined;
        if (value === undefined) break;
        if (Object.hasOwn(found, token.text)) throw new Mistake(token.at, `'${token.text}' is given twice`);
        input.take();
        found[token.text] = value.parse(input);
      }
      // Each key was read by the value of that name.
      return found as { [K in keyof O]?: O[K] extends Value<infer T> ? T : never };
    },
  };
}
