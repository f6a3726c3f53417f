/**
 * Which snapshots a policy keeps, and why: a pure function. Called by the
 * chunker for `plakarctl keep`, and by tests. Owns these rules:
 *
 * - Snapshots are grouped by source (or, without one, by their paths) and host,
 *   and each group is judged by itself.
 * - Within a group, from the newest on, a rule `n daily` keeps the newest
 *   snapshot of each of the last n days that have one; and, while it has kept
 *   fewer than n, the oldest of all. Periods are those of the calendar, in UTC,
 *   and weeks are ISO 8601's, as restic has them.
 * - `within` counts back from the newest snapshot, not from now, so that
 *   nothing goes where nothing new has come.
 * - A snapshot dated in the future is kept, and counts for nothing: no clock
 *   that was wrong once pushes out what is right.
 * - A group of which no rule keeps anything keeps its newest: a tag that was
 *   misspelled does not cost all snapshots (restic refuses such a run).
 */

/** How many of each are kept; missing keeps none by that rule. */
export interface KeepPolicy {
  readonly last?: number;
  readonly hourly?: number;
  readonly daily?: number;
  readonly weekly?: number;
  readonly monthly?: number;
  readonly quarterly?: number;
  readonly yearly?: number;
  /** all that are at most so much older than the newest */
  readonly withinSeconds?: number;
  /** all that have one of these */
  readonly tags?: readonly string[];
}

/** What a policy looks at. */
export interface KeepCandidate {
  readonly name: string;
  /** ms since 1970 */
  readonly time: number;
  readonly host: string;
  readonly source: string;
  readonly paths: readonly Buffer[];
  readonly tags: readonly string[];
}

export interface KeepVerdict<T extends KeepCandidate> {
  readonly snapshot: T;
  /** The rules that keep it, such as `daily` or `tag release`; none if it may go. */
  readonly reasons: readonly string[];
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WEEK_DAYS = 7;
const QUARTER_MONTHS = 3;
/** Why the newest of a group stays of which nothing else does. */
const NO_OTHER = 'newest, as no rule keeps any';

/** The number of the ISO 8601 week that a moment is in, counted from the one that 1970 began in. */
function weekOf(time: number): number {
  const day = Math.floor(time / DAY_MS);
  // 1970-01-01 was a Thursday
  return Math.floor((day + 3) / WEEK_DAYS);
}

function monthOf(time: number): number {
  const date = new Date(time);
  return date.getUTCFullYear() * 12 + date.getUTCMonth();
}

/** Each period's number of the moment: equal for moments in the same one. */
const PERIOD_OF = {
  hourly: (time: number) => Math.floor(time / HOUR_MS),
  daily: (time: number) => Math.floor(time / DAY_MS),
  weekly: weekOf,
  monthly: monthOf,
  quarterly: (time: number) => Math.floor(monthOf(time) / QUARTER_MONTHS),
  yearly: (time: number) => new Date(time).getUTCFullYear(),
} as const;
type Period = keyof typeof PERIOD_OF;
const PERIODS = Object.keys(PERIOD_OF) as Period[];

/** Newest first; by name where times are equal, so that the order given does not matter. */
function newestFirst(a: KeepCandidate, b: KeepCandidate): number {
  return b.time - a.time || (a.name < b.name ? 1 : -1);
}

/** Snapshots that are judged together have equal keys. */
function groupOf({ host, source, paths }: KeepCandidate): string {
  const of = source === '' ? paths.map((path) => path.toString('hex')).join(',') : `=${source}`;
  return JSON.stringify([host, of]);
}

/** The verdict on each, in the order given. `nowMs` tells which are in the future. */
export function applyPolicy<T extends KeepCandidate>(
  snapshots: readonly T[],
  policy: KeepPolicy,
  nowMs: number,
): KeepVerdict<T>[] {
  const reasons = new Map<T, string[]>();
  const groups = new Map<string, T[]>();
  for (const snapshot of snapshots) {
    const { tags } = snapshot;
    reasons.set(
      snapshot,
      (policy.tags ?? []).filter((tag) => tags.includes(tag)).map((tag) => `tag ${tag}`),
    );
    if (snapshot.time > nowMs) {
      reasons.get(snapshot)?.push('in the future');
      continue;
    }
    const key = groupOf(snapshot);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [snapshot]);
    else group.push(snapshot);
  }
  for (const group of groups.values()) {
    judge(group.sort(newestFirst), policy, (snapshot, reason) => reasons.get(snapshot)?.push(reason));
    const [newest] = group;
    if (newest !== undefined && group.every((snapshot) => reasons.get(snapshot)?.length === 0))
      reasons.get(newest)?.push(NO_OTHER);
  }
  return snapshots.map((snapshot) => ({ snapshot, reasons: reasons.get(snapshot) ?? [] }));
}

/** Calls `keep` for every rule that keeps a snapshot of a group, which is in order, the newest first. */
function judge<T extends KeepCandidate>(
  group: readonly T[],
  policy: KeepPolicy,
  keep: (snapshot: T, reason: string) => void,
): void {
  for (const snapshot of group.slice(0, policy.last ?? 0)) keep(snapshot, 'last');
  const [newest] = group;
  if (policy.withinSeconds !== undefined && newest !== undefined) {
    const since = newest.time - policy.withinSeconds * 1000;
    for (const snapshot of group) if (snapshot.time >= since) keep(snapshot, 'within');
  }
  for (const period of PERIODS) keepByPeriod(group, period, policy[period] ?? 0, keep);
}

function keepByPeriod<T extends KeepCandidate>(
  group: readonly T[],
  period: Period,
  count: number,
  keep: (snapshot: T, reason: string) => void,
): void {
  const oldest = group.at(-1);
  let left = count;
  let before: number | undefined;
  for (const snapshot of group) {
    if (left === 0) return;
    const now = PERIOD_OF[period](snapshot.time);
    if (now !== before) {
      keep(snapshot, period);
      left--;
    } else if (snapshot === oldest) keep(snapshot, `oldest ${period}`);
    before = now;
  }
}
