/** Every role, in a real daemon, makes each kind of call that kills, on each kind of thread: it dies of it, by name. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ROLES, TakenRig } from '../takeover/rig.ts';

const CALLS = [
  'execve',
  'ptrace',
  'mount',
  'finit_module',
  'bpf',
  'add_key',
  'open_by_handle_at',
  'unshare',
] as const;
const THREADS = ['main', 'pool'] as const;

describe('a child that makes a call which its profile kills for', () => {
  const rig = new TakenRig();
  before(() => rig.start());
  after(() => rig.end());

  for (const role of ROLES)
    test(`${role} dies of it, whichever thread makes it, and the daemon goes on`, async () => {
      const from = rig.log.length;
      const lives = CALLS.flatMap((call) => THREADS.map((thread) => ({ role, seed: 0, call, thread })));
      await rig.takeOver(lives);
      // what is asked of keys fails by its name
      const death =
        role === 'keys' ? /keys local: killed by SIGSYS, for a/ : /: died: killed by SIGSYS, for a/;
      const deaths = rig.log.slice(from).filter((line) => line.includes(` ${role}`) && death.test(line));
      assert.ok(
        deaths.length >= lives.length,
        `${deaths.length} of ${lives.length}:\n${rig.log.slice(from).join('\n')}`,
      );
      assert.doesNotMatch(rig.notes(role).join('\n'), /SURVIVED/);
    });
});
