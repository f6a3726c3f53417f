/** What a process uses whose limits keep the runtime from collecting. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { describe, test } from 'node:test';

const ROOT = path.join(import.meta.dirname, '..');
const MIB = 1 << 20;

/** The most that a process with a launcher's limits came to use, MiB, that made 400 pieces of garbage of a MiB and more. */
function mostUsed(prelude: string): number {
  const program = `
    import v8 from 'node:v8';
    import { setTimeout as pause } from 'node:timers/promises';
    import '${ROOT}/src/sys/foreign.ts';
    const used = () => v8.getHeapStatistics().used_heap_size + v8.getHeapStatistics().external_memory;
    const before = used();
    ${prelude}
    let most = 0;
    const held = [];
    for (let i = 0; i < 400; i++) {
      // held until it is old, which is what is not collected by the way
      held.push([Buffer.alloc(${MIB}, 1), Array.from({ length: ${MIB / 32} }, (_, at) => ({ at }))]);
      if (held.length > 16) held.shift();
      most = Math.max(most, used() - before);
      await pause(1);
    }
    console.log(Math.round(most / ${MIB}));
  `;
  const limits = ['--max-old-space-size=131072', '--external-memory-accounted-in-global-limit'];
  const args = [...limits, '--input-type=module', '--eval', program];
  return Number(execFileSync(process.execPath, args, { encoding: 'utf8' }));
}

describe('collecting in time', () => {
  test('garbage stays within what may gather, where the runtime would let it grow', () => {
    const without = mostUsed('');
    const within = mostUsed(
      `const { collectInTime } = await import('${ROOT}/src/collect.ts'); collectInTime(${32 * MIB}, 10);`,
    );
    assert.ok(without > 200, `${without} MiB without`);
    // what comes in between two looks is beyond it
    assert.ok(within < without / 2, `${within} MiB, and ${without} without`);
  });

  test('it keeps nobody from ending', () => {
    const program = `import { collectInTime } from '${ROOT}/src/collect.ts'; collectInTime();`;
    const args = ['--input-type=module', '--eval', program];
    assert.equal(execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 }), '');
  });
});
