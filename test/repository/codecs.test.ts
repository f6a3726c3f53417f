/** Footers, index objects, the configuration object and snapshot headers: encoder against decoder. */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { describe, test } from 'node:test';
import { decodeConfig, encodeConfig, newConfig } from '../../src/repository/config.ts';
import {
  CONFIG_MAX_BYTES,
  LISTING_MAX_BYTES,
  SEGMENT_SEALED_MIN_BYTES,
  SNAPSHOT_MAX_BYTES,
} from '../../src/repository/constants.ts';
import {
  decodeIndex,
  encodeIndex,
  frameIndex,
  groupForIndex,
  indexedPackBytes,
  type PackRecord,
  unframeIndex,
} from '../../src/repository/index.ts';
import type { SegmentRecord } from '../../src/repository/listing.ts';
import { decodeFooter, encodeFooter, encodeTrailer, footerRange } from '../../src/repository/pack.ts';
import { isUnreadable } from '../../src/repository/problem.ts';
import {
  decodeSnapshot,
  encodeSnapshot,
  frameSnapshot,
  type SnapshotHeader,
  snapshotId,
  snapshotName,
  unframeSnapshot,
} from '../../src/repository/snapshot.ts';

const damaged = { name: 'Failure', kind: 'damaged' };
const name = 'ab'.repeat(16);

/** Every truncation fails as damage; every flipped bit fails so or decodes to something else. */
function assertHardy(good: Buffer, decode: (bytes: Buffer) => unknown, everyBitFails = false): void {
  const value = decode(good);
  for (let length = 0; length < good.length; length++)
    assert.throws(() => decode(good.subarray(0, length)), damaged);
  assert.throws(() => decode(Buffer.concat([good, Buffer.alloc(1)])), damaged);
  for (let bit = 0; bit < good.length * 8; bit++) {
    const flipped = Buffer.from(good);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    try {
      assert.notDeepEqual(decode(flipped), value);
      assert.equal(everyBitFails, false);
    } catch (error) {
      assert.ok(isUnreadable(error), `${error}`);
    }
  }
}

function randomSegments(count: number, idBytes: number): { segments: SegmentRecord[]; end: number } {
  let end = 16;
  const segments = Array.from({ length: count }, () => {
    const offset = end;
    const sealedLength = randomInt(SEGMENT_SEALED_MIN_BYTES, 5000);
    end += sealedLength;
    const chunks = randomInt(1, 6);
    const kind = randomInt(1, 3) as 1 | 2;
    return {
      offset,
      sealedLength,
      kind,
      keyEpoch: randomInt(1, 9),
      count: chunks,
      ids: randomBytes(chunks * idBytes),
    };
  });
  return { segments, end };
}

describe('pack footers', () => {
  test('round trip', () => {
    for (const count of [1, 2, 50]) {
      const { segments, end } = randomSegments(count, 32);
      assert.deepEqual(decodeFooter(encodeFooter(segments), name, end), segments);
    }
  });

  test('hardy against every truncation and flipped bit', () => {
    const { segments, end } = randomSegments(3, 32);
    assertHardy(encodeFooter(segments), (bytes) => decodeFooter(bytes, name, end));
  });

  test('segments must cover the pack without a gap', () => {
    const { segments, end } = randomSegments(3, 32);
    const plaintext = encodeFooter(segments);
    for (const other of [end - 1, end + 1, 0])
      assert.throws(() => decodeFooter(plaintext, name, other), damaged);
    const gap = segments.map((segment, i) => ({ ...segment, offset: segment.offset + (i === 2 ? 1 : 0) }));
    assert.throws(() => decodeFooter(encodeFooter(gap), name, end + 1), damaged);
    assert.throws(() => decodeFooter(encodeFooter([]), name, 16), damaged);
  });

  test('the trailer leads to the footer, or to damage', () => {
    const trailer = encodeTrailer(1000);
    assert.deepEqual(footerRange(trailer, 5000, name), { offset: 3988, length: 1000 });
    for (const packBytes of [0, 12, 1011, 1028, 81 << 20])
      assert.throws(() => footerRange(trailer, packBytes, name), damaged);
    assert.throws(() => footerRange(encodeTrailer(0xffff_ffff), 5000, name), damaged);
    for (let at = 4; at < 12; at++) {
      const flipped = Buffer.from(trailer);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      assert.throws(() => footerRange(flipped, 5000, name), damaged);
    }
  });
});

