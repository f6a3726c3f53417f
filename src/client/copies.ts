/**
 * What clone and sync have in common: how the snapshots that are meant are
 * said, and how what came of them is printed.
 */
import { Failure } from '../error.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { SYNC, SYNCED } from '../messages/sync.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { safeName, safeText, textOf } from './escape.ts';
import { formatBytes, formatCount, formatDuration, formatMilliseconds } from './format.ts';
import type { EventType } from './output.ts';

export type Request = PayloadOf<typeof SYNC.shape>;
export type Selection = Request['selection'];
type Synced = PayloadOf<typeof SYNCED.shape>;
type Told = Synced['snapshots'][number] & Pick<Synced, 'from' | 'to' | 'dryRun'>;

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
const OUTCOMES = { removed: 'was removed there', failed: 'not copied' } as const;

/** `2021-11-27T00:12:04Z  99e53a9c-…  moved` */
const COPIED: EventType<Told> = {
  name: 'copied',
  json: ({ from, to, dryRun, snapshot, time, bytes, outcome }) => ({
    from,
    to,
    snapshot,
    time: formatMilliseconds(time),
    bytes,
    outcome: dryRun && outcome === 'moved' ? 'missing' : outcome,
  }),
  text: ({ snapshot, time, bytes, outcome, dryRun }) => {
    const what =
      outcome === 'moved' ? `${dryRun ? 'to move' : 'moved'} (${formatBytes(bytes)})` : OUTCOMES[outcome];
    return `${formatMilliseconds(time)}  ${snapshot}  ${what}`;
  },
};

/** `local to far: 3 snapshots moved, 12 held already; 512 new chunks, 1.2 GB moved, 340 MB stored; 4.5 s` */
const SYNCED_EVENT: EventType<Synced> = {
  name: 'synced',
  json: ({ snapshots, ...rest }) => ({
    ...rest,
    moved: count(snapshots, 'moved'),
    removed: count(snapshots, 'removed'),
    failed: count(snapshots, 'failed'),
  }),
  text: (synced) => {
    const { from, to, dryRun, created, snapshots, held, chunks, movedBytes, storedBytes, durationMs } =
      synced;
    const moved = `${formatCount(count(snapshots, 'moved'), 'snapshot')} ${dryRun ? 'to move' : 'moved'}`;
    const parts = [moved, `${held} held already`];
    const [removed, failed] = [count(snapshots, 'removed'), count(snapshots, 'failed')];
    if (removed > 0) parts.push(`${removed} removed there and left alone`);
    if (failed > 0) parts.push(`${failed} not copied`);
    const made = created ? `${dryRun ? 'to be made' : 'made'}; ` : '';
    const cost = `${formatCount(chunks, 'new chunk')}, ${formatBytes(movedBytes)} moved, ${formatBytes(storedBytes)} stored; `;
    const name = `${safeText(from)} to ${safeText(to)}`;
    return `${name}: ${made}${parts.join(', ')}; ${dryRun ? '' : cost}${formatDuration(durationMs)}`;
  },
};

function count(snapshots: Synced['snapshots'], outcome: Told['outcome']): number {
  return snapshots.filter((each) => each.outcome === outcome).length;
}

/** A repository's name as it was written. */
export function repositoryOf(command: string, operand: Buffer): string {
  const name = textOf(operand);
  if (name === undefined || name === '')
    throw usageFailure(command, safeName(operand), 'not the name of a repository');
  return name;
}

/** The options that say which snapshots are meant. */
export function selectionOf(given: Given, snapshots: readonly string[], nowMs: number): Selection {
  const since = given.value('since')?.toString();
  return {
    snapshots: [...snapshots],
    tags: given.values('tag').map(String),
    source: given.value('source')?.toString(),
    sinceMs: since === undefined ? undefined : parseSince(since, nowMs),
  };
}

/** A duration back from now, or a time; ms since 1970. */
export function parseSince(text: string, nowMs: number): number {
  if (/^(?:\d{1,9}[smhdw]){1,5}$/.test(text)) {
    let seconds = 0;
    for (const [, amount, unit = ''] of text.matchAll(/(\d+)([smhdw])/g))
      seconds += Number(amount) * (SECONDS[unit] ?? 0);
    return nowMs - seconds * 1000;
  }
  const time = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text)
    ? Date.parse(text)
    : Number.NaN;
  if (Number.isNaN(time))
    throw usageFailure('-since', safeText(text), 'neither a duration nor a time', 'such as 7d or 2021-11-27');
  return time;
}

/** Asks for it and prints what came of it; throws where not all could be copied. */
export async function copySnapshots(context: Context, request: Request): Promise<Synced> {
  const { output } = context;
  const { operation, from, to } = request;
  const connection = await context.connect();
  connection.about = `${operation} ${from} to ${to}`;
  const { payload } = await connection.request(SYNC, request, SYNCED);
  output.progress.end();
  for (const told of payload.snapshots) output.emit(COPIED, { ...told, from, to, dryRun: payload.dryRun });
  output.emit(SYNCED_EVENT, payload);
  return payload;
}

/** Throws where not all could be copied. */
export function throwFailed(operation: string, { from, to, snapshots, failure }: Synced): void {
  if (failure === undefined) return;
  const failed = count(snapshots, 'failed');
  const cause =
    failed > 0 ? `${formatCount(failed, 'snapshot')} not copied` : 'not all snapshots can be read';
  throw new Failure(operation, `${from} to ${to}`, {
    cause,
    kind: failure === 'damaged' ? 'damaged' : 'failed',
  });
}
