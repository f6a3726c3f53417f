import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Pace, type Rate, rateAt } from '../../src/backends/pace.ts';

/** A clock that moves when somebody waits. */
function simulation(rates: readonly Rate[], startMinute = 0) {
  const clock = { ms: 0 };
  const pace = new Pace(rates, {
    nowMs: () => clock.ms,
    minuteOfDay: () => (startMinute + Math.floor(clock.ms / 60_000)) % 1440,
    wait: async (ms) => {
      clock.ms += ms;
    },
  });
  return { clock, pace };
}

describe('pace', () => {
  test('nothing waits without a limit', () => {
    const { pace } = simulation([]);
    assert.equal(pace.take(1e12), undefined);
  });

  test('the lowest of the limits that hold counts, past midnight too', () => {
    const rates = [
      { bytesPerSecond: 100 },
      { bytesPerSecond: 10, between: { from: 480, to: 1080 } },
      { bytesPerSecond: 1, between: { from: 1320, to: 360 } },
    ];
    const at = (hour: number) => rateAt(rates, hour * 60);
    assert.deepEqual([0, 5, 6, 7, 8, 17, 18, 21, 22].map(at), [1, 1, 100, 100, 10, 10, 100, 100, 1]);
    assert.equal(rateAt(rates.slice(1), 7 * 60), undefined);
  });

  test('what passes keeps to the rate, whatever the pieces', async () => {
    for (const piece of [1, 999, 1000, 70_000]) {
      const { clock, pace } = simulation([{ bytesPerSecond: 1000 }]);
      let bytes = 0;
      while (bytes < 30_000) {
        bytes += piece;
        await pace.take(piece);
        assert.ok(bytes <= 1000 * (clock.ms / 1000) + 1000, `${bytes} bytes after ${clock.ms} ms`);
      }
      assert.ok(clock.ms <= bytes + 1000, `${clock.ms} ms for ${bytes} bytes`);
    }
  });

  test('whoever is small waits for those before it alone', async () => {
    const { clock, pace } = simulation([{ bytesPerSecond: 1000 }]);
    await pace.take(5000);
    const began = clock.ms;
    await pace.take(10);
    assert.ok(clock.ms - began <= 20);
  });

  test('who waits when the limit ends goes on at once', async () => {
    const { clock, pace } = simulation([{ bytesPerSecond: 1, between: { from: 0, to: 1 } }]);
    await pace.take(1e9);
    assert.ok(clock.ms >= 60_000 && clock.ms <= 61_000);
    assert.equal(pace.take(1e9), undefined);
  });

  test('a limit that begins holds from then on', async () => {
    const { clock, pace } = simulation([{ bytesPerSecond: 100, between: { from: 1, to: 1000 } }]);
    assert.equal(pace.take(1e9), undefined);
    clock.ms = 60_000;
    await pace.take(1000);
    const began = clock.ms;
    await pace.take(1000);
    assert.ok(clock.ms - began >= 9000);
  });
});
