/**
 * When the clock on the wall next shows one of certain times, in the time zone
 * of the process (TZ, or /etc/localtime). Pure but for that zone. Used by plan.ts.
 *
 * Invariants, where the clock is put forward or back: every time comes once a
 * day. One that is skipped comes as much later as the clock was put forward; of
 * one that comes twice, the first is meant. (ECMA-262 21.4.1.26 has it so, and
 * Date goes by it.)
 */

/** As the configuration has it; see there. */
export interface CalendarTimes {
  readonly kind: 'at';
  readonly minutes: readonly number[];
  readonly months?: readonly number[];
  readonly monthDays?: readonly number[];
  readonly weekDays?: readonly number[];
}

/** The 29th of February is at most so far away: 1896 to 1904. */
const AHEAD_MAX_DAYS = 8 * 366 + 1;

function isDay({ months, monthDays, weekDays }: CalendarTimes, day: Date): boolean {
  if (months !== undefined && !months.includes(day.getMonth() + 1)) return false;
  if (monthDays === undefined && weekDays === undefined) return true;
  return monthDays?.includes(day.getDate()) === true || weekDays?.includes(day.getDay()) === true;
}

/** The first of the times after `afterMs`, in ms since 1970. The calendar has to have one: the configuration sees to it. */
export function nextTime(calendar: CalendarTimes, afterMs: number): number {
  const today = new Date(afterMs);
  // what yesterday's clock skipped may come today
  for (let ahead = -1; ahead <= AHEAD_MAX_DAYS; ahead++) {
    // at noon there is every day
    const day = new Date(today.getFullYear(), today.getMonth(), today.getDate() + ahead, 12);
    if (!isDay(calendar, day)) continue;
    const first = firstOf(calendar, day, afterMs);
    if (first !== undefined) return first;
  }
  return Number.POSITIVE_INFINITY;
}

/** The earliest of a day's times after `afterMs`. */
function firstOf({ minutes }: CalendarTimes, day: Date, afterMs: number): number | undefined {
  let first: number | undefined;
  for (const minute of minutes) {
    const atMs = new Date(day.getFullYear(), day.getMonth(), day.getDate(), 0, minute).getTime();
    if (atMs > afterMs && (first === undefined || atMs < first)) first = atMs;
  }
  return first;
}
