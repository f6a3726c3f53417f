import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FILE_TOKENS_MAX, lex, TEXT_MAX_CHARS } from '../../src/config/lexer.ts';

const kinds = (text: string) => lex('f', text).map(({ kind, text: found }) => `${kind} ${found}`);

describe('lexer', () => {
  test('words, strings and signs', () => {
    assert.deepEqual(kinds(`set "a b" 'c' {x,y}=!===`), [
      'word set',
      'string a b',
      'string c',
      '{ {',
      'word x',
      ', ,',
      'word y',
      '} }',
      '= =',
      '!= !=',
      '== ==',
      'end the end of the file',
    ]);
  });

  test('positions count lines and columns from 1, through continued lines, strings and CRLF', () => {
    const places = lex('f', 'a\n  b \\\n c\r\n"d\\\ne" f\n# x \\\n y\ng').map(
      ({ at, kind }) => `${kind} ${at.line}:${at.column}`,
    );
    assert.deepEqual(places, [
      'word 1:1',
      'newline 1:2',
      'word 2:3',
      'word 3:2',
      'newline 3:4',
      'string 4:1',
      'word 5:4',
      'newline 5:5',
      'newline 7:3',
      'word 8:1',
      'end 8:2',
    ]);
  });

  test('escapes', () => {
    const [token] = lex('f', String.raw`"\\ \" \' \n \t \x41 \x0a"`);
    assert.equal(token?.text, '\\ " \' \n \t A \n');
    for (const wrong of [
      String.raw`"\q"`,
      String.raw`"\x8"`,
      String.raw`"\xff"`,
      String.raw`"\x00"`,
      '"\\',
    ]) {
      assert.equal(lex('f', wrong)[0]?.kind, 'invalid', wrong);
    }
  });

  test('what is too long is invalid, and ends', () => {
    assert.equal(lex('f', 'x'.repeat(TEXT_MAX_CHARS))[0]?.kind, 'word');
    assert.equal(lex('f', 'x'.repeat(TEXT_MAX_CHARS + 1))[0]?.kind, 'invalid');
    assert.equal(lex('f', `"${'x'.repeat(TEXT_MAX_CHARS + 1)}"`)[0]?.kind, 'invalid');
    const many = lex('f', '{'.repeat(FILE_TOKENS_MAX + 10));
    assert.equal(many.length, FILE_TOKENS_MAX + 2);
    assert.equal(many.at(-2)?.kind, 'invalid');
  });

  test('a mebibyte of any one character is read through', () => {
    for (const character of ['#', '\\', '"', "'", ' ', '\n', '{', 'x', '$', '\0', '\r', '\u2028']) {
      const text = character.repeat(1024 * 1024);
      for (const variant of [text, `#${text}`, `"${text}`]) {
        assert.equal(lex('f', variant).at(-1)?.kind, 'end');
      }
    }
    assert.equal(lex('f', `#${'\\\n'.repeat(500_000)}`).length, 1);
  });
});
