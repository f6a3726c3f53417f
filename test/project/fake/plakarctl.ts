/**
 * Stands in for plakarctl in start.test.ts: prints how it was called; `pull`
 * copies the source, and `stop` stops the fake daemon. PLAKARD_FAKE names a
 * command to fail, or `altered`, for a restore that is not what it was.
 */

import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';

const [, socket = '', command = '', ...rest] = process.argv.slice(2);
console.log(`fake ${command} ${rest.join(' ')}`);
if (command === process.env.PLAKARD_FAKE) {
  console.error(`plakarctl: ${command}: out of order`);
  process.exitCode = 1;
} else if (command === 'pull') {
  const target = rest[1] ?? '';
  const configuration = fs.readFileSync(path.join(path.dirname(socket), 'plakard.conf'), 'utf8');
  const source = /^ +path "(.*)"$/m.exec(configuration)?.[1] ?? '';
  execFileSync('cp', ['-a', source, target]);
  if (process.env.PLAKARD_FAKE === 'altered') fs.chmodSync(path.join(target, 'file'), 0o600);
} else if (command === 'stop') {
  net.connect(socket).end('stop').resume();
}
