/** Daemons of all kinds, for the tests of connect: sockets in the directory that is named. */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { Channel } from '../../src/ipc/channel.ts';
import { greet } from '../../src/ipc/connect.ts';
import { sendDescriptors } from '../../src/sys/socket.ts';
import * as types from './types.ts';

const root = process.argv[2] ?? '';
const silent = new Set<net.Socket>();

function descriptorOf(socket: net.Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

function hello(version: number): Buffer {
  const bytes = Buffer.from('plkd\0\0\0\0', 'latin1');
  bytes.writeUInt32LE(version, 4);
  return bytes;
}

const KINDS: Readonly<Record<string, (socket: net.Socket) => void>> = {
  greets(socket) {
    const channel = new Channel(greet(descriptorOf(socket)), { name: 'client' });
    channel.handler(types.ECHO, (message) => channel.reply(message, types.ECHOED, message.payload));
    channel.dispatch().catch(() => process.exit(1));
    socket.destroy();
  },
  version(socket) {
    sendDescriptors(descriptorOf(socket), [0, 0], hello(2));
    socket.destroy();
  },
  stranger(socket) {
    socket.end('220 mail.example.org ESMTP\r\n');
  },
  closes(socket) {
    socket.destroy();
  },
  empty(socket) {
    sendDescriptors(descriptorOf(socket), [], hello(1));
    socket.destroy();
  },
  silent(socket) {
    silent.add(socket);
  },
};

for (const [name, serve] of Object.entries(KINDS)) {
  const server = net.createServer((socket) => {
    // a client that did not like its greeting
    socket.on('error', () => socket.destroy());
    serve(socket);
  });
  server.listen(path.join(root, name));
  await once(server, 'listening');
}
// closing a server removes its socket file; a copy of its name stays, and nobody listens
const gone = net.createServer().listen(path.join(root, 'gone'));
await once(gone, 'listening');
fs.linkSync(path.join(root, 'gone'), path.join(root, 'stale'));
gone.close();
process.stdout.write('ready\n');
