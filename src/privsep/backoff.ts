/**
 * How long to wait before what died is started again: hardly at first, twice as
 * long each time, and half as long for every five seconds that it lived since.
 * So whoever is killed now and then is back at once, and who dies of itself is
 * not started over and over. Pure; used by the parent for control and for each
 * repository's processes.
 */

const FIRST_MS = 50;
const LONGEST_MS = 60_000;
/** Living so long makes up for one death. */
const CALM_MS = 5000;

export class Backoff {
  readonly #longestMs: number;
  /** deaths that have not been made up for */
  #deaths = 0;
  #untilMs = Number.POSITIVE_INFINITY;

  /** No pause is longer than `longestMs`. */
  constructor(longestMs = LONGEST_MS) {
    this.#longestMs = longestMs;
  }

  /** The pause before the next start, in ms; `nowMs` is of a monotonic clock. */
  next(nowMs: number): number {
    const livedMs = Math.max(0, nowMs - this.#untilMs);
    this.#deaths = Math.max(0, this.#deaths - livedMs / CALM_MS);
    const pauseMs = Math.min(Math.round(FIRST_MS * 2 ** this.#deaths), this.#longestMs);
    // what a longer pause would be for is not held against it
    if (pauseMs < this.#longestMs) this.#deaths++;
    this.#untilMs = nowMs + pauseMs;
    return pauseMs;
  }
}
