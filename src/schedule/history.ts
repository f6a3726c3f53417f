/**
 * What the daemon remembers of each push between its starts: when it last ran,
 * how that ended, and when it last succeeded. The parent loads and saves it, as
 * JSON in the state directory; times are in ms since 1970.
 *
 * Invariant: what cannot be read counts as nothing known; a schedule then runs
 * a little too early, never too late.
 */
import type { Past } from './plan.ts';

/** Pushes that are remembered. */
const RUNS_MAX = 8192;
const TEXT_MAX_CHARS = 4096;

export interface Run extends Past {
  /** of the last run, if it failed: why */
  readonly text?: string | undefined;
  /** that the last good run made */
  readonly snapshot?: string | undefined;
}

export class History {
  readonly #runs = new Map<string, Run>();

  /** What is known of `name`; something that is new is known from now on. */
  of(name: string, nowMs: number): Run {
    let run = this.#runs.get(name);
    if (run === undefined) {
      run = { knownMs: nowMs, failures: 0 };
      this.#set(name, run);
    }
    return run;
  }

  began(name: string, nowMs: number): void {
    this.#set(name, { ...this.of(name, nowMs), startMs: nowMs });
  }

  succeeded(name: string, nowMs: number, snapshot: string): void {
    const run = this.of(name, nowMs);
    this.#set(name, { ...run, endMs: nowMs, goodMs: nowMs, failures: 0, text: undefined, snapshot });
  }

  failed(name: string, nowMs: number, text: string): void {
    const run = this.of(name, nowMs);
    const failures = run.failures + 1;
    this.#set(name, { ...run, endMs: nowMs, failures, text: text.slice(0, TEXT_MAX_CHARS) });
  }

  /** Forgets all but these. */
  keep(names: ReadonlySet<string>): void {
    for (const name of this.#runs.keys()) if (!names.has(name)) this.#runs.delete(name);
  }

  #set(name: string, run: Run): void {
    if (this.#runs.size < RUNS_MAX || this.#runs.has(name)) this.#runs.set(name, run);
  }

  encode(): string {
    return `${JSON.stringify({ version: 1, runs: Object.fromEntries(this.#runs) })}\n`;
  }

  /** Reads what `encode` wrote; throws where it is nothing of the kind. */
  static decode(text: string): History {
    const decoded: unknown = JSON.parse(text);
    const history = new History();
    if (!isRecord(decoded) || decoded.version !== 1 || !isRecord(decoded.runs))
      throw new Error('not a history of version 1');
    for (const [name, run] of Object.entries(decoded.runs)) if (isRun(run)) history.#set(name, run);
    return history;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isRun(value: unknown): value is Run {
  if (!isRecord(value)) return false;
  const { knownMs, failures, startMs, endMs, goodMs, text, snapshot } = value;
  const numbers = [knownMs, failures, ...[startMs, endMs, goodMs].filter((each) => each !== undefined)];
  const texts = [text, snapshot].filter((each) => each !== undefined);
  return numbers.every(Number.isFinite) && texts.every((each) => typeof each === 'string');
}
