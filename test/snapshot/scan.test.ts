/** A walk at the other end of a channel: it begins with whatever comes together with the order to begin. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, test } from 'node:test';
import { describe } from '../../src/error.ts';
import { Channel, channelPair } from '../../src/ipc/channel.ts';
import { createRing } from '../../src/ipc/ring.ts';
import { BATCH, NODES, NODES_RING_BYTES, SCAN, SCAN_BEGUN, SCAN_FAILED } from '../../src/messages/scan.ts';
import { serveScans } from '../../src/snapshot/scan.ts';
import { Watched, type WatchedWalk } from '../../src/snapshot/watched.ts';
import { memfdCreate } from '../../src/sys/memory.ts';
import { closeAll } from '../../src/sys/socket.ts';
import { temporary } from './odd.ts';
import { describeBatch } from './take.ts';

const top = temporary();
fs.writeFileSync(`${top}/file`, 'contents');
after(() => fs.rmSync(top, { recursive: true }));

const ROOT = { id: Buffer.alloc(32), length: 1 };
const WHAT = { paths: [top], root: '/', excludes: [], oneFilesystem: false };

/** A ring of old nodes, which the caller closes. */
function ring(bytes = NODES_RING_BYTES): number {
  return createRing('test', 1, bytes);
}

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
  ours.message(SCAN, { job: 1, root: ROOT, trustBeforeSec: 0, parent: undefined }, [ring()], { given: true });
  ours.message(NODES, { job: 1, bytes: 0, last: true });
  // both are there before either is read
  await new Promise((done) => setImmediate(done));
  void ours.dispatch();
  void theirs.dispatch();
  assert.match(await promise, /parent|old tree|ended|batch/);
  close();
});

test('a ring that is missing, too small or can shrink fails the walk', async () => {
  const { ours, theirs, close } = ends();
  serveScans(theirs, WHAT);
  const failed: (readonly [job: number, text: string])[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  ours.handler(SCAN_FAILED, ({ payload: { job, text } }) => {
    if (failed.push([job, text]) === 3) resolve();
  });
  const scan = { root: ROOT, trustBeforeSec: 0, parent: undefined };
  ours.message(SCAN, { job: 1, ...scan });
  ours.message(SCAN, { job: 2, ...scan }, [ring(NODES_RING_BYTES / 2)], { given: true });
  const loose = memfdCreate('test', NODES_RING_BYTES, { seal: false });
  ours.message(SCAN, { job: 3, ...scan }, [loose], { given: true });
  void ours.dispatch();
  void theirs.dispatch();
  await promise;
  assert.deepEqual(
    failed.map(([job]) => job),
    [1, 2, 3],
  );
  assert.match(failed[1]?.[1] ?? '', /were declared/);
  assert.match(failed[2]?.[1] ?? '', /sealed/);
  close();
});

test('more nodes than a ring has room for end the channel', async () => {
  const { ours, theirs, close } = ends();
  serveScans(theirs, WHAT);
  ours.message(SCAN, { job: 1, root: ROOT, trustBeforeSec: 0, parent: undefined }, [ring()], { given: true });
  ours.message(NODES, { job: 1, bytes: NODES_RING_BYTES, last: false });
  ours.message(NODES, { job: 1, bytes: 1, last: false });
  void ours.dispatch();
  await assert.rejects(theirs.dispatch(), (error) => /more than there is room for/.test(describe(error)));
  close();
});

test('a walk that begins while the last is called off keeps what it has opened', async () => {
  const { ours, theirs, close } = ends();
  serveScans(theirs, WHAT);
  const { promise, resolve } = Promise.withResolvers<string>();
  ours.handler(SCAN_BEGUN, () => {
    // the first waits for nodes by now
    ours.message(SCAN_FAILED, { job: 1, kind: 'interrupted', text: 'interrupted' });
    ours.message(SCAN, { job: 2, root: undefined, trustBeforeSec: undefined, parent: undefined });
  });
  ours.handler(SCAN_FAILED, ({ payload: { job, text } }) => {
    if (job === 2) resolve(text);
  });
  ours.handler(BATCH, ({ payload: { job, data }, fds }) => {
    closeAll(fds);
    if (job === 2) resolve(describeBatch(data).join(', '));
  });
  ours.message(SCAN, { job: 1, root: ROOT, trustBeforeSec: 0, parent: 'a' }, [ring()], { given: true });
  void ours.dispatch();
  void theirs.dispatch();
  assert.equal(await promise, 'ENTER , FILE file, LEAVE , END 0');
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
  ours.message(SCAN, { job: 1, ...scan }, [ring()], { given: true });
  ours.message(SCAN_FAILED, { job: 1, kind: 'interrupted', text: 'interrupted' });
  ours.message(SCAN, { job: 2, ...scan }, [ring()], { given: true });
  void ours.dispatch();
  void theirs.dispatch();
  await new Promise((done) => setImmediate(done));
  begin();
  await promise;
  assert.deepEqual(begun, [2]);
  close();
});
