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

/** How a push of the configuration stands: when it is due, how the last went, how old the last good one is. */
function pushRow(push: Status['pushes'][number], nowMs: number): string[] {
  const { source, repository, running, nextMs, goodMs, failures, text, missed } = push;
  const ago = (ms: number): string => `${formatDuration(Math.max(0, nowMs - ms))} ago`;
  const next =
    nextMs === undefined
      ? 'when asked to'
      : nextMs <= nowMs
        ? 'due now'
        : `next in ${formatDuration(nextMs - nowMs)}`;
  return [
    `${source} to ${repository}`,
    running ? 'running' : next,
    goodMs === undefined ? 'no snapshot yet' : `last good ${ago(goodMs)}`,
    missed ? 'ERROR: no snapshot within twice its interval' : failures > 0 ? 'failed' : '',
    failures > 0 ? `${failures} times: ${text ?? ''}` : '',
  ];
}

function statusLines(status: Status, nowMs: number): string[] {
  const { version, pid, startedMs, configuration } = status;
  const since = `${formatMilliseconds(startedMs)} (${formatDuration(nowMs - startedMs)})`;
  return [
    `plakard ${safeText(version)}, process ${pid}, since ${since}, ${safeText(configuration)}`,
    ...section(
      'repositories',
      status.repositories.map(({ name, location, state }) => [name, state, location]),
    ),
    ...section(
      'sources',
      status.sources.map(({ name, paths }) => [name, paths.join(' ')]),
    ),
    ...section(
      'pushes',
      status.pushes.map((push) => pushRow(push, nowMs)),
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

/** Milliseconds since 1970 become times; the rest is as the daemon says it. */
const STATUS_EVENT: EventType<{ status: Status; nowMs: number }> = {
  name: 'status',
  json: ({ status: { startedMs, jobs, pushes, ...rest } }) => ({
    ...rest,
    started: formatMilliseconds(startedMs),
    pushes: pushes.map(({ nextMs, lastMs, endMs, goodMs, ...push }) => ({
      ...push,
      next: timeOf(nextMs),
      last: timeOf(lastMs),
      ended: timeOf(endMs),
      good: timeOf(goodMs),
    })),
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
