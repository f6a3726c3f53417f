/**
 * What happens by itself: run when the plan says, nothing beside what it
 * excludes, and remembered over restarts. Used by the parent, which has control
 * do it. Owns the promise that what did not happen is said: in the status, and in
 * the log, as an error.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { Log } from '../../log.ts';
import type { pushState, taskState } from '../../messages/client.ts';
import { History, type Outcome, type Pause } from '../../schedule/history.ts';
import { isMissed, jitterMs, nextRun, type Schedule } from '../../schedule/plan.ts';
import { startable } from '../../schedule/queue.ts';
import { trace, tracing } from '../../trace.ts';
import { pushName, type Task } from './tasks.ts';

/** At most this long between looks at the clock: it can be set, and the machine can sleep. */
const LOOK_MS = 20_000;
/** How often a source is pushed that is to be watched and cannot be. */
const UNWATCHED_S = 300;
/** The file in the state directory. */
const FILE = 'schedule.json';

export interface SchedulerOptions {
  readonly log: Log;
  readonly host: string;
  /** ms since 1970 */
  readonly now: () => number;
  /** the directory of what is remembered */
  readonly state: string;
  /** does a task */
  readonly run: (task: Task) => Promise<Outcome>;
}

type TaskState = PayloadOf<typeof taskState>;
type PushState = PayloadOf<typeof pushState>;

