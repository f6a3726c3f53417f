/** The log as hosts keep it: it stays short, loses nothing by that, and outlives damage and kills. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { Journal } from '../../src/repository/journal.ts';
import { type LogHead, logName, parseLogName } from '../../src/repository/log.ts';
import { snapshotName } from '../../src/repository/snapshot.ts';

const [ONE, TWO, THREE] = ['1'.repeat(32), '2'.repeat(32), '3'.repeat(32)] as const;
const NO_ID = Buffer.alloc(16);

/** A repository: its log as plaintexts, and its snapshots. */
class Place {
  readonly log = new Map<string, Buffer>();
  readonly damaged = new Set<string>();
  readonly snapshots = new Set<string>();
  heads: readonly LogHead[] = [];
  /** removals of entries until the process dies */
  removals = Number.POSITIVE_INFINITY;
  /** called once, after the next listing of the log */
  onListed: (() => Promise<void>) | undefined;

  journal(chain: string, entriesMax = 8): Journal {
    return new Journal(chain, {
      list: async (kind) => {
        const names = [...(kind === 'log' ? this.log.keys() : this.snapshots)];
        const listed = kind === 'log' ? this.onListed : undefined;
        if (listed !== undefined) this.onListed = undefined;
        await listed?.();
        return names;
      },
      open: async (names) =>
        names.map((name) =>
          this.damaged.has(name) ? { why: 'not authentic' } : { data: this.log.get(name) },
        ),
      add: async (name, plaintext) => {
        if (this.log.has(name)) return false;
        this.log.set(name, plaintext);
        return true;
      },
      remove: async (names) => {
        for (const name of names) {
          if (this.removals-- <= 0) throw new Error('killed');
          this.log.delete(name);
        }
      },
      remember: async (heads) => {
        this.heads = heads;
      },
      now: () => 1000,
      entriesMax,
    });
  }

  async make(journal: Journal): Promise<Buffer> {
    const id = randomBytes(16);
    this.snapshots.add(snapshotName(id));
    await journal.append('made', [id]);
    return id;
  }

  async remove(journal: Journal, id: Buffer): Promise<void> {
    await journal.append('removed', [id]);
    this.snapshots.delete(snapshotName(id));
  }
}

