/**
 * The file of `set metrics file`: the daemon's metrics, for node_exporter's
 * textfile collector. Used by the parent, which asks control for the text.
 * Invariant: whoever reads the file finds all of one state, or no file.
 */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { describe, Failure } from '../../error.ts';
import type { Log } from '../../log.ts';

const PERIOD_MS = 15_000;

export interface MetricsFileOptions {
  readonly log: Log;
  readonly render: () => Promise<string>;
}

export class MetricsFile {
  readonly #options: MetricsFileOptions;
  #path: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isFailing = false;

  constructor(options: MetricsFileOptions) {
    this.#options = options;
  }

  /** Writes to `path` from now on, and at once; to none where undefined. What was written elsewhere goes. */
  set(path: string | undefined): void {
    if (path === this.#path) return;
    this.close();
    this.#path = path;
    if (path !== undefined) void this.#write(path);
  }

  /** Nothing is written any more, and what is there, which says how things are, goes. */
  close(): void {
    clearTimeout(this.#timer);
    if (this.#path !== undefined) rmSync(this.#path, { force: true });
    this.#path = undefined;
  }

  async #write(path: string): Promise<void> {
    const { log, render } = this.#options;
    const next = `${path}.new`;
    try {
      const text = await render();
      if (this.#path !== path) return;
      // never through a link that somebody left there
      rmSync(next, { force: true });
      writeFileSync(next, text, { flag: 'wx', mode: 0o644 });
      renameSync(next, path);
      this.#isFailing = false;
    } catch (cause) {
      if (!this.#isFailing && this.#path === path)
        log.warn(describe(new Failure('write metrics', path, { cause })), { process: 'parent' });
      this.#isFailing = true;
    }
    if (this.#path === path) this.#timer = setTimeout(() => void this.#write(path), PERIOD_MS);
  }
}
