/**
 * What the daemon remembers of its schedule between its starts: when each task
 * last ran, how that ended, when it last succeeded and what that came to; and
 * whether the schedule is paused. The parent loads and saves it, as JSON in the
 * state directory; times are in ms since 1970.
 *
 * Invariant: what cannot be read counts as nothing known; a schedule then runs
 * a little too early, never too late.
 */
import type { Past } from './plan.ts';

/** Tasks and sources that are remembered. */
const RUNS_MAX = 8192;
const TEXT_MAX_CHARS = 4096;

export interface Run extends Past {
  /** of the last run, if it failed: why */
  readonly text?: string | undefined;
  /** that the last good run made */
  readonly snapshot?: string | undefined;
  /** what the last good run came to */
  readonly result?: string | undefined;
}

/** What a good run came to. */
export interface Outcome {
  readonly snapshot?: string | undefined;
  readonly result?: string | undefined;
}

/** Nothing begins by itself from `sinceMs` on, until `untilMs` or until somebody says so. */
export interface Pause {
  readonly sinceMs: number;
  readonly untilMs?: number | undefined;
}

export class History {
  readonly #runs = new Map<string, Run>();
  paused: Pause | undefined;

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

  succeeded(name: string, nowMs: number, { snapshot, result }: Outcome): void {
    const run = this.of(name, nowMs);
    const outcome = { snapshot, result: result?.slice(0, TEXT_MAX_CHARS), text: undefined };
    this.#set(name, { ...run, ...outcome, endMs: nowMs, goodMs: nowMs, failures: 0 });
  }

  failed(name: string, nowMs: number, text: string): void {
    const run = this.of(name, nowMs);
    const failures = run.failures + 1;
    this.#set(name, { ...run, endMs: nowMs, failures, text: text.slice(0, TEXT_MAX_CHARS) });
  }

  /** What began was called off by whoever stops the daemon: it is as due as it was before. */
  calledOff(name: string, before: Run): void {
    // somebody else's may have succeeded meanwhile
    if (this.#runs.get(name)?.goodMs === before.goodMs) this.#set(name, before);
  }

  /** Forgets all but these. */
  keep(names: ReadonlySet<string>): void {
    for (const name of this.#runs.keys()) if (!names.has(name)) this.#runs.delete(name);
  }

  #set(name: string, run: Run): void {
    if (this.#runs.size < RUNS_MAX || this.#runs.has(name)) this.#runs.set(name, run);
  }

  encode(): string {
    const { paused } = this;
    return `${JSON.stringify({ version: 1, paused, runs: Object.fromEntries(this.#runs) })}\n`;
  }

  /** Reads what `encode` wrote; throws where it is nothing of the kind. */
  static decode(text: string): History {
    const decoded: unknown = JSON.parse(text);
    const history = new History();
    if (!isRecord(decoded) || decoded.version !== 1 || !isRecord(decoded.runs))
      throw new Error('not a history of version 1');
    for (const [name, run] of Object.entries(decoded.runs)) if (isRun(run)) history.#set(name, ended(run));
    if (isPause(decoded.paused)) history.paused = decoded.paused;
    return history;
  }
}

/** A run that was at work when the daemon or the machine died has failed, and is tried again soon. */
function ended(run: Run): Run {
  const { startMs, endMs, failures } = run;
  if (startMs === undefined || (endMs !== undefined && endMs >= startMs)) return run;
  return { ...run, endMs: startMs, failures: failures + 1, text: 'plakard died while it ran' };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isPause(value: unknown): value is Pause {
  if (!isRecord(value)) return false;
  const { sinceMs, untilMs } = value;
  return Number.isFinite(sinceMs) && (untilMs === undefined || Number.isFinite(untilMs));
}

function isRun(value: unknown): value is Run {
  if (!isRecord(value)) return false;
  const { knownMs, failures, startMs, endMs, goodMs, text, snapshot, result } = value;
  const numbers = [knownMs, failures, ...[startMs, endMs, goodMs].filter((each) => each !== undefined)];
  const texts = [text, snapshot, result].filter((each) => each !== undefined);
  return numbers.every(Number.isFinite) && texts.every((each) => typeof each === 'string');
}
