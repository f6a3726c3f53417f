/**
 * What a source leaves out: patterns in the manner of gitignore(5), matched as
 * bytes. Called by the walker for every name. The last pattern that matches
 * decides. Invariant: the time for one name is at most the product of the
 * lengths of pattern and path, whatever the pattern.
 */
import { Failure } from '../error.ts';

// *.o            a name, at any depth
// build/         a directory's name
// docs/*.pdf     a path below the source
// /home/a/tmp    an absolute path, of which the source's own path is the beginning
// **/b  a/**/b   b below any directories; below any in a
// a/**           all that is in a
// !keep.o        not left out after all (but nothing is looked for in what is left out)
// ? [a-z] [!a]   any byte, or one of some, but not '/';  \ takes the next byte as it is

const PATTERNS_MAX = 4096;
const PATTERN_MAX_BYTES = 4096;

/** Tokens of a compiled pattern; a smaller one is a byte. */
const ANY = 256;
/** any bytes but '/' */
const STAR = 257;
/** nothing, or whole components with the '/' behind them */
const DIRECTORIES = 258;
/** any byte, '/' too */
const BYTE = 259;
/** any bytes, '/' too */
const REST = 260;
/** from here on, sets of bytes */
const SET = 261;

const SLASH = 0x2f;
const BACKSLASH = 0x5c;

interface Pattern {
  readonly tokens: readonly number[];
  readonly sets: readonly Uint8Array[];
  /** matched against the path, not the name */
  readonly isPath: boolean;
  /** the path is the absolute one */
  readonly isAbsolute: boolean;
  readonly onlyDirectories: boolean;
  readonly isNegated: boolean;
}

export class Excludes {
  readonly #patterns: readonly Pattern[];
  readonly #base: Buffer;
  #path: Uint8Array = Buffer.alloc(256);
  #now: Uint8Array = new Uint8Array(0);
  #next: Uint8Array = new Uint8Array(0);

  /**
   * @param patterns in the order of the configuration; strings are UTF-8
   * @param base absolute path of the source
   */
  constructor(patterns: readonly (string | Buffer)[], base: string | Buffer = '/') {
    if (patterns.length > PATTERNS_MAX)
      throw new Failure('exclude', '', { cause: `more than ${PATTERNS_MAX} patterns` });
    this.#patterns = patterns.map((pattern) => compile(Buffer.from(pattern as string)));
    const bytes = Buffer.from(base as string);
    this.#base = bytes.at(-1) === SLASH ? bytes : Buffer.concat([bytes, Buffer.from('/')]);
  }

  get isEmpty(): boolean {
    return this.#patterns.length === 0;
  }

