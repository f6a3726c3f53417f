/**
 * The state of the daemon as OpenMetrics text, for `plakarctl metrics` and the
 * file of `set metrics file`: from the same status that `plakarctl status`
 * prints, and control's tally. Pure.
 * https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
 */
import type { PayloadOf } from '../../ipc/shape.ts';
import type { status } from '../../messages/client.ts';
import type { Ended, Tally } from './tally.ts';

type Status = PayloadOf<typeof status>;
type Push = Status['pushes'][number];
type Labels = Readonly<Record<string, string | undefined>>;
type Sample = readonly [labels: Labels, value: number];
type Type = 'gauge' | 'counter' | 'info';

/** OpenMetrics, section 5: what follows a family's name in its samples. */
const SUFFIX: Readonly<Record<Type, string>> = { gauge: '', counter: '_total', info: '_info' };

/** What control knows beside the status. */
export interface Numbers {
  readonly nowMs: number;
  readonly clients: number;
  readonly watchers: number;
  readonly tracers: number;
  /** by repository: pushes that wait for the one that is at work */
  readonly waiting: ReadonlyMap<string, number>;
  readonly tally: Tally;
}

function labelText(labels: Labels): string {
  const escaped = (value: string): string =>
    value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  const pairs = Object.entries(labels).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}="${escaped(value)}"`],
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function family(name: string, type: Type, help: string, samples: readonly Sample[]): string[] {
  return [
    `# TYPE ${name} ${type}`,
    `# HELP ${name} ${help}`,
    ...samples.map(([labels, value]) => `${name}${SUFFIX[type]}${labelText(labels)} ${value}`),
  ];
}

/** A sample for each of `of` that has the value. */
function each<T>(
  of: Iterable<T>,
  labels: (one: T) => Labels,
  value: (one: T) => number | undefined,
): Sample[] {
  return [...of].flatMap((one) => {
    const found = value(one);
    return found === undefined ? [] : [[labels(one), found] as const];
  });
}

const seconds = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / 1000);
const flag = (is: boolean): number => (is ? 1 : 0);

function pushFamilies(pushes: readonly Push[], nowMs: number): string[] {
  const of = ({ source, repository }: Push): Labels => ({ source, repository });
  const gauge = (name: string, help: string, value: (push: Push) => number | undefined): string[] =>
    family(`plakard_push_${name}`, 'gauge', help, each(pushes, of, value));
  const sinceMs = (ms: number | undefined) => (ms === undefined ? undefined : Math.max(0, nowMs - ms));
  return [
    ...gauge('last_good_timestamp_seconds', 'When the last good snapshot was made.', ({ goodMs }) =>
      seconds(goodMs),
    ),
    ...gauge('last_good_age_seconds', 'The age of the last good snapshot.', ({ goodMs }) =>
      seconds(sinceMs(goodMs)),
    ),
    ...gauge('next_timestamp_seconds', 'When the next push is due.', ({ nextMs }) => seconds(nextMs)),
    ...gauge('last_duration_seconds', 'How long the last push took.', ({ lastMs, endMs }) =>
      lastMs === undefined || endMs === undefined || endMs < lastMs ? undefined : seconds(endMs - lastMs),
    ),
    ...gauge('failures', 'Runs that failed since the last good one.', ({ failures }) => failures),
    ...gauge('missed', 'Whether there was no snapshot within twice the interval.', ({ missed }) =>
      flag(missed),
    ),
    ...gauge('running', 'Whether it runs now.', ({ running }) => flag(running)),
  ];
}

function endedFamilies({ ended, problems }: Tally): string[] {
  const of = ({ operation, repository, source, result }: Ended): Labels => ({
    operation,
    repository,
    source,
    result,
  });
  const counter = (name: string, help: string, value: (one: Ended) => number): string[] =>
    family(`plakard_${name}`, 'counter', help, each(ended, of, value));
  return [
    ...counter('jobs_over', 'Jobs that ended since control started.', ({ count }) => count),
    ...counter('jobs_seconds', 'How long those took together.', (one) => one.seconds),
    ...counter('jobs_files', 'Files that those went through.', ({ files }) => files),
    ...counter('jobs_bytes', 'Bytes that those went through.', ({ bytes }) => bytes),
    ...family(
      'plakard_job_last_duration_seconds',
      'gauge',
      'How long the last such job took.',
      each(ended, of, ({ lastSeconds }) => lastSeconds),
    ),
    ...family('plakard_problems', 'counter', 'Files and objects that jobs had to report.', [[{}, problems]]),
  ];
}

