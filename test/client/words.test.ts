/** Lines of the shell: words as sh(1) would make them, and names typed back as they are printed. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { safeName } from '../../src/client/escape.ts';
import { splitWords, typed, unfinishedWords } from '../../src/client/words.ts';
import { describe as describeFailure, kindOf } from '../../src/error.ts';

const words = (line: string): string[] => splitWords(line).map((word) => word.toString('latin1'));

describe('a line', () => {
  for (const [line, expected] of [
    ['', []],
    ['  \t ', []],
    ['# a comment', []],
    ['ls latest # a comment', ['ls', 'latest']],
    ['a#b', ['a#b']],
    ["ls 'a b'c", ['ls', 'a bc']],
    ['"a \\" b" \'\\n\'', ['a " b', '\\n']],
    ['a\\ b \\# \\\\', ['a b', '#', '\\']],
    ['\'\' ""', ['', '']],
    ['\\xff\\x0a \\n\\t', ['\xff\n', '\n\t']],
    ['\\u{41}', ['A']],
  ] as const)
    test(JSON.stringify(line), () => assert.deepEqual(words(line), expected));

  test('whose quote or escape is not closed is refused', () => {
    for (const line of ["ls 'a", 'ls "a', 'ls a\\'])
      assert.throws(
        () => splitWords(line),
        (error) => kindOf(error) === 'usage' && /is not closed/.test(describeFailure(error)),
        line,
      );
  });

  test('with a number that is no character is taken as it stands', () => {
    assert.deepEqual(words('\\u{110000}'), ['u{110000}']);
    assert.deepEqual(words('\\xg0'), ['xg0']);
  });
});

test('every name can be typed as it is printed', () => {
  for (let first = 0; first < 256; first++)
    for (const name of [
      Buffer.of(first),
      Buffer.of(first, 0x20, 0xff),
      Buffer.from(`a${String.fromCharCode(first)}`),
    ])
      assert.deepEqual(splitWords(typed(safeName(name))), [name]);
  for (const text of ['\u202e', 'häh', '𝄞', "it's"])
    assert.deepEqual(splitWords(typed(safeName(Buffer.from(text)))), [Buffer.from(text)]);
});

test('the word that is being typed, and those before it', () => {
  const of = (line: string) => {
    const { before, word, text } = unfinishedWords(line);
    return [before.map(String), String(word), text];
  };
  assert.deepEqual(of(''), [[], '', '']);
  assert.deepEqual(of('pu'), [[], 'pu', 'pu']);
  assert.deepEqual(of('ls '), [['ls'], '', '']);
  assert.deepEqual(of('ls latest:/a\\ b'), [['ls'], 'latest:/a b', 'latest:/a\\ b']);
  assert.deepEqual(of("ls 'latest:/a b"), [['ls'], 'latest:/a b', "'latest:/a b"]);
  assert.deepEqual(of("ls 'a "), [['ls'], 'a ', "'a "]);
});
