/**
 * Room in a reader session's ring. Ranges are taken at the head and given back
 * in any order; the tail moves on when the oldest range is back. A range never
 * wraps: what is left before the end is skipped. Called by the reader, one
 * range per READ. Owns the invariant that no two ranges in use overlap.
 *
 *        tail          head                     tail wraps like head
 *   ······[range][range]········   [range]···skipped→ ·····[range][range]
 */
import { assert } from '../builtin.ts';

interface Range {
  readonly start: number;
  /** Where the next range may begin, before wrapping. */
  readonly end: number;
  free: boolean;
}

export class RingSpace {
  readonly sizeBytes: number;
  /** In the order they were taken; the reader has at most READS_OPEN_MAX. */
  readonly #ranges: Range[] = [];

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  /** Where `bytes` contiguous bytes begin, or undefined while there is no room for them. */
  take(bytes: number): number | undefined {
    assert(bytes > 0 && bytes <= this.sizeBytes);
    const start = this.#place(bytes);
    if (start === undefined) return undefined;
    this.#ranges.push({ start, end: start + bytes, free: false });
    return start;
  }

  #place(bytes: number): number | undefined {
    const oldest = this.#ranges[0];
    const newest = this.#ranges.at(-1);
    if (oldest === undefined || newest === undefined) return 0;
    if (newest.start >= oldest.start) {
      // in use is one stretch: room behind it, or before it
      if (this.sizeBytes - newest.end >= bytes) return newest.end;
      return oldest.start >= bytes ? 0 : undefined;
    }
    // wrapped: room between the newest and the oldest
    return oldest.start - newest.end >= bytes ? newest.end : undefined;
  }

  /** Gives back the range that begins at `start`. */
  release(start: number): void {
    const range = this.#ranges.find((candidate) => candidate.start === start && !candidate.free);
    assert(range !== undefined, 'released a range that was not taken');
    range.free = true;
    while (this.#ranges[0]?.free === true) this.#ranges.shift();
  }

  /** Ranges that are taken or wait behind one that is. */
  get ranges(): number {
    return this.#ranges.length;
  }
}
