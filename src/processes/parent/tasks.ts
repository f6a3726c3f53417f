/**
 * What the configuration has done by itself, as a list of tasks: pushes, and what
 * looks after the repositories. Pure. Used by the parent.
 */
import type { CheckDepth, Configuration, Schedule } from '../../config/config.ts';

export interface Task {
  /** what it is remembered and shown as; of its own */
  readonly name: string;
  readonly operation: 'push' | 'keep' | 'check' | 'cleanup' | 'sync';
  /** that it works on, the first of them for it */
  readonly repositories: readonly string[];
  /** of a push */
  readonly source?: string;
  /** of a check */
  readonly depth?: CheckDepth;
  /** of a sync: which way snapshots go, seen from the first repository */
  readonly direction?: 'to' | 'from' | 'with';
  readonly schedule?: Schedule;
  /** it is also due after each good push to its repository */
  readonly afterPush?: boolean;
  /** it is also due when its source has changed */
  readonly watched?: boolean;
}

/** The name of a push. */
export function pushName(source: string, repository: string): string {
  return `${source} to ${repository}`;
}

/** In the order of the configuration: pushes first. */
export function tasksOf({ repositories, sources, pushes, syncs }: Configuration): Task[] {
  const tasks: Task[] = pushes.map(({ source, repository, schedule }) => {
    const watch = sources.find(({ name }) => name === source)?.watch;
    // what is watched is looked at as a whole now and then, even if nothing changed
    const often = watch && ({ kind: 'every', seconds: watch.scanSeconds } as const);
    const when = schedule ?? often;
    return {
      name: pushName(source, repository),
      operation: 'push',
      repositories: [repository],
      source,
      ...(when && { schedule: when }),
      watched: watch !== undefined,
    };
  });
  for (const { name, keepWhen, checks, cleanup } of repositories) {
    const of = { repositories: [name] };
    if (keepWhen?.kind === 'after push')
      tasks.push({ ...of, name: `keep ${name}`, operation: 'keep', afterPush: true });
    else if (keepWhen !== undefined)
      tasks.push({ ...of, name: `keep ${name}`, operation: 'keep', schedule: keepWhen });
    for (const [depth, schedule] of Object.entries(checks) as [CheckDepth, Schedule][])
      tasks.push({ ...of, name: `check ${depth} ${name}`, operation: 'check', depth, schedule });
    if (cleanup !== undefined)
      tasks.push({ ...of, name: `cleanup ${name}`, operation: 'cleanup', schedule: cleanup });
  }
  for (const { repository, direction, other, schedule } of syncs)
    tasks.push({
      name: `sync ${repository} ${direction} ${other}`,
      operation: 'sync',
      repositories: [repository, other],
      direction,
      ...(schedule && { schedule }),
    });
  return tasks;
}
