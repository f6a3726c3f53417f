/** As test/takeover, for many more lives: each role, from one seed after another. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ROLES, TakenRig } from '../takeover/rig.ts';

const ROUNDS = Number(process.env.PLAKARD_TAKEOVER_ROUNDS ?? 40);
const FIRST_SEED = 1000;

describe('children that are taken over again and again', () => {
  const rig = new TakenRig();
  before(() => rig.start());
  after(() => rig.end());

  for (let round = 0; round < ROUNDS; round++)
    test(`seed ${FIRST_SEED + round}: each dies, and the daemon goes on`, async () => {
      await rig.takeOver(ROLES.map((role) => ({ role, seed: FIRST_SEED + round })));
      for (const role of ROLES) assert.doesNotMatch(rig.notes(role).join('\n'), /SURVIVED/);
    });

  test('one that only spins is killed as stalled, whichever it is, and the daemon goes on', async () => {
    for (const role of ROLES) {
      // it lives for one question, which has a time limit of its own
      if (role === 'keys') continue;
      const from = rig.log.length;
      await rig.takeOver([{ role, seed: 0, spins: true }]);
      const died = new RegExp(` ${role}\\b.*: died: stalled: no sign of life for 5000 ms, killed$`);
      assert.ok(
        rig.log.slice(from).some((line) => died.test(line)),
        rig.log.slice(from).join('\n'),
      );
    }
  });

  test('no key came to whoever does not hold it', () => rig.assertKeysKept());

  test('the parent touched nothing but what is configured', () => rig.assertPathsKept());
});
