/**
 * A walk at the other end of a channel: what scanner and plakarctl both do with
 * the messages of messages/scan.ts. Owns that walks run one at a time, that
 * their windows are kept, and that the chunker hears of a walk that failed.
 */
import { constants, lstatSync, openSync } from 'node:fs';
import path from 'node:path';
import { describe, Failure, fromWire, toWire } from '../error.ts';
import type { Channel } from '../ipc/channel.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import {
  BATCH,
  BATCH_USED,
  NODES,
  NODES_USED,
  SCAN,
  SCAN_BEGUN,
  SCAN_DONE,
  SCAN_FAILED,
} from '../messages/scan.ts';
import { closeAll } from '../sys/socket.ts';
import { Excludes } from './exclude.ts';
import type { WalkRoot } from './roots.ts';
import { NodeStream } from './stream.ts';
import { encodeVisits } from './visits.ts';
import { Walker } from './walk.ts';
import type { Base, Watched, WatchedWalk } from './watched.ts';

type Summary = PayloadOf<typeof SCAN_DONE.shape>['summary'];

/** What is walked, and how. */
export interface ScanOptions {
  /** absolute paths, as they are called in the snapshot */
  readonly paths: readonly string[];
  /** where the process's root directory is; paths are below it */
  readonly root: string;
  readonly excludes: readonly string[];
  readonly oneFilesystem: boolean;
  /** where the source is watched */
  readonly watched?: Watched | undefined;
  /** opens a directory of the paths; by default with links followed, as the rights are the caller's own */
  readonly open?: (directory: string) => number;
  /** The snapshot is durable. */
  readonly onDone?: (summary: Summary) => void;
  /** The push has failed; the walk too, if it was under way. */
  readonly onFailed?: (failure: Failure) => void;
}

interface Current {
  readonly job: number;
  readonly walker: Walker;
  readonly old: NodeStream | undefined;
  readonly watch: WatchedWalk | undefined;
}

function openAsCaller(directory: string): number {
  return openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
}

/** Serves the SCANs that come on `channel`, before it is dispatched. To be called when the channel is gone: what is returned. */
export function serveScans(channel: Channel, options: ScanOptions): () => void {
  const scans = new Scans(channel, options);
  return () => scans.end();
}

class Scans {
  readonly #channel: Channel;
  readonly #options: ScanOptions;
  #current: Current | undefined;
  /** the job whose walk of a watched source is about to begin */
  #beginning: number | undefined;
  /** a watched source's walk whose snapshot is not durable yet */
  #owed: { readonly job: number; readonly watch: WatchedWalk } | undefined;
  /** what the last good walk of a watched source left */
  #base: Base | undefined;
  /** walks end before others begin, as descriptors and windows are counted by walk */
  #last: Promise<void> = Promise.resolve();

