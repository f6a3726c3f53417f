/**
 * What a hostile or broken peer can send: each ends its own channel, by an
 * error that names it, and leaves nothing open.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { describe as textOf } from '../../src/error.ts';
import { sendBatch } from '../../src/ipc/batch.ts';
import { Channel, channelPair, type Ends } from '../../src/ipc/channel.ts';
import { PLAIN, QUERY, REPLY, writeHeader } from '../../src/ipc/frame.ts';
import { FRAME_MAX_BYTES, HEADER_BYTES } from '../../src/ipc/message.ts';
import { encode } from '../../src/ipc/payload.ts';
import { LATE_MAX } from '../../src/ipc/queries.ts';
import { closeAll, sendDescriptors } from '../../src/sys/socket.ts';
import { startOther } from './other.ts';
import * as types from './types.ts';

const openDescriptors = (): number => fs.readdirSync('/proc/self/fd').length;

/** A channel, and the bare descriptors at its other end. */
function victim(): { channel: Channel; raw: Ends; notes: string[]; ended: Promise<void> } {
  const [ours, raw] = channelPair();
  const channel = new Channel(ours, { name: 'enemy' });
  const notes: string[] = [];
  channel.handler(types.NOTE, ({ payload, fds }) => {
    closeAll(fds);
    notes.push(payload.text);
  });
  channel.handler(types.SILENCE, () => {});
  return { channel, raw, notes, ended: channel.dispatch() };
}

function frame(type: number, flags: number, id: number, payload: unknown, descriptors = 0): Buffer {
  const bytes = encode(payload, HEADER_BYTES);
  writeHeader(bytes, type, flags, id, descriptors);
  return bytes;
}

const note = (text = 'x', descriptors = 0): Buffer => frame(5, PLAIN, 0, { text }, descriptors);

function head(change: (bytes: Buffer) => void): Buffer {
  const bytes = note();
  change(bytes);
  return bytes;
}

/** Sends `bytes`, and what is in `batches` before; the error that ends the channel. */
async function attack(bytes: Buffer, before: (raw: Ends) => void = () => {}): Promise<string> {
  const open = openDescriptors();
  const { raw, ended } = victim();
  before(raw);
  fs.writeSync(raw.stream, bytes);
  const error = await ended.then(
    () => 'closed in peace',
    (error: unknown) => textOf(error),
  );
  closeAll([raw.stream, raw.descriptors]);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(openDescriptors(), open);
  return error;
}

