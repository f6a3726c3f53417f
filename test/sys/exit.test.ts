/** The end of a process whose threads are stuck. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

test('a process ends with its exit code while a write to a pipe that nobody reads is under way', async () => {
  const exit = fileURLToPath(new URL('../../src/sys/exit.ts', import.meta.url));
  const program = `
    import fs from 'node:fs';
    import { exitNow } from ${JSON.stringify(exit)};
    fs.write(1, Buffer.alloc(10 << 20), () => {});
    // more than one thread of the pool has begun by then
    fs.stat('/', () => exitNow(14));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [code, signal] = await once(child, 'exit');
  assert.deepEqual([code, signal], [14, null]);
  child.stdout?.destroy();
});
