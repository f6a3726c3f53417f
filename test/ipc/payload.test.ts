/** Payloads: what is encoded comes back; whatever else comes is refused before it is decoded. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pack } from 'msgpackr';
import { Failure } from '../../src/error.ts';
import { decode, encode, encodeLong, isPlain } from '../../src/ipc/payload.ts';

const SAMPLES: readonly unknown[] = [
  {},
  { a: 1, b: -1, c: 'text', d: null, e: true, f: [1, 2, [3]] },
  { big: 2 ** 40, negative: -(2 ** 40), real: 1.5, largest: Number.MAX_SAFE_INTEGER },
  { data: Buffer.alloc(70_000, 7), long: 'x'.repeat(70_000), list: Array.from({ length: 70_000 }, () => 1) },
  { nested: { nested: { nested: { nested: {} } } }, bigint: 2n ** 63n },
  Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`key${i}`, i])),
];

/** A small generator (xorshift), so that each run is the same. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

describe('payload', () => {
  test('what is encoded is decoded, behind room for the header', () => {
    for (const sample of SAMPLES) {
      const frame = encode(sample, 16);
      assert.ok(isPlain(frame.subarray(16)));
      assert.deepEqual(decode(frame.subarray(16)), sample);
    }
  });

  test('later encodings leave earlier ones alone', () => {
    const frames = Array.from({ length: 5000 }, (_, i) => encode({ i, data: Buffer.alloc(i % 100, i) }, 16));
    frames.forEach((frame, i) => {
      assert.deepEqual(decode(frame.subarray(16)), { i, data: Buffer.alloc(i % 100, i) });
    });
  });

  test('what is long is encoded to memory of its own, of its size, and what comes after it elsewhere', () => {
    const data = Buffer.alloc(1 << 20, 7);
    const samples = [{ data }, { list: [{ data, name: 'one' }, { data: undefined }, { data }] }];
    for (const sample of samples) {
      const before = encode({ before: 1 }, 16);
      const frame = encodeLong(sample, 16);
      assert.ok(frame !== undefined);
      const after = encode({ after: 1 }, 16);
      assert.notEqual(frame.buffer, before.buffer);
      assert.notEqual(frame.buffer, after.buffer);
      assert.ok(frame.buffer.byteLength <= frame.length + 4096, `${frame.buffer.byteLength}`);
      assert.deepEqual(frame.subarray(16), encode(sample, 16).subarray(16));
      assert.deepEqual(decode(before.subarray(16)), { before: 1 });
      assert.deepEqual(decode(after.subarray(16)), { after: 1 });
    }
    assert.equal(encodeLong({ data: data.subarray(0, 100_000), text: 'x'.repeat(200_000) }, 16), undefined);
  });

  test('every truncation, and anything behind, is refused', () => {
    for (const sample of SAMPLES) {
      const body = encode(sample, 0);
      const step = Math.max(1, Math.floor(body.length / 500));
      for (let end = 0; end < body.length; end += step) assert.equal(isPlain(body.subarray(0, end)), false);
      assert.equal(isPlain(Buffer.concat([body, Buffer.from([0])])), false);
      assert.throws(() => decode(body.subarray(0, body.length - 1)), Failure);
    }
  });

  test('extensions, deep nesting and counts without bytes are refused', () => {
    const refused = [
      pack(new Date(0)),
      Buffer.from([0xc1]),
      Buffer.from([0xd4, 0x72, 0x40, 0x90]),
      Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]),
      Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff]),
      Buffer.from([0xc6, 0xff, 0xff, 0xff, 0xff, 0]),
      Buffer.from([0xdb, 0x7f, 0xff, 0xff, 0xff, 0]),
      Buffer.concat([Buffer.alloc(100_000, 0x91), Buffer.from([0])]),
    ];
    for (const body of refused) {
      assert.equal(isPlain(body), false, body.subarray(0, 8).toString('hex'));
      assert.throws(() => decode(body), Failure);
    }
  });

  test('random and damaged bytes never make the decoder do anything but decode or refuse', () => {
    const random = generator(0x1234567);
    const sample = encode(SAMPLES[1], 0);
    let plain = 0;
    for (let i = 0; i < 50_000; i++) {
      const body =
        i % 2 === 0
          ? Buffer.from(Array.from({ length: random() % 24 }, () => random() & 0xff))
          : Buffer.from(sample);
      if (i % 2 === 1) body[random() % body.length] = random() & 0xff;
      if (!isPlain(body)) continue;
      plain++;
      try {
        decode(body);
      } catch (error) {
        assert.ok(error instanceof Failure);
        assert.deepEqual(decode(sample), SAMPLES[1]);
      }
    }
    assert.ok(plain > 1000, `${plain} were plain`);
  });
});
