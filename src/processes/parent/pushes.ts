/**
 * The pushes that happen by themselves: run when the plan says, one of a kind at
 * a time, and remembered over restarts. Used by the parent, which has control do
 * them. Owns the promise that what did not happen is said: in the status, and in
 * the log, as an error.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Push } from '../../config/config.ts';
import { describe, Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { Log } from '../../log.ts';
import type { pushState } from '../../messages/client.ts';
import { History } from '../../schedule/history.ts';
import { isMissed, jitterMs, nextRun } from '../../schedule/plan.ts';

/** At most this long between looks at the clock: it can be set, and the machine can sleep. */
const LOOK_MS = 20_000;
/** The file in the state directory. */
const FILE = 'pushes.json';

export interface PushesOptions {
  readonly log: Log;
  readonly host: string;
  /** ms since 1970 */
  readonly now: () => number;
  /** the directory of what is remembered */
  readonly state: string;
  /** does a push; resolves with the snapshot's id */
  readonly run: (push: Push) => Promise<string>;
}

export function nameOf({ source, repository }: Pick<Push, 'source' | 'repository'>): string {
  return `${source} to ${repository}`;
}

export class ScheduledPushes {
  readonly #options: PushesOptions;
  readonly #history: History;
  readonly #running = new Set<string>();
  /** those whose missed promise has been logged */
  readonly #missed = new Set<string>();
  #pushes: readonly Push[] = [];
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: PushesOptions) {
    this.#options = options;
    this.#history = load(options);
  }

  /** The pushes of the configuration, from now on. */
  configure(pushes: readonly Push[]): void {
    this.#pushes = pushes;
    this.#history.keep(new Set(pushes.map(nameOf)));
    for (const push of pushes) this.#history.of(nameOf(push), this.#options.now());
    this.#save();
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** A push that somebody asked for counts too, as the last good one of its kind. */
  succeeded(push: Pick<Push, 'source' | 'repository'>, snapshot: string): void {
    const name = nameOf(push);
    if (!this.#pushes.some((each) => nameOf(each) === name)) return;
    this.#history.succeeded(name, this.#options.now(), snapshot);
    this.#save();
  }

  status(): PayloadOf<typeof pushState>[] {
    const nowMs = this.#options.now();
    return this.#pushes.map((push) => {
      const { startMs, endMs, goodMs, failures, text, snapshot } = this.#history.of(nameOf(push), nowMs);
      const { source, repository, schedule } = push;
      return {
        source,
        repository,
        running: this.#running.has(nameOf(push)),
        nextMs: schedule && this.#next(push),
        lastMs: startMs,
        endMs,
        goodMs,
        snapshot,
        failures,
        text,
        missed: this.#isMissed(push),
      };
    });
  }

  /** When it is due, or undefined where it has no schedule. */
  #next(push: Push): number | undefined {
    const { schedule } = push;
    if (schedule === undefined) return undefined;
    const { host, now } = this.#options;
    const name = nameOf(push);
    return nextRun(schedule, this.#history.of(name, now()), jitterMs(schedule, host, name), now());
  }

  #isMissed({ schedule, ...push }: Push): boolean {
    const nowMs = this.#options.now();
    return schedule !== undefined && isMissed(schedule, this.#history.of(nameOf(push), nowMs), nowMs);
  }

  /** Begins what is due, and looks again when the next is, or after a while. */
  #look(): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    const nowMs = this.#options.now();
    let waitMs = LOOK_MS;
    for (const push of this.#pushes) {
      this.#complain(push);
      const nextMs = this.#next(push);
      if (nextMs === undefined || this.#running.has(nameOf(push))) continue;
      if (nextMs <= nowMs) void this.#run(push);
      else waitMs = Math.min(waitMs, nextMs - nowMs);
    }
    this.#timer = setTimeout(() => this.#look(), waitMs);
  }

  async #run(push: Push): Promise<void> {
    const { log, now, run } = this.#options;
    const name = nameOf(push);
    this.#running.add(name);
    this.#history.began(name, now());
    this.#save();
    try {
      const snapshot = await run(push);
      this.#history.succeeded(name, now(), snapshot);
      log.info(`push ${name}: snapshot ${snapshot}`, { process: 'parent' });
    } catch (error) {
      if (!this.#stopped)
        log.error(describe(new Failure('push', name, { cause: error })), { process: 'parent' });
      this.#history.failed(name, now(), describe(error));
    } finally {
      this.#running.delete(name);
      this.#save();
      this.#look();
    }
  }

  #complain(push: Push): void {
    const name = nameOf(push);
    if (!this.#isMissed(push)) this.#missed.delete(name);
    else if (!this.#missed.has(name)) {
      this.#missed.add(name);
      const text = `push ${name}: no snapshot within twice its interval`;
      this.#options.log.error(text, { process: 'parent' });
    }
  }

  /** Written beside, then renamed: a half-written memory is none. */
  #save(): void {
    const { state, log } = this.#options;
    const file = path.join(state, FILE);
    try {
      mkdirSync(state, { recursive: true, mode: 0o700 });
      writeFileSync(`${file}.new`, this.#history.encode(), { mode: 0o600 });
      renameSync(`${file}.new`, file);
    } catch (cause) {
      log.error(describe(new Failure('write', file, { cause })), { process: 'parent' });
    }
  }
}

/** What was remembered; nothing where there is nothing, or nothing that can be read. */
function load({ state, log }: PushesOptions): History {
  const file = path.join(state, FILE);
  try {
    return History.decode(readFileSync(file, 'utf8'));
  } catch (cause) {
    const isNew = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    if (!isNew) log.warn(describe(new Failure('read', file, { cause })), { process: 'parent' });
    return new History();
  }
}
