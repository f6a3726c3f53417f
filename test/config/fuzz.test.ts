import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { type FileSource, formatError, parseFile, parsePolicy, print } from '../../src/config/config.ts';
import { STEPS_MAX } from '../../src/config/input.ts';
import { GOLDEN, goldenFiles, goldenNames, parseGolden } from './golden.ts';
import { memoryFiles } from './memory.ts';

const ROUNDS = 150;
/** Words read for each byte: macros multiply, but none in the golden files by more than this. */
const STEPS_PER_BYTE_MAX = 50;

/** xorshift32: the same mutations for the same seed, on every machine. */
function generator(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const SPLICES = [
  '{',
  '}',
  ',',
  '=',
  '"',
  "'",
  '\\',
  '\n',
  '$',
  '#',
  '\0',
  '\xff',
  'if ',
  'else ',
  '$x',
  'x = ',
  '{ ',
];

function mutate(original: Buffer, random: (below: number) => number): Buffer {
  let bytes = original;
  for (let count = 1 + random(6); count > 0; count--) {
    const at = random(bytes.length + 1);
    const length = random(20);
    const from = random(bytes.length + 1);
    const inserted = [
      Buffer.from(SPLICES[random(SPLICES.length)] ?? '', 'latin1'),
      bytes.subarray(from, from + random(200)),
      Buffer.from([random(256)]),
      Buffer.alloc(0),
    ][random(4)];
    bytes = Buffer.concat([bytes.subarray(0, at), inserted ?? Buffer.alloc(0), bytes.subarray(at + length)]);
  }
  return bytes;
}

/** The golden files, with other contents for one of them. */
function replaced(name: string, bytes: Buffer): FileSource {
  return {
    ...goldenFiles,
    readFile: (file, max) => (file === name ? bytes : goldenFiles.readFile(file, max)),
  };
}

describe('mutated configurations', () => {
  for (const [index, name] of goldenNames().entries()) {
    test(name, () => {
      const original = readFileSync(path.join(GOLDEN, name));
      for (let round = 0; round < ROUNDS; round++) {
        const bytes = mutate(original, generator(index * ROUNDS + round + 1));
        const { configuration, errors, steps } = parseGolden(name, replaced(name, bytes));
        const seen = `round ${round}: ${JSON.stringify(bytes.toString('latin1'))}`;
        assert.ok(steps <= (bytes.length + 4096) * STEPS_PER_BYTE_MAX, seen);
        assert.equal(configuration === undefined, errors.length > 0, seen);
        assert.ok(errors.length <= 100, seen);
        for (const error of errors) {
          assert.match(formatError(error), /^[^\n\0]+: [^\n\0]+$/, seen);
          assert.ok(error.message.length < 1024 && error.line >= 0 && error.column >= 0, seen);
        }
        if (configuration === undefined) continue;
        const printed = print(configuration);
        const files = memoryFiles({ '/p': printed });
        const again = parseFile('/p', { files, host: 'h', system: 's' });
        assert.deepEqual(again.errors, [], seen);
        assert.equal(again.configuration && print(again.configuration), printed, seen);
      }
    });
  }

  test('every truncation of every statement', () => {
    const original = readFileSync(path.join(GOLDEN, 'everything.conf'));
    for (let length = 0; length <= original.length; length++) {
      const { errors } = parseGolden(
        'everything.conf',
        replaced('everything.conf', original.subarray(0, length)),
      );
      assert.ok(errors.length <= 100);
      for (const { line, message } of errors) assert.ok(line > 0 && message !== '', `${length}: ${message}`);
    }
  });

  test('every bit of the example of the design, flipped', () => {
    const original = readFileSync(path.join(GOLDEN, 'design.conf'));
    for (let bit = 0; bit < original.length * 8; bit++) {
      const bytes = Buffer.from(original);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const { configuration, errors } = parseGolden('design.conf', replaced('design.conf', bytes));
      assert.equal(configuration === undefined, errors.length > 0, `bit ${bit}`);
    }
  });

  test('absurd nesting and repetition end within the budget', () => {
    const absurd = {
      open: '{'.repeat(190_000),
      close: '}'.repeat(190_000),
      read: 'if not host a {'.repeat(50_000),
      skipped: 'if host a {'.repeat(50_000),
      branches: 'if host a { }\n\n\n'.repeat(20_000),
      mistakes: `bogus {${'\n'.repeat(1500)}}\n`.repeat(100),
      dollars: `x = a\n${`set state ${'$x'.repeat(4000)}\n`.repeat(80)}`,
    };
    for (const [name, text] of Object.entries(absurd)) {
      const { errors, steps } = parseFile('/c', {
        files: memoryFiles({ '/c': text }),
        host: 'h',
        system: 's',
      });
      assert.ok(errors.length <= 100, name);
      assert.ok(steps <= STEPS_MAX + 1, `${name}: ${steps}`);
    }
  });

  test('policies', () => {
    const original = Buffer.from('24 hourly, 7 daily, last 3, within 30d');
    for (let round = 0; round < 2000; round++) {
      const { keep, errors } = parsePolicy(mutate(original, generator(round + 1)).toString());
      assert.equal(keep === undefined, errors.length > 0, `round ${round}`);
    }
  });
});
