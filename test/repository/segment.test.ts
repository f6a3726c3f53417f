import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { CHUNK_DATA, CHUNK_LIST, CHUNK_TREE } from '../../src/keys/derive.ts';
import { SEAL_OVERHEAD_BYTES } from '../../src/keys/overhead.ts';
import { Sealer } from '../../src/keys/seal.ts';
import {
  SEGMENT_CHUNKS_MAX,
  SEGMENT_DATA_MAX_BYTES,
  SEGMENT_RAW_MAX_BYTES,
  SEGMENT_SEALED_MAX_BYTES,
} from '../../src/repository/constants.ts';
import { padme } from '../../src/repository/padding.ts';
import { associatedData, SEALED_SEGMENT } from '../../src/repository/sealed.ts';
import {
  CLASS_DATA,
  CLASS_METADATA,
  classOf,
  SegmentCodec,
  SegmentCompressor,
  SegmentReader,
  SegmentWriter,
} from '../../src/repository/segment.ts';

const damaged = { name: 'Failure', kind: 'damaged' };
const aad = associatedData(Buffer.alloc(16, 1), SEALED_SEGMENT);
const sealer = new Sealer(Buffer.alloc(32, 7), randomBytes);
const codec = new SegmentCodec(sealer, aad);
const out = Buffer.alloc(SEGMENT_SEALED_MAX_BYTES);
const plain = Buffer.alloc(SEGMENT_RAW_MAX_BYTES);

interface Filled {
  readonly raw: Buffer;
  readonly ids: Buffer;
  readonly chunks: Buffer[];
}

function fill(chunks: Buffer[]): Filled {
  const slot = Buffer.alloc(SEGMENT_RAW_MAX_BYTES);
  const writer = new SegmentWriter(slot, CLASS_DATA);
  for (const chunk of chunks) {
    assert.equal(writer.room(chunk.length), true);
    chunk.copy(slot, writer.offset);
    writer.append(randomBytes(40), chunk.length, 8);
  }
  const rawLength = writer.finish();
  return { raw: slot.subarray(0, rawLength), ids: Buffer.from(writer.ids), chunks };
}

function assertHolds(raw: Buffer, { ids, chunks }: Filled): void {
  const reader = new SegmentReader();
  reader.load(raw);
  assert.equal(reader.count, chunks.length);
  chunks.forEach((chunk, i) => {
    const index = reader.find(ids, 32 * i, i);
    assert.equal(index, i);
    assert.equal(reader.matches(i, ids, 32 * i), true);
    const at = reader.offset(index);
    assert.deepEqual(raw.subarray(at, at + reader.length(index)), chunk);
  });
}

