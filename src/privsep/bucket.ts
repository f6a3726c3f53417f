/**
 * How often something may happen: so often at once, and so often in a second
 * over a longer time. Used on both sides of a child's requests: by broker.ts,
 * which judges, and by pace.ts, which waits.
 */

/** A rate: what may come at once, and what comes to that again in a second. */
export interface Rate {
  readonly atOnce: number;
  readonly perSecond: number;
}

export class Bucket {
  readonly #rate: Rate;
  #level: number;
  #atMs: number;

  /** Full at first. @param nowMs of a monotonic clock, as everywhere here */
  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#level = rate.atOnce;
    this.#atMs = nowMs;
  }

  /** Whether it may happen now; counts it if so. */
  take(nowMs: number): boolean {
    this.#fill(nowMs);
    if (this.#level < 1) return false;
    this.#level--;
    return true;
  }

  /** Until it may happen, in ms. */
  waitMs(nowMs: number): number {
    this.#fill(nowMs);
    return this.#level >= 1 ? 0 : ((1 - this.#level) * 1000) / this.#rate.perSecond;
  }

  #fill(nowMs: number): void {
    const { atOnce, perSecond } = this.#rate;
    this.#level = Math.min(atOnce, this.#level + ((nowMs - this.#atMs) * perSecond) / 1000);
    this.#atMs = nowMs;
  }
}
