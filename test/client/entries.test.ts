/** The lines of entries: those that are written as bytes are those that are made as text. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ENTRY, type EntryEvent } from '../../src/client/entries.ts';
import { writePlain } from '../../src/client/line.ts';
import {
  BLOCK_DEVICE,
  DIRECTORY,
  type EntryReader,
  FILE,
  FLAG_INCONSISTENT,
  FLAG_LINKED,
  FLAG_UNREADABLE,
  SYMLINK,
} from '../../src/snapshot/tree.ts';

const USUAL = {
  type: FILE,
  flags: 0,
  mode: 0o100644,
  uid: 0,
  gid: 0,
  size: 0,
  mtimeSec: 1_600_000_000,
  deviceMajor: 8,
  deviceMinor: 1,
};
const TO = Buffer.alloc(2000);

/** An event as a listing gives it, of an entry with these fields. */
function eventOf(
  fields: Partial<typeof USUAL>,
  name = Buffer.from('name'),
  target = Buffer.alloc(0),
): EntryEvent {
  // of a cursor, what a line needs
  const entry = { ...USUAL, ...fields, target: () => target } as unknown as EntryReader;
  const writeShown = (to: Buffer, at: number): number => writePlain(name, 0, name.length, to, at);
  return { entry, path: name, snapshot: '', shown: name, writeShown };
}

/** The line as bytes, which must be its text; undefined where it is left to that. */
function written(event: EntryEvent): string | undefined {
  TO.fill(0x21);
  const end = ENTRY.write?.(event, TO, 10) ?? -1;
  if (end < 0) return undefined;
  const line = TO.toString('utf8', 10, end);
  assert.equal(line, ENTRY.text(event));
  assert.ok(TO.subarray(0, 10).every((byte) => byte === 0x21) && TO[end] === 0x21);
  return line;
}

describe('a line that is written as bytes', () => {
  test('has every size below a megabyte as text has it', () => {
    let left = 0;
    for (let size = 0; size < 1_001_000; size += size < 11_000 ? 1 : 37)
      if (written(eventOf({ size })) === undefined) left++;
    for (let kilo = 0; kilo <= 1000; kilo++)
      for (const by of [-501, -500, -499, -50, -1, 0, 1, 49, 50, 499, 500, 501])
        if (kilo * 1000 + by >= 0) written(eventOf({ size: kilo * 1000 + by }));
    assert.ok(left < 200, `${left} were left to text`);
    for (const size of [999_500, 1e6, 5e9, 2 ** 53 - 1]) assert.equal(written(eventOf({ size })), undefined);
  });

  test('has every time of usual length as text has it, and leaves others to it', () => {
    for (const mtimeSec of [0, -1, 1, 59, 60, 3599, 3600, 86_399, 86_400, -86_400, -86_401, 253_402_300_799])
      assert.ok(written(eventOf({ mtimeSec })), String(mtimeSec));
    for (let i = 0; i < 1000; i++)
      assert.ok(written(eventOf({ mtimeSec: Math.imul(i, 0x9e3779b1) })), String(i));
    for (const mtimeSec of [253_402_300_800, -62_200_000_000, 8.7e12, -(2 ** 52)])
      assert.equal(written(eventOf({ mtimeSec })), undefined);
  });

  test('has modes, owners and links as text has them', () => {
    for (const mode of [0o100000, 0o107777, 0o100755, 0o104711, 0o101644, 0o102070, 0o040755, 0o041777])
      for (const [uid, gid] of [
        [0, 0],
        [0, 1000],
        [1000, 0],
        [4_294_967_295, 4_294_967_295],
      ] as const)
        assert.ok(written(eventOf({ type: mode < 0o100000 ? DIRECTORY : FILE, mode, uid, gid })));
    const link = { type: SYMLINK, mode: 0o120777, size: 3 };
    assert.match(
      written(eventOf(link, Buffer.from('a b'), Buffer.from('../c'))) ?? '',
      / {2}a b -> \.\.\/c$/,
    );
    assert.ok(written(eventOf({ flags: FLAG_LINKED })));
  });

  test('is left to text where something is to be escaped or said', () => {
    for (const name of ['a\nb', '\\', '\x1b[2J', 'é', '\x7f', '\xff'])
      for (const encoding of ['utf8', 'latin1'] as const)
        assert.equal(written(eventOf({}, Buffer.from(name, encoding))), undefined, name);
    const link = { type: SYMLINK, mode: 0o120777 };
    assert.equal(written(eventOf(link, Buffer.from('a'), Buffer.from('\r'))), undefined);
    assert.equal(written(eventOf({ flags: FLAG_UNREADABLE })), undefined);
    assert.equal(written(eventOf({ flags: FLAG_INCONSISTENT })), undefined);
    assert.equal(written(eventOf({ type: BLOCK_DEVICE, mode: 0o060660 })), undefined);
  });

  test('is left to text where there is no room', () => {
    const event = eventOf({}, Buffer.alloc(100, 'x'));
    for (let room = 0; room < 300; room++) {
      const end = ENTRY.write?.(event, TO, TO.length - room) ?? -1;
      assert.ok(end <= TO.length);
      if (end >= 0) assert.equal(TO.toString('latin1', TO.length - room, end), ENTRY.text(event));
      else assert.ok(room < 170, String(room));
    }
  });
});