  constructor(channel: Channel, options: ScanOptions) {
    this.#channel = channel;
    this.#options = options;
    options.watched?.joined();
    channel.handler(SCAN, ({ payload }) => {
      const { watched } = options;
      // nodes of the parent come at once where nobody says what is visited: the walk has to be there
      if (watched === undefined) {
        this.#start(payload, undefined);
        return undefined;
      }
      this.#beginning = payload.job;
      return watched
        .begin(this.#base, payload.parent)
        .then((watch) => {
          if (this.#beginning === payload.job) this.#start(payload, watch);
          else watched.abandoned(watch);
        })
        .catch((error: unknown) => this.#fail(payload.job, error));
    });
    channel.handler(NODES, ({ payload }) => {
      const old = this.#of(payload.job)?.old;
      old?.push(payload.data);
      if (payload.last) old?.end();
    });
    channel.handler(BATCH_USED, ({ payload }) => {
      this.#of(payload.job)?.walker.credit(payload.bytes, payload.descriptors);
    });
    channel.handler(SCAN_FAILED, ({ payload }) => {
      const failure = fromWire(payload);
      if (this.#beginning === payload.job) this.#beginning = undefined;
      this.#of(payload.job)?.walker.cancel(failure);
      this.#abandon(payload.job);
      options.onFailed?.(failure);
    });
    channel.handler(SCAN_DONE, ({ payload: { job, summary } }) => {
      const watch = this.#of(job)?.watch;
      if (watch !== undefined)
        this.#base = options.watched?.done(watch, summary.snapshot, summary.unreadable);
      this.#owed = undefined;
      options.onDone?.(summary);
    });
  }

  #start(asked: PayloadOf<typeof SCAN.shape>, watch: WatchedWalk | undefined): void {
    const { job, parent } = asked;
    try {
      this.#beginning = undefined;
      this.#owed = watch && { job, watch };
      this.#current = this.#begin(asked, watch);
      const visits = watch?.visits && encodeVisits(watch.visits);
      if (parent !== undefined) this.#channel.message(SCAN_BEGUN, { job, visits });
    } catch (error) {
      this.#fail(job, error);
      return;
    }
    this.#last = this.#last.then(() => this.#run());
  }

  /** The channel is gone, and with it the walk that was under way. */
  end(): void {
    this.#beginning = undefined;
    this.#current?.walker.cancel(
      new Failure('walk', this.#options.paths.join(', '), { cause: 'nobody takes it' }),
    );
    if (this.#owed !== undefined) this.#abandon(this.#owed.job);
    this.#options.watched?.parted();
  }

  #abandon(job: number): void {
    if (this.#owed?.job !== job) return;
    this.#options.watched?.abandoned(this.#owed.watch);
    this.#owed = undefined;
  }

  #of(job: number): Current | undefined {
    return this.#current?.job === job ? this.#current : undefined;
  }

  #begin(
    { job, root, trustBeforeSec }: PayloadOf<typeof SCAN.shape>,
    watch: WatchedWalk | undefined,
  ): Current {
    const channel = this.#channel;
    const { excludes, oneFilesystem, paths, watched } = this.#options;
    const base = paths.length === 1 ? (paths[0] ?? '/') : '/';
    const old =
      root && new NodeStream((bytes) => channel.closed || channel.message(NODES_USED, { job, bytes }));
    const roots = this.#openRoots();
    const walker = new Walker({
      roots,
      sink: { batch: (records, fds) => channel.message(BATCH, { job, data: records }, fds, { given: true }) },
      old,
      excludes: new Excludes(excludes, base),
      oneFilesystem,
      base: Buffer.from(base),
      uid: process.geteuid?.() ?? 0,
      ...(trustBeforeSec === undefined ? {} : { trustBeforeSec }),
      watch: watched && watch && { source: watched, walk: watch },
      now: () => performance.now(),
      yield: () => new Promise((resolve) => setImmediate(resolve)),
    });
    return { job, walker, old, watch };
  }

  async #run(): Promise<void> {
    const current = this.#current;
    if (current === undefined) return;
    try {
      await current.walker.run();
    } catch (error) {
      this.#fail(current.job, new Failure('walk', this.#options.paths.join(', '), { cause: error }));
    } finally {
      closeAll(this.#opened.splice(0));
    }
  }

  #fail(job: number, error: unknown): void {
    this.#abandon(job);
    if (!this.#channel.closed) this.#channel.message(SCAN_FAILED, { job, ...toWire(error) });
  }

  readonly #opened: number[] = [];

  #openRoots(): WalkRoot[] {
    const { paths, root } = this.#options;
    return paths.map((absolute) => {
      const inside = root === '/' ? absolute : absolute.slice(root.length) || '/';
      try {
        const isDirectory = lstatSync(inside).isDirectory();
        const directory = isDirectory ? inside : path.dirname(inside);
        const dirfd = (this.#options.open ?? openAsCaller)(directory);
        this.#opened.push(dirfd);
        const name = Buffer.from(isDirectory ? '.' : path.basename(inside));
        return { path: Buffer.from(absolute), dirfd, name };
      } catch (error) {
        closeAll(this.#opened.splice(0));
        throw new Failure('read source', absolute, { cause: describe(error) });
      }
    });
  }
}
