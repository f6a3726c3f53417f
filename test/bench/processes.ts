/**
 * What /proc says of processes: which there are below one, what memory they
 * use, what time they have used. Called by measure.ts. Invariant: a process
 * that ends while it is looked at counts as nothing, never as an error.
 */
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ: a constant of Linux's interface on every architecture that we run on. */
const TICKS_PER_SECOND = 100;

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // it has ended, which is what the callers expect processes to do
    return '';
  }
}

function threads(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** The processes themselves and all below them: any thread may be what started one. */
export function withDescendants(roots: readonly number[]): number[] {
  const found = [...roots];
  for (let i = 0; i < found.length; i++) {
    const pid = found[i] ?? 0;
    for (const thread of threads(pid))
      for (const child of read(`/proc/${pid}/task/${thread}/children`).split(' '))
        if (child !== '') found.push(Number(child));
  }
  return found;
}

/** Proportional set size in bytes: what is shared counts once over all who share it. proc_pid_smaps(5). */
export function pssBytes(pid: number): number {
  const kib = /^Pss:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1];
  return Number(kib ?? 0) * 1024;
}

export interface CpuTime {
  /** user and system seconds of all its threads */
  readonly own: number;
  /** the same of its children that have ended and were waited for */
  readonly children: number;
}

/** proc_pid_stat(5): utime, stime, cutime and cstime are the fields 14 to 17. */
export function cpuTime(pid: number): CpuTime {
  const stat = read(`/proc/${pid}/stat`);
  // the second field is a name in parentheses, which may hold anything
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const seconds = (field: number) => Number(fields[field - 3] ?? 0) / TICKS_PER_SECOND;
  return { own: seconds(14) + seconds(15), children: seconds(16) + seconds(17) };
}

/** What ps shows: `plakard: storage local`. */
export function title(pid: number): string {
  return read(`/proc/${pid}/cmdline`).split('\0')[0] ?? '';
}
