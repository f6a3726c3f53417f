/** Unix sockets: messages with descriptors, credentials, timeouts, and that nothing leaks. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Failure } from '../../src/error.ts';
import * as sockets from '../../src/sys/socket.ts';

const DATA = Buffer.from('data');
const openDescriptors = (): number => fs.readdirSync('/proc/self/fd').length;

describe('socket pairs', () => {
  let a = -1;
  let b = -1;
  const scratch = Buffer.alloc(64);
  before(() => {
    [a, b] = sockets.socketpair('seqpacket');
  });
  after(() => {
    fs.closeSync(b);
  });

  test('descriptors arrive in order, close-on-exec, and messages stay apart', () => {
    const open = openDescriptors();
    const files = ['/proc/self/exe', '/etc/passwd', '/dev/null'].map((name) => fs.openSync(name, 'r'));
    assert.ok(sockets.sendDescriptors(a, files, DATA));
    assert.ok(sockets.sendDescriptors(a, [], Buffer.from('more')));
    const inodes = files.map((fd) => fs.fstatSync(fd).ino);
    sockets.closeAll(files);
    assert.equal(sockets.peekMessage(b, 4)?.toString(), 'data');
    const first = sockets.receiveDescriptors(b, 3, scratch);
    assert.ok(first);
    assert.equal(scratch.toString('latin1', 0, first.bytes), 'data');
    assert.deepEqual(
      first.fds.map((fd) => fs.fstatSync(fd).ino),
      inodes,
    );
    for (const fd of first.fds)
      assert.match(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'), /flags:\s+0?2\d{6}/);
    sockets.closeAll(first.fds);
    assert.deepEqual(sockets.receiveDescriptors(b, 3, scratch), { bytes: 4, fds: [] });
    assert.equal(sockets.receiveDescriptors(b, 3, scratch), undefined);
    assert.equal(sockets.peekMessage(b, 4), undefined);
    assert.equal(openDescriptors(), open);
  });

  test('peeking installs no descriptor', () => {
    const open = openDescriptors();
    assert.ok(sockets.sendDescriptors(a, [0, 0, 0], DATA));
    for (let i = 0; i < 100; i++) assert.equal(sockets.peekMessage(b, 8)?.length, 4);
    assert.equal(openDescriptors(), open);
    sockets.closeAll(sockets.receiveDescriptors(b, 3, scratch)?.fds ?? []);
    assert.equal(openDescriptors(), open);
  });

  test('more than are allowed are closed', () => {
    const open = openDescriptors();
    assert.ok(sockets.sendDescriptors(a, [0, 0, 0], DATA));
    assert.throws(() => sockets.receiveDescriptors(b, 2, scratch), Failure);
    assert.equal(openDescriptors(), open);
  });

  test('a peer that does not read makes sending say so, not wait', () => {
    let sent = 0;
    while (sockets.sendDescriptors(a, [0], DATA)) assert.ok(++sent < 100_000);
    assert.ok(sent > 10);
    for (let i = 0; i < sent; i++) sockets.closeAll(sockets.receiveDescriptors(b, 1, scratch)?.fds ?? []);
    assert.ok(sockets.sendDescriptors(a, [0], DATA));
    sockets.closeAll(sockets.receiveDescriptors(b, 1, scratch)?.fds ?? []);
  });

  test('limits, and descriptors that are none, are failures', () => {
    const many = Array.from({ length: 254 }, () => 0);
    assert.throws(() => sockets.sendDescriptors(a, many, DATA), Failure);
    assert.throws(() => sockets.sendDescriptors(a, [0], Buffer.alloc(65)), Failure);
    assert.throws(() => sockets.sendDescriptors(a, [0], Buffer.alloc(0)), Failure);
    assert.throws(() => sockets.sendDescriptors(a, [99_999], DATA), /sendmsg socket/);
    assert.throws(() => sockets.duplicate(99_999), /fcntl descriptor 99999/);
  });

  test('of many descriptors those are closed that are named, in whatever order, and no other', () => {
    const open = openDescriptors();
    const files = Array.from({ length: 40 }, () => fs.openSync('/dev/null', 'r'));
    const kept = files.filter((_, i) => i % 7 === 3);
    sockets.closeAll(files.filter((fd) => !kept.includes(fd)).reverse());
    assert.equal(openDescriptors(), open + kept.length);
    for (const fd of kept) fs.fstatSync(fd);
    sockets.closeAll(kept);
    assert.equal(openDescriptors(), open);
  });

  test('credentials are those of this process', () => {
    const { pid, uid, gid } = sockets.peerCredentials(b);
    assert.deepEqual([pid, uid, gid], [process.pid, process.getuid?.(), process.getgid?.()]);
    const file = fs.openSync('/dev/null', 'r');
    assert.throws(() => sockets.peerCredentials(file), /getsockopt/);
    fs.closeSync(file);
  });

  test('a closed peer is a message without bytes, and sending fails', () => {
    fs.closeSync(a);
    assert.deepEqual(sockets.receiveDescriptors(b, 1, scratch), { bytes: 0, fds: [] });
    assert.equal(sockets.peekMessage(b, 4)?.length, 0);
    assert.throws(() => sockets.sendDescriptors(b, [0], DATA), /sendmsg/);
  });
});

describe('connecting', () => {
  test('a socket that listens is connected to, and waiting for it ends', async () => {
    const root = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
    const at = path.join(root, 'socket');
    const server = net.createServer((peer) => peer.destroy());
    await new Promise<void>((resolve) => server.listen(at, resolve));
    const open = openDescriptors();
    const socket = sockets.connectUnix(at, 10);
    // the server, in this process, cannot answer while we wait
    assert.equal(sockets.receiveDescriptors(socket, 1, Buffer.alloc(8), { wait: true }), undefined);
    fs.closeSync(socket);
    assert.throws(() => sockets.connectUnix(path.join(root, 'none'), 10), {
      message: `connect ${root}/none`,
    });
    assert.throws(() => sockets.connectUnix('', 10), Failure);
    assert.throws(() => sockets.connectUnix('a\0b', 10), Failure);
    assert.equal(openDescriptors(), open);
    await new Promise((resolve) => server.close(resolve));
    fs.rmSync(root, { recursive: true });
  });
});
