/** Schedules as they are written: what the words mean, and what is refused. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseFile, print } from '../../src/config/config.ts';
import type { Schedule } from '../../src/config/model.ts';
import { memoryFiles } from './memory.ts';

function read(when: string) {
  const text = `repository "r" at "/r" { no encryption }\nsource "s" { path "/s" }\npush "s" to "r" ${when}\n`;
  const files = memoryFiles({ '/conf': text });
  return parseFile('/conf', { files, host: 'h', system: 'linux' });
}

function schedule(when: string): Schedule | undefined {
  const { configuration, errors } = read(when);
  assert.deepEqual(errors, []);
  return configuration?.pushes[0]?.schedule;
}

function mistake(when: string): string {
  const { errors } = read(when);
  return errors.map(({ message }) => message).join('; ');
}

describe('at', () => {
  test('times and days, in any order and in words for several', () => {
    assert.deepEqual(schedule('at 03:30'), { kind: 'at', minutes: [210] });
    assert.deepEqual(schedule('at 14:30, 2:30, 02:30 on weekends, monday, 15'), {
      kind: 'at',
      minutes: [150, 870],
      weekDays: [0, 1, 6],
      monthDays: [15],
    });
  });

  test('five fields as in crontab', () => {
    const cron = (text: string) => {
      const { cron: _, ...rest } = schedule(`at "${text}"`) as Extract<Schedule, { kind: 'at' }>;
      return rest;
    };
    assert.deepEqual(cron('30 2 * * 1-5'), { kind: 'at', minutes: [150], weekDays: [1, 2, 3, 4, 5] });
    assert.deepEqual(cron('0-30/15 8,20 1 feb,12 sun'), {
      kind: 'at',
      minutes: [480, 495, 510, 1200, 1215, 1230],
      monthDays: [1],
      months: [2, 12],
      weekDays: [0],
    });
    assert.deepEqual(cron('0 0 * * 5-7'), { kind: 'at', minutes: [0], weekDays: [0, 5, 6] });
    assert.equal(cron('* * * * *').minutes.length, 1440);
    assert.deepEqual(cron('0 0 29 2 *').monthDays, [29]);
  });

  test('is refused where it means nothing', () => {
    for (const [when, message] of [
      ['at "30 2 * *"', /five fields/],
      ['at "60 2 * * *"', /'60' is no minute/],
      ['at "5/2 2 * * *"', /'5\/2' is no minute/],
      ['at "1-2-3 2 * * *"', /is no minute/],
      ['at "0 9-8 * * *"', /'9-8' is no hour/],
      ['at "0 0 0 * *"', /'0' is no day of the month/],
      ['at "0 0 30 feb *"', /no year has such a date/],
      ['at "0 0 1 foo *"', /'foo' is no month/],
      ['at "0 0 1 * 8"', /'8' is no day of the week/],
      ['at 03:30 on mondy', /mondy.*monday/],
      ['at 03:30 on 32', /a day from 1 to 31/],
      ['at 25:00', /a time such as 03:30/],
      ['every 1h at 02:00', /expected the end of the statement/],
    ] as const)
      assert.match(mistake(when), message, when);
  });

  test('a list that another statement follows ends there', () => {
    const { configuration, errors } = read('at 1:00, 2:00, source "t" { path "/t" }');
    assert.deepEqual(errors, []);
    assert.equal(configuration?.sources.length, 2);
  });
});

test('what cannot be both is refused: watch, and something to run before', () => {
  const files = memoryFiles({ '/conf': `source "s" { path "/s", watch, run before 'true' as 500 }\n` });
  const { errors } = parseFile('/conf', { files, host: 'h', system: 'linux' });
  assert.match(errors[0]?.message ?? '', /cannot have both 'watch' and 'run before'/);
});

test('a policy says by itself when it removes; without that it never does', () => {
  const of = (keep: string) => {
    const files = memoryFiles({ '/conf': `repository "r" at "/r" { no encryption, keep ${keep} }\n` });
    const { configuration } = parseFile('/conf', { files, host: 'h', system: 'linux' });
    assert.ok(configuration);
    return { when: configuration.repositories[0]?.keepWhen, text: print(configuration) };
  };
  assert.equal(of('3 daily, last 2').when, undefined);
  assert.deepEqual(of('3 daily, last 2 every 1d').when, { kind: 'every', seconds: 86_400 });
  assert.deepEqual(of('3 daily after push').when, { kind: 'after push' });
  assert.match(
    of('{ 3 daily, last 2 } at 04:00 on sunday').text,
    /keep 3 daily, last 2 at 04:00 on sunday$/m,
  );
});
