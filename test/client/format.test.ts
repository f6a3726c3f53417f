/** Sizes, times and modes as people read them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as format from '../../src/client/format.ts';

test('sizes have two or three digits', () => {
  const sizes: [number, string][] = [
    [0, '0 B'],
    [1, '1 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [9949, '9.9 kB'],
    [9950, '10 kB'],
    [11_234_567, '11 MB'],
    [999_499, '999 kB'],
    [999_500, '1.0 MB'],
    [1.5e12, '1.5 TB'],
    [Number.MAX_SAFE_INTEGER, '9.0 PB'],
  ];
  for (const [bytes, text] of sizes) assert.equal(format.formatBytes(bytes), text);
});

test('durations', () => {
  const durations: [number, string][] = [
    [0, '0.0 s'],
    [-5, '0.0 s'],
    [420, '0.4 s'],
    [12_000, '12 s'],
    [59_499, '59 s'],
    [59_500, '1m00s'],
    [185_000, '3m05s'],
    [7_620_000, '2h07m'],
    [356_400_000, '4d03h'],
  ];
  for (const [ms, text] of durations) assert.equal(format.formatDuration(ms), text);
});

test('times are UTC to the second, before 1970 and where the calendar ends too', () => {
  assert.equal(format.formatTime(1_637_971_924), '2021-11-27T00:12:04Z');
  assert.equal(format.formatTime(-2_177_452_800), '1901-01-01T00:00:00Z');
  assert.equal(format.formatTime(2n ** 62n), `@${2n ** 62n}`);
  assert.equal(format.formatTime(Number.NaN), '@NaN');
  assert.equal(format.formatMilliseconds(-1), '1969-12-31T23:59:59Z');
  assert.equal(format.formatNanoseconds(0, 5), '1970-01-01T00:00:00.000000005Z');
  assert.equal(format.formatNanoseconds(0, 0), '1970-01-01T00:00:00Z');
});

test('modes are those of ls', () => {
  const modes: [number, string][] = [
    [0o100644, '-rw-r--r--'],
    [0o041777, 'drwxrwxrwt'],
    [0o104755, '-rwsr-xr-x'],
    [0o102745, '-rwxr-Sr-x'],
    [0o120777, 'lrwxrwxrwx'],
    [0o010600, 'prw-------'],
    [0o140600, 'srw-------'],
    [0o020660, 'crw-rw----'],
    [0o060660, 'brw-rw----'],
    [0, '?---------'],
  ];
  for (const [mode, text] of modes) assert.equal(format.formatMode(mode), text);
});

test('columns are padded but for the last', () => {
  assert.deepEqual(
    format.formatColumns([
      ['a', 'bb', 'c'],
      ['aaa', 'b', 'cc'],
    ]),
    ['a    bb  c', 'aaa  b   cc'],
  );
});
