/** A service manager for the tests: prints each line of each datagram that comes to the socket named. */
import fs from 'node:fs';
import { addressOf, pinned, syscall } from '../../src/sys/foreign.ts';
import { NUMBERS } from '../../src/sys/numbers.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const path = Buffer.from(process.argv[2] ?? '');
const address = pinned(110);
address.writeUInt16LE(AF_UNIX, 0);
path.copy(address, 2);
const fd = syscall(NUMBERS.socket, AF_UNIX, SOCK_DGRAM, 0);
if (syscall(NUMBERS.bind, fd, addressOf(address), path.length + 3) !== 0) process.exit(1);
fs.writeSync(1, 'listening\n');
const datagram = Buffer.alloc(65536);
for (;;) {
  const lengthBytes = fs.readSync(fd, datagram);
  fs.writeSync(1, `${datagram.toString('utf8', 0, lengthBytes)}\n`);
}
