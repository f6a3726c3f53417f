/** What is remembered of pushes, and that a damaged memory is none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { History } from '../../src/schedule/history.ts';

test('a run is remembered through a round trip', () => {
  const history = new History();
  history.began('home to local', 1000);
  history.failed('home to local', 2000, 'no space left');
  history.began('home to local', 3000);
  history.failed('home to local', 4000, 'still none');
  history.began('etc to local', 10);
  history.succeeded('etc to local', 20, { snapshot: '99e5', result: '3 files' });
  history.paused = { sinceMs: 5, untilMs: 50 };
  const again = History.decode(history.encode());
  assert.deepEqual(again.of('home to local', 9000), {
    knownMs: 1000,
    startMs: 3000,
    endMs: 4000,
    failures: 2,
    text: 'still none',
  });
  assert.deepEqual(again.of('etc to local', 9000), {
    knownMs: 10,
    startMs: 10,
    endMs: 20,
    goodMs: 20,
    failures: 0,
    snapshot: '99e5',
    result: '3 files',
  });
  assert.deepEqual(again.paused, { sinceMs: 5, untilMs: 50 });
  again.succeeded('home to local', 5000, { snapshot: 'abc' });
  assert.equal(again.of('home to local', 9000).failures, 0);
  again.keep(new Set(['etc to local']));
  assert.equal(again.of('home to local', 9000).knownMs, 9000);
});

test('a run that was at work when the daemon died has failed, and one that was called off never was', () => {
  const history = new History();
  history.began('home to local', 1000);
  history.succeeded('home to local', 2000, {});
  history.began('home to local', 3000);
  const again = History.decode(history.encode());
  const { endMs, goodMs, failures, text } = again.of('home to local', 9000);
  assert.deepEqual([endMs, goodMs, failures], [3000, 2000, 1]);
  assert.match(text ?? '', /died while it ran/);
  const before = again.of('home to local', 9000);
  again.began('home to local', 4000);
  again.calledOff('home to local', before);
  assert.deepEqual(again.of('home to local', 9000), before);
  again.began('home to local', 4000);
  again.succeeded('home to local', 5000, {});
  again.calledOff('home to local', before);
  assert.equal(again.of('home to local', 9000).goodMs, 5000);
});

test('every truncation and every changed byte gives runs with whole fields, or an error', () => {
  const history = new History();
  history.succeeded('home to local', 1000, { snapshot: '99e5' });
  history.paused = { sinceMs: 5 };
  const text = history.encode();
  const tried = [
    ...Array.from(text, (_, i) => text.slice(0, i)),
    ...Array.from(text, (_, i) => `${text.slice(0, i)}\0${text.slice(i + 1)}`),
    ...Array.from(text, (_, i) => `${text.slice(0, i)}7${text.slice(i + 1)}`),
    '[]',
    'null',
    '{"version":1,"runs":{"a":{"knownMs":"x"},"b":null}}',
  ];
  for (const each of tried) {
    let decoded: History;
    try {
      decoded = History.decode(each);
    } catch {
      continue;
    }
    for (const name of ['home to local', 'a', 'b']) {
      const run = decoded.of(name, 5);
      assert.ok(Number.isFinite(run.knownMs) && Number.isFinite(run.failures));
    }
  }
});
