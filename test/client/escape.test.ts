/** Names as they are printed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameFields, safeName, safeText } from '../../src/client/escape.ts';

const NAMES: readonly (readonly [string | Buffer, string])[] = [
  ['plain name-1.txt', 'plain name-1.txt'],
  ['grüße 文件', 'grüße 文件'],
  ['𝄞 🙂', '𝄞 🙂'],
  ['a\nb\tc\rd\\e', 'a\\nb\\tc\\rd\\\\e'],
  ['\x1b]0;title\x07', '\\x1b]0;title\\x07'],
  ['\x7f', '\\x7f'],
  ['\u009b31m', '\\u{9b}31m'],
  ['evil\u202etxt.exe', 'evil\\u{202e}txt.exe'],
  ['\ufeffbom', '\\u{feff}bom'],
  [Buffer.from([0x61, 0xff, 0x5c, 0x0a]), 'a\\xff\\\\\\x0a'],
  [Buffer.from([0xed, 0xa0, 0x80]), '\\xed\\xa0\\x80'],
  [Buffer.from([0xc0, 0x80]), '\\xc0\\x80'],
];

test('names are printed on one line, and can be had back', () => {
  for (const [name, printed] of NAMES) assert.equal(safeName(Buffer.from(name as string)), printed);
});

test('no single byte, and no pair of bytes, prints a control character', () => {
  const unsafe = /[\0-\x1f\x7f-\x9f]/;
  for (let first = 0; first < 256; first++)
    for (let second = 0; second < 256; second++) {
      const bytes = Buffer.of(first, second);
      assert.ok(!unsafe.test(safeName(bytes)), bytes.toString('hex'));
      assert.ok(!unsafe.test(safeText(bytes.toString('latin1'))), bytes.toString('hex'));
    }
});

test('different names are printed differently', () => {
  const seen = new Set<string>();
  for (let first = 0; first < 256; first++)
    for (let second = 0; second < 256; second++) seen.add(safeName(Buffer.of(first, second)));
  assert.equal(seen.size, 65_536);
});

test('in JSON a name has its bytes beside it only where they are not UTF-8', () => {
  assert.deepEqual(nameFields('path', Buffer.from('ü\n')), { path: 'ü\n' });
  assert.deepEqual(nameFields('path', Buffer.from([0x61, 0xff])), { path: 'a\ufffd', pathBase64: 'Yf8=' });
});
