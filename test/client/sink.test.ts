/** Buffered output: order, short writes, descriptors that do not block, readers that leave. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReaderGone, Sink, type Write } from '../../src/client/sink.ts';
import { describe as textOf } from '../../src/error.ts';

function errno(code: string, text: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${text}, write`), { code, syscall: 'write' });
}

/** A descriptor that takes `most` bytes a call, and fails as `fail` says. */
function taking(most: number, fail: (call: number) => NodeJS.ErrnoException | undefined = () => undefined) {
  const parts: Buffer[] = [];
  let calls = 0;
  const write: Write = (_fd, buffer, offset, length, _position, callback) => {
    const error = fail(++calls);
    const taken = Math.min(most, length);
    if (error === undefined) parts.push(Buffer.from(buffer.subarray(offset, offset + taken)));
    setImmediate(() => callback(error ?? null, error === undefined ? taken : 0));
  };
  return { write, written: () => Buffer.concat(parts), calls: () => calls };
}

test('text and bytes leave in their order, whatever a write takes', async () => {
  const to = taking(7);
  const sink = new Sink(1, 'x', to.write);
  sink.write('grüße ');
  sink.write(Buffer.from([1, 2, 255]));
  sink.write('');
  sink.write('end\n');
  await sink.flush();
  assert.deepEqual(
    to.written(),
    Buffer.concat([Buffer.from('grüße '), Buffer.of(1, 2, 255), Buffer.from('end\n')]),
  );
});

test('many small writes become few large ones', async () => {
  const to = taking(1 << 20);
  const sink = new Sink(1, 'x', to.write);
  for (let i = 0; i < 10_000; i++) sink.write('0123456789\n');
  await sink.flush();
  assert.equal(to.written().length, 110_000);
  assert.ok(to.calls() <= 3, `${to.calls()} writes`);
});

test('lines that are written where they go keep their order among others, and fit or are refused', async () => {
  const to = taking(1 << 20);
  const sink = new Sink(1, 'x', to.write);
  const make = (text: string, room: Buffer, at: number): number =>
    text.length > room.length - at ? -1 : at + room.write(text, at, 'latin1');
  let expected = '';
  for (let i = 0; i < 3000; i++) {
    const text = `${i} ${'x'.repeat((i * 37) % 500)}`;
    if (i % 7 === 0) sink.write(`${text}\n`);
    else assert.equal(sink.put(make, text), true);
    expected += `${text}\n`;
  }
  // all of the room, and none for the end of the line
  const all = (_: string, room: Buffer): number => room.length;
  assert.equal(sink.put(all, ''), false);
  assert.equal(sink.put(make, 'x'.repeat(1 << 20)), false);
  assert.equal(sink.put(make, 'end'), true);
  await sink.flush();
  assert.equal(to.written().toString('latin1'), `${expected}end\n`);
});

test('a producer that waits holds little', async () => {
  const to = taking(1 << 20);
  const sink = new Sink(1, 'x', to.write);
  for (let i = 0; i < 64; i++) {
    sink.write(Buffer.alloc(1 << 20, i));
    await sink.drained();
    assert.equal(sink.full, false);
  }
  await sink.flush();
  assert.equal(to.written().length, 64 << 20);
});

test('a descriptor that does not block is tried again', async () => {
  const to = taking(4, (call) =>
    call % 2 === 1 ? errno('EAGAIN', 'resource temporarily unavailable') : undefined,
  );
  const sink = new Sink(1, 'x', to.write);
  sink.write('0123456789');
  await sink.flush();
  assert.equal(String(to.written()), '0123456789');
});

test('a reader that left is told apart from a full disk', async () => {
  const gone = new Sink(1, 'x', taking(4, () => errno('EPIPE', 'broken pipe')).write);
  gone.write('x');
  await assert.rejects(gone.flush(), ReaderGone);
  gone.write('more');
  await assert.rejects(gone.drained(), ReaderGone);
  const full = new Sink(
    1,
    'standard output',
    taking(4, () => errno('ENOSPC', 'no space left on device')).write,
  );
  full.write('x');
  await assert.rejects(full.flush(), (error) => {
    assert.equal(textOf(error), 'write standard output: no space left on device');
    return !(error instanceof ReaderGone);
  });
});
