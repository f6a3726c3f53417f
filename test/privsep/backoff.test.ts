/** The pauses before what died is started again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../../src/privsep/backoff.ts';

/** The pauses of one that dies so long after each start. */
function pausesOf(backoff: Backoff, livesMs: number, deaths: number, fromMs = 1e9): number[] {
  let nowMs = fromMs;
  return Array.from({ length: deaths }, () => {
    const pauseMs = backoff.next(nowMs);
    nowMs += pauseMs + livesMs;
    return pauseMs;
  });
}

test('the first pause is short, each is longer, up to a bound, and calm makes it short again', () => {
  const backoff = new Backoff();
  const pauses = pausesOf(backoff, 100, 20);
  assert.ok((pauses[0] ?? 0) <= 500, 'serving again within two seconds');
  pauses.slice(1).forEach((pause, i) => {
    assert.ok(pause >= (pauses[i] ?? 0));
  });
  assert.equal(pauses.at(-1), 60_000);
  assert.equal(backoff.next(2e9), pauses[0]);
});

test('who lives for a while each time is back at once each time', () => {
  const pauses = pausesOf(new Backoff(), 6000, 100);
  assert.equal(Math.max(...pauses), pauses[0]);
});

test('the bound is as low as it is wanted', () => {
  assert.equal(Math.max(...pausesOf(new Backoff(1000), 10, 20)), 1000);
});
