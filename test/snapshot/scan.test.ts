/** A walk at the other end of a channel: it begins with whatever comes together with the order to begin. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, test } from 'node:test';
import { Channel, channelPair } from '../../src/ipc/channel.ts';
import { BATCH, NODES, SCAN, SCAN_BEGUN, SCAN_FAILED } from '../../src/messages/scan.ts';
import { serveScans } from '../../src/snapshot/scan.ts';
import { Watched, type WatchedWalk } from '../../src/snapshot/watched.ts';
import { closeAll } from '../../src/sys/socket.ts';
import { temporary } from './odd.ts';

const top = temporary();
fs.writeFileSync(`${top}/file`, 'contents');
after(() => fs.rmSync(top, { recursive: true }));

const ROOT = { id: Buffer.alloc(32), length: 1 };
const WHAT = { paths: [top], root: '/', excludes: [], oneFilesystem: false };

/** Both ends of a channel, and what comes of it. */
function ends(): { ours: Channel; theirs: Channel; close: () => void } {
  const [a, b] = channelPair();
  const [ours, theirs] = [new Channel(a, { name: 'walker' }), new Channel(b, { name: 'repository' })];
  return {
    ours,
    theirs,
    close: () => {
      ours.close();
      theirs.close();
    },
  };
}

test('nodes of the parent that come in one piece with the order are taken', async () => {
  const { ours, theirs, close } = ends();
  serveScans(theirs, WHAT);
  const { promise, resolve } = Promise.withResolvers<string>();
  ours.handler(BATCH, ({ fds }) => {
    closeAll(fds);
    resolve('batch');
  });
  ours.handler(SCAN_FAILED, ({ payload }) => resolve(payload.text));
  ours.message(SCAN, { job: 1, root: ROOT, trustBeforeSec: 0, parent: undefined });
  ours.message(NODES, { job: 1, data: Buffer.alloc(0), last: true });
  // both are there before either is read
  await new Promise((done) => setImmediate(done));
  void ours.dispatch();
  void theirs.dispatch();
  assert.match(await promise, /parent|old tree|ended|batch/);
  close();
});

/** A watched source that begins when it is told to. */
function slow(): { watched: Watched; begin: () => void } {
  const watched = new Watched({
    settleMs: 1,
    scanMs: 1,
    rootFd: fs.openSync('/', 'r'),
    open: () => {
      throw new Error('not here');
    },
    now: () => performance.now(),
    wallClock: Date.now,
    onChange: () => undefined,
    onState: () => undefined,
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  const begin = watched.begin.bind(watched);
  watched.begin = async (...args): Promise<WatchedWalk> => {
    await promise;
    return await begin(...args);
  };
  return { watched, begin: resolve };
}

test('a walk that is called off before it has begun does not begin, and the next does', async () => {
  const { ours, theirs, close } = ends();
  const { watched, begin } = slow();
  serveScans(theirs, { ...WHAT, watched });
  const begun: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  ours.handler(SCAN_BEGUN, ({ payload }) => {
    begun.push(payload.job);
    resolve();
  });
  ours.handler(SCAN_FAILED, () => resolve());
  ours.handler(BATCH, ({ fds }) => closeAll(fds));
  const scan = { root: ROOT, trustBeforeSec: 0, parent: 'a' };
  ours.message(SCAN, { job: 1, ...scan });
  ours.message(SCAN_FAILED, { job: 1, kind: 'interrupted', text: 'interrupted' });
  ours.message(SCAN, { job: 2, ...scan });
  void ours.dispatch();
  void theirs.dispatch();
  await new Promise((done) => setImmediate(done));
  begin();
  await promise;
  assert.deepEqual(begun, [2]);
  close();
});
