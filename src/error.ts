/**
 * The one error class of plakard, and the one place that turns an error into
 * text and into an exit code. Everything that can fail throws a Failure: what
 * was being done, to what, why, and, where it is known, what to do about it.
 */

/** What kind of failure it is, as far as whoever called needs to tell them apart. */
export type FailureKind =
  | 'failed'
  | 'usage'
  | 'partial'
  | 'no-repository'
  | 'busy'
  | 'wrong-key'
  | 'not-permitted'
  | 'damaged'
  | 'interrupted';

/** Exit codes of plakarctl, as in plakarctl(8). */
export const EXIT_CODES: Readonly<Record<FailureKind, number>> = {
  failed: 1,
  usage: 2,
  partial: 3,
  'no-repository': 10,
  busy: 11,
  'wrong-key': 12,
  'not-permitted': 13,
  damaged: 14,
  interrupted: 130,
};

export interface FailureOptions {
  /** The reason: another error (its chain is kept) or a phrase. */
  readonly cause?: unknown;
  /** What to do about it, as a short phrase; printed in parentheses at the end. */
  readonly remedy?: string;
  /** Defaults to the kind of the cause, or else to 'failed'. */
  readonly kind?: FailureKind;
}

/** The longest error text that is printed or sent, in characters. */
const TEXT_MAX_CHARS = 4096;
/** The longest chain of causes that is followed. */
const CHAIN_MAX = 16;

/**
 * A failure of `operation` on `object`: `new Failure('write pack', '4f2a91', { cause })`.
 * `object` may be empty where the operation names it all.
 */
export class Failure extends Error {
  readonly operation: string;
  readonly object: string;
  readonly remedy: string | undefined;
  readonly kind: FailureKind;

  constructor(operation: string, object: string, options: FailureOptions = {}) {
    const { cause } = options;
    super(object === '' ? operation : `${operation} ${object}`, { cause });
    this.name = 'Failure';
    this.operation = operation;
    this.object = object;
    this.remedy = options.remedy;
    this.kind = options.kind ?? (cause instanceof Failure ? cause.kind : 'failed');
  }
}

/** A failed system call as libuv and src/sys both throw it: errno name, call, and object. */
interface SystemFailure extends Error {
  readonly code: string;
  readonly syscall?: string;
  readonly path?: string;
}

function isSystemFailure(error: Error): error is SystemFailure {
  return 'code' in error && typeof error.code === 'string' && 'syscall' in error;
}

function ownText(error: unknown): string {
  if (error instanceof Failure) return error.message;
  if (error instanceof Error) {
    // libuv writes "ENOENT: no such file or directory, open '/x'": keep the words
    // alone, as the Failure around it names call and object.
    if (isSystemFailure(error)) return /^[A-Z0-9]+: ([^,]+)/.exec(error.message)?.[1] ?? error.message;
    return error.message === '' ? error.name : error.message;
  }
  return String(error);
}

/** The error and its causes as one line: `push home: read /home/a: permission denied (remedy)`. */
export function describe(error: unknown): string {
  const parts: string[] = [];
  let remedy: string | undefined;
  let at: unknown = error;
  for (let depth = 0; at !== undefined && at !== null && depth < CHAIN_MAX; depth++) {
    const text = ownText(at);
    // what a peer says may begin with what is said here already
    if (text.startsWith(`${parts.at(-1)}: `)) parts.pop();
    if (text !== '' && parts.at(-1) !== text) parts.push(text);
    if (at instanceof Failure && at.remedy !== undefined) remedy = at.remedy;
    at = at instanceof Error ? at.cause : undefined;
  }
  const line = parts.join(': ').replace(/[\0-\x1f\x7f]/g, '?');
  return (remedy === undefined ? line : `${line} (${remedy})`).slice(0, TEXT_MAX_CHARS);
}

/** The kind of an error; anything that is no Failure has simply failed. */
export function kindOf(error: unknown): FailureKind {
  return error instanceof Failure ? error.kind : 'failed';
}

/** An error as it crosses a channel: its kind, and its text with the remedy apart. */
export interface WireFailure {
  readonly kind: string;
  readonly text: string;
}

/** What to send to a peer about `error`. */
export function toWire(error: unknown): WireFailure {
  return { kind: kindOf(error), text: describe(error) };
}

/** A peer's error as one of ours. A kind we do not know counts as 'failed'. */
export function fromWire(wire: WireFailure): Failure {
  const kind = Object.hasOwn(EXIT_CODES, wire.kind) ? (wire.kind as FailureKind) : 'failed';
  return new Failure(wire.text, '', { kind });
}
