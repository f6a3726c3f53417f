/**
 * Channels with a real second process: queries of all endings, both ways,
 * back-pressure, and nothing left open on either side.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Failure, describe as textOf } from '../../src/error.ts';
import { Channel, type ChannelOptions, channelPair } from '../../src/ipc/channel.ts';
import { pooledStream } from '../../src/ipc/stream.ts';
import { closeAll, socketpair } from '../../src/sys/socket.ts';
import { type Other, startOther } from './other.ts';
import * as types from './types.ts';

const openDescriptors = (): number => fs.readdirSync('/proc/self/fd').length;
const EMPTY = Buffer.alloc(0);

/** Both ends of a channel in this process. */
function pair(queueMaxBytes?: number, more: Partial<ChannelOptions> = {}): [Channel, Channel] {
  const [a, b] = channelPair();
  const options = queueMaxBytes === undefined ? more : { ...more, queueMaxBytes };
  return [new Channel(a, { ...options, name: 'far' }), new Channel(b, { ...options, name: 'near' })];
}

/** Who a channel's stream is read and written by; undefined is its default. */
const STREAMS = [
  ['net', {}],
  ['threads of the pool', { stream: pooledStream }],
] as const;

for (const [by, options] of STREAMS)
  describe(`with a process that answers, by ${by}`, () => {
    let other: Other;
    let channel: Channel;
    let ended: Promise<void>;

    before(() => {
      other = startOther('echo', options);
      channel = other.channel;
      channel.handler(types.ECHO, (message) => channel.reply(message, types.ECHOED, message.payload));
      ended = channel.dispatch();
    });
    after(async () => {
      await other.end();
      await ended;
    });

    const count = async (): Promise<number> =>
      (await channel.query(types.COUNT, {}, types.COUNTED)).payload.descriptors;

    test('payloads of every size come back', async () => {
      for (const size of [0, 1, 100, 4079, 4080, 4096, 65_519, 65_520, 65_536, 300_000, 1 << 20]) {
        const data = Buffer.alloc(size, size % 251);
        const { payload } = await channel.query(types.ECHO, { n: size, data }, types.ECHOED);
        assert.equal(payload.n, size);
        assert.ok(payload.data.equals(data));
      }
    });

    test('much more than a socket holds is queued, and keeps its order', async () => {
      const answers: number[] = [];
      const all = Array.from({ length: 400 }, async (_, n) => {
        const data = Buffer.alloc(n % 3 === 0 ? 16_000 : 10, n);
        const { payload } = await channel.query(types.ECHO, { n, data }, types.ECHOED);
        assert.ok(payload.data.equals(data));
        answers.push(payload.n);
      });
      await Promise.all(all);
      assert.deepEqual(
        answers,
        Array.from({ length: 400 }, (_, n) => n),
      );
    });

    test('queries cross both ways', async () => {
      const all = Array.from({ length: 500 }, async (_, n) => {
        const { payload } = await channel.query(types.CROSS, { n, data: EMPTY }, types.ECHOED);
        assert.equal(payload.n, n + 1);
      });
      await Promise.all(all);
    });

    test('the failure of a handler is the answer, and the channel lives', async () => {
      await assert.rejects(channel.query(types.BREAK, { text: 'as it must' }, types.ECHOED), {
        name: 'Failure',
        message: 'as it must',
      });
      assert.ok((await count()) > 0);
    });

    test('a query ends at its timeout, by a failure that names type and peer', async () => {
      const query = channel.query(types.SILENCE, {}, types.ECHOED, { timeoutMs: 5 });
      await assert.rejects(query, (error) => {
        assert.equal(textOf(error), 'query silence of peer echo: no answer within 5 ms');
        return true;
      });
      assert.ok((await count()) > 0);
    });

    test('descriptors arrive as the files they are, in their order', async () => {
      const [ours, theirs] = channelPair();
      const fds = [ours.stream, theirs.descriptors, ours.descriptors, theirs.stream];
      const inodes = fds.map((fd) => fs.fstatSync(fd).ino);
      const reply = await channel.query(types.ECHO, { n: 0, data: EMPTY }, types.ECHOED, {
        fds,
        given: true,
      });
      assert.deepEqual(
        reply.fds.map((fd) => fs.fstatSync(fd).ino),
        inodes,
      );
      closeAll(reply.fds);
    });

    test('253 descriptors go in one message, 254 do not', async () => {
      const fds = Array.from({ length: 253 }, () => 0);
      const reply = await channel.query(types.ECHO, { n: 0, data: EMPTY }, types.ECHOED, { fds });
      assert.equal(reply.fds.length, 253);
      closeAll(reply.fds);
      await assert.rejects(
        channel.query(types.ECHO, { n: 0, data: EMPTY }, types.ECHOED, { fds: [...fds, 0] }),
      );
    });

    test('10,000 messages with descriptors leave none open on either side', async () => {
      const ours = openDescriptors();
      const theirs = await count();
      const file = fs.openSync('/proc/self/exe', 'r');
      for (let done = 0; done < 10_000; done += 50) {
        const round = Array.from({ length: 50 }, async (_, n) => {
          const fds = n % 2 === 0 ? [file, file, file] : [file];
          const reply = await channel.query(types.ECHO, { n, data: EMPTY }, types.ECHOED, { fds });
          assert.equal(reply.fds.length, fds.length);
          closeAll(reply.fds);
        });
        await Promise.all(round);
      }
      fs.closeSync(file);
      assert.equal(await count(), theirs);
      assert.equal(openDescriptors(), ours);
    });
  });

