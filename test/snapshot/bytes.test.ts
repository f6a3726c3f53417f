import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Bytes } from '../../src/snapshot/bytes.ts';

describe('Bytes', () => {
  test('every kind of write survives growing', () => {
    for (let lead = 0; lead < 40; lead++) {
      const out = new Bytes(4);
      for (let i = 0; i < lead; i++) out.u8(7);
      out.u16(0x1234);
      out.u32(0xfedcba98);
      out.i64(-2);
      out.bytes(Buffer.from('abc'));
      const expected = `${'07'.repeat(lead)}341298badcfefeffffffffffffff616263`;
      assert.equal(out.since(0).toString('hex'), expected);
    }
  });
});
