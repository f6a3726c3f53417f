/**
 * kill -9 of each process at many moments of a push: whatever was acknowledged
 * restores, nothing has to be unlocked, and the next push works. A moment is an
 * event in the repository: an object that appears, a file that has grown so far.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { Rig, until } from '../processes/daemon.ts';
import { assertSame, noise, objects } from '../processes/tree.ts';

const VICTIMS = [
  'control',
  'scanner home',
  'chunker local',
  'crypto local/0',
  'storage local',
  'parent',
] as const;
const FILES = 48;
const FILE_BYTES = 2 << 20;

/** Bytes in the repository beyond those that were there: how far the push must be when the blow falls. */
const MOMENTS_BYTES = [0, 1, 5 << 20, 20 << 20, 35 << 20, 60 << 20, FILES * FILE_BYTES];

const totalBytes = (repository: string): number => {
  try {
    return [...objects(repository).values()].reduce((sum, size) => sum + size, 0);
  } catch {
    // an object was renamed between listing and looking
    return 0;
  }
};

describe('kill points of a push', () => {
  for (const victim of VICTIMS)
    test(`of ${victim}`, async (t) => {
      const rig = new Rig();
      t.after(() => rig.end());
      rig.configureUsual();
      const home = rig.path('home');
      const repository = rig.path('repository');
      for (let i = 0; i < FILES; i++) fs.writeFileSync(`${home}/${i}`, noise(`first ${i}`, 10_000));
      await rig.start();
      await rig.ok('create');
      const first = await rig.push();
      for (const [round, bytes] of MOMENTS_BYTES.entries()) {
        for (let i = 0; i < FILES; i++) fs.writeFileSync(`${home}/${i}`, noise(`${round} ${i}`, FILE_BYTES));
        const before = totalBytes(repository);
        const { pid } = victim === 'parent' ? { pid: rig.pid } : rig.process(victim);
        const running = rig.client(['-q', 'push', 'home']);
        let over = false;
        running.result.then(() => {
          over = true;
        });
        await until(
          'the push is so far',
          () => over || (bytes > 0 && totalBytes(repository) >= before + bytes),
        );
        process.kill(pid, 'SIGKILL');
        const { code, stdout, stderr } = await running.result;
        if (victim === 'parent') {
          await rig.ended();
          await until('every process is gone', () => rig.processes().length === 0);
          await rig.start();
        } else if (victim !== 'scanner home') await rig.logged(/serves again/);
        if (code !== 0) assert.match(stderr, /^plakarctl: push home: [^\n]+\n$/);
        for (const id of code === 0 ? [first, stdout.trim()] : [first]) {
          fs.rmSync(rig.path('out'), { recursive: true, force: true });
          await rig.ok('pull', '-to', rig.path('out'), id);
          if (id !== first) assertSame(home, rig.path('out'));
          else
            for (let i = 0; i < FILES; i++)
              assert.ok(fs.readFileSync(`${rig.path('out')}/${i}`).equals(noise(`first ${i}`, 10_000)));
        }
        await rig.push();
        assert.match(await rig.ok('check'), /no damage/);
        // each death counts for the pause before the next start; a new daemon has none
        await rig.stop();
        await rig.start();
        await rig.push();
      }
    });
});
