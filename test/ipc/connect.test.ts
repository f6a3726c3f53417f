/** How a client gets its channel, from a daemon that is in order, and from others. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Failure, describe as textOf } from '../../src/error.ts';
import { Channel } from '../../src/ipc/channel.ts';
import { connect } from '../../src/ipc/connect.ts';
import * as types from './types.ts';

const TIMEOUT_MS = 10_000;

/** The text of the error that connecting to `socket` ends by. */
function refusal(socket: string, timeoutMs = TIMEOUT_MS): string {
  try {
    connect(socket, timeoutMs);
  } catch (error) {
    assert.ok(error instanceof Failure);
    return textOf(error);
  }
  throw new Error('it connected');
}

describe('connect', () => {
  let root = '';
  let daemon: ChildProcess;
  const at = (name: string): string => path.join(root, name);

  before(async () => {
    root = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
    // connect() blocks, so that the daemon is another process
    daemon = spawn(process.execPath, [fileURLToPath(new URL('./daemon.ts', import.meta.url)), root], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (daemon.stdout) await once(daemon.stdout, 'data');
  });
  after(async () => {
    const exited = once(daemon, 'exit');
    daemon.kill();
    await exited;
    fs.rmSync(root, { recursive: true });
  });

  test('a channel comes, and works', async () => {
    const open = fs.readdirSync('/proc/self/fd').length;
    const channel = new Channel(connect(at('greets'), TIMEOUT_MS), { name: 'daemon' });
    assert.equal(fs.readdirSync('/proc/self/fd').length, open + 2);
    const ended = channel.dispatch();
    const data = Buffer.alloc(100_000, 1);
    const { payload } = await channel.query(types.ECHO, { n: 5, data }, types.ECHOED);
    assert.equal(payload.n, 5);
    assert.ok(payload.data.equals(data));
    channel.close();
    await ended;
  });

  test('many come one after another, and leave nothing', () => {
    const open = fs.readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 100; i++) {
      const { stream, descriptors } = connect(at('greets'), TIMEOUT_MS);
      fs.closeSync(stream);
      fs.closeSync(descriptors);
    }
    assert.equal(fs.readdirSync('/proc/self/fd').length, open);
  });

  test('what is not there, or not served, is said, with what to do', () => {
    const none = at('none');
    assert.equal(refusal(none), `connect ${none}: no such file or directory (is plakard running?)`);
    const stale = at('stale');
    assert.equal(refusal(stale), `connect ${stale}: connection refused (is plakard running?)`);
    const long = path.join(root, 'x'.repeat(200));
    assert.equal(refusal(long), `connect ${long}: not a path of 1 to 107 bytes`);
    assert.match(refusal(''), /not a path/);
  });

  test('others than plakard of this version are refused in words, without a leak', () => {
    const open = fs.readdirSync('/proc/self/fd').length;
    const says = (name: string): string => refusal(at(name)).replace(`connect ${at(name)}: `, '');
    assert.equal(says('version'), 'greeting: protocol version mismatch: plakard has 2, this program 1');
    assert.equal(says('stranger'), 'greeting: this is not plakard');
    assert.equal(says('closes'), 'greeting: the connection was closed');
    assert.equal(says('empty'), 'greeting: no channel came');
    assert.equal(fs.readdirSync('/proc/self/fd').length, open);
  });

  test('one that says nothing is waited for until the timeout', () => {
    assert.match(refusal(at('silent'), 20), /greeting: none came within 20 ms$/);
  });
});
