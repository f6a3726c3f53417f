/** When things are due: as properties over seeded cases, and the cases that people ask about. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isMissed, jitterMs, nextRun, type Past, type Schedule } from '../../src/schedule/plan.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOON = new Date(2026, 10, 21, 12).getTime();

/** How far apart the runs are; those at a time are daily here. */
function intervalMs(schedule: Schedule): number {
  return schedule.kind === 'every' ? schedule.seconds * 1000 : DAY_MS;
}

/** Numbers of a seed, from 0 to 1 (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function scheduleOf(random: () => number): Schedule {
  return random() < 0.5
    ? { kind: 'every', seconds: 1 + Math.floor(random() * 3 * 86_400) }
    : { kind: 'at', minutes: [Math.floor(random() * 1440)] };
}

/** A past of any kind, also one that a clock which jumped has put into the future. */
function pastOf(random: () => number, nowMs: number): Past {
  const around = (): number => nowMs + Math.floor((random() - 0.8) * 30 * DAY_MS);
  const startMs = random() < 0.8 ? around() : undefined;
  const endMs = startMs === undefined ? undefined : startMs + Math.floor(random() * DAY_MS);
  return { knownMs: around(), startMs, endMs, goodMs: endMs, failures: Math.floor(random() * 40) };
}

describe('nextRun', () => {
  test('is never further off than an interval, its spread and a change of the clock', () => {
    for (let seed = 0; seed < 5000; seed++) {
      const random = numbers(seed);
      const schedule = scheduleOf(random);
      const nowMs = NOON + Math.floor(random() * 400 * DAY_MS);
      const jitter = jitterMs(schedule, 'host', `source ${seed}`);
      const next = nextRun(schedule, pastOf(random, nowMs), jitter, nowMs);
      assert.ok(Number.isFinite(next));
      assert.ok(next <= nowMs + intervalMs(schedule) + jitter + HOUR_MS, `seed ${seed}`);
    }
  });

  test('a simulated year: no run before its interval, none left out while the machine is up', () => {
    for (let seed = 0; seed < 200; seed++) {
      const random = numbers(seed);
      const schedule = scheduleOf(random);
      const jitter = jitterMs(schedule, 'host', `${seed}`);
      let nowMs = NOON;
      let past: Past = { knownMs: nowMs, failures: 0 };
      let before: number | undefined;
      for (let run = 0; run < 50; run++) {
        const next = nextRun(schedule, past, jitter, nowMs);
        // the machine sleeps now and then, for up to ten intervals
        const asleepMs = random() < 0.1 ? random() * 10 * intervalMs(schedule) : 0;
        nowMs = Math.max(nowMs, next) + asleepMs;
        if (schedule.kind === 'every' && before !== undefined)
          assert.ok(nowMs - before >= intervalMs(schedule), `seed ${seed}`);
        if (asleepMs === 0 && before !== undefined)
          assert.ok(nowMs - before <= intervalMs(schedule) + jitter + HOUR_MS, `seed ${seed}`);
        before = nowMs;
        past = { ...past, startMs: nowMs, endMs: nowMs + 1000, goodMs: nowMs + 1000 };
        nowMs += 1000;
      }
    }
  });

  test('after a long downtime it is due at once, and once', () => {
    for (const schedule of [
      { kind: 'every', seconds: 3600 },
      { kind: 'at', minutes: [210] },
    ] as const) {
      const startMs = NOON - 10 * DAY_MS;
      const past = { knownMs: startMs, startMs, endMs: startMs, goodMs: startMs, failures: 0 };
      assert.ok(nextRun(schedule, past, 0, NOON) < NOON);
      assert.ok(nextRun(schedule, { ...past, startMs: NOON, endMs: NOON }, 0, NOON) > NOON);
    }
  });

  test('at a time of the day: once a day, at that time', () => {
    const schedule = { kind: 'at', minutes: [3 * 60 + 30] } as const;
    const first = nextRun(schedule, { knownMs: NOON, failures: 0 }, 0, NOON);
    assert.deepEqual([new Date(first).getHours(), new Date(first).getMinutes()], [3, 30]);
    const second = nextRun(schedule, { knownMs: NOON, startMs: first, endMs: first, failures: 0 }, 0, first);
    assert.equal(new Date(second).getDate() - new Date(first).getDate(), 1);
    // late by a jitter: still the run of that day
    const late = { knownMs: NOON, startMs: first + 20_000, endMs: first + 20_000, failures: 0 };
    assert.equal(nextRun(schedule, late, 20_000, first + 20_000), second + 20_000);
  });

  test('what failed is tried again sooner, then ever more rarely, and never later than otherwise', () => {
    const schedule = { kind: 'at', minutes: [0] } as const;
    const pauses = Array.from({ length: 12 }, (_, i) => {
      const past = { knownMs: NOON, startMs: NOON, endMs: NOON, failures: i + 1 };
      return nextRun(schedule, past, 0, NOON) - NOON;
    });
    assert.equal(pauses[0], 60_000);
    assert.equal(pauses[1], 120_000);
    assert.equal(pauses.at(-1), HOUR_MS);
    const often = { kind: 'every', seconds: 10 } as const;
    assert.equal(
      nextRun(often, { knownMs: NOON, startMs: NOON, endMs: NOON, failures: 9 }, 0, NOON),
      NOON + 10_000,
    );
  });
});

test('the spread is the same each time, differs between sources, and stays within its bound', () => {
  const hourly = { kind: 'every', seconds: 3600 } as const;
  const all = Array.from({ length: 100 }, (_, i) => jitterMs(hourly, 'host', `source ${i}`));
  assert.equal(jitterMs(hourly, 'host', 'source 7'), all[7]);
  assert.ok(all.every((ms) => ms >= 0 && ms < 300_000));
  assert.ok(new Set(all).size > 90);
});

test('a promise is missed when nothing succeeded within twice the interval', () => {
  const hourly = { kind: 'every', seconds: 3600 } as const;
  const past = { knownMs: NOON, goodMs: NOON, failures: 3 };
  assert.equal(isMissed(hourly, past, NOON + 2 * HOUR_MS), false);
  assert.equal(isMissed(hourly, past, NOON + 2 * HOUR_MS + 1), true);
  assert.equal(isMissed(hourly, { knownMs: NOON, failures: 0 }, NOON + 3 * HOUR_MS), true);
});

test('a promise on some days is missed after the second of them, not before', () => {
  // noon is a Saturday's
  const weekdays = { kind: 'at', minutes: [150], weekDays: [1, 2, 3, 4, 5] } as const;
  const friday = new Date(2026, 10, 20, 2, 31).getTime();
  const tuesday = new Date(2026, 10, 24, 2, 30).getTime();
  assert.equal(isMissed(weekdays, { knownMs: 0, goodMs: friday, failures: 1 }, tuesday), false);
  assert.equal(isMissed(weekdays, { knownMs: 0, goodMs: friday, failures: 1 }, tuesday + 1), true);
  const daily = { kind: 'at', minutes: [150] } as const;
  const byHand = new Date(2026, 10, 20, 2, 29).getTime();
  assert.equal(isMissed(daily, { knownMs: 0, goodMs: byHand, failures: 0 }, byHand + 2 * DAY_MS), false);
  assert.equal(isMissed(daily, { knownMs: 0, goodMs: byHand, failures: 0 }, byHand + 2 * DAY_MS + 1), true);
});
