/**
 * Watches the files of the configuration, its includes among them, and tells
 * when they change. Used by the parent, which then compares what is on disk with
 * what runs. The directories are watched, as editors replace files; a change has
 * settled when nothing has happened for a while.
 */
import path from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { describe, Failure } from '../../error.ts';
import type { Log } from '../../log.ts';

/** An editor writes a file in several steps. */
const SETTLE_MS = 300;

export class ConfigurationWatch {
  readonly #changed: () => void;
  readonly #log: Log;
  #watcher: FSWatcher | undefined;
  #files = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  /** one change of what is watched ends before another begins, so that no watcher is left behind */
  #setting: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(log: Log, changed: () => void) {
    this.#log = log;
    this.#changed = changed;
  }

  /** Watches these files from now on, whether they exist or not. Resolves when it does. */
  set(files: readonly string[]): Promise<void> {
    const set = this.#setting.then(() => this.#set(files));
    this.#setting = set.catch(() => undefined);
    return set;
  }

  async #set(files: readonly string[]): Promise<void> {
    const same = files.length === this.#files.size && files.every((file) => this.#files.has(file));
    if (same || this.#closed) return;
    this.#files = new Set(files);
    await this.#watcher?.close();
    const directories = new Set(files.map((file) => path.dirname(file)));
    const { promise, resolve } = Promise.withResolvers<void>();
    const watcher = watch([...directories], {
      depth: 0,
      ignoreInitial: true,
      ignored: (name) => !directories.has(name) && !this.#files.has(name),
    });
    this.#watcher = watcher;
    watcher.on('all', () => this.#settle());
    watcher.on('ready', resolve);
    watcher.on('error', (error) => {
      const failure = new Failure('watch configuration', '', { cause: error });
      this.#log.warn(describe(failure), { process: 'parent' });
      resolve();
    });
    await promise;
  }

  #settle(): void {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(this.#changed, SETTLE_MS);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#setting;
    await this.#watcher?.close();
  }
}
