/**
 * What is at work, for whom: the table behind `status`, and the way from a
 * chunker's progress to the client that waits for it.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { PROBLEM, PROGRESS, type progress, type status } from '../../messages/client.ts';

type Progress = PayloadOf<typeof progress>;
type JobProblem = PayloadOf<typeof PROBLEM.shape>;
type JobState = PayloadOf<typeof status>['jobs'][number];

const JOBS_MAX = 1024;

export interface Job {
  readonly number: number;
  readonly operation: string;
  readonly repository: string;
  readonly source: string | undefined;
  readonly user: string;
  readonly startedMs: number;
  readonly channel: Channel;
  /** whose it is */
  readonly owner: object;
  files: number;
  bytes: number;
}

export class Jobs {
  readonly #jobs = new Map<number, Job>();
  #last = 0;

  begin(
    owner: object,
    job: Pick<Job, 'operation' | 'repository' | 'source' | 'user' | 'channel'>,
    nowMs = Date.now(),
  ): Job {
    if (this.#jobs.size >= JOBS_MAX)
      throw new Failure(job.operation, job.repository, {
        cause: `${JOBS_MAX} jobs are at work`,
        kind: 'busy',
      });
    const begun = { ...job, number: ++this.#last, startedMs: nowMs, owner, files: 0, bytes: 0 };
    this.#jobs.set(begun.number, begun);
    return begun;
  }

  end(job: number): void {
    this.#jobs.delete(job);
  }

  /** What `owner` has at work. */
  of(owner: object): Job[] {
    return [...this.#jobs.values()].filter((job) => job.owner === owner);
  }

  progress(payload: Progress): void {
    const job = this.#jobs.get(payload.job);
    if (job === undefined) return;
    job.files = payload.files;
    job.bytes = payload.bytes;
    // a client that does not read misses progress, and nothing else
    if (job.channel.writable) job.channel.message(PROGRESS, payload);
  }

  problem(payload: JobProblem): void {
    const job = this.#jobs.get(payload.job);
    if (job !== undefined && !job.channel.closed) job.channel.message(PROBLEM, payload);
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