describe('index objects', () => {
  const randomPack = (): PackRecord => {
    const { segments, end } = randomSegments(randomInt(1, 5), 16);
    return { name: randomBytes(16).toString('hex'), packBytes: end + randomInt(1000), segments };
  };

  test('round trip', () => {
    for (const count of [1, 2, 30]) {
      const packs = Array.from({ length: count }, randomPack);
      assert.deepEqual(decodeIndex(encodeIndex(packs), name), packs);
    }
  });

  test('whole ids are cut to their beginnings', () => {
    const { segments, end } = randomSegments(2, 32);
    const [decoded] = decodeIndex(encodeIndex([{ name, packBytes: end, segments }]), name);
    for (const [i, { ids, count }] of (decoded?.segments ?? []).entries())
      for (let chunk = 0; chunk < count; chunk++)
        assert.deepEqual(
          ids.subarray(chunk * 16, chunk * 16 + 16),
          segments[i]?.ids.subarray(chunk * 32, chunk * 32 + 16),
        );
  });

  test('hardy against every truncation and flipped bit', () => {
    assertHardy(encodeIndex([randomPack(), randomPack()]), (bytes) => decodeIndex(bytes, name));
  });

  test('segments must lie apart, inside their pack', () => {
    const pack = randomPack();
    const { segments, end } = randomSegments(2, 16);
    assert.throws(() => decodeIndex(encodeIndex([{ ...pack, segments, packBytes: end - 1 }]), name), damaged);
    const overlapping = segments.map((segment) => ({ ...segment, offset: 16 }));
    assert.throws(() => decodeIndex(encodeIndex([{ ...pack, segments: overlapping }]), name), damaged);
  });

  test('many packs are split into objects that fit', () => {
    const { segments } = randomSegments(1, 16);
    const [first] = segments;
    assert.ok(first);
    const large = { ...first, count: 8192, ids: Buffer.alloc(8192 * 16) };
    const packs = Array.from({ length: 100 }, () => ({ name, packBytes: 1 << 20, segments: [large] }));
    const groups = groupForIndex(packs);
    assert.equal(groups.flat().length, 100);
    assert.ok(groups.length > 1);
    for (const group of groups) assert.ok(encodeIndex(group).length <= LISTING_MAX_BYTES);
    assert.equal(indexedPackBytes(packs[0] as PackRecord), 24 + 20 + 8192 * 16);
    assert.throws(() => encodeIndex(packs), { name: 'Failure' });
    assert.deepEqual(groupForIndex([]), []);
  });

  test('the frame is checked', () => {
    const object = Buffer.concat(frameIndex(Buffer.from('sealed')));
    assert.equal(unframeIndex(object, name).toString(), 'sealed');
    for (let at = 0; at < 16; at++) {
      const flipped = Buffer.from(object);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      // the last four bytes are the epoch: what is sealed does not open under another
      if (at >= 12 && at < 16) assert.equal(unframeIndex(flipped, name).toString(), 'sealed');
      else assert.throws(() => unframeIndex(flipped, name), isUnreadable);
    }
    const newest = Buffer.alloc(16, 0xff);
    object.copy(newest, 0, 0, 12);
    assert.throws(() => unframeIndex(newest, name), damaged);
  });
});

