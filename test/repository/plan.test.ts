import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../../src/backends/memory.ts';
import { type InUse, planCleanup } from '../../src/repository/plan.ts';
import { CLASS_DATA } from '../../src/repository/segment.ts';
import type { Store } from '../../src/repository/store.ts';
import { openStore, sealSegment, seeded } from './rig.ts';

/** A store with a pack for each list, which has a segment of so many bytes for each number; the ordinals by pack. */
async function stored(...packs: number[][]): Promise<{ store: Store; ordinals: number[][] }> {
  const store = await openStore(new MemoryBackend());
  const random = seeded('plan');
  const ordinals: number[][] = [];
  for (const sizes of packs) {
    const ofPack: number[] = [];
    for (const size of sizes) {
      const { sealed, ids } = sealSegment([random(size)]);
      ofPack.push(await store.append(sealed, CLASS_DATA, 1, ids));
    }
    await store.flush();
    ordinals.push(ofPack);
  }
  return { store, ordinals };
}

function inUse(live: readonly (number | undefined)[], more: Partial<InUse> = {}): InUse {
  return { isLive: (ordinal) => live.includes(ordinal), ...more };
}

describe('the plan of a cleanup', () => {
  test('a pack that is in use as a whole stays, however small: a second cleanup has nothing to do', async () => {
    const { store, ordinals } = await stored([10]);
    const plan = planCleanup(store, inUse(ordinals.flat()));
    assert.deepEqual([plan.packs, plan.dead, plan.moves], [1, [], []]);
  });

  test('what nothing uses goes, what is used by less than half moves, the rest stays', async () => {
    const { store, ordinals } = await stored([1000, 1000], [1000, 1000, 1000], [1000, 1000]);
    const [, sparse = [], half = []] = ordinals;
    const plan = planCleanup(store, inUse([sparse[1], half[0]]));
    const nameOf = (ordinal = -1) => store.segments.packName(store.segments.packOf(ordinal));
    assert.deepEqual(plan.dead, [nameOf(ordinals[0]?.[0])]);
    assert.deepEqual(plan.moves, [{ pack: nameOf(sparse[0]), segments: [sparse[1]] }]);
    assert.deepEqual(plan.repack, []);
  });

  test('segments of which little is in use are opened, and those that must be sealed anew', async () => {
    const { store, ordinals } = await stored([9000, 9000, 9000], [9000]);
    const [[thin, whole, dead] = [], [old] = []] = ordinals;
    const plan = planCleanup(
      store,
      inUse([thin, whole, old], {
        thinBytes: (ordinal) => (ordinal === thin ? 100 : undefined),
        mustReseal: (ordinal) => ordinal === old,
      }),
    );
    assert.deepEqual(plan.repack, [thin, old]);
    assert.deepEqual(
      plan.moves.map(({ segments }) => segments),
      [[whole], []],
    );
    assert.ok(!plan.moves.some(({ segments }) => segments.includes(dead ?? -1)));
  });

  test('small packs are merged when eight have come together', async () => {
    const seven = await stored(...Array.from({ length: 7 }, () => [100]));
    assert.equal(planCleanup(seven.store, inUse(seven.ordinals.flat())).moves.length, 0);
    const eight = await stored(...Array.from({ length: 8 }, () => [100]));
    assert.equal(planCleanup(eight.store, inUse(eight.ordinals.flat())).moves.length, 8);
  });
});