describe('journal', () => {
  test('a log stays short, and still tells what was removed from what vanished', async () => {
    const place = new Place();
    const [one, two] = [place.journal(ONE), place.journal(TWO)];
    const ids: Buffer[] = [];
    for (let i = 0; i < 60; i++) {
      const [writer, remover] = i % 2 === 0 ? [one, two] : [two, one];
      const id = await place.make(writer);
      ids.push(id);
      if (i % 3 > 0) await place.remove(remover, id);
      assert.ok(place.log.size <= 2 * 10, `${place.log.size} entries`);
      assert.deepEqual(await place.journal(ONE).verify(), []);
    }
    // whoever remembers any head of them all has nothing to say
    const reader = place.journal(THREE);
    reader.recall(place.heads);
    assert.deepEqual(await reader.verify(), []);
    const [kept = NO_ID] = ids;
    place.snapshots.delete(snapshotName(kept));
    for (const journal of [one, two, reader, place.journal(ONE)])
      assert.deepEqual(
        (await journal.verify()).map(({ object }) => object),
        [`snapshots/${snapshotName(kept)}`],
      );
    await one.compact();
    await two.compact();
    assert.equal((await one.verify()).length, 1, 'it is not forgotten by a checkpoint');
    assert.equal((await one.accept()).length, 1);
    for (const journal of [one, two, reader]) assert.deepEqual(await journal.verify(), []);
  });

  test('a kill between checkpoint and removal leaves entries that count for nothing', async () => {
    for (let removals = 0; removals < 8; removals++) {
      const place = new Place();
      const journal = place.journal(ONE);
      const ids: Buffer[] = [];
      place.removals = removals;
      await assert.rejects(async () => {
        for (let i = 0; i < 20; i++) ids.push(await place.make(journal));
      }, /killed/);
      place.removals = Number.POSITIVE_INFINITY;
      const next = place.journal(ONE);
      assert.deepEqual(await next.verify(), []);
      await place.remove(next, ids[0] ?? NO_ID);
      assert.deepEqual(await place.journal(ONE).verify(), []);
      await next.compact();
      await next.compact();
      assert.deepEqual(await place.journal(TWO).verify(), []);
      assert.ok(place.log.size <= 3, `${place.log.size} entries`);
    }
  });

  test('entries that go between listing and reading are no loss', async () => {
    const place = new Place();
    const writer = place.journal(ONE, 100);
    for (let i = 0; i < 10; i++) await place.make(writer);
    const reader = place.journal(TWO);
    place.onListed = () => place.journal(ONE, 4).compact();
    assert.deepEqual(await reader.verify(), []);
    assert.equal(place.log.size, 1);
    assert.deepEqual(await reader.verify(), []);
  });

  test('a damaged entry is named, stops nobody, and is no more once it is accepted', async () => {
    const place = new Place();
    const journal = place.journal(ONE, 100);
    for (let i = 0; i < 5; i++) await place.make(journal);
    for (const sequence of [2, 5]) place.damaged.add(logName(ONE, sequence));
    const next = place.journal(ONE, 10);
    next.recall(place.heads);
    const expected = [2, 5].map((sequence) => `log/${logName(ONE, sequence)}`);
    const objects = async () => (await next.verify()).map(({ object }) => object).sort();
    assert.deepEqual(await objects(), expected);
    await place.make(next);
    assert.equal(Math.max(...[...place.log.keys()].map((name) => parseLogName(name).sequence)), 6);
    assert.deepEqual(await objects(), expected);
    await next.compact();
    assert.deepEqual(await objects(), expected, 'it is not forgotten by a checkpoint');
    await next.accept();
    for (const each of [next, place.journal(TWO)]) assert.deepEqual(await each.verify(), []);
  });

  test('an entry that is damaged after it was read is found by reading again, and accepting loses nothing', async () => {
    const place = new Place();
    const journal = place.journal(ONE, 100);
    const ids: Buffer[] = [];
    for (let i = 0; i < 4; i++) ids.push(await place.make(journal));
    await place.remove(journal, ids[1] ?? NO_ID);
    place.damaged.add(logName(ONE, 2));
    assert.deepEqual(await journal.verify(), []);
    assert.deepEqual(
      (await journal.verify(true)).map(({ object }) => object),
      [`log/${logName(ONE, 2)}`],
    );
    await journal.accept();
    const other = place.journal(TWO);
    assert.deepEqual(await other.verify(), []);
    place.snapshots.delete(snapshotName(ids[0] ?? NO_ID));
    assert.equal((await other.verify()).length, 1, 'what the damaged entry said is still known');
  });

  test('an older state is told until it is accepted', async () => {
    const place = new Place();
    const journal = place.journal(ONE);
    for (let i = 0; i < 3; i++) await place.make(journal);
    const [log, snapshots] = [new Map(place.log), new Set(place.snapshots)];
    for (let i = 0; i < 3; i++) await place.make(journal);
    const { heads } = place;
    place.log.clear();
    for (const [name, entry] of log) place.log.set(name, entry);
    place.snapshots.clear();
    for (const name of snapshots) place.snapshots.add(name);
    const next = place.journal(ONE);
    next.recall(heads);
    assert.match((await next.verify())[0]?.text ?? '', /ends at entry 3: this is an older state/);
    for (let i = 0; i < 20; i++) await place.make(next);
    assert.match((await next.verify())[0]?.text ?? '', /another state/);
    const again = place.journal(ONE);
    again.recall(place.heads);
    assert.match((await again.verify())[0]?.text ?? '', /another state/);
    await again.accept();
    assert.deepEqual(await again.verify(), []);
    const last = place.journal(ONE);
    last.recall(place.heads);
    assert.deepEqual(await last.verify(), []);
  });
});
