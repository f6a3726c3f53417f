/** A user's many clients, for clients.test.ts: connects so often to the socket, holds on, and says how that went. */
import { describe } from '../../src/error.ts';
import { connect } from '../../src/ipc/connect.ts';
import { connectUnix } from '../../src/sys/socket.ts';

const [, , socket = '', count = '0'] = process.argv;
for (let i = 0; i < Number(count); i++) connectUnix(socket, 20_000);
try {
  connect(socket, 20_000);
  process.stdout.write('greeted\n');
} catch (error) {
  process.stdout.write(`${describe(error)}\n`);
}
// until it is killed
setInterval(() => undefined, 1 << 30);
