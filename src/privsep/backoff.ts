/**
 * How long to wait before what died is started again: hardly at first, longer
 * each time, and hardly again after it has been well for a while: for ten times
 * its last pause. So whoever dies now and then, of what was done to it, is back
 * at once, and who dies of itself is not started over and over. Pure; used by
 * the parent for control and for each repository's processes.
 */

const FIRST_MS = 50;
const LONGEST_MS = 60_000;
/** Who lived so many of its last pauses starts afresh, within these bounds. */
const CALM_PAUSES = 10;
const CALM_MIN_MS = 10_000;
const CALM_MAX_MS = 60_000;

export class Backoff {
  #nextMs = FIRST_MS;
  #lastMs = 0;
  #untilMs = Number.NEGATIVE_INFINITY;

  /** The pause before the next start, in ms; `nowMs` is of a monotonic clock. */
  next(nowMs: number): number {
    const calmMs = Math.min(Math.max(CALM_PAUSES * this.#lastMs, CALM_MIN_MS), CALM_MAX_MS);
    if (nowMs - this.#untilMs >= calmMs) this.#nextMs = FIRST_MS;
    const pauseMs = this.#nextMs;
    this.#nextMs = Math.min(2 * pauseMs, LONGEST_MS);
    this.#lastMs = pauseMs;
    this.#untilMs = nowMs + pauseMs;
    return pauseMs;
  }
}
