/**
 * What happens to jobs, for whoever watches: events to the clients of `monitor`,
 * lines in the log, and the tally for `metrics`. Called by control.ts. A watcher
 * that does not read misses events, and is told how many.
 */
import { describe, kindOf } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { Log } from '../../log.ts';
import { EVENT } from '../../messages/client.ts';
import type { Job } from './jobs.ts';
import { Tally } from './tally.ts';

type JobEvent = PayloadOf<typeof EVENT.shape>;
/** Problems of a job without a client that are logged, each. */
const LOGGED_MAX = 20;

type About = Partial<Pick<JobEvent, 'text'>>;

interface Watcher {
  readonly channel: Channel;
  /** answers its request */
  readonly end: () => void;
  missed: number;
}

export class Monitor {
  readonly tally: Tally;
  readonly #watchers = new Map<Channel, Watcher>();
  readonly #log: Log;
  readonly #name: string;
  readonly #now: () => number;

  constructor(log: Log, name: string, now: () => number) {
    this.#log = log;
    this.#name = name;
    this.#now = now;
    this.tally = new Tally(now);
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  watch(channel: Channel, end: () => void): void {
    this.#watchers.set(channel, { channel, end, missed: 0 });
  }

  /** Tells all watchers that nothing more comes. */
  close(): void {
    for (const { channel, end } of this.#watchers.values()) if (!channel.closed) end();
    this.#watchers.clear();
  }

  leave(channel: Channel): void {
    this.#watchers.delete(channel);
  }

  began(job: Job): void {
    this.#tell('begun', job, {});
    this.#log.debug(`${about(job)} for ${job.user}`, { process: this.#name });
  }

  progress(job: Job): void {
    this.#tell('progress', job, {});
  }

  problem(job: Job, text: string): void {
    this.tally.problems++;
    this.#tell('problem', job, { text });
    // nobody else hears of it
    if (job.channel === undefined && ++job.problems <= LOGGED_MAX)
      this.#log.warn(`${about(job)}: ${text}`, { process: this.#name });
  }

  over(job: Job, error: unknown): void {
    const process = this.#name;
    this.tally.over(job, error);
    if (error === undefined) {
      this.#tell('over', job, {});
      this.#log.info(`${about(job)}: done`, { process });
      return;
    }
    const text = describe(error);
    const isInterrupted = kindOf(error) === 'interrupted';
    this.#tell('failed', job, { text });
    this.#log[isInterrupted ? 'info' : 'warn'](`${about(job)}: ${text}`, { process });
  }

  #tell(kind: JobEvent['kind'], job: Job, { text }: About): void {
    if (this.#watchers.size === 0) return;
    const { number, operation, repository, source, user, files, bytes } = job;
    const event = {
      timeMs: this.#now(),
      kind,
      job: number,
      operation,
      repository,
      source,
      user,
      files,
      bytes,
    };
    for (const watcher of this.#watchers.values()) {
      const { channel } = watcher;
      if (channel.closed) continue;
      if (!channel.writable) {
        watcher.missed++;
        continue;
      }
      channel.message(EVENT, { ...event, text, missed: watcher.missed });
      watcher.missed = 0;
    }
  }
}

/** `push home to local` */
function about({ operation, repository, source }: Job): string {
  return source === undefined ? `${operation} ${repository}` : `${operation} ${source} to ${repository}`;
}
