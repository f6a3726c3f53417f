/** The ring between the chunker, which reads the parent's tree, and its walker: both sides at a channel. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Channel, channelPair } from '../../src/ipc/channel.ts';
import { NODES, NODES_RING_BYTES, NODES_USED, SCAN } from '../../src/messages/scan.ts';
import { ParentNodes } from '../../src/processes/chunker/nodes.ts';
import { NodeRing } from '../../src/snapshot/nodering.ts';
import { closeAll } from '../../src/sys/socket.ts';

const [a, b] = channelPair();
const [chunker, walker] = [new Channel(a, { name: 'walker' }), new Channel(b, { name: 'chunker' })];
after(() => {
  chunker.close();
  walker.close();
});

let sender: ParentNodes | undefined;
let last = 0;
let ring: NodeRing | undefined;
let scanned = Promise.withResolvers<void>();
chunker.handler(NODES_USED, ({ payload: { job, bytes } }) => {
  // what is said of one that is over comes later
  if (job === last) sender?.used(bytes);
});
walker.handler(SCAN, ({ payload: { job }, fds: [fd = -1] }) => {
  ring = new NodeRing(fd, (bytes) => walker.message(NODES_USED, { job, bytes }));
  closeAll([fd]);
  scanned.resolve();
});
walker.handler(NODES, ({ payload: { bytes, last } }) => ring?.filled(bytes, last));
void chunker.dispatch();
void walker.dispatch();

/** Opens a ring between the two. */
async function open(): Promise<{ from: ParentNodes; to: NodeRing }> {
  scanned = Promise.withResolvers();
  const from = new ParentNodes(chunker, ++last);
  sender = from;
  const scan = { job: last, root: undefined, trustBeforeSec: undefined, parent: undefined };
  chunker.message(SCAN, scan, [from.takeDescriptor()], { given: true });
  await scanned.promise;
  assert.ok(ring !== undefined);
  return { from, to: ring };
}

/** An item of the stream with a node of so many bytes, which tell it from others. */
function item(index: number, bytes: number): Buffer {
  const out = Buffer.alloc(12 + bytes, index);
  [bytes, 1, 1].forEach((value, i) => {
    out.writeUInt32LE(value, 4 * i);
  });
  return out;
}

const MANY = 12 << 20;
const LENGTHS = [3, 4000, 70_000, 3 << 20, 1, 0, 65_536, 100, 2 << 20, 9, 4 << 20, 17, 600_000];

describe('the ring of old nodes', () => {
  test('brings all of them, in order, however long they are', async () => {
    const { from, to } = await open();
    const send = async (): Promise<void> => {
      for (const [index, bytes] of LENGTHS.entries()) await from.write(item(index, bytes));
      from.end();
    };
    const sent = send();
    for (const [index, bytes] of LENGTHS.entries()) {
      let got = to.stream.next();
      for (; got === undefined; got = to.stream.next()) await to.stream.wait();
      assert.ok(got.node.equals(Buffer.alloc(bytes, index)), `node ${index} of ${bytes} bytes`);
    }
    await sent;
    assert.equal(to.stream.next(), undefined);
    await assert.rejects(to.stream.wait(), { cause: 'the stream ended early' });
    assert.ok(LENGTHS.reduce((sum, bytes) => sum + bytes) > 4 * NODES_RING_BYTES);
    to.close();
    from.close();
  });

  test('takes no more than it holds until that is used, and nothing once it is closed', async () => {
    const { from, to } = await open();
    let isDone = false;
    const sent = (async () => {
      await from.write(item(0, MANY));
      isDone = true;
    })();
    // the head and what follows it are there: nothing is used but the head's piece
    await to.stream.wait();
    for (let turn = 0; turn < 2 * (NODES_RING_BYTES >> 16); turn++)
      await new Promise((next) => setImmediate(next));
    assert.equal(isDone, false);
    assert.throws(() => from.used(NODES_RING_BYTES + 1), { operation: 'send old tree' });
    from.close();
    await sent;
    await from.write(item(1, 10));
    to.close();
    to.filled(1, false);
    assert.equal(to.stream.next(), undefined);
  });
});
