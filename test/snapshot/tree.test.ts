import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Failure } from '../../src/error.ts';
import { UnknownVersion } from '../../src/keys/frame.ts';
import { Bytes } from '../../src/snapshot/bytes.ts';
import { CHUNK_TREE } from '../../src/snapshot/chunks.ts';
import { references } from '../../src/snapshot/references.ts';
import {
  appendNodeHead,
  appendXattrs,
  beginEntry,
  EntryReader,
  type EntryStat,
  endEntry,
  FLAG_INCONSISTENT,
  FLAG_LINKED,
  FLAG_UNREADABLE,
  HEIGHT_ROOT,
  isName,
  setCount,
  typeOfMode,
  type Xattr,
} from '../../src/snapshot/tree.ts';
import { Random } from './random.ts';

interface Entry {
  readonly stat: EntryStat;
  readonly filesystem: number;
  readonly flags: number;
  readonly name: Buffer;
  readonly xattrs: readonly Xattr[];
  readonly content: Buffer;
}

const MODES = [0o100644, 0o040755, 0o120777, 0o010600, 0o140755, 0o020660, 0o060660];

function contentOf(random: Random, mode: number, size: number): Buffer {
  const out = new Bytes();
  switch (mode & 0o170000) {
    case 0o100000:
      out.u32(0);
      out.u32(size === 0 ? 0 : 2);
      if (size === 0) break;
      out.u32(size - 10);
      out.bytes(random.bytes(32));
      out.u32(0x80000000);
      out.i64(10);
      break;
    case 0o040000:
      out.bytes(random.bytes(32));
      out.u32(8 + random.below(1000));
      break;
    case 0o120000: {
      const target = random.bytes(1 + random.below(300));
      out.u32(target.length);
      out.bytes(target);
      break;
    }
    case 0o020000:
    case 0o060000:
      out.u32(random.below(2 ** 32));
      out.u32(random.below(2 ** 32));
  }
  return Buffer.from(out.since(0));
}

function randomName(random: Random): Buffer {
  for (;;) {
    const name = random.bytes(1 + random.below(random.chance(0.1) ? 255 : 12));
    if (isName(name, 0, name.length)) return name;
  }
}

function randomEntry(random: Random, name: Buffer): Entry {
  const mode = (random.pick(MODES) & 0o170000) | random.below(0o10000);
  const size = typeOfMode(mode) === 1 && random.chance(0.8) ? 11 + random.below(4 << 20) : 0;
  const names = new Set(Array.from({ length: random.below(4) }, () => `user.${random.below(50)}`));
  return {
    stat: {
      mode,
      uid: random.below(2 ** 32),
      gid: random.below(2 ** 32),
      nlink: 1 + random.below(2),
      inoLow: random.below(2 ** 32),
      inoHigh: random.below(2 ** 32),
      size,
      mtimeSec: random.below(2 ** 40) - 2 ** 39,
      mtimeNsec: random.below(1_000_000_000),
      ctimeSec: random.below(2 ** 40) - 2 ** 39,
      ctimeNsec: random.below(1_000_000_000),
    },
    filesystem: random.below(5),
    flags: typeOfMode(mode) === 1 && random.chance(0.2) ? FLAG_INCONSISTENT : 0,
    name,
    xattrs: [...names].sort().map((xattr) => ({
      name: Buffer.from(xattr),
      value: random.bytes(random.below(40)),
    })),
    content: contentOf(random, mode, size),
  };
}

function encodeNode(entries: readonly Entry[], height = 0): Buffer {
  const out = new Bytes(16);
  const node = appendNodeHead(out, height);
  for (const { stat, filesystem, flags, name, xattrs, content } of entries) {
    const at = beginEntry(out, stat, filesystem, flags, name, 0, name.length);
    appendXattrs(out, at, [...xattrs].reverse());
    out.bytes(content);
    endEntry(out, at);
  }
  setCount(out, node, entries.length);
  return Buffer.from(out.since(0));
}

function decoded(reader: EntryReader): Entry {
  const { mode, uid, gid, inoLow, inoHigh, size, mtimeSec, mtimeNsec, ctimeSec, ctimeNsec } = reader;
  return {
    stat: {
      mode,
      uid,
      gid,
      nlink: reader.flags & FLAG_LINKED ? 2 : 1,
      inoLow,
      inoHigh,
      size,
      mtimeSec,
      mtimeNsec,
      ctimeSec,
      ctimeNsec,
    },
    filesystem: reader.filesystem,
    flags: reader.flags & FLAG_INCONSISTENT,
    name: Buffer.from(reader.name()),
    xattrs: reader
      .xattrs()
      .map(({ name, value }) => ({ name: Buffer.from(name), value: Buffer.from(value) })),
    content: Buffer.from(reader.content()),
  };
}

function randomNode(random: Random, count: number): Entry[] {
  const names = new Map<string, Buffer>();
  while (names.size < count) {
    const name = randomName(random);
    names.set(name.toString('latin1'), name);
  }
  return [...names.values()].sort(Buffer.compare).map((name) => randomEntry(random, name));
}

/** Decodes everything there is, as a reader of any kind would. */
function readAll(node: Buffer): number {
  const reader = new EntryReader().load(node);
  let length = 0;
  while (reader.next()) length += JSON.stringify(decoded(reader)).length;
  references(CHUNK_TREE, node, () => length++);
  return length;
}

function refusesDamage(attempt: () => void): void {
  try {
    attempt();
  } catch (error) {
    assert.ok(error instanceof Failure, String(error));
    assert.ok(error.kind === 'damaged' || error instanceof UnknownVersion, String(error));
    return;
  }
}

