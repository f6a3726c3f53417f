/**
 * When something that is to happen again and again is due next. Pure: times go
 * in and come out, in ms since 1970. Used by the parent.
 *
 * Invariants: what is overdue is due once, at once, however long it is overdue;
 * nothing is due before the run before it has ended; after a failure it is tried
 * again sooner than otherwise, but ever more rarely; a clock that jumps puts
 * nothing off by more than an interval.
 */
import { createHash } from 'node:crypto';
import { type CalendarTimes, nextTime } from './calendar.ts';

/** So many seconds apart, or at times on the wall's clock: the configuration's own type fits. */
export type Schedule = { readonly kind: 'every'; readonly seconds: number } | CalendarTimes;

/** What is remembered of something scheduled. */
export interface Past {
  /** when it was first known of */
  readonly knownMs: number;
  readonly startMs?: number | undefined;
  readonly endMs?: number | undefined;
  /** the end of the last run that succeeded */
  readonly goodMs?: number | undefined;
  /** runs that failed since then */
  readonly failures: number;
}

/** Runs of an interval are spread over this part of it, and over no more than so long. */
const SPREAD_PART = 10;
const SPREAD_MAX_MS = 300_000;
/** Runs at a time of the day are spread over this. */
const SPREAD_AT_MS = 30_000;
/** The first time after a failure; then twice as long each time. */
const RETRY_MS = 60_000;
const RETRY_MAX_MS = 3_600_000;

/**
 * Where in its spread something runs: always the same for one name on one
 * host, different for others, so that not everything begins in one second.
 */
export function jitterMs(schedule: Schedule, host: string, name: string): number {
  const digest = createHash('sha256').update(`${host}\0${name}`).digest();
  const part = digest.readUInt32LE(0) / 2 ** 32;
  const spreadMs =
    schedule.kind === 'at' ? SPREAD_AT_MS : Math.min((schedule.seconds * 1000) / SPREAD_PART, SPREAD_MAX_MS);
  return Math.floor(part * spreadMs);
}

/** When it would run if nothing ever failed or took long. */
function regular(schedule: Schedule, past: Past, jitter: number, nowMs: number): number {
  const knownMs = Math.min(past.knownMs, nowMs);
  const { startMs } = past;
  if (schedule.kind === 'every') {
    // what never ran is wanted soon
    if (startMs === undefined) return knownMs + jitter;
    return Math.min(startMs, nowMs) + schedule.seconds * 1000;
  }
  // the run of a time may have begun anywhere in its spread
  const fromMs = startMs === undefined ? knownMs : Math.min(startMs, nowMs) - jitter;
  return nextTime(schedule, fromMs) + jitter;
}

/** When it is due next; in the past where it is overdue. `jitter` is that of `jitterMs`. */
export function nextRun(schedule: Schedule, past: Past, jitter: number, nowMs: number): number {
  const next = regular(schedule, past, jitter, nowMs);
  if (past.failures === 0 || past.endMs === undefined) return next;
  const pauseMs = Math.min(RETRY_MS * 2 ** Math.min(past.failures - 1, 16), RETRY_MAX_MS);
  return Math.min(next, Math.min(past.endMs, nowMs) + pauseMs);
}

/** When the second run after `sinceMs` should have been: twice the interval later, or at the second of its times. */
function deadline(schedule: Schedule, sinceMs: number): number {
  if (schedule.kind === 'every') return sinceMs + 2 * schedule.seconds * 1000;
  const first = nextTime(schedule, sinceMs);
  const second = nextTime(schedule, first);
  // whoever ran it by hand just before its time did not shorten the interval
  return Math.max(second, sinceMs + 2 * (second - first));
}

/** Whether what was promised was not kept: nothing has succeeded within twice the interval. */
export function isMissed(schedule: Schedule, past: Past, nowMs: number): boolean {
  return nowMs > deadline(schedule, past.goodMs ?? past.knownMs);
}