function repositoryFamilies({ repositories }: Status, { tally, waiting }: Numbers): string[] {
  const of = ([repository]: readonly [string, unknown]): Labels => ({ repository });
  const gauge = (name: string, help: string, samples: readonly Sample[]): string[] =>
    family(`plakard_repository_${name}`, 'gauge', help, samples);
  const ready = each(
    repositories,
    ({ name }) => ({ repository: name }),
    ({ state }) => flag(state === 'ready'),
  );
  return [
    ...gauge('ready', 'Whether its processes run.', ready),
    ...gauge(
      'waiting_pushes',
      'Pushes that wait for the one that is at work.',
      each(waiting, of, ([, count]) => count),
    ),
    ...gauge(
      'stored_bytes',
      'What it holds, as stored.',
      each(tally.holdings, of, ([, holds]) => holds.storedBytes),
    ),
    ...gauge(
      'snapshots',
      'Snapshots that it holds.',
      each(tally.holdings, of, ([, holds]) => holds.snapshots),
    ),
    ...gauge(
      'chunks',
      'Chunks that it holds.',
      each(tally.holdings, of, ([, holds]) => holds.chunks),
    ),
    ...gauge(
      'packs',
      'Packs that it holds.',
      each(tally.holdings, of, ([, holds]) => holds.packs),
    ),
  ];
}

function jobFamilies({ jobs }: Status, nowMs: number): string[] {
  const count = new Map<string, number>();
  const oldest = new Map<string, number>();
  for (const { operation, startedMs } of jobs) {
    count.set(operation, (count.get(operation) ?? 0) + 1);
    oldest.set(operation, Math.max(oldest.get(operation) ?? 0, nowMs - startedMs));
  }
  const of = ([operation]: readonly [string, number]): Labels => ({ operation });
  return [
    ...family(
      'plakard_jobs',
      'gauge',
      'Jobs at work.',
      each(count, of, ([, jobsNow]) => jobsNow),
    ),
    ...family(
      'plakard_jobs_oldest_age_seconds',
      'gauge',
      'How long the oldest job has been at work.',
      each(oldest, of, ([, ms]) => ms / 1000),
    ),
  ];
}

export function openMetrics(status: Status, numbers: Numbers): string {
  const { clients, watchers, tracers, nowMs, tally } = numbers;
  const gauge = (name: string, help: string, value: number): string[] =>
    family(name, 'gauge', help, [[{}, value]]);
  const roles = new Map<string, number>();
  for (const { role } of status.processes) roles.set(role, (roles.get(role) ?? 0) + 1);
  const lines = [
    ...family('plakard', 'info', 'The daemon.', [[{ version: status.version }, 1]]),
    ...gauge('plakard_start_timestamp_seconds', 'When the daemon started.', status.startedMs / 1000),
    ...family(
      'plakard_processes',
      'gauge',
      'Processes of the daemon.',
      each(
        roles,
        ([role]) => ({ role }),
        ([, count]) => count,
      ),
    ),
    ...gauge('plakard_clients', 'Clients that are connected.', clients),
    ...gauge('plakard_watchers', 'Clients that watch events.', watchers),
    ...gauge('plakard_tracers', 'Clients that trace.', tracers),
    ...gauge('plakard_paused', 'Whether nothing begins by itself.', flag(status.paused !== undefined)),
    ...jobFamilies(status, nowMs),
    ...endedFamilies(tally),
    ...repositoryFamilies(status, numbers),
    ...pushFamilies(status.pushes, nowMs),
    '# EOF',
  ];
  return `${lines.join('\n')}\n`;
}
