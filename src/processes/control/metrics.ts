/**
 * The state of the daemon as OpenMetrics text, for `plakarctl metrics`: from the
 * same status that `plakarctl status` prints, and control's counts. Pure.
 * https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
 */
import type { PayloadOf } from '../../ipc/shape.ts';
import type { status } from '../../messages/client.ts';
import type { Counts } from './monitor.ts';

type Status = PayloadOf<typeof status>;
type Labels = Readonly<Record<string, string>>;
type Sample = readonly [labels: Labels, value: number];

interface Numbers {
  readonly clients: number;
  readonly watchers: number;
  readonly counts: Readonly<Counts>;
}

function labelText(labels: Labels): string {
  const escaped = (value: string): string =>
    value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function family(name: string, type: 'gauge' | 'counter', help: string, samples: readonly Sample[]): string[] {
  const suffix = type === 'counter' ? '_total' : '';
  return [
    `# TYPE ${name} ${type}`,
    `# HELP ${name} ${help}`,
    ...samples.map(([labels, value]) => `${name}${suffix}${labelText(labels)} ${value}`),
  ];
}

function pushFamilies(pushes: Status['pushes']): string[] {
  const samples = (value: (push: Status['pushes'][number]) => number | undefined): Sample[] =>
    pushes.flatMap((push) => {
      const found = value(push);
      return found === undefined
        ? []
        : [[{ source: push.source, repository: push.repository }, found] as const];
    });
  const seconds = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / 1000);
  return [
    ...family(
      'plakard_push_last_good_timestamp_seconds',
      'gauge',
      'When the last good snapshot was made.',
      samples(({ goodMs }) => seconds(goodMs)),
    ),
    ...family(
      'plakard_push_next_timestamp_seconds',
      'gauge',
      'When the next push is due.',
      samples(({ nextMs }) => seconds(nextMs)),
    ),
    ...family(
      'plakard_push_failures',
      'gauge',
      'Runs that failed since the last good one.',
      samples(({ failures }) => failures),
    ),
    ...family(
      'plakard_push_missed',
      'gauge',
      'Whether there was no snapshot within twice the interval.',
      samples(({ missed }) => (missed ? 1 : 0)),
    ),
    ...family(
      'plakard_push_running',
      'gauge',
      'Whether it runs now.',
      samples(({ running }) => (running ? 1 : 0)),
    ),
  ];
}

export function openMetrics(status: Status, { clients, watchers, counts }: Numbers): string {
  const byResult = (['ok', 'failed', 'interrupted'] as const).map(
    (result): Sample => [{ result }, counts[result]],
  );
  const byOperation = new Map<string, number>();
  for (const { operation } of status.jobs) byOperation.set(operation, (byOperation.get(operation) ?? 0) + 1);
  const repositories = status.repositories.map(
    ({ name, state }): Sample => [{ repository: name }, state === 'ready' ? 1 : 0],
  );
  const lines = [
    ...family('plakard_start_timestamp_seconds', 'gauge', 'When the daemon started.', [
      [{}, status.startedMs / 1000],
    ]),
    ...family('plakard_processes', 'gauge', 'Processes of the daemon.', [[{}, status.processes.length]]),
    ...family('plakard_clients', 'gauge', 'Clients that are connected.', [[{}, clients]]),
    ...family('plakard_watchers', 'gauge', 'Clients that watch events.', [[{}, watchers]]),
    ...family(
      'plakard_jobs',
      'gauge',
      'Jobs at work.',
      [...byOperation].map(([operation, count]) => [{ operation }, count]),
    ),
    ...family('plakard_jobs_over', 'counter', 'Jobs that ended since control started.', byResult),
    ...family('plakard_problems', 'counter', 'Files and objects that jobs had to report.', [
      [{}, counts.problems],
    ]),
    ...family('plakard_repository_ready', 'gauge', 'Whether its processes run.', repositories),
    ...pushFamilies(status.pushes),
    '# EOF',
  ];
  return `${lines.join('\n')}\n`;
}