describe('endings', () => {
  for (const [by, options] of STREAMS)
    test(`the death of the peer rejects what waits, and dispatch resolves, by ${by}`, async () => {
      const other = startOther('echo', options);
      const ended = other.channel.dispatch();
      await other.channel.query(types.COUNT, {}, types.COUNTED);
      const waiting = [
        other.channel.query(types.SILENCE, {}, types.ECHOED),
        other.channel.query(types.SILENCE, {}, types.ECHOED, { timeoutMs: 1_000_000 }),
      ];
      other.child.kill('SIGKILL');
      for (const query of waiting) await assert.rejects(query, /query silence of peer echo/);
      await ended;
      assert.ok(other.channel.closed);
      assert.throws(() => other.channel.message(types.NOTE, { text: '' }), /send note to peer echo/);
      await assert.rejects(other.channel.query(types.SILENCE, {}, types.ECHOED), Failure);
      await other.end();
    });

  test('closing sends what is queued', async () => {
    const [a, b] = pair();
    const notes: string[] = [];
    b.handler(types.NOTE, ({ payload }) => {
      notes.push(payload.text);
    });
    const ended = b.dispatch();
    for (let i = 0; i < 1000; i++) a.message(types.NOTE, { text: `note ${i}` });
    a.close();
    await ended;
    assert.equal(notes.length, 1000);
    assert.equal(notes[999], 'note 999');
    await a.dispatch();
  });

  test('closing rejects our queries, and a later answer harms nobody', async () => {
    const [a, b] = pair();
    const got = Promise.withResolvers<void>();
    let answer = (): void => {};
    b.handler(types.SILENCE, (message) => {
      answer = () => b.reply(message, types.NOTE, { text: 'late' }, [0]);
      got.resolve();
    });
    const [endedA, endedB] = [a.dispatch(), b.dispatch()];
    const query = a.query(types.SILENCE, {}, types.ECHOED);
    await got.promise;
    a.close();
    await assert.rejects(query, (error) => textOf(error) === 'query silence of far: the channel was closed');
    await Promise.all([endedA, endedB]);
    answer();
    assert.ok(b.closed);
  });

  test('a handler may close the channel that it is called by', async () => {
    const [a, b] = pair();
    let calls = 0;
    b.handler(types.NOTE, () => {
      calls++;
      b.close();
    });
    const [endedA, endedB] = [a.dispatch(), b.dispatch()];
    for (let i = 0; i < 5; i++) a.message(types.NOTE, { text: '' });
    await Promise.all([endedA, endedB]);
    assert.equal(calls, 1);
  });

  test('what a handler of a plain message throws ends the channel, by name', async () => {
    for (const handle of [
      () => {
        throw new Error('at once');
      },
      () => Promise.reject(new Error('at once')),
    ]) {
      const [a, b] = pair();
      b.handler(types.NOTE, handle);
      const [endedA, endedB] = [a.dispatch(), b.dispatch()];
      a.message(types.NOTE, { text: '' });
      await assert.rejects(endedB, (error) => textOf(error) === 'channel near: handle note: at once');
      await endedA;
    }
  });

  test('no channel leaves a descriptor behind', async () => {
    const before = openDescriptors();
    for (let i = 0; i < 100; i++) {
      const [a, b] = pair();
      const ended = [a.dispatch(), b.dispatch()];
      a.close();
      await Promise.all(ended);
    }
    assert.equal(openDescriptors(), before);
  });

  test('a stream that a thread waits for is closed when the thread is back, and says so', async () => {
    const before = openDescriptors();
    const [a, b] = socketpair('stream');
    const [one, other] = [pooledStream(a), pooledStream(b)];
    const heard: string[] = [];
    const closed = [one, other].map((stream) => once(stream, 'close'));
    one.on('data', () => heard.push('data'));
    one.on('end', () => heard.push('end'));
    // more than the kernel takes: a thread waits to write it
    other.write(Buffer.alloc(4 << 20), () => heard.push('written'));
    await once(one, 'data');
    one.pause();
    for (const stream of [one, other]) stream.destroy();
    await Promise.all(closed);
    assert.deepEqual(new Set(heard), new Set(['data']));
    assert.equal(openDescriptors(), before);
  });

  test('a stream whose peer has gone says that it ended, and that it cannot be written', async () => {
    const [a, b] = socketpair('stream');
    const stream = pooledStream(a);
    const [ended, failed] = [once(stream, 'end'), once(stream, 'error')];
    stream.on('data', () => undefined);
    fs.closeSync(b);
    await ended;
    stream.write(Buffer.alloc(10));
    await failed.catch((error: unknown) => assert.equal(error, undefined));
    const closed = once(stream, 'close');
    stream.destroy();
    await closed;
  });
});

