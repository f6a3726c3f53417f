/** The pauses before what died is started again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../../src/privsep/backoff.ts';

test('the first pause is short, each is longer, up to a bound, and calm makes it short again', () => {
  const backoff = new Backoff();
  let nowMs = 1e9;
  const pauses: number[] = [];
  for (let i = 0; i < 20; i++) {
    const pauseMs = backoff.next(nowMs);
    pauses.push(pauseMs);
    nowMs += pauseMs + 100;
  }
  assert.ok((pauses[0] ?? 0) <= 500, 'serving again within two seconds');
  pauses.slice(1).forEach((pause, i) => {
    assert.ok(pause >= (pauses[i] ?? 0));
  });
  assert.equal(pauses.at(-1), 60_000);
  assert.equal(backoff.next(nowMs + 59_000), 60_000);
  assert.equal(backoff.next(nowMs + 1e6), pauses[0]);
});

test('who is killed now and then is back at once each time; who lives no longer than its pauses is not', () => {
  const backoff = new Backoff();
  const first = backoff.next(0);
  assert.ok(backoff.next(first + 9000) > first);
  let nowMs = 1e6;
  for (let i = 0; i < 5; i++) {
    nowMs += 10_100;
    assert.equal(backoff.next(nowMs), first);
  }
});
