/** Memory that is given back: all of what is long, and nothing that others may be in. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RELEASED_MIN_BYTES, release } from '../../src/sys/release.ts';

describe('release', () => {
  test('a long buffer is gone, with every view of it, and goes a second time', () => {
    const buffer = Buffer.alloc(1 << 20, 1);
    const view = buffer.subarray(100);
    release(view);
    assert.equal(buffer.length, 0);
    assert.equal(view.length, 0);
    release(view);
  });

  test('its memory is free before anything is collected', () => {
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 32; i++) release(Buffer.alloc(1 << 20, i));
    assert.ok(process.memoryUsage().arrayBuffers - before < 4 << 20);
  });

  test('a short one stays, and one beside which something else may be', () => {
    for (const buffer of [
      Buffer.alloc(RELEASED_MIN_BYTES - 1),
      Buffer.alloc(1 << 20).subarray(0, RELEASED_MIN_BYTES),
      Buffer.from(new SharedArrayBuffer(1 << 20)),
    ]) {
      const { length } = buffer;
      release(buffer);
      assert.equal(buffer.length, length);
    }
  });
});
