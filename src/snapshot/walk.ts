/**
 * Walks a file tree beside the parent snapshot's tree and tells what differs.
 * Called by the scanner and, for a user's own paths, by plakarctl: they bring
 * the old tree's messages in, take the batches out, and serve other messages
 * between the turns of a walk. What a walk is, is in merge.ts.
 *
 * Invariants: no symlink is followed, and nothing but regular files and
 * directories is opened (opener.ts); an unchanged tree is an END alone
 * (teller.ts); nothing waits but for the old tree, or for acknowledgement of
 * what was sent (outbox.ts).
 */
import { Excludes } from './exclude.ts';
import { Frames } from './frame.ts';
import { DONE, GO, Merge, WAIT_OLD } from './merge.ts';
import { OldTree } from './oldtree.ts';
import { type FileCalls, Opener } from './opener.ts';
import { Outbox, type ScanSink } from './outbox.ts';
import type { WalkRoot } from './roots.ts';
import type { ScanCounts } from './scanlog.ts';
import type { OldNodes } from './stream.ts';
import { Teller } from './teller.ts';
import type { Watched, WatchedWalk } from './watched.ts';

/** The event loop is served after this long. */
const TURN_MS = 20;
/** Entries between two looks at the clock. */
const ENTRIES_PER_LOOK = 128;
/** A turn is over, in addition to those of a step. */
const YIELD = 3;
const WAIT_CREDIT = 4;

export interface WalkOptions {
  /** One or more paths; what they become is said in roots.ts. */
  readonly roots: readonly WalkRoot[];
  readonly sink: ScanSink;
  /** The parent's tree; without it all is new. */
  readonly old?: OldNodes | undefined;
  readonly excludes?: Excludes;
  /** What is mounted below a root is an empty directory. */
  readonly oneFilesystem?: boolean;
  /** Absolute path of what is walked, for events. */
  readonly base?: Buffer;
  /** Effective uid of the process. */
  readonly uid: number;
  /**
   * Seconds: an old file that changed then or later is read again, whatever its times say, as it may have changed
   * once more within the clock's tick. The parent snapshot's beginning, less a few seconds.
   */
  readonly trustBeforeSec?: number;
  /** of a watched source */
  readonly watch?: { readonly source: Watched; readonly walk: WatchedWalk } | undefined;
  /** milliseconds, of a clock that does not go back */
  readonly now: () => number;
  /** Lets other events be served, then resolves. */
  readonly yield: () => Promise<void>;
  readonly files?: FileCalls;
}

export class Walker {
  readonly #options: WalkOptions;
  readonly #outbox: Outbox;
  readonly #teller: Teller;
  readonly #opener: Opener;
  readonly #merge: Merge;
  #error: unknown;
  #wake: (() => void) | undefined;

  constructor(options: WalkOptions) {
    const { roots, old, excludes, oneFilesystem, trustBeforeSec } = options;
    this.#options = options;
    const frames = new Frames();
    this.#outbox = new Outbox(options.sink);
    this.#teller = new Teller(frames, this.#outbox, options.base ?? Buffer.from('/'));
    this.#opener = new Opener(options.uid, options.files);
    const merge = {
      roots,
      old: old && new OldTree(old),
      excludes: excludes ?? new Excludes([]),
      oneFilesystem: oneFilesystem === true,
      trustBeforeSec: trustBeforeSec ?? Number.POSITIVE_INFINITY,
      watch: options.watch,
    };
    this.#merge = new Merge(merge, frames, this.#teller, this.#opener);
  }

  /** What was met so far. */
  get counts(): Readonly<ScanCounts> {
    return this.#teller.counts;
  }

  /** The chunker has used so much of the batches. */
  credit(bytes: number, descriptors: number): void {
    this.#outbox.credit(bytes, descriptors);
    this.#wake?.();
  }

  /** Ends the walk: `run` rejects with `error`, soon. */
  cancel(error: unknown): void {
    this.#error ??= error;
    this.#wake?.();
  }

  /**
   * Walks, and resolves with the counts once all has been handed to the sink. Rejects where the walk was cancelled,
   * the old tree is damaged on its way, or descriptors ran out; what single entries suffer are events.
   */
  async run(): Promise<ScanCounts> {
    try {
      this.#merge.start();
      for (let state = this.#turn(); state !== DONE; state = this.#turn()) await this.#pause(state);
      this.#options.watch?.source.end(this.#options.watch.walk, this.#teller.counts);
      this.#teller.end();
      this.#outbox.flush();
      while (this.#outbox.isBlocked) await this.#pause(WAIT_CREDIT);
      return this.#teller.counts;
    } finally {
      this.#outbox.abandon((fd) => this.#opener.close(fd));
      this.#merge.close();
    }
  }

  async #pause(state: number): Promise<void> {
    this.#outbox.flush();
    if (state === YIELD) await this.#options.yield();
    else
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        if (this.#error !== undefined || (state === WAIT_CREDIT && !this.#outbox.isBlocked)) resolve();
        if (state === WAIT_OLD) this.#merge.waitForOld().then(resolve, (error) => this.cancel(error));
      });
    this.#wake = undefined;
    if (this.#error !== undefined) throw this.#error;
  }

  /** Walks until there is something to wait for. */
  #turn(): number {
    const endMs = this.#options.now() + TURN_MS;
    for (let n = 1; ; n++) {
      if (this.#outbox.isBlocked) {
        this.#outbox.send();
        if (this.#outbox.isBlocked) return WAIT_CREDIT;
      }
      const state = this.#merge.step();
      if (state !== GO) return state;
      if (n % ENTRIES_PER_LOOK === 0 && this.#options.now() >= endMs) return YIELD;
    }
  }
}
