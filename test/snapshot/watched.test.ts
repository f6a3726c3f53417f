/** Watched sources: what a walk of marked directories gives is what a walk of all gives. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { describe as say } from '../../src/error.ts';
import { decodeVisits, encodeVisits, type Visit } from '../../src/snapshot/visits.ts';
import { type Base, Watched, type WatchedOptions } from '../../src/snapshot/watched.ts';
import { Inotify } from '../../src/sys/inotify.ts';
import { Tree } from './mutate.ts';
import { temporary } from './odd.ts';
import { Random } from './random.ts';
import { type Taken, type TakeOptions, take } from './take.ts';

const ROOT = fs.openSync('/', 'r');
const DIRECTORY = process.cwd();
/** One for all, as each keeps a thread waiting; those that do not know a watch pass over it. */
const takers: ((watch: number, mask: number) => void)[] = [];
const inotify = new Inotify(
  (watch, mask) => {
    for (const taker of takers) taker(watch, mask);
  },
  (error) => {
    throw error;
  },
);
after(() => {
  process.chdir(DIRECTORY);
  inotify.close();
});

/** A watched tree, and snapshots of it, one the parent of the next. */
class Source {
  readonly top = temporary();
  readonly states: (string | undefined)[] = [];
  readonly watched: Watched;
  changes = 0;
  nowMs = 0;
  wallMs = 1e12;
  base: Base | undefined;
  taken: Taken | undefined;
  #serial = 0;

  constructor(options: Partial<WatchedOptions> = {}) {
    this.watched = new Watched({
      settleMs: 1,
      scanMs: 86_400_000,
      rootFd: ROOT,
      open: (taker) => {
        takers.push(taker);
        return inotify;
      },
      now: () => this.nowMs,
      wallClock: () => this.wallMs,
      onChange: () => this.changes++,
      onState: (_, failure) => this.states.push(failure && say(failure)),
      ...options,
    });
  }

