/** The command line: globals, prefixes, options, and what is said of mistakes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { argumentBytes, type CommandLine, nearest, parseArguments } from '../../src/client/arguments.ts';
import { COMMANDS } from '../../src/client/commands.ts';
import { Failure, describe as textOf } from '../../src/error.ts';

function parse(...words: (string | Buffer)[]): CommandLine {
  return parseArguments(
    words.map((word) => Buffer.from(word as string)),
    COMMANDS,
  );
}

/** The text of the usage error that the words are. */
function refusal(...words: string[]): string {
  try {
    parse(...words);
  } catch (error) {
    assert.ok(error instanceof Failure);
    assert.equal(error.kind, 'usage');
    return textOf(error);
  }
  throw new Error('it was understood');
}

const operands = (line: CommandLine) => line.given.operands.map(String);

describe('globals', () => {
  test('letters stand alone or together, the socket behind its letter or apart', () => {
    for (const words of [
      ['-j', '-q', '-v', '-s', '/x', 'ls'],
      ['-jqvs', '/x', 'ls'],
      ['-jqvs/x', 'ls'],
      ['--json', '-quiet', '--verbose', '-s/x', 'ls'],
    ]) {
      const line = parse(...words);
      assert.deepEqual([line.json, line.quiet, line.verbose, line.socket], [true, true, true, '/x']);
      assert.equal(line.command.name, 'ls');
    }
  });

  test('on names the repository, before or after other globals', () => {
    assert.equal(parse('on', 'far', '-j', 'ls').repository, 'far');
    assert.equal(parse('-j', 'on', 'far', 'ls').repository, 'far');
    assert.equal(parse('ls').repository, undefined);
    assert.equal(refusal('on'), 'on: needs the name of a repository');
  });

  test('flags are understood behind the command as well', () => {
    const line = parse('ls', '-j', 'latest', '--quiet');
    assert.deepEqual([line.json, line.quiet, operands(line)], [true, true, ['latest']]);
  });

  test('help and version', () => {
    assert.equal(parse('-h').command.name, 'help');
    assert.equal(parse('--help').command.name, 'help');
    assert.equal(parse('-version').command.name, 'version');
    const line = parse('push', '-h');
    assert.deepEqual([line.command.name, operands(line)], ['help', ['push']]);
  });

  test('mistakes', () => {
    assert.match(refusal(), /^command: missing \(usage: plakarctl/);
    assert.match(refusal('-x', 'ls'), /^option -x: unknown/);
    assert.match(refusal('--fast', 'check'), /^option --fast: unknown/);
    assert.equal(refusal('-s'), 'option -s: needs a path');
  });
});

describe('commands', () => {
  test('every unambiguous prefix of every command names it', () => {
    const names = COMMANDS.map(({ name }) => name);
    for (const name of names)
      for (let length = 1; length <= name.length; length++) {
        const prefix = name.slice(0, length);
        const matching = names.filter((other) => other.startsWith(prefix));
        const fill = Array<string>(COMMANDS.find((row) => row.name === name)?.operands[0] ?? 0).fill('x');
        if (prefix !== name && names.includes(prefix)) continue;
        if (prefix === name || matching.length === 1) assert.equal(parse(prefix, ...fill).command.name, name);
        else assert.match(refusal(prefix), /ambiguous: /);
      }
  });

  test('an ambiguous one names its meanings, an unknown one its neighbour', () => {
    assert.equal(refusal('st'), 'command st: ambiguous: status or stop');
    assert.equal(refusal('psuh'), 'command psuh: unknown (did you mean push?)');
    assert.equal(refusal('frobnicate'), 'command frobnicate: unknown (plakarctl help lists the commands)');
    assert.equal(refusal(''), 'command: unknown (plakarctl help lists the commands)');
  });

  test('names of Object.prototype are no commands and no options', () => {
    for (const word of ['constructor', '__proto__', 'toString']) {
      assert.match(refusal(word), /unknown/);
      assert.match(refusal('ls', `-${word}`), /unknown option/);
      assert.match(refusal(`-${word}`, 'ls'), /unknown/);
    }
  });

  test('control characters of a mistake are not printed', () => {
    assert.equal(refusal('\x1b[2J'), 'command \\x1b[2J: unknown (plakarctl help lists the commands)');
  });

  test('the fewest and most operands', () => {
    assert.equal(refusal('rm'), 'rm: missing operand (usage: plakarctl rm SNAPSHOT...)');
    assert.equal(refusal('status', 'x'), 'status x: unexpected operand (usage: plakarctl status)');
  });
});

describe('options', () => {
  test('one dash or two, before or behind operands', () => {
    for (const dash of ['-', '--']) {
      assert.ok(parse('check', `${dash}fast`).given.has('fast'));
      assert.ok(parse('check', 'latest', `${dash}fast`).given.has('fast'));
      assert.equal(String(parse('pull', `${dash}to`, '/d', 'x').given.value('to')), '/d');
      assert.equal(String(parse('pull', 'x', `${dash}to=/d=e`).given.value('to')), '/d=e');
    }
  });

  test('repeated ones are all kept; others may stand once', () => {
    assert.deepEqual(parse('push', '-tag', 'a', 'x', '--tag=b').given.values('tag').map(String), ['a', 'b']);
    assert.equal(refusal('pull', '-to', 'a', '-to', 'b', 'x'), 'pull -to: given twice');
  });

  test('-- ends them; a dash alone is an operand', () => {
    assert.deepEqual(operands(parse('cat', '--', '-to', '--')), ['-to', '--']);
    assert.deepEqual(operands(parse('cat', '-')), ['-']);
  });

  test('mistakes', () => {
    assert.equal(refusal('check', '-fats'), 'check -fats: unknown option (did you mean -fast?)');
    assert.match(refusal('check', '-fast=yes'), /^check -fast: takes no argument/);
    assert.equal(refusal('pull', 'x', '-to'), 'pull -to: needs DIR');
  });
});

test('the nearest word is one or two letters away', () => {
  assert.equal(nearest('lst', ['ls', 'status']), 'ls');
  assert.equal(nearest('x', ['ls']), undefined);
  assert.equal(nearest('a'.repeat(1e6), ['ls']), undefined);
});

describe('arguments as bytes', () => {
  test('text is its UTF-8, and the kernel is not asked', () => {
    const bytes = argumentBytes(['ls', 'ü'], () => assert.fail('asked'));
    assert.deepEqual(bytes, [Buffer.from('ls'), Buffer.from('ü')]);
  });

  test('a byte that is not UTF-8 comes from the kernel', () => {
    const line = Buffer.from('node\0main.ts\0cat\0latest:/\xff\xfe\0\0', 'latin1');
    const bytes = argumentBytes(['cat', 'latest:/\ufffd\ufffd', ''], () => line);
    assert.deepEqual(bytes, [Buffer.from('cat'), Buffer.from('latest:/\xff\xfe', 'latin1'), Buffer.alloc(0)]);
  });
});
