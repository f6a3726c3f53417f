/**
 * The lexer of plakard.conf: a file's text as tokens with their positions. It
 * knows characters, quotes, comments and continued lines, and no keyword: a word
 * is a keyword where the grammar says so, and a quoted string never is. Macros
 * are expanded later (input.ts), as only the grammar knows which parts are read.
 *
 * It never fails: what is no token becomes an `invalid` one that says why, and
 * the grammar reports it if it gets there. Time is linear in the text.
 */

import { type Position, shown } from './model.ts';

export type TokenKind =
  | 'word'
  | 'string'
  | '{'
  | '}'
  | ','
  | '='
  | '=='
  | '!='
  | 'newline'
  | 'end'
  | 'invalid';

export interface Token {
  readonly kind: TokenKind;
  /** A word or string without quotes and escapes; for `invalid`, what is wrong. */
  readonly text: string;
  readonly at: Position;
  /** The word names macros, and is not what it will be once they are expanded. */
  readonly expands: boolean;
}

/** The longest word or string, in characters: a path of 4095 bytes fits. */
export const TEXT_MAX_CHARS = 8192;
/** Tokens in one file. */
export const FILE_TOKENS_MAX = 200_000;

/** What stands for itself, longest first. */
const PUNCTUATION: readonly TokenKind[] = ['==', '!=', '=', '{', '}', ','];
/** What an unquoted word may not hold: white space, what means something, and what may come to mean something. */
const WORD = /[^\s\0-\x1f\x7f{}(),<>=!;#"'\\`]+/y;
const BLANK = /[ \t]+|\r(?=\n)|\\\r?\n/y;
/** To the end of the line; a continued line is all comment. */
const COMMENT = /#[^\n\\]*(?:\\(?:\r?\n)?[^\n\\]*)*/y;
const MACRO_REFERENCE = /\$(?![A-Za-z])/;
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\', '"': '"', "'": "'", n: '\n', t: '\t' };

/** The tokens of `text`; the last is `end`. `file` is the name for positions. */
export function lex(file: string, text: string): Token[] {
  return new Lexer(file, text).run();
}

class Lexer {
  readonly #file: string;
  readonly #text: string;
  readonly #tokens: Token[] = [];
  #offset = 0;
  #line = 1;
  #lineStart = 0;

  constructor(file: string, text: string) {
    this.#file = file;
    this.#text = text;
  }

  run(): Token[] {
    while (this.#offset < this.#text.length) {
      if (this.#tokens.length >= FILE_TOKENS_MAX) {
        this.#push('invalid', `more than ${FILE_TOKENS_MAX} words in one file`, this.#here());
        break;
      }
      this.#step();
    }
    this.#push('end', 'the end of the file', this.#here());
    return this.#tokens;
  }

  #step(): void {
    if (this.#match(BLANK) !== undefined || this.#match(COMMENT) !== undefined) return;
    const at = this.#here();
    const character = this.#text.charAt(this.#offset);
    if (character === '\n') {
      this.#match(/\n/y);
      this.#push('newline', 'the end of the line', at);
    } else if (character === '"' || character === "'") {
      this.#string(character, at);
    } else {
      this.#word(at);
    }
  }

  #word(at: Position): void {
    const kind = PUNCTUATION.find((sign) => this.#text.startsWith(sign, this.#offset));
    if (kind !== undefined) {
      this.#offset += kind.length;
      this.#push(kind, kind, at);
      return;
    }
    const word = this.#match(WORD);
    const wrong = word === undefined ? this.#stray() : wrongWord(word);
    if (wrong !== undefined) this.#push('invalid', wrong, at);
    else if (word !== undefined) this.#push('word', word, at, word.includes('$'));
  }

  /** Takes a character that begins no token; says what is wrong with it. */
  #stray(): string {
    const character = this.#text.charAt(this.#offset);
    this.#offset++;
    const hint = character === '\\' ? 'a backslash must end the line' : 'quote it';
    return `unexpected character ${shown(character)} (${hint})`;
  }

  /** A quoted string. An unterminated one ends with its line, so that what follows is still read. */
  #string(quote: string, at: Position): void {
    this.#offset++;
    const pieces: string[] = [];
    let wrong: string | undefined;
    const plain = quote === '"' ? /[^"\\\n]+/y : /[^'\\\n]+/y;
    for (;;) {
      const piece = this.#match(plain);
      if (piece !== undefined) {
        pieces.push(piece);
        continue;
      }
      const next = this.#text.charAt(this.#offset);
      if (next !== '\\') {
        if (next === quote) this.#offset++;
        else wrong = 'the string is never closed';
        break;
      }
      const escaped = this.#escape();
      if (escaped === undefined) wrong ??= `unknown escape (write '\\\\' for a backslash)`;
      else pieces.push(escaped);
    }
    const text = pieces.join('');
    if (text.length > TEXT_MAX_CHARS) wrong ??= 'the string is too long';
    if (text.includes('\0')) wrong ??= 'a string cannot hold a NUL';
    this.#push(wrong === undefined ? 'string' : 'invalid', wrong ?? text, at);
  }

  /** What the escape at the offset stands for; undefined if it is none. */
  #escape(): string | undefined {
    if (this.#match(/\\\r?\n/y) !== undefined) return '';
    const code = this.#match(/\\x[0-7][0-9a-fA-F]/y);
    if (code !== undefined) return String.fromCharCode(Number.parseInt(code.slice(2), 16));
    const meaning = ESCAPES[this.#text.charAt(this.#offset + 1)];
    this.#offset += meaning === undefined ? 1 : 2;
    return meaning;
  }

  /** Takes what `pattern` (sticky) matches at the offset, and counts the lines in it. */
  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#offset;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) return undefined;
    for (let newline = found.indexOf('\n'); newline >= 0; newline = found.indexOf('\n', newline + 1)) {
      this.#line++;
      this.#lineStart = this.#offset + newline + 1;
    }
    this.#offset += found.length;
    return found;
  }

  #here(): Position {
    return { file: this.#file, line: this.#line, column: this.#offset - this.#lineStart + 1 };
  }

  #push(kind: TokenKind, text: string, at: Position, expands = false): void {
    this.#tokens.push({ kind, text, at, expands });
  }
}

function wrongWord(word: string): string | undefined {
  if (word.length > TEXT_MAX_CHARS) return 'the word is too long';
  return MACRO_REFERENCE.test(word)
    ? `expected a macro's name after '$' (quote it for a plain '$')`
    : undefined;
}
