/** The progress line: what it says, how often it is drawn, and that it leaves nothing behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DRAW_INTERVAL_MS, formatProgress, ProgressLine, Rate } from '../../src/client/progress.ts';

const STATE = { operation: 'push', files: 1203, bytes: 512e6 };

test('with what is expected: share, rate and time left', () => {
  const line = formatProgress({ ...STATE, bytesExpected: 1024e6 }, 64e6, 8000, 120);
  assert.equal(line, 'push  50%  512 MB of 1.0 GB  64 MB/s  8.0 s left  1203 files');
});

test('without: what was done, and for how long', () => {
  assert.equal(formatProgress(STATE, 0, 12_000, 120), 'push  512 MB  12 s  1203 files');
});

test('more than was expected is all of it; nothing done yet has no time left', () => {
  assert.match(formatProgress({ ...STATE, bytesExpected: 1e6 }, 1, 5000, 120), /100%.*0\.0 s left/);
  assert.doesNotMatch(formatProgress({ ...STATE, bytes: 0, bytesExpected: 1e6 }, 0, 5000, 120), /left/);
});

test('where both are known, files count beside their bytes', () => {
  const small = { operation: 'pull', files: 500, bytes: 0, filesExpected: 1000, bytesExpected: 0 };
  assert.match(formatProgress(small, 0, 4000, 120), /^pull {2}50%.*4\.0 s left/);
  const mixed = { operation: 'pull', files: 1000, bytes: 0, filesExpected: 1000, bytesExpected: 32_768_000 };
  assert.match(formatProgress(mixed, 0, 4000, 120), /^pull {2}50%/);
});

test('a narrow terminal gets less, and never its last column', () => {
  for (let columns = 0; columns < 100; columns++) {
    const line = formatProgress({ ...STATE, bytesExpected: 1024e6, problems: 3 }, 64e6, 8000, columns);
    assert.ok(line.length < Math.max(1, columns), `${columns}: ${line}`);
  }
});

test('the rate is that of the last seconds', () => {
  const rate = new Rate();
  assert.equal(rate.bytesPerSecond, 0);
  for (let second = 0; second <= 20; second++) rate.add(second * 1000, second * 1e6);
  for (let second = 21; second <= 40; second++) rate.add(second * 1000, 20e6 + (second - 20) * 5e6);
  assert.equal(rate.bytesPerSecond, 5e6);
});

test('it is drawn at most ten times a second, and wiped', () => {
  let nowMs = 0;
  const written: string[] = [];
  const line = new ProgressLine({ columns: 80, write: (text) => written.push(text) }, () => nowMs);
  for (; nowMs < 1000; nowMs++) line.show(STATE);
  assert.equal(written.length, 1000 / DRAW_INTERVAL_MS);
  line.clear();
  assert.equal(written.at(-1), '\r\x1b[K');
  line.clear();
  assert.equal(written.length, 1000 / DRAW_INTERVAL_MS + 1, 'nothing to wipe twice');
  line.show(STATE);
  assert.ok(written.at(-1)?.startsWith('\r\x1b[Kpush'), 'drawn again at once after it was wiped');
  line.end();
  assert.equal(written.at(-1), '\r\x1b[K');
});

test('a terminal without a size is taken for one of 80 columns', () => {
  for (const columns of [0, undefined]) {
    const written: string[] = [];
    new ProgressLine({ columns, write: (text) => written.push(text) }, () => 0).show(STATE);
    assert.match(written.join(''), /push.*1203 files/);
  }
});

test('without a terminal there is none', () => {
  const line = new ProgressLine(undefined, () => assert.fail('the clock was read'));
  line.show(STATE);
  line.clear();
  line.end();
  assert.equal(line.active, false);
});
