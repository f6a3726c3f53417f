/**
 * Takes a line of the shell apart into words, as sh(1) does for what people
 * type: blanks between words, '…' as it is, "…" and what stands free with
 * backslashes, # for the rest of the line. A backslash escape is one of those
 * that names are printed with (escape.ts), so that what `ls` shows can be typed
 * back, byte for byte; before anything else it takes away its meaning.
 */
import { usageFailure } from './arguments.ts';

const NAMED: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r' };
const HEX_BYTE = /^x([0-9a-f]{2})/i;
const HEX_CHARACTER = /^u\{([0-9a-f]{1,6})\}/i;
const CHARACTER_MAX = 0x10ffff;

/** What separates words; other white space may be in a name. */
const BLANK = /[ \t\r\n]/;

/** The word that a line ends in while it is typed, for completion. */
export interface Unfinished {
  /** the words before it */
  readonly before: readonly Buffer[];
  /** its bytes so far */
  readonly word: Buffer;
  /** its text as it stands in the line */
  readonly text: string;
}

class Scanner {
  readonly #line: string;
  #at = 0;
  /** what quote the line ended in */
  #open = '';
  #start = 0;

  constructor(line: string) {
    this.#line = line;
  }

  get open(): string {
    return this.#open;
  }

  /** Where the last word began. */
  get start(): number {
    return this.#start;
  }

  /** The next word, or undefined at the end. */
  next(): Buffer | undefined {
    while (BLANK.test(this.#line[this.#at] ?? '')) this.#at++;
    this.#start = this.#at;
    if (this.#at >= this.#line.length || this.#line[this.#at] === '#') return undefined;
    const parts: Buffer[] = [];
    while (this.#at < this.#line.length && !BLANK.test(this.#line[this.#at] ?? '')) parts.push(this.#part());
    return Buffer.concat(parts);
  }

  /** A quoted stretch, an escape, or one character. */
  #part(): Buffer {
    const character = this.#character();
    if (character === "'") return this.#quoted("'", false);
    if (character === '"') return this.#quoted('"', true);
    return character === '\\' ? this.#escape() : Buffer.from(character);
  }

  #character(): string {
    const character = String.fromCodePoint(this.#line.codePointAt(this.#at) ?? 0);
    this.#at += character.length;
    return character;
  }

  #quoted(quote: string, escapes: boolean): Buffer {
    const parts: Buffer[] = [];
    while (this.#at < this.#line.length) {
      const character = this.#character();
      if (character === quote) return Buffer.concat(parts);
      parts.push(escapes && character === '\\' ? this.#escape() : Buffer.from(character));
    }
    this.#open = quote;
    return Buffer.concat(parts);
  }

  #escape(): Buffer {
    const rest = this.#line.slice(this.#at, this.#at + 10);
    const byte = HEX_BYTE.exec(rest);
    if (byte !== null) {
      this.#at += byte[0].length;
      return Buffer.of(Number.parseInt(byte[1] ?? '', 16));
    }
    const code = HEX_CHARACTER.exec(rest);
    const number = Number.parseInt(code?.[1] ?? '', 16);
    if (code !== null && number <= CHARACTER_MAX) {
      this.#at += code[0].length;
      return Buffer.from(String.fromCodePoint(number));
    }
    if (rest === '') {
      this.#open = '\\';
      return Buffer.alloc(0);
    }
    const character = this.#character();
    return Buffer.from(NAMED[character] ?? character);
  }
}

/** The words of a whole line. Throws a usage Failure where a quote is not closed. */
export function splitWords(line: string): Buffer[] {
  const scanner = new Scanner(line);
  const words: Buffer[] = [];
  for (let word = scanner.next(); word !== undefined; word = scanner.next()) words.push(word);
  if (scanner.open !== '') throw usageFailure('line', '', `${scanner.open} is not closed`);
  return words;
}

/** The words of a line that is being typed, whose last is not finished. */
export function unfinishedWords(line: string): Unfinished {
  const scanner = new Scanner(line);
  const before: Buffer[] = [];
  let start = line.length;
  for (let word = scanner.next(); word !== undefined; word = scanner.next()) {
    before.push(word);
    start = scanner.start;
  }
  const ended = BLANK.test(line.at(-1) ?? '') && scanner.open === '';
  const word = ended ? undefined : before.pop();
  return { before, word: word ?? Buffer.alloc(0), text: word === undefined ? '' : line.slice(start) };
}

/** A name as it can be typed: printed as everywhere, and with a backslash before what has a meaning here. */
export function typed(shown: string): string {
  return shown.replace(/['"# ]/g, '\\$&');
}
