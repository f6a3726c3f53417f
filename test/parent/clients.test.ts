/** Clients that are slow, many, or talk nonsense cost themselves their connection, and nobody else anything. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { createInterface } from 'node:readline';
import { after, afterEach, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Ends } from '../../src/ipc/channel.ts';
import { connect } from '../../src/ipc/connect.ts';
import { QUERY, writeHeader } from '../../src/ipc/frame.ts';
import { HEADER_BYTES } from '../../src/ipc/message.ts';
import { encode } from '../../src/ipc/payload.ts';
import { STATUS } from '../../src/messages/client.ts';
import { closeAll } from '../../src/sys/socket.ts';
import { forEveryone } from '../installed.ts';
import { Daemon } from './daemon.ts';

const FLOOD = fileURLToPath(new URL('flood.ts', import.meta.url));
const STRANGER = 61042;
const CONTROL_MAX_KB = 300 << 10;

describe('clients', () => {
  let daemon: Daemon;
  let control = 0;
  before(async () => {
    daemon = new Daemon();
    await daemon.start();
    await daemon.ok('create');
    await daemon.ok('push', 'home');
    control = await daemon.child('control');
  });
  // whatever they did: control lives, in bounded memory, and serves
  afterEach(async () => {
    await daemon.ok('push', 'home');
    assert.equal(await daemon.child('control'), control);
    const rss = /^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${control}/status`, 'latin1'))?.[1];
    assert.ok(Number(rss) < CONTROL_MAX_KB, `${rss} kB`);
  });
  after(() => daemon.clear());

  function query(id: number): Buffer {
    const frame = encode({}, HEADER_BYTES);
    writeHeader(frame, STATUS.number, QUERY, id, 0);
    return frame;
  }

  const begin = (): Ends => connect(daemon.path('socket'), 20_000);

  test('who sends garbage loses the channel, and the log says whose it was', async () => {
    const from = daemon.lines.length;
    const ends = begin();
    fs.writeSync(ends.stream, randomBytes(256));
    await daemon.logged(new RegExp(`control: channel client ${process.pid} of user 0: `), from);
    closeAll([ends.stream, ends.descriptors]);
  });

  test('who sends half a message is waited for by nobody', async () => {
    const ends = begin();
    fs.writeSync(ends.stream, query(1).subarray(0, HEADER_BYTES - 3));
    await daemon.ok('status');
    closeAll([ends.stream, ends.descriptors]);
  });

  test('who asks and never reads is cut off', async () => {
    const ends = begin();
    const frames = Buffer.concat(Array.from({ length: 512 }, (_, i) => query(i + 1)));
    // ids are answered with an error each, and may be used again
    let cut = false;
    while (!cut) {
      try {
        fs.writeSync(ends.stream, frames);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error)) throw error;
        cut = error.code === 'EPIPE' || error.code === 'ECONNRESET';
        assert.ok(cut || error.code === 'EAGAIN', error.message);
        await daemon.ok('status');
        if (error.code === 'EAGAIN') break;
      }
    }
    closeAll([ends.stream, ends.descriptors]);
  });

  test("a thousand of one user's are refused in words beyond their share, and root gets in", async () => {
    const flood: ChildProcess = spawn(
      forEveryone(process.execPath),
      [forEveryone(FLOOD), daemon.path('socket'), '1000'],
      {
        uid: STRANGER,
        gid: STRANGER,
        stdio: ['ignore', 'pipe', 'inherit'],
        env: {},
      },
    );
    assert.ok(flood.stdout);
    const [line] = (await once(createInterface(flood.stdout), 'line')) as [string];
    assert.match(line, /^connect .*socket: greeting: too many clients are connected$/);
    assert.match(await daemon.ok('metrics'), /^plakard_clients 65$/m);
    await daemon.ok('ls');
    flood.kill('SIGKILL');
    await once(flood, 'exit');
    while (!/^plakard_clients 1$/m.test(await daemon.ok('metrics')));
  });
});
