/**
 * How long to wait before what died is started again: hardly at first, longer
 * each time, and hardly again after it has been well for a while. Pure; used by
 * the parent for control and for each repository's processes.
 */

const FIRST_MS = 50;
const LONGEST_MS = 60_000;
/** Who lived this long starts afresh. */
const CALM_MS = 60_000;

export class Backoff {
  #nextMs = FIRST_MS;
  #untilMs = Number.NEGATIVE_INFINITY;

  /** The pause before the next start, in ms; `nowMs` is of a monotonic clock. */
  next(nowMs: number): number {
    if (nowMs - this.#untilMs >= CALM_MS) this.#nextMs = FIRST_MS;
    const pauseMs = this.#nextMs;
    this.#nextMs = Math.min(2 * pauseMs, LONGEST_MS);
    this.#untilMs = nowMs + pauseMs;
    return pauseMs;
  }
}
