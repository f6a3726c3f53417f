/**
 * Who died lately, of what: so that whoever waits for a job learns the cause,
 * `storage local: killed by SIGKILL`, and not merely that a channel was closed.
 * Written by the parent at each death, asked by control when a job has failed.
 */
import { describe } from '../../error.ts';
import type { Exit } from '../../privsep/start.ts';

/** A channel's end is seen before the death that caused it, by this much at most. */
const NOTICE_MS = 200;

interface Fall {
  readonly text: string;
  readonly atMs: number;
}

/** Of a repository's processes, or a source's scanner: the key is `repository NAME` or `source NAME`. */
export class Falls {
  readonly #now: () => number;
  readonly #last = new Map<string, Fall>();
  readonly #waiting = new Set<() => void>();

  constructor(now: () => number) {
    this.#now = now;
  }

  note(key: string, exit: Exit): void {
    this.#last.set(key, { text: describe(exit.failure), atMs: this.#now() });
    for (const wake of this.#waiting) wake();
  }

  /** The first death under one of the keys since then, or undefined if there was none. */
  async since(keys: readonly string[], sinceMs: number): Promise<string | undefined> {
    return this.#find(keys, sinceMs) ?? (await this.#notice(keys, sinceMs));
  }

  #find(keys: readonly string[], sinceMs: number): string | undefined {
    for (const key of keys) {
      const fall = this.#last.get(key);
      if (fall !== undefined && fall.atMs >= sinceMs) return fall.text;
    }
    return undefined;
  }

  async #notice(keys: readonly string[], sinceMs: number): Promise<string | undefined> {
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    const wake = (): void => {
      const found = this.#find(keys, sinceMs);
      if (found !== undefined) resolve(found);
    };
    this.#waiting.add(wake);
    const timer = setTimeout(() => resolve(undefined), NOTICE_MS);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(wake);
    }
  }
}
