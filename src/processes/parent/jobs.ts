/**
 * What running jobs use: whatever a job needs is brought up before it begins,
 * stays as it is until it is over, and the commands of its source run before
 * and after it. Used by the parent. Invariant: nothing that a job holds changes,
 * and the commands of a source run for one push at a time.
 */
import { closeSync } from 'node:fs';
import type { Configuration, Source } from '../../config/config.ts';
import { describe, Failure } from '../../error.ts';
import { Breach } from '../../ipc/message.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { Log } from '../../log.ts';
import type { READY_FOR } from '../../messages/parent.ts';
import type { Supervisor } from '../../privsep/supervise.ts';
import { openPath } from '../../sys/path.ts';
import type { RepositoryGroup } from './group.ts';
import { HOOK_TIMEOUT_MS, type HookTools, runHook } from './hooks.ts';
import { type Lease, Leases } from './leases.ts';
import type { Scheduler } from './schedule.ts';

/** What every process but control does for one repository or source. */
export type Kind = 'repository' | 'source';

export interface JobsOptions {
  readonly log: Log;
  readonly supervisor: Supervisor;
  readonly schedule: Pick<Scheduler, 'pushed'>;
  readonly groups: ReadonlyMap<string, RepositoryGroup>;
  readonly configuration: () => Configuration;
  readonly stopping: AbortSignal;
  readonly hookTimeoutMs?: number | undefined;
}

export class Jobs {
  readonly #options: JobsOptions;
  readonly #leases = new Leases();
  /** what changes as soon as no job uses it, by `repository NAME` and `source NAME` */
  readonly #changes = new Map<string, Promise<void>>();
  /** jobs that a source's commands were run for */
  readonly #hooked = new Set<number>();
  /** jobs whose last commands run now */
  readonly #releasing = new Set<number>();

  constructor(options: JobsOptions) {
    this.#options = options;
  }

  /** Runs `change` when no job uses the thing; jobs that come meanwhile wait until it is done. */
  change(kind: Kind, name: string, change: () => Promise<void>): void {
    const { log } = this.#options;
    const key = `${kind} ${name}`;
    if (this.#changes.has(key)) return;
    const jobs = this.#leases.count(kind, name);
    if (jobs > 0) log.info(`${key} changes when its ${jobs} running jobs are over`, { process: 'parent' });
    const done = this.#leases
      .idle(kind, name)
      .then(change)
      .catch((error: unknown) => log.error(`change ${key}: ${describe(error)}`, { process: 'parent' }))
      .finally(() => this.#changes.delete(key));
    this.#changes.set(key, done);
  }

  /** Brings up what a job needs, and keeps it as it is until the job is over. */
  async need(lease: Lease): Promise<PayloadOf<typeof READY_FOR.shape>> {
    const { job, repository, source, other } = lease;
    await this.#changes.get(`repository ${repository}`);
    if (other !== undefined) await this.#changes.get(`repository ${other}`);
    if (source !== undefined) await this.#changes.get(`source ${source}`);
    const group = this.group(repository);
    // hooks are for one push at a time
    while (source !== undefined && this.#hasHooks(source) && this.#leases.count('source', source) > 0)
      await this.#leases.idle('source', source);
    this.#leases.take(lease);
    try {
      const config = await group.ready();
      await this.#options.supervisor.connect('control', group.chunker);
      if (other !== undefined) await this.#needOther(other, group.chunker);
      if (source !== undefined) {
        await this.#before(lease, source);
        await this.#needScanner(source, group.chunker);
      }
      return config;
    } catch (error) {
      await this.release(job, undefined);
      throw error;
    }
  }

  /** A job is over: what it had need of may change again, once the source's commands have run. */
  async release(job: number, snapshot: string | undefined): Promise<void> {
    const lease = this.#leases.all.find((each) => each.job === job);
    if (lease === undefined || this.#releasing.has(job)) return;
    this.#releasing.add(job);
    const { source, repository } = lease;
    if (source !== undefined) {
      if (snapshot !== undefined) this.#options.schedule.pushed(source, repository, snapshot);
      if (this.#hooked.delete(job)) await this.#after(source, repository, snapshot !== undefined);
    }
    this.#leases.release(job);
    this.#releasing.delete(job);
  }

  /** Control is gone: so are its jobs. */
  releaseAll(): void {
    for (const { job } of this.#leases.all) void this.release(job, undefined);
  }

  /** Whether the job has begun, and is not over. */
  holds(job: number): boolean {
    return this.#leases.has(job) && !this.#releasing.has(job);
  }

  #hasHooks(name: string): boolean {
    const source = this.#source(name);
    return source !== undefined && source.before.length + source.after.length > 0;
  }

  /** Runs what the source runs before a push; a failure stops the job. */
  async #before({ job, repository }: Lease, name: string): Promise<void> {
    const source = this.#source(name);
    if (source === undefined || !this.#hasHooks(name)) return;
    if (source.before.length === 0) {
      this.#hooked.add(job);
      return;
    }
    this.#hooked.add(job);
    for (const hook of source.before)
      await runHook(hook, { source: name, repository, when: 'before' }, this.#hookTools);
    // it may have mounted something where the scanner has its root
    await this.#options.supervisor.stop([`scanner ${name}`]);
  }

  /** Runs what the source runs after a push, whether or not it succeeded. */
  async #after(name: string, repository: string, good: boolean): Promise<void> {
    const source = this.#source(name);
    const event = { source: name, repository, when: 'after', result: good ? 'ok' : 'failed' } as const;
    for (const hook of source?.after ?? []) {
      try {
        await runHook(hook, event, this.#hookTools);
      } catch (error) {
        this.#options.log.error(describe(error), { process: 'parent', source: name });
      }
    }
  }

  get #hookTools(): HookTools {
    const { log, stopping, hookTimeoutMs } = this.#options;
    return { log, stopping, timeoutMs: hookTimeoutMs ?? HOOK_TIMEOUT_MS };
  }

  /** The repository that a job has brought up, and that stays as it is until the job is over. */
  leased({ job, repository }: { readonly job: number; readonly repository: string }): RepositoryGroup {
    const lease = this.#leases.all.find((each) => each.job === job);
    if (lease?.repository !== repository)
      throw new Breach('use repository', repository, { cause: `job ${job} does not hold it` });
    return this.group(repository);
  }

  /** A repository that is read beside: its chunker gives, where control has told it what it may. */
  async #needOther(repository: string, taker: string): Promise<void> {
    const group = this.group(repository);
    await group.ready();
    await this.#options.supervisor.connect('control', group.chunker);
    await this.#options.supervisor.connect(group.chunker, taker);
  }

  async #needScanner(source: string, chunker: string): Promise<void> {
    const name = `scanner ${source}`;
    const declared = this.#source(source);
    if (declared === undefined)
      throw new Failure('scan', source, { cause: 'it is not in the configuration' });
    for (const path of declared.paths) {
      try {
        closeSync(openPath(path));
      } catch (cause) {
        throw new Failure('read source', path, { cause });
      }
    }
    await this.#options.supervisor.start([name]);
    await this.#options.supervisor.connect(name, chunker);
  }

  /** The repository's processes; a name that nobody configured is refused in words. */
  group(repository: string): RepositoryGroup {
    const group = this.#options.groups.get(repository);
    if (group === undefined)
      throw new Failure('use repository', repository, {
        cause: 'it is not in the configuration',
        kind: 'no-repository',
      });
    return group;
  }

  #source(name: string): Source | undefined {
    return this.#options.configuration().sources.find((source) => source.name === name);
  }
}
