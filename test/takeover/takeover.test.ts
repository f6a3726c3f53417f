/**
 * A child that is taken over costs itself its life: whatever it says to the
 * parent and its peers, the parent lives, opens nothing that is not configured
 * and gives nobody a key that is another's, and the daemon goes on. Seeded; many
 * more rounds are in test/slow/takeover.test.ts.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ROLES, TakenRig } from './rig.ts';

const SEED = 5;

describe('a child that is taken over', () => {
  const rig = new TakenRig();
  before(() => rig.start());
  after(() => rig.end());

  test('dies, and the daemon goes on: each role in turn', async () => {
    await rig.takeOver(ROLES.map((role) => ({ role, seed: SEED })));
    for (const role of ROLES) {
      const notes = rig.notes(role).join('\n');
      assert.match(notes, /^began /, role);
      assert.doesNotMatch(notes, /SURVIVED/);
    }
  });

  test('gets no key that is another role’s', () => rig.assertKeysKept());

  test('makes the parent touch nothing but what is configured', () => rig.assertPathsKept());
});
