/**
 * Stands in for the daemon in start.test.ts: listens on the socket of its
 * configuration and ends when told to. PLAKARD_FAKE=dead makes it fail at once.
 */

import * as fs from 'node:fs';
import * as net from 'node:net';

const configuration = fs.readFileSync(process.argv[process.argv.indexOf('-f') + 1] ?? '', 'utf8');
const socket = /^set socket "(.*)"$/m.exec(configuration)?.[1] ?? '';
if (process.env.PLAKARD_FAKE === 'dead') {
  console.error('parent: bind: no such luck');
  process.exitCode = 1;
} else {
  const server = net.createServer((client) => {
    client.on('data', () => server.close());
    client.on('end', () => client.end());
  });
  server.listen(socket);
  process.on('SIGTERM', () => process.exit(0));
}