describe('the configuration object', () => {
  const config = newConfig(randomBytes(16), 1_600_000_000_000, true);

  test('round trip, and nothing else passes', () => {
    const object = encodeConfig(config);
    assert.deepEqual(decodeConfig(object), config);
    assertHardy(object, decodeConfig, true);
    assert.throws(() => decodeConfig(Buffer.concat([object, Buffer.alloc(CONFIG_MAX_BYTES)])), damaged);
  });

  test('values outside the format are refused', () => {
    const chunk = { ...config.chunk, max: (4 << 20) + 1 };
    for (const bad of [
      { ...config, chunk },
      { ...config, splitter: 'rabin' as 'fastcdc1' },
      { ...config, pack: 0 },
      { ...config, more: 1 },
    ])
      assert.throws(() => decodeConfig(encodeConfig(bad)), damaged);
  });
});

describe('snapshot headers', () => {
  const header: SnapshotHeader = {
    counts: {
      addedBytes: 1,
      bytes: 2 ** 45,
      changed: 2,
      directories: 3,
      files: 4,
      inconsistent: 5,
      new: 6,
      others: 7,
      storedBytes: 8,
      unchanged: 9,
      unreadable: 10,
    },
    end: 1_600_000_001_000,
    errors: [{ path: Buffer.from([0xff, 0x0a]), text: 'permission denied' }],
    host: 'example',
    id: randomBytes(16),
    parent: randomBytes(16),
    paths: [Buffer.from('/home'), Buffer.from([0x2f, 0xff])],
    program: 'plakard 0.1.0',
    root: { id: randomBytes(32), length: 77 },
    source: 'home',
    tags: ['ä', ''],
    time: 1_600_000_000_000,
    user: 'root',
    version: 1,
  };
  const uuid = snapshotName(header.id);

  test('round trip, with and without a parent', () => {
    assert.deepEqual(decodeSnapshot(encodeSnapshot(header), uuid), header);
    const { parent: _, ...orphan } = header;
    assert.deepEqual(decodeSnapshot(encodeSnapshot(orphan as SnapshotHeader), uuid), orphan);
  });

  test('the encoding does not depend on the order of fields', () => {
    const turned = Object.fromEntries(Object.entries(header).reverse()) as SnapshotHeader;
    assert.deepEqual(encodeSnapshot(turned), encodeSnapshot(header));
  });

  test('hardy against every truncation and flipped bit', () => {
    assertHardy(encodeSnapshot(header), (bytes) => decodeSnapshot(bytes, uuid));
  });

  test('a header under another name is damage', () => {
    assert.throws(() => decodeSnapshot(encodeSnapshot(header), snapshotName(randomBytes(16))), damaged);
  });

  test('errors are left out until the rest fits; paths never are', () => {
    const errors = Array.from({ length: 300 }, () => ({ path: Buffer.alloc(4000, 'p'), text: 'x' }));
    const plaintext = encodeSnapshot({ ...header, errors });
    assert.ok(plaintext.length <= SNAPSHOT_MAX_BYTES);
    const kept = decodeSnapshot(plaintext, uuid).errors.length;
    assert.ok(kept > 5 && kept <= 100, `${kept}`);
    const paths = Array.from({ length: 20 }, () => Buffer.alloc(4000, 'p'));
    assert.throws(() => encodeSnapshot({ ...header, paths }), { name: 'Failure', kind: 'failed' });
  });

  test('a header that no reader would take is not written', () => {
    assert.throws(() => encodeSnapshot({ ...header, root: { id: Buffer.alloc(31), length: 1 } }), {
      name: 'Failure',
    });
    assert.throws(() => encodeSnapshot({ ...header, version: 2 }), { name: 'Failure' });
  });

  test('names and ids are each other', () => {
    assert.match(uuid, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    assert.deepEqual(snapshotId(uuid), header.id);
  });

  test('the frame is checked', () => {
    const object = frameSnapshot(Buffer.from('sealed'));
    assert.equal(unframeSnapshot(object, uuid).toString(), 'sealed');
    assert.throws(() => unframeSnapshot(object.subarray(1), uuid), damaged);
    assert.throws(() => unframeSnapshot(object.subarray(0, 15), uuid), damaged);
  });
});
