/** Many lives of a repository. LIFE_SEEDS and LIFE_FIRST choose which; what was run is printed. */
import { test } from 'node:test';
import { Life } from '../repository/life.ts';

const SEEDS = Number(process.env.LIFE_SEEDS ?? 300);
const FIRST = Number(process.env.LIFE_FIRST ?? 1_000_000);
const STEPS = 2000;

test(`${SEEDS} lives of a repository from seed ${FIRST} on`, async (context) => {
  const totals: Record<string, number> = {};
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const lived = await new Life(`life ${seed}`).run(STEPS).catch((cause: unknown) => {
      throw new Error(`seed ${seed}`, { cause });
    });
    for (const [what, count] of Object.entries(lived)) totals[what] = (totals[what] ?? 0) + count;
  }
  context.diagnostic(`${SEEDS} seeds: ${JSON.stringify(totals)}`);
});
