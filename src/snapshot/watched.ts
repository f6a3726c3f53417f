/**
 * A watched source: what is known of its directories between walks. The walk
 * itself puts the watches: each directory when it is opened and before its names
 * are read, so that nothing can change unseen. Events mark directories; the next
 * walk visits those that were marked since the walk that its parent snapshot
 * came from. Called by the scanner (scan.ts) and the walk (merge.ts).
 *
 * Invariants: what is not marked is as it was when it was last visited, as far as
 * inotify(7) tells: not through a mapping that stays open, nor on another machine.
 * Whatever is doubtful (an overflow, hard links, a clock that jumped, a mount
 * that ended) makes the next walk a full one, and so does a day without one.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Failure } from '../error.ts';
import { VISITS_MAX_BYTES } from '../messages/scan.ts';
import { errnoError } from '../sys/errno.ts';
import { changeDirectory, type Stat } from '../sys/files.ts';
import { IN_DELETE_SELF, IN_IGNORED, IN_MOVE_SELF, IN_Q_OVERFLOW, IN_UNMOUNT } from '../sys/inotify.ts';
import { trace, tracing } from '../trace.ts';
import type { ScanCounts } from './scanlog.ts';
import { VISIT_HEAD_BYTES, VISITS_MAX, type Visit } from './visits.ts';

/** Directories of one source; each costs about 300 bytes here and 1 KiB in the kernel. */
const DIRECTORIES_MAX = 1 << 19;
/** Changes that do not settle are pushed after so many times the time to settle. */
const SETTLE_TIMES_MAX = 10;
/** After a full walk, this many times as long is waited until the next one that only a doubt asks for. */
const FULL_REST_TIMES = 10;
/** A clock that ran so much faster or slower than time does has been set. */
const CLOCK_JUMP_MS = 10_000;
/** After it could not be watched, it is tried again with a walk that comes so much later. */
const RETRY_MS = 3_600_000;
/** Turns of the event loop in which events that are there are read. */
const DRAIN_TURNS = 1000;
const DRAIN_MS = 2;
/** Node's timers go no further. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Entries in one directory itself. */
export interface OwnCounts {
  files: number;
  bytes: number;
  others: number;
  directories: number;
  excluded: number;
}

/** One directory. */
export class Place {
  name: string;
  parent: Place | undefined;
  children: Map<string, Place> | undefined;
  /** its watch; -1 where it has none */
  watch = -1;
  inoLow = 0;
  inoHigh = 0;
  /** when it was last marked, and when something below it was */
  marked = 0;
  markedBelow = 0;
  /** the last walk that met it */
  seen = 0;
  files = 0;
  bytes = 0;
  others = 0;
  directories = 0;
  excluded = 0;

  constructor(name: string, parent: Place | undefined) {
    this.name = name;
    this.parent = parent;
  }
}

/** What inotify.ts offers. */
export interface WatchCalls {
  addCurrent(): number;
  remove(watch: number): void;
  look(): boolean;
}

export interface WatchedOptions {
  readonly settleMs: number;
  readonly scanMs: number;
  /** of the process's root directory, which it returns to */
  readonly rootFd: number;
  /** makes the watcher; throws where there are too many */
  readonly open: (
    take: (watch: number, mask: number) => void,
    onError: (error: unknown) => void,
  ) => WatchCalls;
  /** ms, of a clock that does not go back, and of one that can be set */
  readonly now: () => number;
  readonly wallClock: () => number;
  /** Something changed, and has settled. */
  readonly onChange: () => void;
  /** It is watched, by so many watches, or no longer is: why. */
  readonly onState: (watches: number, failure: Failure | undefined) => void;
}

/** What a good walk left: what a later one can begin with. */
export interface Base {
  readonly snapshot: string;
  readonly mark: number;
  readonly doubts: number;
  readonly fullMs: number;
  readonly clockMs: number;
  /** numbers of the file systems, by device */
  readonly filesystems: ReadonlyMap<number, number>;
}

/** One walk of a watched source. */
export interface WatchedWalk {
  readonly number: number;
  /** directories to visit; all where undefined */
  readonly visits: Visit | undefined;
  readonly base: Omit<Base, 'snapshot' | 'filesystems'>;
  readonly filesystems: Map<number, number>;
  readonly startedMs: number;
  /** something had changed, and is told of again should this walk come to nothing */
  readonly isOwed: boolean;
}

