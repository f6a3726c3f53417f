/**
 * Keeps what a backend reads and writes within a rate: a bucket of tokens, a
 * second's worth of them, filled at the rate of the time of day. Called by the
 * backend beside each of its reads and writes. Invariant: over any time no more
 * passes than its rate allows, a second's worth, and what passes at once.
 *
 * Whoever takes more than there is goes into debt and waits until it is paid,
 * so a small object waits for what goes before it, and for no more.
 */

/** Bytes a second at most: always, or between two times of the day. */
export interface Rate {
  readonly bytesPerSecond: number;
  /** minutes after midnight, local time; past midnight where `to` is not after `from` */
  readonly between?: { readonly from: number; readonly to: number } | undefined;
}

export interface PaceTools {
  /** milliseconds of a clock that does not go back */
  readonly nowMs: () => number;
  /** local time, minutes after midnight */
  readonly minuteOfDay: () => number;
  readonly wait: (ms: number) => Promise<unknown>;
}

/** The time of day is looked at this often while somebody waits. */
const LOOK_MS = 1000;

/** The lowest rate that holds at a time of day; undefined where none does. */
export function rateAt(rates: readonly Rate[], minute: number): number | undefined {
  let lowest: number | undefined;
  for (const { bytesPerSecond, between } of rates)
    if (between === undefined || isWithin(between, minute))
      lowest = Math.min(lowest ?? bytesPerSecond, bytesPerSecond);
  return lowest;
}

function isWithin({ from, to }: { readonly from: number; readonly to: number }, minute: number): boolean {
  return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

export class Pace {
  readonly #rates: readonly Rate[];
  readonly #tools: PaceTools;
  #tokens = 0;
  #filledMs: number;

  constructor(rates: readonly Rate[], tools: PaceTools) {
    this.#rates = rates;
    this.#tools = tools;
    this.#filledMs = tools.nowMs();
  }

  /** Whether there are no rates at all: then nothing ever waits. */
  get isUnlimited(): boolean {
    return this.#rates.length === 0;
  }

  /** Takes the tokens of `bytes`: undefined where they may pass at once, or when they may. */
  take(bytes: number): Promise<void> | undefined {
    if (this.isUnlimited) return undefined;
    const rate = this.#fill();
    if (rate === undefined) return undefined;
    this.#tokens -= bytes;
    return this.#tokens >= 0 ? undefined : this.#paid(-this.#tokens);
  }

  /** Waits until `debt` bytes have been paid for, at whatever rate holds meanwhile. */
  async #paid(debt: number): Promise<void> {
    for (let left = debt; left > 0; ) {
      const rate = this.#fill();
      if (rate === undefined) return;
      const ms = Math.min(LOOK_MS, Math.ceil((left / rate) * 1000));
      const beganMs = this.#tools.nowMs();
      await this.#tools.wait(ms);
      left -= ((this.#tools.nowMs() - beganMs) / 1000) * rate;
    }
  }

  /** Adds what has come since the last time; the rate that holds now. Without one nobody owes anything. */
  #fill(): number | undefined {
    const nowMs = this.#tools.nowMs();
    const elapsedMs = nowMs - this.#filledMs;
    this.#filledMs = nowMs;
    const rate = rateAt(this.#rates, this.#tools.minuteOfDay());
    if (rate === undefined) this.#tokens = 0;
    else this.#tokens = Math.min(rate, this.#tokens + (elapsedMs / 1000) * rate);
    return rate;
  }
}
