/** Rows of a list of snapshots: what is decoded is what was encoded, and nothing else is. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { Failure } from '../../src/error.ts';
import { decodeRows, encodeRow, type Listed, type Row } from '../../src/messages/rows.ts';
import { snapshotName } from '../../src/repository/snapshot.ts';

function listed(source: string, tags: string[]): Listed {
  const paths = [Buffer.from('/home'), Buffer.from([0x2f, 0xff, 0x0a])];
  return { id: randomBytes(16), time: 1.5e12, counts: { bytes: 2 ** 40 }, paths, source, tags };
}

function decode(bytes: Buffer): Row[] {
  const rows: Row[] = [];
  decodeRows(bytes, (row) => rows.push(row));
  return rows;
}

describe('rows of snapshots', () => {
  const given = [listed('home', []), listed('home', []), listed('', ['a', 'b']), listed('home', [])];
  const encoded = Buffer.concat(given.map(encodeRow));

  test('come back as they were, in order', () => {
    const rows = decode(encoded);
    assert.deepEqual(
      rows,
      given.map(({ id, time, counts, paths, source, tags }) => ({
        name: snapshotName(id),
        timeMs: time,
        bytes: counts.bytes,
        labels: { paths, source, tags },
      })),
    );
    assert.equal(rows[0]?.labels, rows[3]?.labels);
    assert.deepEqual(decode(Buffer.alloc(0)), []);
  });

  test('that are cut short or altered are refused, or are rows', () => {
    const one = encodeRow(listed('home', ['tag']));
    for (let end = 1; end < one.length; end++) assert.throws(() => decode(one.subarray(0, end)), Failure);
    for (let bit = 0; bit < 8 * one.length; bit++) {
      const altered = Buffer.from(one);
      altered[bit >> 3] = (altered[bit >> 3] as number) ^ (1 << (bit & 7));
      try {
        assert.equal(decode(altered).length, 1);
      } catch (error) {
        assert.ok(error instanceof Failure, `bit ${bit}: ${error}`);
      }
    }
  });
});
