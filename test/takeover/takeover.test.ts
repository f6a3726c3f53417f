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
const EPERM = -1;
const ENOSYS = -38;
/** On the pool, whatever the error is. */
const FAILED = -1;
/** F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW. */
const SEALED = 7;
/** So that the runtime takes another way. */
const ABSENT = [...['a process, by the newer call', 'a ring', 'submit to a ring', 'open by rules']];
/** What storage may try in its repository; what the scanner may, besides asking about itself. */
const FILES = [
  ...['read', 'write', 'read and write', 'create', 'truncate', 'a file without a name'],
  ...['a directory', 'remove', 'rename', 'look into a directory'],
];
const MAY: Readonly<Record<string, readonly string[]>> = {
  storage: FILES,
  scanner: ['read', 'look into a directory'],
};

describe('a child that is taken over', () => {
  const rig = new TakenRig();
  before(() => rig.start());
  after(() => rig.end());

  for (const role of ROLES)
    test(`${role} is refused what its role has no use for, on its main thread and on the pool`, () => {
      const walls = rig.walls(role);
      assert.ok(Object.keys(walls).length > 50);
      for (const [what, [main, pool]] of Object.entries(walls)) {
        if (what === 'no new privileges') assert.deepEqual([main, pool], [1, 1]);
        else if (MAY[role]?.includes(what)) assert.notEqual(main, EPERM, what);
        else assert.deepEqual([main, pool], [ABSENT.includes(what) ? ENOSYS : EPERM, FAILED], what);
      }
      // so that it is the profile that refuses, and not something else
      if (MAY[role]?.includes('read')) assert.ok(walls.read?.every((fd) => fd >= 0));
    });

  test('cannot change the size of the memory that it shares', () => {
    for (const role of ['chunker', 'crypto', 'storage']) {
      const memories = rig.memories(role);
      assert.ok(memories.length > 0, role);
      for (const memory of memories) assert.deepEqual(memory, { shrink: EPERM, grow: EPERM, seals: SEALED });
    }
  });

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