describe('memory', () => {
  test('of a long message nothing is left once it is written, of a short one all that others may be in', async () => {
    const written: Buffer[] = [];
    let confirmed = 0;
    const stream: ChannelOptions['stream'] = (fd) => {
      const pooled = pooledStream(fd);
      const write = pooled.write.bind(pooled);
      pooled.write = (bytes, done) => {
        written.push(bytes);
        write(bytes, () => {
          done?.();
          confirmed++;
        });
      };
      return pooled;
    };
    const [a, b] = pair(undefined, { stream });
    const ended = [a.dispatch(), b.dispatch()];
    b.handler(types.ECHO, (message) => b.reply(message, types.ECHOED, message.payload));
    for (const size of [1 << 20, 1000]) {
      const data = Buffer.alloc(size, 1);
      const { payload } = await a.query(types.ECHO, { n: size, data }, types.ECHOED);
      assert.ok(payload.data.equals(data));
      assert.equal(data.length, size);
      // what b wrote may come to a before the thread that wrote it comes back
      while (confirmed < written.length) await new Promise(setImmediate);
    }
    assert.deepEqual(
      written.map(({ length }) => length > 0),
      [false, false, true, true],
    );
    a.close();
    await Promise.all(ended);
  });
});

describe('a peer that never reads', () => {
  test('the queue is bounded, and a producer that waits for room is held back', async () => {
    const other = startOther('deaf', { queueMaxBytes: 1 << 20 });
    const { channel } = other;
    await other.line();
    const data = Buffer.alloc(10_000);
    let sent = 0;
    while (channel.writable) {
      channel.message(types.ECHO, { n: sent++, data });
      assert.ok(sent < 10_000);
      if (sent % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    let drained = false;
    const drain = channel.drained().then(() => {
      drained = true;
    });
    let refused: unknown;
    for (let i = 0; i < 1000 && refused === undefined; i++) {
      try {
        channel.message(types.ECHO, { n: i, data });
      } catch (error) {
        refused = error;
      }
    }
    assert.ok(refused instanceof Failure);
    assert.equal(refused.kind, 'busy');
    assert.match(textOf(refused), /^send echo to peer deaf: queue: \d+ bytes are not read by the peer$/);
    assert.equal(drained, false);
    await other.end();
    await drain;
  });

  test('descriptors are held back too, and those given are closed when it dies', async () => {
    const before = openDescriptors();
    const other = startOther('deaf');
    await other.line();
    const fds = Array.from({ length: 4 }, () => 0);
    let refused: unknown;
    for (let i = 0; i < 20_000 && refused === undefined; i++) {
      try {
        const given = [fs.openSync('/proc/self/exe', 'r'), fs.openSync('/proc/self/exe', 'r')];
        other.channel.message(types.NOTE, { text: '' }, given, { given: true });
        other.channel.message(types.NOTE, { text: '' }, fds);
      } catch (error) {
        refused = error;
      }
    }
    assert.ok(refused instanceof Failure);
    assert.equal(refused.kind, 'busy');
    assert.equal(other.channel.writable, false);
    await other.end();
    other.child.stdout?.destroy();
    assert.ok(openDescriptors() <= before, `${before} before, ${openDescriptors()} after`);
  });

  for (const [by, options] of STREAMS)
    test(`when it reads again, everything comes, in its order, with its descriptors, by ${by}`, async () => {
      const [a, b] = pair(undefined, options);
      const file = fs.openSync('/proc/self/exe', 'r');
      const inode = fs.fstatSync(file).ino;
      let sent = 0;
      while (a.writable) a.message(types.NOTE, { text: String(sent++) }, sent % 3 === 0 ? [] : [file, file]);
      fs.closeSync(file);
      let got = 0;
      const all = Promise.withResolvers<void>();
      b.handler(types.NOTE, ({ payload, fds }) => {
        assert.equal(payload.text, String(got++));
        assert.equal(fds.length, got % 3 === 0 ? 0 : 2);
        for (const fd of fds) assert.equal(fs.fstatSync(fd).ino, inode);
        closeAll(fds);
        if (got === sent) all.resolve();
      });
      const [endedA, endedB] = [a.dispatch(), b.dispatch()];
      await Promise.race([all.promise, endedA, endedB]);
      assert.equal(got, sent);
      assert.ok(sent > 300, `${sent} were sent`);
      await a.drained();
      a.close();
      await Promise.all([endedA, endedB]);
    });

  test('one who asks and never reads the answers ends its own channel', async () => {
    const [a, b] = pair(1 << 20);
    const data = Buffer.alloc(10_000);
    b.handler(types.ECHO, (message) => b.reply(message, types.ECHOED, message.payload));
    const ended = b.dispatch();
    const asked = (async () => {
      for (let n = 0; n < 5000 && !b.closed; n++) {
        await a.drained();
        a.query(types.ECHO, { n, data }, types.ECHOED).catch(() => {});
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    await assert.rejects(ended, /channel near/);
    assert.ok(b.closed);
    a.close();
    await asked;
  });
});
