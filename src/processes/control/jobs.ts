/**
 * What is at work, for whom: the table behind `status`, and the way from a
 * chunker's progress to the client that waits for it. Invariant: whatever a job
 * held is let go exactly once, when it ends.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { PROBLEM, PROGRESS, type progress, type status } from '../../messages/client.ts';
import type { READY_FOR } from '../../messages/parent.ts';
import { JOBS_MAX } from '../requests.ts';

type Progress = PayloadOf<typeof progress>;
type JobProblem = PayloadOf<typeof PROBLEM.shape>;
type ReadyFor = PayloadOf<typeof READY_FOR.shape>;
type JobState = PayloadOf<typeof status>['jobs'][number];

/** What is known of a job when it begins. */
export interface Request {
  readonly operation: string;
  readonly repository: string;
  readonly source: string | undefined;
  /** a repository that it reads, beside the one that it works on */
  readonly other?: string | undefined;
  readonly user: string;
  /** to whoever waits; undefined where nobody does */
  readonly channel: Channel | undefined;
}

export interface Job extends Request {
  readonly number: number;
  readonly startedMs: number;
  /** whose it is */
  readonly owner: object;
  /** the parent keeps for it what it needs */
  isHeld: boolean;
  /** what the parent said of its repository */
  ready: ReadyFor | undefined;
  /** it goes on between client and chunker, after it was answered */
  isHanded: boolean;
  /** whoever asked is gone */
  isCancelled: boolean;
  /** that it made */
  snapshot: string | undefined;
  files: number;
  bytes: number;
  /** problems that its client was too slow for */
  missed: number;
  /** problems of it that were logged, as it has no client */
  problems: number;
}

export interface JobsOptions {
  /** number of the first */
  readonly first: number;
  readonly now: () => number;
  readonly began: (job: Job) => void;
  /** called once for each job, when it ends */
  readonly over: (job: Job, error: unknown) => void;
}

export class Jobs {
  readonly #jobs = new Map<number, Job>();
  readonly #options: JobsOptions;
  #next: number;

  constructor(options: JobsOptions) {
    this.#options = options;
    this.#next = options.first;
  }

  begin(owner: object, request: Request): Job {
    if (this.#jobs.size >= JOBS_MAX)
      throw new Failure(request.operation, request.repository, {
        cause: `${JOBS_MAX} jobs are at work`,
        kind: 'busy',
      });
    const job: Job = {
      ...request,
      number: this.#next++,
      startedMs: this.#options.now(),
      owner,
      isHeld: false,
      ready: undefined,
      isHanded: false,
      isCancelled: false,
      snapshot: undefined,
      files: 0,
      bytes: 0,
      missed: 0,
      problems: 0,
    };
    this.#jobs.set(job.number, job);
    this.#options.began(job);
    return job;
  }

  /** Ends a job, with its failure if it failed. */
  end(number: number, error?: unknown): void {
    const job = this.#jobs.get(number);
    if (job === undefined) return;
    this.#jobs.delete(number);
    this.#options.over(job, error);
  }

  get size(): number {
    return this.#jobs.size;
  }

  /** What `owner` has at work. */
  of(owner: object): Job[] {
    return [...this.#jobs.values()].filter((job) => job.owner === owner);
  }

  /** By repository: pushes beyond the one that can be at work. */
  waiting(): Map<string, number> {
    const pushes = new Map<string, number>();
    for (const { operation, repository } of this.#jobs.values())
      if (operation === 'push') pushes.set(repository, (pushes.get(repository) ?? -1) + 1);
    return pushes;
  }

  /** What is at work on a repository. */
  on(repository: string): Job[] {
    return [...this.#jobs.values()].filter((job) => job.repository === repository);
  }

  progress(payload: Progress): Job | undefined {
    const job = this.#jobs.get(payload.job);
    if (job === undefined) return undefined;
    job.files = payload.files;
    job.bytes = payload.bytes;
    // a client that does not read misses progress, and nothing else
    if (job.channel?.writable === true && !job.channel.closed) job.channel.message(PROGRESS, payload);
    return job;
  }

  problem(payload: JobProblem): Job | undefined {
    const job = this.#jobs.get(payload.job);
    if (job === undefined) return undefined;
    const { channel } = job;
    if (channel === undefined || channel.closed) return job;
    if (!channel.writable) {
      if (job.missed++ === 0) void this.#tellMissed(job, channel);
    } else channel.message(PROBLEM, payload);
    return job;
  }

  /** Says how many problems are missing, as soon as the client reads again. */
  async #tellMissed(job: Job, channel: Channel): Promise<void> {
    await channel.drained();
    const text = `${job.missed} more problems were not sent, as they were read too slowly`;
    job.missed = 0;
    if (!channel.closed)
      channel.message(PROBLEM, { job: job.number, object: '', text, paths: undefined, more: undefined });
  }

  list(): JobState[] {
    return [...this.#jobs.values()].map(
      ({ number, operation, repository, source, user, startedMs, files, bytes }) => ({
        job: number,
        operation,
        repository,
        source,
        user,
        startedMs,
        files,
        bytes,
      }),
    );
  }
}
