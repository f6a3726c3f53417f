/**
 * What the schedule has done: the jobs that nobody waits for but the parent. Used
 * by control.ts. Invariant: a check that found damage has failed, so that whoever
 * looks at the schedule sees it.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { CHECKED, CLEANED_UP, KEPT, type policy } from '../../messages/client.ts';
import { CHECK_REPOSITORY, CLEAN_REPOSITORY, KEEP_SNAPSHOTS } from '../../messages/jobs.ts';
import type { RUN_TASK, TASK_RUN } from '../../messages/parent.ts';
import type { Job } from './jobs.ts';

export type Asked = PayloadOf<typeof RUN_TASK.shape>;
export type Result = PayloadOf<typeof TASK_RUN.shape>;

/** What control lends to a task. */
export interface TaskTools {
  /** begins the task's job */
  readonly begin: () => Job;
  /** does the job's work with the repository's chunker, and ends it if that fails */
  readonly work: <T>(job: Job, work: (chunker: Channel) => Promise<T>) => Promise<T>;
  readonly end: (job: Job) => void;
  /** of the repository */
  readonly keep: PayloadOf<typeof policy> | undefined;
}

const DEPTHS = { fast: 'fast', snapshot: 'snapshots', full: 'full' } as const;

async function check(depth: Asked['depth'], { begin, work, end }: TaskTools): Promise<string> {
  const job = begin();
  const checked = await work(job, async (chunker) => {
    const asked = { job: job.number, depth: DEPTHS[depth ?? 'fast'], snapshots: [], runs: undefined };
    const { payload } = await chunker.query(CHECK_REPOSITORY, asked, CHECKED);
    if (payload.problems > 0)
      throw new Failure(`check ${depth ?? ''}`, job.repository, {
        cause: `${payload.problems} problems`,
        kind: 'damaged',
        remedy: `plakarctl on ${job.repository} check names them`,
      });
    return payload;
  });
  end(job);
  return `${checked.snapshots} snapshots, ${checked.chunks} chunks, no problem`;
}

async function keep({ begin, work, end, keep: policy }: TaskTools): Promise<string> {
  const job = begin();
  const kept = await work(job, async (chunker) => {
    if (policy === undefined) throw new Failure('keep', job.repository, { cause: 'it has no policy' });
    const asked = { job: job.number, sources: undefined, source: undefined, tags: [], dryRun: false, policy };
    return (await chunker.query(KEEP_SNAPSHOTS, asked, KEPT)).payload.snapshots;
  });
  end(job);
  const removed = kept.filter(({ reasons }) => reasons.length === 0).length;
  return `${removed} of ${kept.length} snapshots removed`;
}

async function cleanup({ begin, work, end }: TaskTools): Promise<string> {
  const job = begin();
  const cleaned = await work(
    job,
    async (chunker) =>
      (await chunker.query(CLEAN_REPOSITORY, { job: job.number, dryRun: false, reseal: false }, CLEANED_UP))
        .payload,
  );
  end(job);
  return `${cleaned.removedBytes} bytes returned, ${cleaned.storedBytes} bytes stored`;
}

/** Does a task on one repository that is no push; resolves with what it came to. */
export async function runTask({ operation, depth }: Asked, tools: TaskTools): Promise<string> {
  if (operation === 'check') return await check(depth, tools);
  if (operation === 'keep') return await keep(tools);
  if (operation === 'cleanup') return await cleanup(tools);
  throw new Failure(operation, '', { cause: 'the schedule does not do it' });
}
