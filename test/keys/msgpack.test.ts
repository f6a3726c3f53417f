import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { bytes, integer, list, real, record, text } from '../../src/ipc/shape.ts';
import { decodeMsgpack, encodeMsgpack } from '../../src/keys/msgpack.ts';

const shape = record({
  a: list(integer(), 100_000),
  b: bytes(100_000),
  c: text(100_000),
  d: real,
  e: integer(-(2 ** 40)),
});

describe('msgpack of objects', () => {
  test('round trip at every width of length', () => {
    for (const n of [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536]) {
      const value = {
        a: new Array<number>(n).fill(2 ** 41),
        b: randomBytes(n),
        c: 'ä'.repeat(n),
        d: n + 0.25,
        e: -(2 ** 33),
      };
      assert.deepEqual(decodeMsgpack(encodeMsgpack(value), shape, 'x'), value);
    }
  });

  test('every truncation and trailing byte is refused', () => {
    const whole = encodeMsgpack({ a: [1, 300, 70_000], b: Buffer.from('bb'), c: 'c', d: 1.5, e: -1 });
    for (let length = 0; length < whole.length; length++)
      assert.throws(() => decodeMsgpack(whole.subarray(0, length), shape, 'x'), { kind: 'damaged' });
    assert.throws(() => decodeMsgpack(Buffer.concat([whole, Buffer.of(0xc0)]), shape, 'x'), {
      kind: 'damaged',
    });
  });

  test('hostile bytes give a failure and nothing else', () => {
    const hostile = [
      Buffer.from('dfffffffff', 'hex'), // a map of 2^32-1
      Buffer.from('ddffffffff', 'hex'), // a list of 2^32-1
      Buffer.from('c6ffffffff00', 'hex'), // a binary of 4 GiB
      Buffer.alloc(100_000, 0x91), // lists in lists
      Buffer.from('d47240', 'hex'), // msgpackr's record extension
      Buffer.from('c70a7200000000000000000000', 'hex'),
      Buffer.from('d6ff00000000', 'hex'), // a date
      Buffer.from('c1', 'hex'),
    ];
    for (const one of hostile)
      assert.throws(() => decodeMsgpack(one, shape, 'x'), { name: 'Failure', kind: 'damaged' });
    for (let i = 0; i < 20_000; i++) {
      const noise = randomBytes(1 + (i % 40));
      assert.throws(() => decodeMsgpack(noise, shape, 'x'), { name: 'Failure', kind: 'damaged' });
    }
  });
});