describe('malformed frames', () => {
  const length = (value: number): Buffer => head((bytes) => bytes.writeUInt32LE(value, 0));
  const over = FRAME_MAX_BYTES + 1;
  const cases: readonly (readonly [string, Buffer, string])[] = [
    ['a length of zero', length(0), 'malformed frame: a length of 0 bytes, shorter than its header'],
    ['a length of one', length(1), 'malformed frame: a length of 1 bytes, shorter than its header'],
    [
      'a length below the header',
      length(15),
      'malformed frame: a length of 15 bytes, shorter than its header',
    ],
    [
      'a length over the maximum',
      length(over),
      `malformed frame: a length of ${over} bytes, over ${FRAME_MAX_BYTES}`,
    ],
    [
      'the largest length',
      length(0xffffffff),
      `malformed frame: a length of 4294967295 bytes, over ${FRAME_MAX_BYTES}`,
    ],
    ["a length over the type's maximum", length(100_000), 'malformed note: 99984 bytes, over 65536'],
    ['no payload', length(16), 'malformed payload: not one plain value'],
    ['an unknown type', head((bytes) => bytes.writeUInt16LE(999, 4)), 'unknown message 999'],
    ['the error type as a message', head((bytes) => bytes.writeUInt16LE(0, 4)), 'unknown message 0'],
    ['unknown flags', head((bytes) => bytes.writeUInt8(3, 6)), 'malformed frame: flags 3'],
    ['reserved bytes', head((bytes) => bytes.writeUInt8(1, 7)), 'malformed frame: reserved bytes are set'],
    [
      'more reserved bytes',
      head((bytes) => bytes.writeUInt16LE(1, 14)),
      'malformed frame: reserved bytes are set',
    ],
    [
      'a message with an id',
      head((bytes) => bytes.writeUInt32LE(7, 8)),
      'malformed frame: id 7 with flags 0',
    ],
    ['a query without an id', frame(6, QUERY, 0, {}), 'malformed frame: id 0 with flags 1'],
    ['too many descriptors', note('x', 254), 'malformed frame: 254 descriptors'],
    ["more than the type's descriptors", note('x', 5), 'malformed note: 5 descriptors, over 4'],
    [
      'an open query again',
      Buffer.concat([frame(6, QUERY, 9, {}), frame(6, QUERY, 9, {})]),
      'malformed silence: query 9 is open, or too many are',
    ],
    [
      'a wrong field',
      frame(5, PLAIN, 0, { text: 1 }),
      'malformed field note.text: expected text of at most 100 characters, got number',
    ],
    [
      'a field too many',
      frame(5, PLAIN, 0, { text: '', more: 1 }),
      'malformed field note.more: not declared',
    ],
    ['no record', frame(5, PLAIN, 0, [1]), 'malformed field note: expected record, got list'],
    ['a reply that nobody asked for', frame(2, REPLY, 1, {}), 'unexpected reply 1: no such query is open'],
  ];
  for (const [name, bytes, expected] of cases)
    test(name, async () => assert.equal(await attack(bytes), `channel enemy: ${expected}`));

  test('every bit of a header flipped ends the channel', async () => {
    for (let bit = 0; bit < HEADER_BYTES * 8; bit++) {
      const { raw, ended, channel } = victim();
      const bytes = note();
      bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      fs.writeSync(raw.stream, bytes);
      fs.closeSync(raw.stream);
      await assert.rejects(ended, (error) => /^channel enemy: /.test(textOf(error)), `bit ${bit}`);
      assert.ok(channel.closed);
      fs.closeSync(raw.descriptors);
    }
  });

  test('a stream that ends in the middle of a frame', async () => {
    const bytes = note('a longer text');
    for (let end = 1; end < bytes.length; end++) {
      const { raw, ended } = victim();
      fs.writeSync(raw.stream, bytes.subarray(0, end));
      closeAll([raw.stream, raw.descriptors]);
      await assert.rejects(ended, (error) => /ended in the middle/.test(textOf(error)), `${end} bytes`);
    }
  });

  test('one byte at a time is slow, and in order', async () => {
    const { raw, ended, notes, channel } = victim();
    for (const byte of Buffer.concat([note('first'), note(''), note('third')])) {
      fs.writeSync(raw.stream, Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    closeAll([raw.stream, raw.descriptors]);
    await ended;
    assert.deepEqual(notes, ['first', '', 'third']);
    assert.ok(channel.closed);
  });
});

describe('malformed descriptors', () => {
  test('a marked descriptor that is missing', async () => {
    assert.equal(await attack(note('x', 1)), 'channel enemy: malformed descriptors: 1 are missing');
  });

  test('fewer, and more, than the frame counts', async () => {
    const fewer = await attack(note('x', 2), ({ descriptors }) => sendBatch(descriptors, 0, [0]));
    assert.equal(fewer, 'channel enemy: malformed descriptors: 1 of 2');
    const more = await attack(note('x', 2), ({ descriptors }) => sendBatch(descriptors, 0, [0, 0, 0]));
    assert.equal(more, 'channel enemy: receive descriptors: 3 came, 2 are allowed');
  });

  test('extra ones that no frame counts', async () => {
    const text = await attack(note('x'), ({ descriptors }) => sendBatch(descriptors, 0, [0, 0]));
    assert.equal(text, 'channel enemy: malformed descriptors: some came that no frame counts');
  });

  test('those of another frame', async () => {
    const text = await attack(note('x', 1), ({ descriptors }) => sendBatch(descriptors, 3, [0]));
    assert.equal(text, 'channel enemy: malformed descriptors: they belong to another frame');
  });

  test('a batch that is no batch', async () => {
    const short = await attack(note('x', 1), ({ descriptors }) =>
      sendDescriptors(descriptors, [0], Buffer.alloc(1)),
    );
    assert.equal(short, 'channel enemy: malformed descriptors: a batch of 1 bytes');
    const unclaimed = await attack(note('x'), ({ descriptors }) =>
      sendDescriptors(descriptors, [], Buffer.alloc(9)),
    );
    assert.equal(unclaimed, 'channel enemy: malformed descriptors: some came that no frame counts');
  });

  test('descriptors of a payload that is refused are closed', async () => {
    const text = await attack(frame(5, PLAIN, 0, { text: 1 }, 3), ({ descriptors }) =>
      sendBatch(descriptors, 0, [0, 0, 0]),
    );
    assert.match(text, /^channel enemy: malformed field note\.text/);
  });

  test('descriptors that are ahead of their frame are no fault', async () => {
    const { raw, ended, notes } = victim();
    sendBatch(raw.descriptors, 1, [0, 0]);
    fs.writeSync(raw.stream, note('first'));
    await new Promise((resolve) => setImmediate(resolve));
    fs.writeSync(raw.stream, note('second', 2));
    closeAll([raw.stream, raw.descriptors]);
    await ended;
    assert.deepEqual(notes, ['first', 'second']);
  });

  test('a full descriptor table ends the channel by name, without a leak', async () => {
    const other = startOther('poor');
    const ended = other.channel.dispatch();
    assert.equal(await other.line(), 'ready');
    const data = Buffer.alloc(0);
    for (let n = 0; n < 5; n++) {
      const { fds } = await other.channel.query(types.ECHO, { n, data }, types.ECHOED, { fds: [0, 0, 0] });
      closeAll(fds);
    }
    const query = other.channel.query(types.ECHO, { n: 1, data }, types.ECHOED, { fds: [0, 0, 0, 0] });
    await assert.rejects(query, /query echo of peer poor/);
    assert.equal(await other.line(), 'channel test: receive descriptors: descriptor table is full');
    await ended;
    await other.end();
  });
});

describe('replies', () => {
  /** A query of ours, as the bare end sees it. */
  function asked(timeoutMs?: number): ReturnType<typeof victim> & { query: Promise<unknown> } {
    const all = victim();
    const options = timeoutMs === undefined ? {} : { timeoutMs };
    return { ...all, query: all.channel.query(types.SILENCE, {}, types.ECHOED, options) };
  }
  const echoed = (id: number, descriptors = 0): Buffer =>
    frame(types.ECHOED.number, REPLY, id, { n: 1, data: Buffer.alloc(0) }, descriptors);

  test('a second reply to the same query', async () => {
    const { raw, ended, query } = asked();
    fs.writeSync(raw.stream, Buffer.concat([echoed(1), echoed(1)]));
    await query;
    await assert.rejects(ended, (error) => /unexpected reply 1: no such query is open$/.test(textOf(error)));
    closeAll([raw.stream, raw.descriptors]);
  });

  test('a reply of another type than was asked for', async () => {
    const { raw, ended, query } = asked();
    fs.writeSync(raw.stream, frame(types.COUNTED.number, REPLY, 1, { descriptors: 1 }));
    await assert.rejects(query, /query silence of enemy/);
    await assert.rejects(ended, (error) => /unexpected reply echoed: it is of type 4$/.test(textOf(error)));
    closeAll([raw.stream, raw.descriptors]);
  });

  test('a late reply is dropped, with its descriptors; a second one is not', async () => {
    const open = openDescriptors();
    const { raw, ended, query, channel } = asked(1);
    await assert.rejects(query, (error) => /no answer within 1 ms$/.test(textOf(error)));
    sendBatch(raw.descriptors, 0, [0, 0]);
    fs.writeSync(raw.stream, echoed(1, 2));
    const next = channel.query(types.SILENCE, {}, types.ECHOED);
    fs.writeSync(raw.stream, echoed(2));
    await next;
    // the two ends, and nothing of the late reply
    assert.equal(openDescriptors(), open + 4);
    fs.writeSync(raw.stream, echoed(1));
    await assert.rejects(ended, (error) => /unexpected reply 1/.test(textOf(error)));
    closeAll([raw.stream, raw.descriptors]);
  });

  test('a peer that owes too many late replies has its channel closed', async () => {
    const { raw, ended, channel } = victim();
    const queries = Array.from({ length: LATE_MAX + 1 }, () =>
      channel.query(types.SILENCE, {}, types.ECHOED, { timeoutMs: 1 }),
    );
    const settled = await Promise.allSettled(queries);
    assert.ok(settled.every((one) => one.status === 'rejected'));
    await assert.rejects(ended, (error) => /were not answered in time$/.test(textOf(error)));
    closeAll([raw.stream, raw.descriptors]);
  });

  test('an error that is malformed', async () => {
    const { raw, ended, query } = asked();
    fs.writeSync(raw.stream, frame(0, REPLY, 1, { kind: 'x'.repeat(100), text: '' }));
    await assert.rejects(query);
    await assert.rejects(ended, (error) => /malformed field error\.kind/.test(textOf(error)));
    closeAll([raw.stream, raw.descriptors]);
  });

  test('an error of an unknown kind has simply failed', async () => {
    const { raw, ended, query } = asked();
    fs.writeSync(raw.stream, frame(0, REPLY, 1, { kind: '__proto__', text: 'no' }));
    await assert.rejects(query, { kind: 'failed', message: 'no' });
    closeAll([raw.stream, raw.descriptors]);
    await ended;
  });
});
