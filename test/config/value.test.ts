import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseFile, parsePolicy, printPolicy } from '../../src/config/config.ts';
import { LIST_MAX } from '../../src/config/value.ts';
import { memoryFiles } from './memory.ts';

function parse(text: string) {
  return parseFile('/c', { files: memoryFiles({ '/c': text }), host: 'h', system: 'linux' });
}

function memory(size: string): number | undefined {
  return parse(`set memory ${size}`).configuration?.memoryBytes;
}

function every(duration: string): number | undefined {
  const { configuration } = parse(`
repository r at /r { no encryption }
source s { path /s }
push s to r every ${duration}`);
  const schedule = configuration?.pushes[0]?.schedule;
  return schedule?.kind === 'every' ? schedule.seconds : undefined;
}

describe('values', () => {
  test('sizes', () => {
    assert.equal(memory('64M'), 64 * 1024 * 1024);
    assert.equal(memory('1g'), 1024 ** 3);
    assert.equal(memory('20000000'), 20_000_000);
    assert.equal(memory('7P'), 7 * 1024 ** 5);
    for (const wrong of ['', '-1G', '1.5G', '1GB', '8P', '9007199254740993', '0x10000000', '1e9']) {
      assert.equal(memory(`"${wrong}"`), undefined, wrong);
    }
  });

  test('durations', () => {
    assert.equal(every('90s'), 90);
    assert.equal(every('1h30m'), 5400);
    assert.equal(every('2w'), 14 * 86_400);
    for (const wrong of [
      '5',
      'h',
      '1h30',
      '1 h',
      '0s',
      '-1h',
      '1y',
      '99999999999s',
      '5300w',
      '1h'.repeat(6),
    ]) {
      assert.equal(every(wrong), undefined, wrong);
    }
  });

  test('a list has a limit', () => {
    const source = (patterns: number) =>
      parse(`source s { path /s\nexclude { ${'x '.repeat(patterns)} }\n}`).errors.map(
        ({ message }) => message,
      );
    assert.deepEqual(source(LIST_MAX), []);
    assert.deepEqual(source(LIST_MAX + 1), [`more than ${LIST_MAX} in one list`]);
  });

  test('macros and includes that multiply end by the budget', () => {
    const lines = ['a0 = x x'];
    for (let i = 1; i < 40; i++) lines.push(`a${i} = $a${i - 1} $a${i - 1}`);
    const grown = parse(lines.join('\n'));
    assert.match(grown.errors[0]?.message ?? '', /more than 1024 words/);

    const wide = `w = ${'x '.repeat(1000)}\n`;
    const { errors, steps } = parse(wide + 'v = $w\n'.repeat(2000));
    assert.match(errors[0]?.message ?? '', /words in all files and macros/);
    assert.ok(steps < 1_002_000);

    const files: Record<string, string> = { '/9': '#' };
    for (let i = 0; i < 9; i++) files[`/${i}`] = `include "/${i + 1}"\n`.repeat(10);
    const wideIncludes = parseFile('/0', { files: memoryFiles(files), host: 'h', system: 'linux' });
    assert.match(wideIncludes.errors[0]?.message ?? '', /more than 1024 includes/);
    assert.ok(wideIncludes.errors.length <= 100);

    const long = memoryFiles({ '/c': 'include "/l"\n'.repeat(20), '/l': '#'.repeat(1024 * 1024) });
    const { errors: tooMuch } = parseFile('/c', { files: long, host: 'h', system: 'linux' });
    assert.match(tooMuch[0]?.message ?? '', /more than 8388608 bytes in all files/);
  });

  test('a word that macros make too long is refused', () => {
    const { errors } = parse(`x = ${'a'.repeat(5000)}\nset state /$x/$x`);
    assert.match(errors[0]?.message ?? '', /too long, once expanded/);
  });
});

describe('policies', () => {
  test('as on the command line', () => {
    const { keep, errors } = parsePolicy('24 hourly, 7 daily last 3, within 30d');
    assert.deepEqual(errors, []);
    assert.deepEqual(keep, { hourly: 24, daily: 7, last: 3, withinSeconds: 30 * 86_400 });
    assert.equal(keep && printPolicy(keep), '24 hourly, 7 daily, last 3, within 30d');
  });

  test('what is wrong is named with its column', () => {
    for (const [text, column, message] of [
      ['7 dialy', 3, `unknown word 'dialy', did you mean 'daily'?`],
      ['', 1, `expected a rule such as '7 daily', 'last 3' or 'within 30d', found the end of the file`],
      ['1 daily, 2 daily', 1, `'daily' is given twice`],
      ['1 daily }', 9, `expected the end of the policy, found '}'`],
    ] as const) {
      assert.deepEqual(parsePolicy(text), { errors: [{ file: 'keep', line: 1, column, message }] });
    }
  });
});
