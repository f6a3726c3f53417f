/** What may run beside what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Queued, startable } from '../../src/schedule/queue.ts';

const task = (operation: string, ...repositories: string[]): Queued => ({ operation, repositories });

test('a push waits for nothing', () => {
  const pushes = [task('push', 'a'), task('push', 'a')];
  assert.deepEqual(startable(pushes, [task('check', 'a'), task('push', 'a')]), pushes);
});

test('what looks after a repository is done one thing at a time', () => {
  const [keep, check, other] = [task('keep', 'a'), task('check', 'a'), task('cleanup', 'b')];
  assert.deepEqual(startable([keep, check, other], []), [keep, other]);
  assert.deepEqual(startable([check], [keep]), []);
});

test('one that needs two repositories is not put off by those that need one', () => {
  const sync = task('sync', 'a', 'b');
  const check = task('check', 'b');
  assert.deepEqual(startable([sync, check], [task('keep', 'a')]), []);
  assert.deepEqual(startable([sync, check], []), [sync]);
});

test('whatever comes: nothing of one repository beside another, and all of it in time', () => {
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 1;
    return (state >>> 8) % below;
  };
  const names = ['a', 'b', 'c'];
  let due = Array.from({ length: 400 }, () => {
    const first = random(3);
    const second = (first + 1 + random(2)) % 3;
    return random(3) === 0
      ? task('sync', names[first] ?? '', names[second] ?? '')
      : task('check', names[first] ?? '');
  });
  let running: Queued[] = [];
  for (let rounds = 0; due.length > 0; rounds++) {
    assert.ok(rounds < 1000);
    const begun = startable(due, running);
    running.push(...begun);
    due = due.filter((each) => !begun.includes(each));
    const used = running.flatMap(({ repositories }) => repositories);
    assert.equal(new Set(used).size, used.length);
    running = running.filter(() => random(2) === 0);
  }
});
