import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { UnknownVersion } from '../../src/keys/frame.ts';
import {
  decodeLogEntry,
  encodeLogEntry,
  LOG_BEGINNING,
  Log,
  type LogEntry,
  logDigest,
  logName,
  parseLogName,
} from '../../src/repository/log.ts';
import { snapshotName } from '../../src/repository/snapshot.ts';

const CHAIN = 'a'.repeat(32);
const damaged = { name: 'Failure', kind: 'damaged' };

/** A chain as plaintexts, one entry for each of these. */
function chainOf(...steps: [LogEntry['what'], ...Buffer[]][]): Buffer[] {
  let previous: Buffer = LOG_BEGINNING;
  return steps.map(([what, ...snapshots], i) => {
    const plaintext = encodeLogEntry({ what, timeMs: 1000 + i, previous, snapshots });
    previous = logDigest(plaintext);
    return plaintext;
  });
}

function logOf(entries: readonly Buffer[], chain = CHAIN, log = new Log()): Log {
  entries.forEach((plaintext, i) => {
    log.add(logName(chain, i + 1), plaintext);
  });
  return log;
}

const [a, b, c] = [randomBytes(16), randomBytes(16), randomBytes(16)] as const;

describe('log entries', () => {
  test('round trip', () => {
    const entry: LogEntry = {
      what: 'removed',
      timeMs: 2 ** 41,
      previous: randomBytes(32),
      snapshots: [a, b],
    };
    assert.deepEqual(decodeLogEntry(encodeLogEntry(entry), logName(CHAIN, 1)), entry);
    assert.deepEqual(parseLogName(logName(CHAIN, 0x12345)), { chain: CHAIN, sequence: 0x12345 });
  });

  test('every truncation is damage, and so are versions and contents that are unknown', () => {
    const [plaintext = Buffer.alloc(0)] = chainOf(['made', a, b]);
    for (let length = 0; length < plaintext.length; length++)
      assert.throws(() => decodeLogEntry(plaintext.subarray(0, length), 'x'), damaged);
    for (const [at, value] of [
      [0, 0],
      [1, 0],
      [1, 4],
      [2, 1],
      [4, 3],
      [7, 255],
    ] as const) {
      const bad = Buffer.from(plaintext);
      bad[at] = value;
      assert.throws(() => decodeLogEntry(bad, 'x'), damaged);
    }
    const later = Buffer.from(plaintext);
    later[0] = 2;
    assert.throws(() => decodeLogEntry(later, 'x'), UnknownVersion);
  });

  test('an entry without snapshots, or with too many, is not made', () => {
    const entry = { what: 'made', timeMs: 0, previous: LOG_BEGINNING } as const;
    assert.throws(() => encodeLogEntry({ ...entry, snapshots: [] }), { name: 'Failure' });
    assert.throws(() => encodeLogEntry({ ...entry, snapshots: Array(4097).fill(a) }), { name: 'Failure' });
  });
});

describe('log', () => {
  test('a checkpoint remembers what was removed, so that it is not copied here again', () => {
    const log = logOf(chainOf(['made', a, b], ['removed', a], ['made', c]));
    const { snapshots, removed = [] } = log.checkpoint(CHAIN) ?? { snapshots: [] };
    assert.deepEqual(snapshots, [b, c]);
    assert.deepEqual(removed, [a]);
    const { digest = LOG_BEGINNING } = log.head(CHAIN) ?? {};
    log.add(
      logName(CHAIN, 4),
      encodeLogEntry({ what: 'checkpoint', timeMs: 2000, previous: digest, snapshots, removed }),
    );
    assert.deepEqual(log.snapshots('removed'), new Set([snapshotName(a)]));
    assert.deepEqual(log.vanished(new Set([b, c].map(snapshotName))), []);
  });

  test('a whole log has no problems, and names what vanished', () => {
    const log = logOf(chainOf(['made', a], ['made', b], ['removed', a], ['made', c]));
    assert.deepEqual(log.verify(log.heads()), []);
    assert.deepEqual(log.vanished(new Set([b, c].map(snapshotName))), []);
    assert.deepEqual(log.vanished(new Set([snapshotName(c)])), [snapshotName(b)]);
  });

  test('what another host removed is removed', () => {
    const log = logOf(chainOf(['made', a]));
    logOf(chainOf(['removed', a]), 'b'.repeat(32), log);
    assert.deepEqual(log.vanished(new Set()), []);
  });

  test('a missing entry is named, wherever it was', () => {
    const entries = chainOf(['made', a], ['removed', a], ['made', b], ['made', c]);
    const head = logOf(entries).heads();
    for (const [missing, expected] of [
      [0, 'entry is missing'],
      [1, 'entry is missing'],
      [3, 'the log ends at entry 3: this is an older state of the repository'],
    ] as const) {
      const log = new Log();
      entries.forEach((plaintext, i) => {
        if (i !== missing) log.add(logName(CHAIN, i + 1), plaintext);
      });
      assert.deepEqual(log.verify(head), [{ object: `log/${logName(CHAIN, missing + 1)}`, text: expected }]);
    }
  });

  test('an entry of another past does not follow', () => {
    const log = logOf(chainOf(['made', a], ['made', b]));
    const [, , other = Buffer.alloc(0)] = chainOf(['made', a], ['made', c], ['made', b]);
    log.add(logName(CHAIN, 3), other);
    assert.deepEqual(log.verify(), [
      { object: `log/${logName(CHAIN, 3)}`, text: 'it does not follow from the entry before it' },
    ]);
  });

  test('what is remembered is compared: another repository, another past of the same length', () => {
    const before = logOf(chainOf(['made', a], ['made', b])).heads();
    assert.match(logOf(chainOf(['made', a], ['made', c])).verify(before)[0]?.text ?? '', /another state/);
    assert.match(new Log().verify(before)[0]?.text ?? '', /another repository/);
    assert.deepEqual(logOf(chainOf(['made', a], ['made', b], ['made', c])).verify(before), []);
  });

  test('a damaged entry is told once, and not as missing', () => {
    const entries = chainOf(['made', a], ['made', b], ['made', c]);
    const log = new Log();
    log.add(logName(CHAIN, 1), entries[0] ?? Buffer.alloc(0));
    log.addDamaged(logName(CHAIN, 2), 'not authentic');
    log.add(logName(CHAIN, 3), entries[2] ?? Buffer.alloc(0));
    assert.deepEqual(log.verify(), [{ object: `log/${logName(CHAIN, 2)}`, text: 'not authentic' }]);
  });

  test('entries that are gone from the repository are forgotten', () => {
    const entries = chainOf(['made', a], ['made', b]);
    const log = logOf(entries);
    const heads = log.heads();
    log.retain(new Set([logName(CHAIN, 1)]));
    assert.equal(log.has(logName(CHAIN, 2)), false);
    assert.match(log.verify(heads)[0]?.text ?? '', /older state/);
  });
});