describe('SegmentWriter and SegmentReader', () => {
  test('what was laid in is found', () => {
    for (const sizes of [[1], [1, 2, 3], [SEGMENT_DATA_MAX_BYTES], new Array(SEGMENT_CHUNKS_MAX).fill(3)]) {
      const filled = fill(sizes.map((size: number) => randomBytes(size)));
      assertHolds(filled.raw, filled);
    }
  });

  test('room ends at the limits of bytes and of chunks', () => {
    const writer = new SegmentWriter(Buffer.alloc(SEGMENT_RAW_MAX_BYTES), CLASS_DATA);
    const id = randomBytes(32);
    assert.equal(writer.room(SEGMENT_DATA_MAX_BYTES + 1), false);
    writer.append(id, SEGMENT_DATA_MAX_BYTES);
    assert.equal(writer.full, true);
    assert.equal(writer.room(1), false);
    assert.throws(() => writer.append(id, 1), { name: 'Failure' });
    const many = new SegmentWriter(Buffer.alloc(SEGMENT_RAW_MAX_BYTES), CLASS_DATA);
    for (let i = 0; i < SEGMENT_CHUNKS_MAX; i++) many.append(id, 1);
    assert.equal(many.full, true);
    assert.equal(many.room(1), false);
    const small = new SegmentWriter(Buffer.alloc(100), CLASS_DATA);
    assert.equal(small.room(84), true);
    assert.equal(small.room(85), false);
  });

  test('trees and lists go apart from contents', () => {
    assert.deepEqual(([CHUNK_DATA, CHUNK_TREE, CHUNK_LIST] as const).map(classOf), [
      CLASS_DATA,
      CLASS_METADATA,
      CLASS_METADATA,
    ]);
  });

  test('an empty segment and an empty chunk are refused', () => {
    const writer = new SegmentWriter(Buffer.alloc(100), CLASS_DATA);
    assert.throws(() => writer.finish(), { name: 'Failure' });
    assert.throws(() => writer.append(randomBytes(32), 0), { name: 'Failure' });
  });

  test('the search goes around from the hint, and stops', () => {
    const filled = fill([1, 2, 3, 4].map((size) => randomBytes(size)));
    const reader = new SegmentReader();
    reader.load(filled.raw);
    for (let from = 0; from < 6; from++) {
      for (let i = 0; i < 4; i++) assert.equal(reader.find(filled.ids, 32 * i, from), i);
      assert.equal(reader.find(randomBytes(32), 0, from), -1);
    }
  });

  test('every truncation of a raw segment is damage, and no flipped bit reads outside', () => {
    const { raw } = fill([randomBytes(20), randomBytes(30)]);
    const reader = new SegmentReader();
    for (let length = 0; length < raw.length; length++)
      assert.throws(() => reader.load(Buffer.from(raw.subarray(0, length))), damaged);
    for (let bit = 8 * 50; bit < raw.length * 8; bit++) {
      const flipped = Buffer.from(raw);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const inId = [54, 66].some((at) => bit >> 3 >= at && bit >> 3 < at + 8);
      if (!inId) assert.throws(() => reader.load(flipped), damaged);
      else reader.load(flipped);
    }
  });

  test('a table that changes in the slot after loading does no harm', () => {
    const filled = fill([randomBytes(20), randomBytes(30)]);
    const reader = new SegmentReader();
    reader.load(filled.raw);
    filled.raw.fill(0xff, 50);
    assert.equal(reader.offset(reader.find(filled.ids, 32)), 20);
    assert.equal(reader.length(1), 30);
  });
});