describe('directory nodes', () => {
  test('what is written is read again', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed);
      const entries = randomNode(random, random.below(30));
      const reader = new EntryReader().load(encodeNode(entries));
      assert.equal(reader.count, entries.length);
      for (const entry of entries) {
        assert.ok(reader.next());
        const { nlink } = entry.stat;
        const isDirectory = typeOfMode(entry.stat.mode) === 2;
        const expected = { ...entry, stat: { ...entry.stat, nlink: isDirectory ? 1 : nlink } };
        assert.deepEqual(decoded(reader), expected, `seed ${seed}`);
      }
      assert.equal(reader.next(), false);
    }
  });

  test('the layout is that of the table in tree.ts', () => {
    const stat: EntryStat = {
      mode: 0o120777,
      uid: 1,
      gid: 2,
      nlink: 2,
      inoLow: 3,
      inoHigh: 4,
      size: 5,
      mtimeSec: -1,
      mtimeNsec: 6,
      ctimeSec: 2 ** 33,
      ctimeNsec: 7,
    };
    const node = encodeNode([
      {
        stat,
        filesystem: 8,
        flags: 0,
        name: Buffer.from('n'),
        xattrs: [],
        content: Buffer.from('\x01\0\0\0t'),
      },
    ]);
    const expected = [
      '01000000 01000000',
      '46000000 03 02 0100 ffa10000 01000000 02000000 08000000 0300000004000000 0000000000000000',
      'ffffffffffffffff 06000000 07000000 0000000002000000',
      '6e 0100000074',
    ];
    assert.equal(node.toString('hex'), expected.join('').replaceAll(' ', ''));
  });

  test('any truncation is refused', () => {
    const node = encodeNode(randomNode(new Random(5), 12));
    for (let length = 0; length < node.length; length++)
      assert.throws(() => readAll(node.subarray(0, length)), { name: 'Failure', kind: 'damaged' });
    assert.throws(() => readAll(Buffer.concat([node, Buffer.alloc(1)])), { kind: 'damaged' });
  });

  test('a flipped bit gives another node or a Failure, never anything else', () => {
    const node = encodeNode(randomNode(new Random(6), 5));
    for (let bit = 0; bit < node.length * 8; bit++) {
      const flipped = Buffer.from(node);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      refusesDamage(() => readAll(flipped));
    }
  });

  test('random bytes never crash the decoder', () => {
    for (let seed = 0; seed < 2000; seed++) {
      const random = new Random(seed);
      const bytes = random.bytes(random.below(400));
      if (bytes.length > 8) bytes.set([1, 0, 0, 0, 1 + random.below(3), 0, 0, 0]);
      refusesDamage(() => readAll(bytes));
    }
  });

  test('names that are none are refused', () => {
    for (const name of ['', '.', '..', 'a/b', 'a\0', '/', 'x'.repeat(256)]) {
      const random = new Random(1);
      const entry = { ...randomEntry(random, Buffer.from(name)), content: contentOf(random, 0o010000, 0) };
      const node = encodeNode([{ ...entry, stat: { ...entry.stat, mode: 0o010600 } }]);
      assert.throws(() => readAll(node), { kind: 'damaged' }, JSON.stringify(name));
      assert.equal(isName(Buffer.from(name), 0, name.length), false);
    }
    for (const name of ['...', '.a', '\n', '\xff', 'x'.repeat(255)])
      assert.ok(isName(Buffer.from(name, 'latin1'), 0, name.length));
  });

  test('names must ascend', () => {
    const [a, b] = randomNode(new Random(2), 2) as [Entry, Entry];
    assert.throws(() => readAll(encodeNode([b, a])), { kind: 'damaged', cause: 'names out of order' });
    assert.throws(() => readAll(encodeNode([a, a])), { kind: 'damaged', cause: 'names out of order' });
  });

  test('contents must fit what the entry says', () => {
    const random = new Random(3);
    const file = { ...randomEntry(random, Buffer.from('f')), flags: 0, xattrs: [] };
    const stat = { ...file.stat, mode: 0o100600, size: 100 };
    const content = contentOf(random, stat.mode, 100);
    assert.ok(readAll(encodeNode([{ ...file, stat, content }])) > 0);
    const wrong = [
      { ...file, stat: { ...stat, size: 101 }, content },
      { ...file, stat: { ...stat, mode: 0o040755 }, content },
      { ...file, stat, flags: FLAG_UNREADABLE, content },
      { ...file, stat, flags: 8, content },
      { ...file, stat: { ...stat, mtimeNsec: 1e9 }, content },
    ];
    for (const entry of wrong) assert.throws(() => readAll(encodeNode([entry])), { kind: 'damaged' });
  });

  test('a root node has one directory, without a name', () => {
    const random = new Random(4);
    const entry = randomEntry(random, Buffer.alloc(0));
    const directory = {
      ...entry,
      stat: { ...entry.stat, mode: 0o040700, size: 0 },
      flags: 0,
      content: contentOf(random, 0o040700, 0),
    };
    const node = encodeNode([directory], HEIGHT_ROOT);
    const reader = new EntryReader().load(node, true);
    assert.ok(reader.next());
    assert.equal(reader.directory()?.id.equals(directory.content.subarray(0, 32)), true);
    assert.throws(() => new EntryReader().load(node), { kind: 'damaged' });
    const file = { ...directory, stat: { ...directory.stat, mode: 0o010600 }, content: Buffer.alloc(0) };
    assert.throws(() => new EntryReader().load(encodeNode([file], HEIGHT_ROOT), true).next(), {
      kind: 'damaged',
    });
    assert.throws(() => new EntryReader().load(encodeNode([], HEIGHT_ROOT), true), { kind: 'damaged' });
  });
});
