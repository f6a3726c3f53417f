/** plakarctl status: what the daemon is, what it knows, and what it is doing. */
import type { PayloadOf } from '../ipc/shape.ts';
import { STATUS, STATUS_IS } from '../messages/client.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatBytes, formatColumns, formatDuration, formatMilliseconds } from './format.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

type Status = PayloadOf<typeof STATUS_IS.shape>;

const TIMEOUT_MS = 30_000;

/** A heading and its rows, indented; nothing where there are none. */
function section(heading: string, rows: readonly (readonly string[])[]): string[] {
  const safe = rows.map((row) => row.map(safeText));
  return rows.length === 0 ? [] : [`${heading}:`, ...formatColumns(safe).map((line) => `  ${line}`)];
}

const ago = (ms: number, nowMs: number): string => `${formatDuration(Math.max(0, nowMs - ms))} ago`;

/** How what happens by itself stands: when it is due, how the last went, how old the last good one is. */
function taskRow(task: Status['tasks'][number], otherwise: string, nowMs: number): string[] {
  const { name, operation, running, nextMs, lastMs, goodMs, failures, text, result, missed } = task;
  const next =
    nextMs === undefined
      ? otherwise
      : nextMs <= nowMs
        ? 'due now'
        : `next in ${formatDuration(nextMs - nowMs)}`;
  const what = operation === 'push' ? 'no snapshot' : 'not done';
  return [
    name,
    running ? 'running' : next,
    goodMs !== undefined
      ? `last good ${ago(goodMs, nowMs)}`
      : operation === 'push'
        ? 'no snapshot yet'
        : lastMs === undefined
          ? 'not yet'
          : 'never good',
    missed ? `ERROR: ${what} within twice its interval` : failures > 0 ? 'failed' : (result ?? ''),
    failures > 0 ? `${failed(task, nowMs)}: ${text ?? ''}` : '',
  ];
}

/** How often in a row, and when last. */
function failed({ failures, endMs, lastMs }: Status['tasks'][number], nowMs: number): string {
  const atMs = endMs ?? lastMs;
  const when = atMs === undefined ? '' : `, ${failures === 1 ? '' : 'last '}${ago(atMs, nowMs)}`;
  return `${failures === 1 ? 'once' : `${failures} times`}${when}`;
}

/** A source: where it is, and how old its last good snapshot is. */
function sourceRow({ name, paths, goodMs, watch }: Status['sources'][number], nowMs: number): string[] {
  const age = goodMs === undefined ? 'no snapshot' : `last snapshot ${ago(goodMs, nowMs)}`;
  return [name, paths.join(' '), age, watch ?? ''];
}

function pausedLines({ paused }: Status): string[] {
  if (paused === undefined) return [];
  const { sinceMs, untilMs } = paused;
  const until = untilMs === undefined ? 'until plakarctl resume' : `until ${formatMilliseconds(untilMs)}`;
  return [`paused since ${formatMilliseconds(sinceMs)}, ${until}: nothing begins by itself`];
}

function statusLines(status: Status, nowMs: number): string[] {
  const { version, pid, startedMs, configuration } = status;
  const since = `${formatMilliseconds(startedMs)} (${formatDuration(nowMs - startedMs)})`;
  return [
    `plakard ${safeText(version)}, process ${pid}, since ${since}, ${safeText(configuration)}`,
    ...pausedLines(status),
    ...section(
      'repositories',
      status.repositories.map(({ name, location, state }) => [name, state, location]),
    ),
    ...section(
      'sources',
      status.sources.map((source) => sourceRow(source, nowMs)),
    ),
    ...section(
      'pushes',
      status.pushes.map((push) => taskRow(push, 'when asked to', nowMs)),
    ),
    ...section(
      'schedule',
      status.tasks.map((task) => taskRow(task, 'after each push', nowMs)),
    ),
    ...section(
      'jobs',
      status.jobs.map((job) => [
        job.operation,
        job.source === undefined ? job.repository : `${job.source} to ${job.repository}`,
        job.user,
        formatDuration(nowMs - job.startedMs),
        `${job.files} files`,
        formatBytes(job.bytes),
      ]),
    ),
    ...section(
      'processes',
      status.processes.map(({ pid: child, role, instance, state }) => [
        child.toString(),
        instance === '' ? role : `${role} ${instance}`,
        state,
      ]),
    ),
  ];
}

const timeOf = (ms: number | undefined): string | undefined =>
  ms === undefined ? undefined : formatMilliseconds(ms);

function taskJson<T extends Status['tasks'][number]>({ nextMs, lastMs, endMs, goodMs, ...task }: T) {
  return {
    ...task,
    next: timeOf(nextMs),
    last: timeOf(lastMs),
    ended: timeOf(endMs),
    good: timeOf(goodMs),
  };
}

/** Milliseconds since 1970 become times; the rest is as the daemon says it. */
const STATUS_EVENT: EventType<{ status: Status; nowMs: number }> = {
  name: 'status',
  json: ({ status: { startedMs, jobs, sources, pushes, tasks, paused, ...rest } }) => ({
    ...rest,
    started: formatMilliseconds(startedMs),
    sources: sources.map(({ goodMs, ...source }) => ({ ...source, good: timeOf(goodMs) })),
    pushes: pushes.map(taskJson),
    tasks: tasks.map(taskJson),
    paused: paused && { since: timeOf(paused.sinceMs), until: timeOf(paused.untilMs) },
    jobs: jobs.map(({ startedMs: begun, ...job }) => ({ ...job, started: formatMilliseconds(begun) })),
  }),
  text: ({ status, nowMs }) => statusLines(status, nowMs).join('\n'),
};

export async function run(context: Context): Promise<void> {
  await within('status', '', async () => {
    const connection = await context.connect();
    const { payload } = await connection.request(STATUS, {}, STATUS_IS, TIMEOUT_MS);
    context.output.emit(STATUS_EVENT, { status: payload, nowMs: context.wallClock() });
  });
}
