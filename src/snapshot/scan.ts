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
import { NodeRing } from './nodering.ts';
import type { WalkRoot } from './roots.ts';
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
  /** descriptors of the paths */
  readonly opened: readonly number[];
  readonly old: NodeRing | undefined;
  readonly watch: WatchedWalk | undefined;
}

type Asked = PayloadOf<typeof SCAN.shape>;

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
    channel.handler(SCAN, ({ payload, fds }) => this.#scan(payload, fds));
    channel.handler(NODES, ({ payload: { job, bytes, last } }) => {
      this.#of(job)?.old?.filled(bytes, last);
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

  #scan(asked: Asked, fds: readonly number[]): Promise<void> | undefined {
    const { watched } = this.#options;
    const { job, parent } = asked;
    let old: NodeRing | undefined;
    try {
      old = this.#openRing(asked, fds);
    } catch (error) {
      this.#fail(job, error);
      return undefined;
    } finally {
      closeAll(fds);
    }
    // nodes of the parent come at once where nobody says what is visited: the walk has to be there
    if (watched === undefined) {
      this.#start(asked, old, undefined);
      return undefined;
    }
    this.#beginning = job;
    return watched
      .begin(this.#base, parent)
      .then((watch) => {
        if (this.#beginning === job) {
          this.#start(asked, old, watch);
          return;
        }
        old?.close();
        watched.abandoned(watch);
      })
      .catch((error: unknown) => {
        old?.close();
        this.#fail(job, error);
      });
  }

  #openRing({ job, root }: Asked, [fd]: readonly number[]): NodeRing | undefined {
    if ((root === undefined) !== (fd === undefined))
      throw new Failure('walk', '', { cause: 'the ring of a parent has to come with it' });
    if (fd === undefined) return undefined;
    return new NodeRing(
      fd,
      (bytes) => this.#channel.closed || this.#channel.message(NODES_USED, { job, bytes }),
    );
  }

  #start(asked: Asked, old: NodeRing | undefined, watch: WatchedWalk | undefined): void {
    const { job, parent } = asked;
    this.#beginning = undefined;
    this.#owed = watch && { job, watch };
    let current: Current;
    try {
      current = this.#begin(asked, old, watch);
    } catch (error) {
      old?.close();
      this.#fail(job, error);
      return;
    }
    this.#current = current;
    this.#last = this.#last.then(() => this.#run(current));
    const visits = watch?.visits && encodeVisits(watch.visits);
    if (parent !== undefined && !this.#channel.closed) this.#channel.message(SCAN_BEGUN, { job, visits });
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

  #begin({ job, trustBeforeSec }: Asked, old: NodeRing | undefined, watch: WatchedWalk | undefined): Current {
    const channel = this.#channel;
    const { excludes, oneFilesystem, paths, watched } = this.#options;
    const base = paths.length === 1 ? (paths[0] ?? '/') : '/';
    const roots = this.#openRoots();
    const walker = new Walker({
      roots,
      sink: { batch: (records, fds) => channel.message(BATCH, { job, data: records }, fds, { given: true }) },
      old: old?.stream,
      excludes: new Excludes(excludes, base),
      oneFilesystem,
      base: Buffer.from(base),
      uid: process.geteuid?.() ?? 0,
      ...(trustBeforeSec === undefined ? {} : { trustBeforeSec }),
      watch: watched && watch && { source: watched, walk: watch },
      now: () => performance.now(),
      yield: () => new Promise((resolve) => setImmediate(resolve)),
    });
    return { job, walker, opened: roots.map(({ dirfd }) => dirfd), old, watch };
  }

  async #run({ job, walker, opened, old }: Current): Promise<void> {
    try {
      await walker.run();
    } catch (error) {
      this.#fail(job, new Failure('walk', this.#options.paths.join(', '), { cause: error }));
    } finally {
      closeAll(opened);
      old?.close();
    }
  }

  #fail(job: number, error: unknown): void {
    this.#abandon(job);
    if (!this.#channel.closed) this.#channel.message(SCAN_FAILED, { job, ...toWire(error) });
  }

  #openRoots(): WalkRoot[] {
    const { paths, root, open = openAsCaller } = this.#options;
    const opened: number[] = [];
    return paths.map((absolute) => {
      const inside = root === '/' ? absolute : absolute.slice(root.length) || '/';
      try {
        const isDirectory = lstatSync(inside).isDirectory();
        const dirfd = open(isDirectory ? inside : path.dirname(inside));
        opened.push(dirfd);
        const name = Buffer.from(isDirectory ? '.' : path.basename(inside));
        return { path: Buffer.from(absolute), dirfd, name };
      } catch (error) {
        closeAll(opened);
        throw new Failure('read source', absolute, { cause: describe(error) });
      }
    });
  }
}