describe('SegmentCodec', () => {
  test('round trip, compressible or not, at several levels', () => {
    const incompressible = [randomBytes(1000), randomBytes(500_000)];
    const compressible = [Buffer.alloc(700_000, 'abc'), Buffer.from('x')];
    for (const chunks of [incompressible, compressible]) {
      const filled = fill(chunks);
      for (const level of [0, 1, 3, 19]) {
        const sealedLength = codec.pack(filled.raw, CLASS_DATA, level, out);
        assert.equal(padme(sealedLength), sealedLength);
        if (level > 0 && chunks === compressible) assert.ok(sealedLength < 10_000);
        const sealed = Buffer.from(out.subarray(0, sealedLength));
        codec.verify(sealed, filled.raw, CLASS_DATA);
        assert.deepEqual(codec.unpack(sealed, plain), { kind: CLASS_DATA, rawLength: filled.raw.length });
        assertHolds(plain.subarray(0, filled.raw.length), filled);
      }
    }
  });

  test('compressed on the pool, several at once, they come out as they do here', async () => {
    const segments = ['abc', 'xyz', 'words, more words'].map((text, i) =>
      fill([Buffer.alloc(300_000 + i, text)]),
    );
    segments.push(fill([randomBytes(300_000)]));
    const compressors = segments.map(() => new SegmentCompressor());
    const bodies = await Promise.all(
      segments.map(({ raw }, i) => (compressors[i] as SegmentCompressor).compressOnPool(raw, 3)),
    );
    const here = new SegmentCompressor();
    for (const [i, filled] of segments.entries()) {
      const { raw } = filled;
      assert.deepEqual(bodies[i], here.compress(raw, 3));
      const sealedLength = codec.seal(raw, bodies[i] as Buffer, CLASS_DATA, out);
      codec.unpack(out.subarray(0, sealedLength), plain);
      assertHolds(plain.subarray(0, raw.length), filled);
    }
    const { raw } = segments[0] as Filled;
    assert.equal(await here.compressOnPool(raw, 0), raw);
  });

  test('the largest segment fits, and what does not shrink is stored', () => {
    const filled = fill([randomBytes(SEGMENT_DATA_MAX_BYTES)]);
    const sealedLength = codec.pack(filled.raw, CLASS_METADATA, 3, out);
    assert.ok(
      sealedLength >= filled.raw.length + SEAL_OVERHEAD_BYTES && sealedLength <= SEGMENT_SEALED_MAX_BYTES,
    );
    assert.equal(codec.unpack(out.subarray(0, sealedLength), plain).kind, CLASS_METADATA);
  });

  test('every flipped byte and every truncation is damage', () => {
    const { raw } = fill([Buffer.from('some text, some text, some text'), randomBytes(40)]);
    const sealed = Buffer.from(out.subarray(0, codec.pack(raw, CLASS_DATA, 3, out)));
    for (let at = 0; at < sealed.length; at++) {
      const flipped = Buffer.from(sealed);
      flipped[at] = (flipped[at] ?? 0) ^ 0x40;
      assert.throws(() => codec.unpack(flipped, plain), damaged);
      assert.throws(() => codec.unpack(sealed.subarray(0, at), plain), damaged);
    }
    assert.throws(() => codec.unpack(Buffer.concat([sealed, Buffer.alloc(1)]), plain), damaged);
  });

  test('verification notices another segment, another kind and a changed byte', () => {
    const { raw } = fill([Buffer.from('some text'), randomBytes(40)]);
    const sealed = Buffer.from(out.subarray(0, codec.pack(raw, CLASS_DATA, 3, out)));
    const changed = Buffer.from(raw);
    changed[3] = 0;
    assert.throws(() => codec.verify(sealed, changed, CLASS_DATA), { name: 'Failure' });
    assert.throws(() => codec.verify(sealed, raw.subarray(1), CLASS_DATA), { name: 'Failure' });
    assert.throws(() => codec.verify(sealed, raw, CLASS_METADATA), { name: 'Failure' });
  });

  /** A sealed segment with the header that a holder of the key chooses. */
  function forged(fields: {
    compression: number;
    kind: number;
    raw: number;
    body: Buffer;
    bodyLength?: number;
  }) {
    const header = Buffer.alloc(12);
    header[0] = fields.compression;
    header[1] = fields.kind;
    header.writeUInt32LE(fields.raw, 4);
    header.writeUInt32LE(fields.bodyLength ?? fields.body.length, 8);
    const bare = SEAL_OVERHEAD_BYTES + 12 + fields.body.length;
    const sealed = Buffer.alloc(padme(bare));
    const padding = Buffer.alloc(sealed.length - bare);
    sealer.sealPiecesInto([header, fields.body, padding], aad, sealed, 0);
    return sealed;
  }

  test('what a holder of the key forges is refused', () => {
    const body = randomBytes(100);
    body[99] = 1;
    const bomb = zstdCompressSync(Buffer.alloc(64 << 20));
    const frame = zstdCompressSync(body);
    const forgeries = [
      forged({ compression: 2, kind: 1, raw: 100, body }),
      forged({ compression: 0, kind: 0, raw: 100, body }),
      forged({ compression: 0, kind: 3, raw: 100, body }),
      forged({ compression: 0, kind: 1, raw: 101, body }),
      forged({ compression: 0, kind: 1, raw: 0xffff_ffff, body, bodyLength: 0xffff_ffff }),
      forged({ compression: 0, kind: 1, raw: 99, body, bodyLength: 99 }),
      forged({ compression: 1, kind: 1, raw: 0xffff_ffff, body: bomb }),
      forged({ compression: 1, kind: 1, raw: 1 << 20, body: bomb }),
      forged({ compression: 1, kind: 1, raw: 101, body: frame }),
      forged({ compression: 1, kind: 1, raw: 99, body: frame }),
      forged({ compression: 1, kind: 1, raw: 0, body: frame }),
      forged({ compression: 1, kind: 1, raw: 100, body }),
      forged({ compression: 1, kind: 1, raw: 100, body: frame.subarray(0, -3) }),
      forged({ compression: 1, kind: 1, raw: 100, body: Buffer.alloc(0) }),
    ];
    for (const sealed of forgeries) assert.throws(() => codec.unpack(sealed, plain), damaged);
  });
});
