/**
 * Which of the tasks that are due may begin now. Pure. Used by the parent.
 *
 * Pushes wait for nothing here: a repository takes one after another by itself,
 * and lets them go on beside a cleanup or a check, so that none of those puts a
 * snapshot off. What looks after a repository (keep, check, cleanup, sync) is
 * done one thing at a time in each.
 *
 * Invariants: no two such tasks run in one repository; whoever is due first
 * begins first, also before one that could begin sooner as it needs less.
 */
export interface Queued {
  readonly operation: string;
  /** that it works on; one, or two of a sync */
  readonly repositories: readonly string[];
}

function queues({ operation }: Queued): boolean {
  return operation !== 'push';
}

/** Those of `due`, the longest overdue first, that may begin beside what is `running`. */
export function startable<T extends Queued>(due: readonly T[], running: readonly Queued[]): T[] {
  const taken = new Set(running.filter(queues).flatMap(({ repositories }) => repositories));
  return due.filter((task) => {
    if (!queues(task)) return true;
    const isFree = task.repositories.every((repository) => !taken.has(repository));
    // one that waits has its place
    for (const repository of task.repositories) taken.add(repository);
    return isFree;
  });
}
