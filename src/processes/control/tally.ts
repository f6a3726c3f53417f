/**
 * What jobs came to since control started, and what each repository held when
 * it was last looked at: what `metrics` prints beyond the status. Called by
 * control.ts. Invariant: there are at most SERIES_MAX of anything.
 */
import { kindOf } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { HOLDINGS_ARE } from '../../messages/jobs.ts';
import type { Job } from './jobs.ts';

/** Operations on a repository and source, each with its results. */
const SERIES_MAX = 4096;

export type Holdings = PayloadOf<typeof HOLDINGS_ARE.shape>;
type Result = 'ok' | 'failed' | 'interrupted';

/** Jobs of one operation on one repository and source that ended one way. */
export interface Ended {
  readonly operation: string;
  readonly repository: string;
  readonly source: string | undefined;
  readonly result: Result;
  count: number;
  seconds: number;
  files: number;
  bytes: number;
  lastSeconds: number;
}

export class Tally {
  problems = 0;
  readonly holdings = new Map<string, Holdings>();
  readonly #ended = new Map<string, Ended>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  get ended(): readonly Ended[] {
    return [...this.#ended.values()];
  }

  over({ operation, repository, source, startedMs, files, bytes }: Job, error: unknown): void {
    const result = error === undefined ? 'ok' : kindOf(error) === 'interrupted' ? 'interrupted' : 'failed';
    const key = [operation, repository, source, result].join('\0');
    let ended = this.#ended.get(key);
    if (ended === undefined) {
      if (this.#ended.size >= SERIES_MAX) return;
      ended = {
        operation,
        repository,
        source,
        result,
        count: 0,
        seconds: 0,
        files: 0,
        bytes: 0,
        lastSeconds: 0,
      };
      this.#ended.set(key, ended);
    }
    const seconds = Math.max(0, this.#now() - startedMs) / 1000;
    ended.count++;
    ended.seconds += seconds;
    ended.lastSeconds = seconds;
    ended.files += files;
    ended.bytes += bytes;
  }
}
