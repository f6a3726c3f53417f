/** Who may do what: by user, group, command, source and repository, in every combination. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describe as describeError, kindOf } from '../../src/error.ts';
import { type Caller, type PermitRule, Permits } from '../../src/processes/control/permits.ts';

const ALICE = 1000;
const STAFF = 50;
const alice: Caller = { pid: 1, uid: ALICE, groups: [ALICE, STAFF] };
const bob: Caller = { pid: 2, uid: 1001, groups: [1001] };
const root: Caller = { pid: 3, uid: 0, groups: [0] };

const rule = (operations: string[], more: Partial<PermitRule> = {}): PermitRule => ({
  uid: ALICE,
  gid: undefined,
  source: undefined,
  repository: undefined,
  ...more,
  operations,
});

type Asked = [operation: string, repository?: string, source?: string];

function may(rules: readonly PermitRule[], caller: Caller, ...asked: Asked): string[] | 'all' | 'no' {
  try {
    return new Permits(rules).check(caller, ...asked) ?? 'all';
  } catch (error) {
    assert.equal(kindOf(error), 'not-permitted');
    return 'no';
  }
}

test('root may do everything, and without a rule nobody else anything', () => {
  assert.equal(may([], root, 'stop'), 'all');
  assert.equal(may([], root, 'key', 'local'), 'all');
  assert.equal(may([], alice, 'ls', 'local'), 'no');
});

test('a rule is for its user, or for whoever is in its group', () => {
  const byGroup = [rule(['ls'], { uid: undefined, gid: STAFF })];
  assert.equal(may(byGroup, alice, 'ls', 'local'), 'all');
  assert.equal(may(byGroup, bob, 'ls', 'local'), 'no');
  // a group of the same number as the user is another thing
  assert.equal(may([rule(['ls'], { uid: undefined, gid: 1001 })], { ...alice, uid: 1001 }, 'ls'), 'no');
  assert.equal(may([rule(['ls'])], bob, 'ls', 'local'), 'no');
});

test('a rule is for its operations', () => {
  assert.equal(may([rule(['ls', 'pull'])], alice, 'pull', 'local'), 'all');
  assert.equal(may([rule(['ls', 'pull'])], alice, 'rm', 'local'), 'no');
  assert.equal(may([rule(['all'])], alice, 'stop'), 'all');
  // whoever may add keys decides who else can read
  assert.equal(may([rule(['all'])], alice, 'key', 'local'), 'no');
  assert.equal(may([rule(['all', 'key'])], alice, 'key', 'local'), 'all');
});

test('a rule is for its repository, and for its source', () => {
  const confined = [rule(['all'], { repository: 'local', source: 'home' })];
  assert.deepEqual(may(confined, alice, 'ls', 'local'), ['home']);
  assert.deepEqual(may(confined, alice, 'push', 'local', 'home'), ['home']);
  assert.equal(may(confined, alice, 'push', 'local', 'mail'), 'no');
  assert.equal(may(confined, alice, 'ls', 'away'), 'no');
  // several rules add up, and one without a source is for all
  const two = [...confined, rule(['ls'], { source: 'mail' })];
  assert.deepEqual(may(two, alice, 'ls', 'local'), ['home', 'mail']);
  assert.deepEqual(may(two, alice, 'ls', 'away'), ['mail']);
  assert.equal(may([...two, rule(['ls'])], alice, 'ls', 'local'), 'all');
});

test('what is of the daemon is not for who may do all in one repository, unless that is said', () => {
  const whole = ['monitor', 'log', 'trace', 'pause', 'resume', 'reload', 'stop'];
  for (const confined of [{ repository: 'local' }, { source: 'home' }])
    for (const operation of whole) {
      assert.equal(may([rule(['all'], confined)], alice, operation), 'no', operation);
      assert.notEqual(may([rule([operation], confined)], alice, operation), 'no', operation);
    }
  assert.equal(may([rule(['all'], { repository: 'local' })], alice, 'status'), 'all');
});

test('what is of all sources is refused in words to who is confined to some', () => {
  const permits = new Permits([
    rule(['all', 'key'], { source: 'home' }),
    rule(['check'], { repository: 'b' }),
  ]);
  const refused = (operation: string, repository: string): string => {
    try {
      permits.checkWhole(alice, operation, 'keys are of all sources', repository);
    } catch (error) {
      assert.equal(kindOf(error), 'not-permitted');
      return describeError(error);
    }
    return 'done';
  };
  assert.equal(refused('key', 'a'), 'key a: keys are of all sources');
  assert.match(refused('check', 'a'), /keys are of all sources/);
  assert.equal(refused('check', 'b'), 'done');
});