  /** The next snapshot; whether it was one of marked directories. */
  async take(options: TakeOptions = {}): Promise<{ taken: Taken; isFull: boolean; visited: number }> {
    const before = this.taken;
    const walk = await this.watched.begin(this.base, before && String(this.#serial));
    const old = before && { chunks: before.chunks, old: before.root };
    const next = await take(this.top, { ...options, ...old, watch: { source: this.watched, walk } });
    const taken = { ...next, root: next.root ?? before?.root };
    this.taken = taken;
    this.base = this.watched.done(walk, String(++this.#serial), next.counts.unreadable);
    return { taken, isFull: walk.visits === undefined, visited: walk.visits ? count(walk.visits) : -1 };
  }

  /** The last snapshot is what one from scratch would be. */
  async assertWhole(options: TakeOptions = {}, message = ''): Promise<void> {
    const scratch = await take(this.top, options);
    assert.deepEqual(this.taken?.root, scratch.root, `${message}\n${this.taken?.log.join('\n')}`);
    for (const key of ['files', 'directories', 'others', 'bytes', 'excluded'] as const)
      assert.equal(this.taken?.counts[key], scratch.counts[key], `${message} ${key}`);
  }

  path(name: string): string {
    return path.join(this.top, name);
  }

  write(name: string, contents: string): void {
    fs.mkdirSync(path.dirname(this.path(name)), { recursive: true });
    fs.writeFileSync(this.path(name), contents);
  }

  end(): void {
    takers.length = 0;
    fs.rmSync(this.top, { recursive: true });
  }
}

function count({ children }: Visit): number {
  return [...children.values()].reduce((sum, child) => sum + count(child), 1);
}

describe('a chain of snapshots of a watched tree', () => {
  for (let seed = 1; seed <= 4; seed++)
    test(`is as good as each from scratch, seed ${seed}`, async () => {
      const source = new Source();
      try {
        const random = new Random(seed);
        const tree = new Tree(source.top, random);
        tree.mutate(200);
        await source.take();
        for (let round = 0; round < 25; round++) {
          tree.mutate(random.below(6));
          const { isFull } = await source.take();
          assert.equal(isFull, false, source.states.join());
          await source.assertWhole({}, `round ${round}`);
        }
      } finally {
        source.end();
      }
    });

  test('visits what changed and what is above it, and nothing else', async () => {
    const source = new Source();
    for (let i = 0; i < 200; i++) source.write(`d${i % 20}/s${i}/file`, `${i}`);
    await source.take();
    source.write('d7/s27/file', 'changed');
    const { taken, visited } = await source.take();
    assert.equal(visited, 3);
    assert.deepEqual(
      taken.log.filter((line) => !line.startsWith('COPY')),
      ['ENTER ', 'ENTER d7', 'ENTER s27', 'FILE file', 'LEAVE s27', 'LEAVE d7', 'LEAVE ', 'END 0'],
    );
    await source.assertWhole();
    const { taken: same, visited: none } = await source.take();
    assert.deepEqual([same.log, none], [['END 1'], 1]);
    assert.deepEqual([same.counts.unchanged, same.counts.directories], [200, 220]);
    source.end();
  });

  test('a directory that is made, filled, moved and removed is seen as it is', async () => {
    const source = new Source();
    source.write('a/x/file', '1');
    source.write('b/file', '2');
    await source.take();
    for (const step of [
      () => source.write('a/new/deep/er/file', 'made and filled before it could be watched'),
      () => source.write('a/new/deep/er/file', 'and changed'),
      () => fs.renameSync(source.path('a/new'), source.path('b/moved')),
      () => source.write('b/moved/deep/er/file', 'changed where it is now'),
      () => fs.renameSync(source.path('b/moved/deep'), source.path('a/deep')),
      () => fs.renameSync(source.path('a/x'), source.path('b/x')),
      () => source.write('b/x/file', 'changed'),
      () => fs.rmSync(source.path('a'), { recursive: true }),
      () => fs.chmodSync(source.path('b'), 0o700),
      () => fs.chmodSync(source.top, 0o711),
    ]) {
      step();
      const { isFull } = await source.take();
      assert.equal(isFull, false);
      await source.assertWhole({}, String(step));
    }
    source.end();
  });

  test('what is left out is not watched', async () => {
    const source = new Source();
    source.write('in/file', '1');
    source.write('out/file', '2');
    const options = { excludes: ['out/', '*.tmp'] };
    await source.take(options);
    source.write('out/file', '3');
    assert.equal((await source.take(options)).visited, 1);
    source.write('in/a.tmp', '4');
    assert.equal((await source.take(options)).visited, 2);
    await source.assertWhole(options);
    source.end();
  });
});

describe('a change is told of', () => {
  test('again where the walk that saw it came to nothing, and to all who have it walked', async () => {
    const told: (() => void)[] = [];
    const source = new Source({ onChange: () => told.shift()?.(), now: () => performance.now() });
    const next = (): Promise<void> => new Promise((resolve) => told.push(resolve));
    const awake = setInterval(() => undefined, 1000);
    source.watched.joined();
    source.write('a/file', '1');
    await source.take();
    let change = next();
    source.write('a/file', '2');
    await change;
    change = next();
    const walk = await source.watched.begin(source.base, undefined);
    assert.equal(walk.isOwed, true);
    source.watched.abandoned(walk);
    await change;
    await source.take();
    source.watched.joined();
    change = next();
    source.write('a/file', '3');
    await source.take();
    await change;
    clearInterval(awake);
    source.end();
  });
});

describe('all is visited', () => {
  test('after a change of what has other names: they do not tell', async () => {
    const source = new Source();
    source.write('a/file', '1');
    fs.mkdirSync(source.path('b'));
    fs.linkSync(source.path('a/file'), source.path('b/link'));
    source.write('c/file', '1');
    await source.take();
    source.write('c/file', '2');
    assert.equal((await source.take()).isFull, false);
    source.write('a/file', 'more than that');
    assert.equal((await source.take()).isFull, false);
    assert.equal((await source.take()).isFull, true);
    await source.assertWhole();
    fs.rmSync(source.path('b/link'));
    assert.equal((await source.take()).isFull, false);
    assert.equal((await source.take()).isFull, true);
    await source.assertWhole();
    source.end();
  });

  test('when a day is over, when a clock was set, after another parent, and after an overflow', async () => {
    let overflow: (() => void) | undefined;
    const source = new Source({
      open: (taker) => {
        takers.push(taker);
        overflow = () => taker(-1, 0x4000);
        return inotify;
      },
    });
    source.write('a/file', '1');
    const doubts: (() => void)[] = [
      () => {
        source.nowMs += 86_400_001;
        source.wallMs += 86_400_001;
      },
      () => {
        source.wallMs -= 3_600_000;
      },
      () => {
        source.base = undefined;
      },
      () => overflow?.(),
    ];
    await source.take();
    for (const doubt of doubts) {
      assert.equal((await source.take()).isFull, false);
      doubt();
      assert.equal((await source.take()).isFull, true);
    }
    source.end();
  });

  test('when the time of the last one is over, though nothing changed', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const source = new Source({ scanMs: 50, onChange: resolve, now: () => performance.now() });
    // an answer is awaited, and timers of watches keep nobody alive
    const awake = setInterval(() => undefined, 1000);
    source.write('a/file', '1');
    await source.take();
    await promise;
    clearInterval(awake);
    assert.equal((await source.take()).isFull, true);
    source.end();
  });

  test('where there are no watches left: that is said, and tried again later', async () => {
    let left = 2;
    const source = new Source({
      open: (taker) => {
        takers.push(taker);
        return {
          addCurrent: () => (left-- > 0 ? inotify.addCurrent() : -28),
          remove: (watch) => inotify.remove(watch),
          look: () => inotify.look(),
        };
      },
    });
    source.write('a/file', '1');
    source.write('b/file', '1');
    await source.take();
    assert.match(source.states.join(), /inotify_add_watch/);
    source.write('a/file', '2');
    assert.equal((await source.take()).isFull, true);
    await source.assertWhole();
    left = 100;
    source.nowMs += 3_600_001;
    source.wallMs += 3_600_001;
    await source.take();
    assert.equal(source.states.at(-1), undefined);
    source.write('a/file', '3');
    assert.equal((await source.take()).isFull, false);
    await source.assertWhole();
    source.end();
  });
});

describe('the list of directories', () => {
  const leaf = { listed: true, children: new Map() };
  const visits: Visit = {
    listed: false,
    children: new Map([
      [
        'a',
        {
          listed: false,
          children: new Map([
            ['\xff', leaf],
            ['b', leaf],
          ]),
        },
      ],
      ['c', leaf],
    ]),
  };

  test('is the same after a round trip', () => {
    assert.deepEqual(decodeVisits(encodeVisits(visits)), visits);
  });

  test('is refused where it is cut off or malformed, and never more than that', () => {
    const bytes = encodeVisits(visits);
    for (let end = 0; end < bytes.length; end++)
      assert.throws(
        () => decodeVisits(bytes.subarray(0, end)),
        (error) => /malformed list/.test(say(error)),
      );
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      try {
        assert.ok(decodeVisits(changed));
      } catch (error) {
        assert.match(say(error), /malformed list/);
      }
    }
  });
});
