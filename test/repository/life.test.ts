/** Whole lives of a repository, a few of them; test/slow runs many. */
import { describe, test } from 'node:test';
import { Life } from './life.ts';

describe('life of a repository', () => {
  for (let seed = 0; seed < 6; seed++)
    test(`seed ${seed}`, async () => {
      await new Life(`life ${seed}`).run(1000);
    });
});