export class Watched {
  readonly #options: WatchedOptions;
  readonly #root = new Place('', undefined);
  readonly #places = new Map<number, Place>();
  readonly #total: OwnCounts = { files: 0, bytes: 0, others: 0, directories: 0, excluded: 0 };
  #calls: WatchCalls | undefined;
  #failedMs: number | undefined;
  #mark = 1;
  #doubts = 0;
  /** doubts that a full walk has settled */
  #settledDoubts = 0;
  #walks = 0;
  #timer: NodeJS.Timeout | undefined;
  /** the first and last change since the last walk began, and whether they were told */
  #firstMs: number | undefined;
  #lastMs = 0;
  #isTold = false;
  /** those who have it walked, one for each repository */
  #takers = 0;
  /** ends the time for which a full walk is good */
  #fullTimer: NodeJS.Timeout | undefined;
  #restUntilMs = 0;

  constructor(options: WatchedOptions) {
    this.#options = options;
  }

  // ---- walks

  /** Begins a walk for a snapshot whose parent is `parent`; `base` is what the last good walk left. */
  async begin(base: Base | undefined, parent: string | undefined): Promise<WatchedWalk> {
    const { now, wallClock } = this.#options;
    this.#open();
    for (let turn = 0; turn < DRAIN_TURNS && this.#calls?.look() === true; turn++) await pause(0);
    // those that the thread has read just now; should it be slower, the next walk sees them
    await pause(DRAIN_MS);
    const startedMs = now();
    const clockMs = wallClock() - startedMs;
    const doubt = this.#doubtOf(base, parent, startedMs, clockMs);
    const visits = doubt === undefined && base !== undefined ? this.#visits(base.mark) : undefined;
    if (visits === undefined && tracing.walk)
      trace('walk', `everything is visited: ${doubt ?? 'too much changed'}`);
    this.#mark++;
    const isOwed = this.#firstMs !== undefined;
    // what was not told yet, others than this one may have to hear
    if (this.#isTold || this.#takers <= 1) this.#forget();
    return {
      number: ++this.#walks,
      visits,
      base: {
        mark: this.#mark,
        doubts: this.#doubts,
        fullMs: visits === undefined || base === undefined ? startedMs : base.fullMs,
        clockMs,
      },
      filesystems: visits === undefined ? new Map() : new Map(base?.filesystems),
      startedMs,
      isOwed,
    };
  }

  /** Why all has to be visited, if it has. */
  #doubtOf(
    base: Base | undefined,
    parent: string | undefined,
    nowMs: number,
    clockMs: number,
  ): string | undefined {
    if (this.#calls === undefined) return 'it is not watched';
    if (base === undefined) return 'no walk to go by';
    if (base.snapshot !== parent) return 'another snapshot is the parent';
    if (base.doubts !== this.#doubts) return 'a change may have gone unseen';
    if (nowMs - base.fullMs >= this.#options.scanMs) return 'the last time was long ago';
    if (Math.abs(clockMs - base.clockMs) >= CLOCK_JUMP_MS) return 'the clock was set';
    return undefined;
  }

  /** Somebody else has it walked, or no longer has. */
  joined(): void {
    this.#takers++;
  }

  parted(): void {
    this.#takers--;
  }

  /** The walk, or its snapshot, came to nothing: what it was to see is told again. */
  abandoned(walk: WatchedWalk): void {
    changeDirectory(this.#options.rootFd);
    if (walk.isOwed) this.#changed();
  }

  /** What the walk left, now that its snapshot is durable. Undefined where that is nothing to begin with. */
  done(walk: WatchedWalk, snapshot: string, unreadable: number): Base | undefined {
    const { now, onState, scanMs } = this.#options;
    const nowMs = now();
    if (walk.visits === undefined) {
      this.#settledDoubts = walk.base.doubts;
      this.#restUntilMs = nowMs + FULL_REST_TIMES * (nowMs - walk.startedMs);
      if (this.#calls !== undefined) onState(this.#places.size, undefined);
      this.#fullTimer ??= setTimeout(() => this.#full(), Math.min(scanMs, TIMER_MAX_MS)).unref();
    }
    // what could not be read is tried again each time, which only a full walk does
    if (this.#calls === undefined || unreadable > 0) return undefined;
    return { ...walk.base, snapshot, filesystems: walk.filesystems };
  }

  #open(): void {
    const { open, now } = this.#options;
    if (this.#calls !== undefined) return;
    if (this.#failedMs !== undefined && now() - this.#failedMs < RETRY_MS) return;
    try {
      // one that failed is used again: it is there for good
      this.#calls = this.#opened ??= open(
        (watch, mask) => this.#event(watch, mask),
        (error) => this.fail(error),
      );
      this.#failedMs = undefined;
    } catch (error) {
      this.fail(error);
    }
  }
  #opened: WatchCalls | undefined;

  /** It cannot be watched: that is told, and everything visited until it can. */
  fail(error: unknown): void {
    this.#failedMs = this.#options.now();
    this.#doubts++;
    const calls = this.#calls;
    this.#calls = undefined;
    for (const watch of this.#places.keys()) calls?.remove(watch);
    this.#places.clear();
    forEachPlace(this.#root, (place) => {
      place.watch = -1;
    });
    clearTimeout(this.#timer);
    this.#options.onState(0, error as Failure);
  }

  // ---- events

  #event(watch: number, mask: number): void {
    if (mask & (IN_Q_OVERFLOW | IN_UNMOUNT)) this.doubt();
    const place = this.#places.get(watch);
    if (place === undefined) return;
    if (mask & IN_IGNORED) {
      this.#places.delete(watch);
      place.watch = -1;
    }
    this.#markPlace(place);
    // whoever it was moved or removed from is marked for that too
    if (mask & (IN_DELETE_SELF | IN_MOVE_SELF) && place.parent !== undefined) this.#markPlace(place.parent);
    this.#changed();
  }

  #markPlace(place: Place): void {
    const mark = this.#mark;
    place.marked = mark;
    for (let at = place.parent; at !== undefined && at.markedBelow !== mark; at = at.parent)
      at.markedBelow = mark;
  }

  /** Something may have changed that was not seen: the next walk is a full one. */
  doubt(): void {
    this.#doubts++;
    this.#changed();
  }

  /** It is time for a full walk, whether or not anything changed. */
  #full(): void {
    this.#fullTimer = undefined;
    this.doubt();
  }

  /** A walk sees all that has changed so far. */
  #forget(): void {
    clearTimeout(this.#timer);
    this.#firstMs = undefined;
    this.#isTold = false;
  }

  #changed(): void {
    const nowMs = this.#options.now();
    this.#lastMs = nowMs;
    if (this.#firstMs !== undefined) return;
    this.#firstMs = nowMs;
    this.#settle();
  }

  /** Waits until nothing has changed for a while, or changes have gone on for too long. */
  #settle(): void {
    const { settleMs, now, onChange } = this.#options;
    clearTimeout(this.#timer);
    const nowMs = now();
    const first = this.#firstMs ?? nowMs;
    const settledMs = Math.min(Math.max(this.#lastMs, first) + settleMs, first + SETTLE_TIMES_MAX * settleMs);
    // a doubt that comes with every change must not have all be read all the time
    const isDoubtful = this.#doubts !== this.#settledDoubts;
    const waitMs = (isDoubtful ? Math.max(settledMs, this.#restUntilMs) : settledMs) - nowMs;
    if (waitMs > 0) this.#timer = setTimeout(() => this.#settle(), waitMs).unref();
    else {
      this.#isTold = true;
      onChange();
    }
  }

  // ---- what the walk asks and tells

  get root(): Place {
    return this.#root;
  }

  /** The directory `name` of `parent` was opened: it is watched from now on. Its names are to be read after this. */
  entered(
    walk: WatchedWalk,
    parent: Place | undefined,
    name: string,
    fd: number,
    stat: Stat,
  ): Place | undefined {
    if (this.#calls === undefined) return undefined;
    const moved = changeDirectory(fd);
    const watch = moved < 0 ? moved : this.#calls.addCurrent();
    if (watch < 0) {
      // gone before it could be watched: its parent is marked for that
      this.fail(errnoError(watch, 'inotify_add_watch', ''));
      return undefined;
    }
    if (this.#places.size >= DIRECTORIES_MAX) {
      this.fail(errnoError(watch, `watch more than ${DIRECTORIES_MAX} directories`, ''));
      return undefined;
    }
    const known = this.#places.get(watch);
    const place = this.#placeAt(walk, parent, name, known);
    if (place.watch >= 0 && place.watch !== watch) this.#places.delete(place.watch);
    place.watch = watch;
    place.inoLow = stat.inoLow;
    place.inoHigh = stat.inoHigh;
    this.#places.set(watch, place);
    return place;
  }

  /** A directory that is made up, or cannot be looked into: it has a place, and no watch. */
  met(walk: WatchedWalk, parent: Place | undefined, name: string): Place | undefined {
    return this.#calls === undefined ? undefined : this.#placeAt(walk, parent, name, undefined);
  }

  #placeAt(walk: WatchedWalk, parent: Place | undefined, name: string, known: Place | undefined): Place {
    if (parent === undefined) {
      this.#root.seen = walk.number;
      return this.#root;
    }
    const there = parent.children?.get(name);
    let place = known ?? there;
    if (place === undefined || place === this.#root) place = new Place(name, parent);
    if (there !== place) {
      if (there !== undefined) this.#remove(there);
      place.parent?.children?.delete(place.name);
      place.name = name;
      place.parent = parent;
      parent.children ??= new Map();
      parent.children.set(name, place);
      // what is marked in it stays marked where it is now
      const latest = Math.max(place.marked, place.markedBelow);
      for (let at: Place | undefined = parent; at !== undefined && at.markedBelow < latest; at = at.parent)
        at.markedBelow = latest;
    }
    place.seen = Math.max(place.seen, walk.number);
    return place;
  }

  /** Whether the directory `name` of `parent` is watched, and the one that `stat` is of; it is then as it was. */
  holds(walk: WatchedWalk, parent: Place | undefined, name: string, stat: Stat): boolean {
    const place = parent?.children?.get(name);
    if (place === undefined || place.watch < 0) return false;
    if (place.inoLow !== stat.inoLow || place.inoHigh !== stat.inoHigh) return false;
    place.seen = Math.max(place.seen, walk.number);
    return true;
  }

  /** All names of a directory have been looked at: what it holds itself, and what it no longer holds. */
  left(walk: WatchedWalk, place: Place, own: Readonly<OwnCounts>): void {
    for (const child of place.children?.values() ?? []) if (child.seen < walk.number) this.#remove(child);
    this.#count(place, own);
  }

  /** A directory that was to be visited is not there. */
  gone(parent: Place | undefined, name: string): void {
    const place = parent?.children?.get(name);
    if (place !== undefined) this.#remove(place);
  }

  /** The walk is over: the counts are those of the whole source, whatever was visited. */
  end(walk: WatchedWalk, counts: ScanCounts): void {
    changeDirectory(this.#options.rootFd);
    if (walk.visits === undefined) return;
    Object.assign(counts, this.#total);
    counts.unchanged = Math.max(0, counts.files - counts.new - counts.changed);
  }

  #count(place: Place, own: Readonly<OwnCounts>): void {
    const total = this.#total;
    for (const key of ['files', 'bytes', 'others', 'directories', 'excluded'] as const) {
      total[key] += own[key] - place[key];
      place[key] = own[key];
    }
  }

  #remove(top: Place): void {
    top.parent?.children?.delete(top.name);
    top.parent = undefined;
    forEachPlace(top, (place) => {
      this.#count(place, { files: 0, bytes: 0, others: 0, directories: 0, excluded: 0 });
      if (place.watch < 0) return;
      this.#places.delete(place.watch);
      this.#calls?.remove(place.watch);
      place.watch = -1;
    });
  }

  /** The directories that were marked at `mark` or later, with those above; undefined where they are too many. */
  #visits(mark: number): Visit | undefined {
    const root = {
      listed: this.#root.marked >= mark || this.#root.watch < 0,
      children: new Map<string, Visit>(),
    };
    const stack: (readonly [Place, Map<string, Visit>])[] = [[this.#root, root.children]];
    let count = 1;
    let bytes = VISIT_HEAD_BYTES;
    for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
      const [place, children] = top;
      for (const child of place.children?.values() ?? []) {
        // what has no watch, as what is made up has none, is looked into always
        const listed = child.marked >= mark || child.watch < 0;
        if (!listed && child.markedBelow < mark) continue;
        const visit = { listed, children: new Map<string, Visit>() };
        children.set(child.name, visit);
        stack.push([child, visit.children]);
        bytes += child.name.length + VISIT_HEAD_BYTES;
        if (++count > VISITS_MAX || bytes > VISITS_MAX_BYTES) return undefined;
      }
    }
    return root;
  }
}

function forEachPlace(top: Place, visit: (place: Place) => void): void {
  const stack = [top];
  for (let place = stack.pop(); place !== undefined; place = stack.pop()) {
    visit(place);
    if (place.children !== undefined) stack.push(...place.children.values());
  }
}
