/**
 * The figures to reach: ratios to a peer in the same run, and a few absolute
 * ones. Called by rows.ts. Invariant: a figure is judged only where everything
 * that it compares was measured.
 */
import type { Data, DataName } from './data.ts';
import type { Results, WorkName } from './results.ts';

/** What a run has found. */
export interface Report {
  readonly results: Results;
  readonly data: ReadonlyMap<DataName, Data>;
}

export type Quantity = 'time' | 'memory' | 'stored' | 'time a file';

export interface Target {
  readonly work: WorkName;
  readonly quantity: Quantity;
  /** as it is shown: `0.33 of restic` */
  readonly text: string;
  /** what was reached, in the units of `limit`; undefined where it was not measured */
  readonly reached: (report: Report) => number | undefined;
  readonly limit: number;
}

const MIB = 1 << 20;

function ratio(above: number | undefined, below: number | undefined): number | undefined {
  return above === undefined || below === undefined ? undefined : above / below;
}

function time(work: WorkName, peer: string, limit: number): Target {
  return {
    work,
    quantity: 'time',
    text: `${limit.toFixed(2)} of ${peer}`,
    limit,
    reached: ({ results }) => ratio(results.get(work, 'plakard')?.seconds, results.get(work, peer)?.seconds),
  };
}

export function secondsAFile({ results, data }: Report, work: 'a' | 'c', tool: string): number | undefined {
  return ratio(results.get(work, tool)?.seconds, data.get(work)?.files);
}

export const TARGETS: readonly Target[] = [
  time('a', 'restic', 0.33),
  time('a', 'borg', 0.33),
  {
    work: 'a',
    quantity: 'stored',
    text: '0.95 of restic',
    limit: 0.95,
    reached: ({ results }) => ratio(results.get('a', 'plakard')?.stored, results.get('a', 'restic')?.stored),
  },
  {
    work: 'a',
    quantity: 'memory',
    text: '450 MiB',
    limit: 450,
    reached: ({ results }) => ratio(results.get('a', 'plakard')?.peakBytes, MIB),
  },
  {
    work: 'zstd3',
    quantity: 'time',
    text: '0.42 of restic',
    limit: 0.42,
    reached: ({ results }) =>
      ratio(results.get('zstd3', 'zstd 3')?.seconds, results.get('a', 'restic')?.seconds),
  },
  {
    work: 'zstd3',
    quantity: 'stored',
    text: '0.88 of restic',
    limit: 0.88,
    reached: ({ results }) =>
      ratio(results.get('zstd3', 'zstd 3')?.stored, results.get('a', 'restic')?.stored),
  },
  time('b', 'restic', 0.4),
  time('e', 'restic', 0.35),
  time('unchanged', 'restic', 0.18),
  time('unchanged', 'find', 2),
  time('d', 'restic', 0.25),
  time('pull', 'restic', 0.5),
  time('check', 'restic', 0.5),
  time('ls', 'restic', 0.15),
  time('snapshots', 'restic', 0.1),
  time('cat', 'restic', 0.1),
  {
    work: 'c',
    quantity: 'memory',
    text: '1.25 of (a)',
    limit: 1.25,
    reached: ({ results }) =>
      ratio(results.get('c', 'plakard')?.peakBytes, results.get('a', 'plakard')?.peakBytes),
  },
  {
    work: 'c',
    quantity: 'time a file',
    text: '1.20 of (a)',
    limit: 1.2,
    reached: (report) => ratio(secondsAFile(report, 'c', 'plakard'), secondsAFile(report, 'a', 'plakard')),
  },
  {
    work: 'status',
    quantity: 'time',
    text: '60 ms',
    limit: 60,
    reached: ({ results }) => ratio(results.get('status', 'plakard')?.seconds, 1 / 1000),
  },
];
