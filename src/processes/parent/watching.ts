/**
 * The watched sources, as the parent sees them: their scanners tell it when
 * something has changed, and whether they can watch at all. Invariant: a source
 * of which nobody can tell what changes is pushed at an interval, and that is
 * said.
 */
import type { Source } from '../../config/config.ts';
import type { Log } from '../../log.ts';
import { CHANGED, WATCHING } from '../../messages/parent.ts';
import type { Broker } from '../../privsep/broker.ts';
import type { Scheduler } from './schedule.ts';

const REMEDY = 'if watches ran out: sysctl fs.inotify.max_user_watches, max_user_instances';

interface State {
  readonly watches: number;
  readonly failed: string | undefined;
}

export class Watching {
  readonly #log: Log;
  readonly #schedule: Scheduler;
  /** what is known of each watched source; undefined before its first push */
  readonly #states = new Map<string, State | undefined>();

  constructor(log: Log, schedule: Scheduler) {
    this.#log = log;
    this.#schedule = schedule;
  }

  /** The sources of the configuration, from now on. */
  configure(sources: readonly Source[]): void {
    const names = sources.filter(({ watch }) => watch !== undefined).map(({ name }) => name);
    for (const name of this.#states.keys()) if (!names.includes(name)) this.#states.delete(name);
    for (const name of names) {
      if (this.#states.has(name)) continue;
      this.#states.set(name, undefined);
      // the first push looks at all of it, and begins to watch
      this.#schedule.changed(name);
    }
  }

  /** A source's scanner has ended: what has changed meanwhile nobody saw. */
  ended(source: string): void {
    if (!this.#states.has(source)) return;
    this.#states.set(source, undefined);
    this.#schedule.changed(source);
  }

  /** What a source's scanner may say. */
  serve(source: string, broker: Broker): void {
    broker.answer(CHANGED, () => {
      if (this.#states.has(source)) this.#schedule.changed(source);
    });
    broker.answer(WATCHING, ({ payload }) => this.#is(source, payload));
  }

  #is(source: string, state: State): void {
    if (!this.#states.has(source)) return;
    const before = this.#states.get(source);
    this.#states.set(source, state);
    this.#schedule.unwatched(source, state.failed !== undefined);
    if (state.failed === before?.failed) return;
    const process = `scanner ${source}`;
    if (state.failed === undefined)
      this.#log.info(`watches again, ${state.watches} directories`, { process });
    else
      this.#log.warn(`cannot watch: ${state.failed}; it is scanned at an interval (${REMEDY})`, { process });
  }

  /** How it goes, for the status; undefined of a source that is not watched. */
  text(source: string): string | undefined {
    if (!this.#states.has(source)) return undefined;
    const state = this.#states.get(source);
    if (state === undefined) return 'to be watched from the next push on';
    if (state.failed !== undefined) return `NOT WATCHED: ${state.failed}; scanned at an interval`;
    return `${state.watches} directories watched`;
  }
}
