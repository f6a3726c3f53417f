/** Times on the wall's clock, also where it is put forward and back. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { type CalendarTimes, nextTime } from '../../src/schedule/calendar.ts';

const ZONE = process.env.TZ;
afterEach(() => {
  if (ZONE === undefined) delete process.env.TZ;
  else process.env.TZ = ZONE;
});

/** The first `count` times after a moment, in UTC. */
function times(zone: string, calendar: Omit<CalendarTimes, 'kind'>, after: string, count: number): string[] {
  process.env.TZ = zone;
  const found: string[] = [];
  let atMs = Date.parse(after);
  while (found.length < count) {
    atMs = nextTime({ kind: 'at', ...calendar }, atMs);
    found.push(new Date(atMs).toISOString().slice(0, 16));
  }
  return found;
}

describe('nextTime', () => {
  test('comes on the days it is for, and no others', () => {
    // 2026-11-21 is a Saturday
    const monday = { minutes: [150, 870], weekDays: [1, 4] };
    assert.deepEqual(times('UTC', monday, '2026-11-21T12:00Z', 5), [
      '2026-11-23T02:30',
      '2026-11-23T14:30',
      '2026-11-26T02:30',
      '2026-11-26T14:30',
      '2026-11-30T02:30',
    ]);
    assert.deepEqual(times('UTC', { minutes: [0], monthDays: [1, 31] }, '2026-11-21T12:00Z', 4), [
      '2026-12-01T00:00',
      '2026-12-31T00:00',
      '2027-01-01T00:00',
      '2027-01-31T00:00',
    ]);
    assert.deepEqual(times('UTC', { minutes: [0], monthDays: [13], weekDays: [5] }, '2026-11-10T12:00Z', 3), [
      '2026-11-13T00:00',
      '2026-11-20T00:00',
      '2026-11-27T00:00',
    ]);
  });

  test('finds the rarest of days', () => {
    const leap = { minutes: [720], months: [2], monthDays: [29] };
    assert.deepEqual(times('UTC', leap, '2096-03-01T00:00Z', 2), ['2104-02-29T12:00', '2108-02-29T12:00']);
  });

  test('a time that the clock skips comes as much later as it was put forward', () => {
    // Berlin: 02:00 becomes 03:00 on 2026-03-29, at 01:00 UTC
    assert.deepEqual(times('Europe/Berlin', { minutes: [150] }, '2026-03-28T00:00Z', 3), [
      '2026-03-28T01:30',
      '2026-03-29T01:30',
      '2026-03-30T00:30',
    ]);
    // 02:30 is then after 03:10, and 02:00 with 03:00
    assert.deepEqual(times('Europe/Berlin', { minutes: [120, 150, 180, 190] }, '2026-03-29T00:59Z', 4), [
      '2026-03-29T01:00',
      '2026-03-29T01:10',
      '2026-03-29T01:30',
      '2026-03-30T00:00',
    ]);
  });

  test('of a time that comes twice, the first is meant', () => {
    // Berlin: 03:00 becomes 02:00 on 2026-10-25, at 01:00 UTC
    assert.deepEqual(times('Europe/Berlin', { minutes: [150] }, '2026-10-24T12:00Z', 2), [
      '2026-10-25T00:30',
      '2026-10-26T01:30',
    ]);
  });

  test('a day that a zone left out is passed over, and one whose midnight is missing has its times', () => {
    // Samoa went from the 29th to the 31st of December 2011
    assert.deepEqual(times('Pacific/Apia', { minutes: [720] }, '2011-12-29T12:00Z', 2), [
      '2011-12-29T22:00',
      '2011-12-30T22:00',
    ]);
    // Beirut: midnight became one o'clock on 2025-03-30
    assert.deepEqual(times('Asia/Beirut', { minutes: [0, 30] }, '2025-03-29T12:00Z', 3), [
      '2025-03-29T22:00',
      '2025-03-29T22:30',
      '2025-03-30T21:00',
    ]);
  });

  test('every time of a year comes, once a day, in order, wherever the clock is changed', () => {
    for (const zone of ['Europe/Berlin', 'America/Sao_Paulo', 'Australia/Lord_Howe', 'Asia/Kathmandu']) {
      const all = times(zone, { minutes: [0, 90, 150, 1439] }, '2018-01-01T12:00Z', 4 * 365);
      assert.equal(new Set(all).size, all.length, zone);
      assert.deepEqual(all, all.toSorted(), zone);
    }
  });
});