/** The last good snapshot of a source, whoever asked for it. */
interface LastGood {
  readonly goodMs: number | undefined;
  readonly snapshot: string | undefined;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #history: History;
  readonly #running = new Map<string, Task>();
  /** since when tasks are due for another reason than the time, by name */
  readonly #triggered = new Map<string, number>();
  /** watched sources whose changes go unseen */
  readonly #unwatched = new Set<string>();
  /** those whose missed promise has been logged */
  readonly #missed = new Set<string>();
  #tasks: readonly Task[] = [];
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#history = load(options);
  }

  /** The tasks of the configuration, from now on, and its sources' names. */
  configure(tasks: readonly Task[], sources: readonly string[]): void {
    this.#tasks = tasks;
    const names = tasks.map(({ name }) => name);
    this.#history.keep(new Set([...names, ...sources.map(sourceKey)]));
    for (const name of names) this.#history.of(name, this.#options.now());
    for (const name of this.#triggered.keys()) if (!names.includes(name)) this.#triggered.delete(name);
    this.#save();
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** A push has made a snapshot, whoever asked for it: it counts as the last good one of its kind. */
  pushed(source: string, repository: string, snapshot: string): void {
    const nowMs = this.#options.now();
    const name = pushName(source, repository);
    this.#history.succeeded(sourceKey(source), nowMs, { snapshot });
    if (this.#tasks.some((task) => task.name === name)) this.#history.succeeded(name, nowMs, { snapshot });
    for (const task of this.#tasks)
      if (task.afterPush === true && task.repositories[0] === repository)
        this.#triggered.set(task.name, nowMs);
    this.#save();
    this.#look();
  }

  /** A watched source is to be pushed now. */
  changed(source: string): void {
    const nowMs = this.#options.now();
    for (const { name, watched, source: of } of this.#tasks)
      if (watched === true && of === source && !this.#triggered.has(name)) this.#triggered.set(name, nowMs);
    this.#look();
  }

  /** Whether a watched source's changes go unseen: it is then pushed at an interval. */
  unwatched(source: string, isUnwatched: boolean): void {
    if (this.#unwatched.has(source) === isUnwatched) return;
    if (isUnwatched) this.#unwatched.add(source);
    else this.#unwatched.delete(source);
    this.#look();
  }

  /** Nothing begins by itself, for so many seconds or until `resume`; what runs goes on. */
  pause(seconds?: number): void {
    const nowMs = this.#options.now();
    const untilMs = seconds === undefined ? undefined : nowMs + seconds * 1000;
    this.#history.paused = { sinceMs: nowMs, untilMs };
    const until = untilMs === undefined ? '' : ` until ${new Date(untilMs).toISOString()}`;
    this.#options.log.info(`the schedule is paused${until}`, { process: 'parent' });
    this.#save();
    this.#look();
  }

  resume(): void {
    if (this.#history.paused === undefined) return;
    this.#history.paused = undefined;
    this.#options.log.info('the schedule goes on', { process: 'parent' });
    this.#save();
    this.#look();
  }

  get paused(): Pause | undefined {
    return this.#history.paused;
  }

  lastGood(source: string): LastGood {
    const { goodMs, snapshot } = this.#history.of(sourceKey(source), this.#options.now());
    return { goodMs, snapshot };
  }

  /** What looks after the repositories. */
  tasks(): TaskState[] {
    return this.#tasks.filter(({ operation }) => operation !== 'push').map((task) => this.#stateOf(task));
  }

  pushes(): PushState[] {
    return this.#tasks.flatMap((task) => {
      const [repository = ''] = task.repositories;
      return task.source === undefined
        ? []
        : [{ ...this.#stateOf(task), source: task.source, repository, watched: task.watched === true }];
    });
  }

  #stateOf(task: Task): TaskState {
    const { name, operation, schedule } = task;
    const nowMs = this.#options.now();
    const { startMs, endMs, goodMs, failures, text, snapshot, result } = this.#history.of(name, nowMs);
    return {
      name,
      operation,
      running: this.#running.has(name),
      nextMs: schedule && this.#next(task),
      lastMs: startMs,
      endMs,
      goodMs,
      snapshot,
      result,
      failures,
      text,
      missed: this.#isMissed(task),
    };
  }

  #scheduleOf({ schedule, watched, source }: Task): Schedule | undefined {
    if (watched !== true || source === undefined || !this.#unwatched.has(source)) return schedule;
    const isOften = schedule?.kind === 'every' && schedule.seconds < UNWATCHED_S;
    return isOften ? schedule : { kind: 'every', seconds: UNWATCHED_S };
  }

  /** When it is due, or undefined where it has no schedule. */
  #next(task: Task): number | undefined {
    const { name } = task;
    const schedule = this.#scheduleOf(task);
    if (schedule === undefined) return undefined;
    const { host, now } = this.#options;
    return nextRun(schedule, this.#history.of(name, now()), jitterMs(schedule, host, name), now());
  }

  /** When it is due, for whatever reason; what failed is not tried again sooner because there is more of it. */
  #due(task: Task): number | undefined {
    const nextMs = this.#next(task);
    const since = this.#triggered.get(task.name);
    if (since === undefined) return nextMs;
    const { failures } = this.#history.of(task.name, this.#options.now());
    return nextMs === undefined ? since : failures > 0 ? nextMs : Math.min(nextMs, since);
  }

  #isMissed({ schedule, name }: Task): boolean {
    const nowMs = this.#options.now();
    return schedule !== undefined && isMissed(schedule, this.#history.of(name, nowMs), nowMs);
  }

  /** Begins what is due and may, and looks again when the next is due, or after a while. */
  #look(): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    for (const task of this.#tasks) this.#complain(task);
    const waitMs = this.#isPaused() ? LOOK_MS : this.#begin();
    this.#timer = setTimeout(() => this.#look(), waitMs);
  }

  #isPaused(): boolean {
    const { paused } = this.#history;
    if (paused?.untilMs !== undefined && paused.untilMs <= this.#options.now())
      this.#history.paused = undefined;
    return this.#history.paused !== undefined;
  }

  /** Returns how long there is nothing more to begin. */
  #begin(): number {
    const nowMs = this.#options.now();
    const due: { task: Task; dueMs: number }[] = [];
    let waitMs = LOOK_MS;
    for (const task of this.#tasks) {
      const dueMs = this.#running.has(task.name) ? undefined : this.#due(task);
      if (dueMs === undefined) continue;
      if (dueMs <= nowMs) due.push({ task, dueMs });
      else waitMs = Math.min(waitMs, dueMs - nowMs);
    }
    due.sort((a, b) => a.dueMs - b.dueMs);
    const tasks = due.map(({ task }) => task);
    for (const task of startable(tasks, [...this.#running.values()])) void this.#run(task);
    if (tracing.schedule) trace('schedule', `${tasks.length} are due; the next look is in ${waitMs} ms`);
    return waitMs;
  }

  async #run(task: Task): Promise<void> {
    const { log, now, run } = this.#options;
    const { name, operation } = task;
    const what = operation === 'push' ? `push ${name}` : name;
    if (tracing.schedule) trace('schedule', `${what}: begins`);
    this.#running.set(name, task);
    this.#triggered.delete(name);
    const before = this.#history.of(name, now());
    this.#history.began(name, now());
    this.#save();
    try {
      const outcome = await run(task);
      this.#history.succeeded(name, now(), outcome);
      log.info(`${what}: ${outcome.result ?? `snapshot ${outcome.snapshot ?? ''}`}`, { process: 'parent' });
    } catch (error) {
      if (this.#stopped) this.#history.calledOff(name, before);
      else {
        log.error(describe(new Failure(what, '', { cause: error })), { process: 'parent' });
        this.#history.failed(name, now(), describe(error));
      }
    } finally {
      this.#running.delete(name);
      this.#save();
      this.#look();
    }
  }

  #complain(task: Task): void {
    const { name, operation } = task;
    if (!this.#isMissed(task)) this.#missed.delete(name);
    else if (!this.#missed.has(name)) {
      this.#missed.add(name);
      const text =
        operation === 'push'
          ? `push ${name}: no snapshot within twice its interval`
          : `${name}: not done within twice its interval`;
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

/** What a source's last good snapshot is remembered as. */
function sourceKey(source: string): string {
  return `source ${source}`;
}

/** What was remembered; nothing where there is nothing, or nothing that can be read. */
function load({ state, log }: SchedulerOptions): History {
  const file = path.join(state, FILE);
  try {
    return History.decode(readFileSync(file, 'utf8'));
  } catch (cause) {
    const isNew = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    if (!isNew) log.warn(describe(new Failure('read', file, { cause })), { process: 'parent' });
    return new History();
  }
}