  /**
   * Whether an entry is left out: bytes `start`..`end` of `name`, in the directory whose path below the source is the
   * first `directoryLength` bytes of `directory` (no slash at either end).
   */
  matches(
    name: Uint8Array,
    start: number,
    end: number,
    directory: Uint8Array,
    directoryLength: number,
    isDirectory: boolean,
  ): boolean {
    let pathLength = -1;
    for (let i = this.#patterns.length - 1; i >= 0; i--) {
      const pattern = this.#patterns[i] as Pattern;
      if (pattern.onlyDirectories && !isDirectory) continue;
      if (!pattern.isPath) {
        if (this.#match(pattern, name, start, end)) return !pattern.isNegated;
        continue;
      }
      if (pathLength < 0) pathLength = this.#join(name, start, end, directory, directoryLength);
      const from = pattern.isAbsolute ? 0 : this.#base.length;
      if (this.#match(pattern, this.#path, from, pathLength)) return !pattern.isNegated;
    }
    return false;
  }

  /** The absolute path in #path; its length. */
  #join(name: Uint8Array, start: number, end: number, directory: Uint8Array, length: number): number {
    const base = this.#base.length;
    const needed = base + length + 1 + end - start;
    if (needed > this.#path.length) this.#path = Buffer.alloc(needed * 2);
    this.#path.set(this.#base);
    this.#path.set(directory.subarray(0, length), base);
    let at = base + length;
    if (length > 0) this.#path[at++] = SLASH;
    this.#path.set(name.subarray(start, end), at);
    return at + end - start;
  }

  #match(pattern: Pattern, text: Uint8Array, start: number, end: number): boolean {
    const { tokens } = pattern;
    const first = tokens[0];
    // most patterns are plain names or end in plain bytes: *.o
    if (first === STAR && tokens.length > 1 && isPlain(tokens, 1)) return endsWith(tokens, text, start, end);
    if (isPlain(tokens, 0)) return end - start === tokens.length && endsWith(tokens, text, start, end, 0);
    return this.#simulate(pattern, text, start, end);
  }

  /** Runs the pattern as a nondeterministic automaton: state i is "the first i tokens are matched". */
  #simulate({ tokens, sets }: Pattern, text: Uint8Array, start: number, end: number): boolean {
    const states = tokens.length + 1;
    if (this.#now.length < states) {
      this.#now = new Uint8Array(states);
      this.#next = new Uint8Array(states);
    }
    this.#now.fill(0, 0, states);
    this.#now[0] = 1;
    for (let at = start; at < end; at++) {
      const now = this.#now;
      const next = this.#next;
      next.fill(0, 0, states);
      skipEmpty(tokens, now, at === start || text[at - 1] === SLASH);
      let isAlive = false;
      for (let i = 0; i < tokens.length; i++) {
        if (now[i] === 0) continue;
        const token = tokens[i] as number;
        const to = afterByte(token, sets, text[at] as number, i);
        if (to < 0) continue;
        next[to] = 1;
        isAlive = true;
      }
      if (!isAlive) return false;
      this.#now = next;
      this.#next = now;
    }
    skipEmpty(tokens, this.#now, false);
    return this.#now[tokens.length] === 1;
  }
}

/** Passes what may stand for nothing here: stars always, directories where a component begins. */
function skipEmpty(tokens: readonly number[], states: Uint8Array, atComponent: boolean): void {
  for (let i = 0; i < tokens.length; i++) {
    if (states[i] === 0) continue;
    const token = tokens[i];
    if (token === STAR || token === REST || (token === DIRECTORIES && atComponent)) states[i + 1] = 1;
  }
}

/** The state after `byte` in state `i`, or -1. */
function afterByte(token: number, sets: readonly Uint8Array[], byte: number, i: number): number {
  if (token < ANY) return token === byte ? i + 1 : -1;
  if (token === DIRECTORIES || token === REST) return i;
  if (token === BYTE) return i + 1;
  if (byte === SLASH) return -1;
  if (token === STAR) return i;
  if (token === ANY) return i + 1;
  return sets[token - SET]?.[byte] === 1 ? i + 1 : -1;
}

function isPlain(tokens: readonly number[], from: number): boolean {
  for (let i = from; i < tokens.length; i++) if ((tokens[i] as number) >= ANY) return false;
  return true;
}

/** Whether the tokens from `from` on are the last bytes of the text, all in one component. */
function endsWith(
  tokens: readonly number[],
  text: Uint8Array,
  start: number,
  end: number,
  from = 1,
): boolean {
  const offset = end - tokens.length;
  if (offset + from < start) return false;
  for (let i = tokens.length - 1; i >= from; i--) if (text[offset + i] !== tokens[i]) return false;
  return true;
}

function compile(text: Buffer): Pattern {
  const where = text.toString('utf8', 0, 100);
  if (text.length > PATTERN_MAX_BYTES) throw new Failure('exclude', where, { cause: 'pattern too long' });
  const isNegated = text[0] === 0x21;
  let from = isNegated ? 1 : 0;
  let to = text.length;
  const onlyDirectories = to > from && text[to - 1] === SLASH;
  if (onlyDirectories) to--;
  if (to <= from || text.includes(0)) throw new Failure('exclude', where, { cause: 'no pattern' });
  const isAbsolute = text[from] === SLASH;
  const isPath = text.subarray(from, to).includes(SLASH);
  const tokens: number[] = [];
  const sets: Uint8Array[] = [];
  while (from < to) from = compileOne(text, from, to, tokens, sets);
  return { tokens, sets, isPath, isAbsolute, onlyDirectories, isNegated };
}

/** Compiles what is at `at` and returns where it ends. */
function compileOne(text: Buffer, at: number, to: number, tokens: number[], sets: Uint8Array[]): number {
  const byte = text[at] as number;
  if (byte === 0x2a) return compileStars(text, at, to, tokens);
  if (byte === 0x3f) tokens.push(ANY);
  else if (byte === BACKSLASH && at + 1 < to) tokens.push(text[++at] as number);
  else if (byte === 0x5b) {
    const end = compileSet(text, at, to, sets);
    if (end > 0) {
      tokens.push(SET + sets.length - 1);
      return end;
    }
    tokens.push(byte);
  } else tokens.push(byte);
  return at + 1;
}

/** `**` is more than `*` only as a whole component. */
function compileStars(text: Buffer, at: number, to: number, tokens: number[]): number {
  let end = at;
  while (end < to && text[end] === 0x2a) end++;
  const isComponent =
    end - at === 2 && (at === 0 || text[at - 1] === SLASH || (at === 1 && text[0] === 0x21));
  if (isComponent && end < to && text[end] === SLASH) {
    tokens.push(DIRECTORIES);
    return end + 1;
  }
  if (isComponent && end === to && tokens.at(-1) === SLASH) tokens.push(BYTE, REST);
  else tokens.push(STAR);
  return end;
}

/** Compiles `[...]` and returns where it ends; -1 where it does not, and the bracket is meant itself. */
function compileSet(text: Buffer, at: number, to: number, sets: Uint8Array[]): number {
  let from = at + 1;
  const isInverted = text[from] === 0x21 || text[from] === 0x5e;
  if (isInverted) from++;
  const end = text.indexOf(0x5d, from + 1);
  if (end < 0 || end >= to) return -1;
  const set = new Uint8Array(256).fill(isInverted ? 1 : 0);
  for (let i = from; i < end; i++) {
    const isRange = text[i + 1] === 0x2d && i + 2 < end;
    const last = text[isRange ? i + 2 : i] as number;
    for (let byte = text[i] as number; byte <= last; byte++) set[byte] = isInverted ? 0 : 1;
    if (isRange) i += 2;
  }
  set[SLASH] = 0;
  sets.push(set);
  return end + 1;
}
