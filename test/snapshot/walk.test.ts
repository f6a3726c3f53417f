import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { BATCH_MAX_BYTES, BATCH_MAX_DESCRIPTORS } from '../../src/messages/scan.ts';
import { CHUNK_DATA, CHUNK_TREE, type ChunkRef, type MemoryChunks } from '../../src/snapshot/chunks.ts';
import { extents } from '../../src/snapshot/content.ts';
import { LeafCursor, readRoot } from '../../src/snapshot/directory.ts';
import { BATCH_FULL_DESCRIPTORS, BATCH_LONGEST_BYTES } from '../../src/snapshot/scanlog.ts';
import {
  BLOCK_DEVICE,
  CHARACTER_DEVICE,
  DIRECTORY,
  EntryReader,
  FIFO,
  FILE,
  FLAG_LINKED,
  FLAG_UNREADABLE,
  SOCKET,
  SYMLINK,
  typeOfMode,
} from '../../src/snapshot/tree.ts';
import * as sysFiles from '../../src/sys/files.ts';
import { setXattr } from '../../src/sys/xattrs.ts';
import { at, makeOdd, temporary } from './odd.ts';
import { type Taken, type TakeOptions, take } from './take.ts';

/** One entry as a test wants to see it. */
interface Seen {
  readonly type: number;
  readonly flags: number;
  readonly record: Buffer;
  readonly reader: EntryReader;
}

/** All entries of a tree by path, in latin1. */
async function listing(chunks: MemoryChunks, root: ChunkRef | undefined): Promise<Map<string, Seen>> {
  assert.ok(root !== undefined);
  const found = new Map<string, Seen>();
  const visit = async (directory: ChunkRef, prefix: string): Promise<void> => {
    const leaves = new LeafCursor(chunks, directory);
    for (let leaf = await leaves.next(); leaf !== undefined; leaf = await leaves.next()) {
      const entries = new EntryReader().load(leaf);
      while (entries.next()) {
        const name = prefix + entries.name().toString('latin1');
        const reader = new EntryReader().loadRecord(entries.buffer, entries.start, entries.end, true);
        found.set(name, { type: entries.type, flags: entries.flags, record: entries.record(), reader });
        const below = entries.type === DIRECTORY ? entries.directory() : undefined;
        if (below !== undefined) await visit(below, `${name}/`);
      }
    }
  };
  const directory = (await readRoot(chunks, root)).directory();
  assert.ok(directory !== undefined);
  await visit(directory, '');
  return found;
}

async function contentsOf(chunks: MemoryChunks, seen: Seen | undefined): Promise<string> {
  assert.ok(seen?.type === FILE);
  const parts: Buffer[] = [];
  for await (const { id, length } of extents(chunks, seen.reader.content()))
    parts.push(id === undefined ? Buffer.alloc(length) : await chunks.get(CHUNK_DATA, id, length));
  return Buffer.concat(parts).toString();
}

let directory = '';
let descriptorsBefore = 0;

/** Takes a second snapshot beside the first. */
function again(first: Taken, options: TakeOptions = {}): Promise<Taken> {
  return take(directory, { chunks: first.chunks, old: first.root, ...options });
}

function inside(name: string): string {
  return path.join(directory, name);
}

beforeEach(() => {
  directory = temporary();
  descriptorsBefore = fs.readdirSync('/proc/self/fd').length;
});
afterEach(() => {
  fs.rmSync(directory, { recursive: true, force: true });
  assert.equal(fs.readdirSync('/proc/self/fd').length, descriptorsBefore, 'descriptors were left open');
});

describe('a first walk', () => {
  test('has every odd kind as it is', async () => {
    await makeOdd(directory);
    assert.equal(setXattr(at(directory, 'old'), Buffer.from('user.test'), Buffer.from('value')), 0);
    assert.equal(setXattr(at(directory, 'empty'), Buffer.from('trusted.test'), Buffer.from([0, 255])), 0);
    assert.equal(setXattr(at(directory, 'symlink'), Buffer.from('trusted.link'), Buffer.from('l')), 0);
    const { chunks, root, events, counts } = await take(directory);
    const entries = await listing(chunks, root);
    const names = fs.readdirSync(Buffer.from(directory), { encoding: 'buffer' });
    assert.deepEqual([...entries.keys()].sort(), names.map((name) => name.toString('latin1')).sort());
    for (const name of names) {
      const { reader } = entries.get(name.toString('latin1')) as Seen;
      const stat = fs.lstatSync(at(directory, name), { bigint: true });
      assert.equal(reader.mode, Number(stat.mode));
      assert.equal(reader.type, typeOfMode(Number(stat.mode)));
      assert.equal(reader.uid, Number(stat.uid));
      assert.equal(reader.gid, Number(stat.gid));
      assert.equal(BigInt(reader.mtimeSec) * 1_000_000_000n + BigInt(reader.mtimeNsec), stat.mtimeNs);
      assert.equal(BigInt(reader.ctimeSec) * 1_000_000_000n + BigInt(reader.ctimeNsec), stat.ctimeNs);
      assert.equal((BigInt(reader.inoHigh) << 32n) | BigInt(reader.inoLow), stat.ino);
      assert.equal((reader.flags & FLAG_LINKED) !== 0, !stat.isDirectory() && stat.nlink > 1n);
      if (stat.isFile()) assert.equal(reader.size, Number(stat.size));
    }
    const get = (name: string): EntryReader => (entries.get(name) as Seen).reader;
    assert.equal(get('symlink').type, SYMLINK);
    assert.equal(get('symlink').target().toString(), 'nowhere/at all');
    assert.equal(get('longest symlink').target().length, 4095);
    assert.equal(get('fifo').type, FIFO);
    assert.equal(get('socket').type, SOCKET);
    assert.equal(get('character device').type, CHARACTER_DEVICE);
    assert.deepEqual([get('character device').deviceMajor, get('character device').deviceMinor], [1, 3]);
    assert.equal(get('block device').type, BLOCK_DEVICE);
    assert.deepEqual([get('block device').deviceMajor, get('block device').deviceMinor], [250, 70000]);
    assert.equal(get('old').mtimeSec, -86401);
    assert.deepEqual(get('old').xattrs(), [{ name: Buffer.from('user.test'), value: Buffer.from('value') }]);
    assert.deepEqual(
      get('empty')
        .xattrs()
        .map(({ value }) => [...value]),
      [[0, 255]],
    );
    assert.deepEqual(
      get('symlink too')
        .xattrs()
        .map(({ name }) => String(name)),
      ['trusted.link'],
    );
    assert.equal(await contentsOf(chunks, entries.get('linked too')), 'hard');
    assert.deepEqual(events, []);
    const { files, directories, others } = counts;
    assert.equal(files + directories + others, names.length);
    assert.equal(counts.new, files);
  });

  test('of an empty directory is a root with nothing in it', async () => {
    const { chunks, root, counts } = await take(directory);
    assert.equal((await listing(chunks, root)).size, 0);
    assert.equal(counts.new, 0);
    const entry = await readRoot(chunks, root as ChunkRef);
    assert.equal(entry.mode, fs.statSync(directory).mode);
  });

  test('fails where the path is not there', async () => {
    await assert.rejects(take(inside('missing')), /open .*missing/);
  });

  test('of several paths puts them under their names', async () => {
    for (const name of ['a/b/c', 'a/d', 'e']) fs.mkdirSync(inside(name), { recursive: true });
    fs.writeFileSync(inside('a/b/c/file'), 'c');
    fs.writeFileSync(inside('e/file'), 'e');
    const roots = [inside('e/file'), inside('a/b'), inside('a/b/c')];
    const taken = await take('/', { roots });
    const prefix = directory.slice(1);
    const entries = await listing(taken.chunks, taken.root);
    const below = [...entries.keys()].filter((name) => name.startsWith(`${prefix}/`));
    assert.deepEqual(
      below.map((name) => name.slice(prefix.length + 1)),
      ['a', 'a/b', 'a/b/c', 'a/b/c/file', 'e', 'e/file'],
    );
    const unchanged = await take('/', { roots, chunks: taken.chunks, old: taken.root });
    assert.deepEqual(unchanged.log, ['END 1']);
  });

  test('of a plain file has it in a directory of its own', async () => {
    fs.writeFileSync(inside('file'), 'alone');
    const taken = await take(inside('file'));
    const entries = await listing(taken.chunks, taken.root);
    assert.equal(await contentsOf(taken.chunks, entries.get(inside('file').slice(1))), 'alone');
  });

  test('goes deeper than descriptors and paths reach', async () => {
    const depth = 2500;
    let fd = fs.openSync(directory, fs.constants.O_DIRECTORY);
    for (let i = 0; i < depth; i++) {
      assert.equal(sysFiles.mkdirAt(fd, Buffer.from('directory'), 0o755), 0);
      if (i % 500 === 0) assert.equal(sysFiles.mkdirAt(fd, Buffer.from('sibling'), 0o755), 0);
      const next = sysFiles.openAt(fd, Buffer.from('directory'), fs.constants.O_DIRECTORY);
      fs.closeSync(fd);
      fd = next;
    }
    fs.closeSync(fd);
    const taken = await take(directory);
    assert.equal(taken.counts.directories, depth + depth / 500);
    assert.deepEqual(taken.events, []);
    assert.deepEqual((await again(taken)).log, ['END 1']);
  });
});

describe('a walk beside the parent', () => {
  function makeTree(): void {
    for (const name of ['a', 'a/x', 'b', 'c', 'c/deep', 'c/deep/er']) fs.mkdirSync(inside(name));
    for (const name of ['a/1', 'a/2', 'a/3', 'a/x/4', 'c/5', 'c/deep/er/6', 'd'])
      fs.writeFileSync(inside(name), name);
  }

  /** What a walk from scratch says is the truth. */
  async function agrees(taken: Taken): Promise<void> {
    const scratch = await take(directory);
    assert.deepEqual(taken.root, scratch.root);
  }

  test('of an unchanged tree says nothing but the end', async () => {
    await makeOdd(directory);
    makeTree();
    const first = await take(directory);
    const puts = first.chunks.puts;
    const second = await again(first);
    assert.deepEqual(second.log, ['END 1']);
    assert.equal(second.root, undefined);
    assert.equal(second.chunks.puts, puts);
    assert.equal(second.counts.unchanged, first.counts.new);
  });

  test('of one changed file tells that file, and runs', async () => {
    makeTree();
    const first = await take(directory);
    fs.writeFileSync(inside('a/2'), 'changed');
    const second = await again(first);
    assert.deepEqual(second.log, [
      'ENTER ',
      'ENTER a',
      'COPY 0 0 1',
      'FILE 2',
      'COPY 0 2 4',
      'LEAVE a',
      'COPY 0 1 4',
      'LEAVE ',
      'END 0',
    ]);
    assert.equal(second.counts.changed, 1);
    await agrees(second);
  });

  test('of a change deep inside leaves alone what is beside the way', async () => {
    makeTree();
    const first = await take(directory);
    fs.chmodSync(inside('c/deep/er/6'), 0o600);
    const second = await again(first);
    assert.deepEqual(second.log, [
      'ENTER ',
      'COPY 0 0 2',
      'ENTER c',
      'COPY 0 0 1',
      'ENTER deep',
      'ENTER er',
      'FILE 6',
      'LEAVE er',
      'LEAVE deep',
      'LEAVE c',
      'COPY 0 3 4',
      'LEAVE ',
      'END 0',
    ]);
    await agrees(second);
  });

  const CHANGES: Record<string, () => void> = {
    'a file vanished': () => fs.rmSync(inside('a/1')),
    'the last file vanished': () => fs.rmSync(inside('d')),
    'a directory vanished': () => fs.rmSync(inside('a'), { recursive: true }),
    'everything vanished': () => {
      for (const name of fs.readdirSync(directory)) fs.rmSync(inside(name), { recursive: true });
    },
    'a directory became a file': () => {
      fs.rmSync(inside('c'), { recursive: true });
      fs.writeFileSync(inside('c'), 'file');
    },
    'a directory became a symlink': () => {
      fs.renameSync(inside('c'), inside('z'));
      fs.symlinkSync('z', inside('c'));
    },
    'a file became a directory': () => {
      fs.rmSync(inside('a/1'));
      fs.mkdirSync(inside('a/1'));
      fs.writeFileSync(inside('a/1/in'), 'x');
    },
    'a directory was renamed': () => fs.renameSync(inside('a'), inside('bb')),
    'a directory was replaced by another of its name': () => {
      fs.rmSync(inside('a'), { recursive: true });
      fs.mkdirSync(inside('a'));
      fs.writeFileSync(inside('a/2'), 'other');
    },
    'a directory changed its mode alone': () => fs.chmodSync(inside('c/deep'), 0o700),
    'the root changed its mode alone': () => fs.chmodSync(directory, 0o711),
    'an empty directory came': () => fs.mkdirSync(inside('aa')),
    'a directory was emptied': () => fs.rmSync(inside('c/deep'), { recursive: true }),
    'an xattr was set': () =>
      assert.equal(setXattr(at(directory, 'b'), Buffer.from('user.a'), Buffer.from('1')), 0),
  };
  for (const [name, change] of Object.entries(CHANGES))
    test(`when ${name}`, async () => {
      makeTree();
      const first = await take(directory);
      change();
      await agrees(await again(first));
      await agrees(await again(first, { pieceBytes: 5 }));
    });

  test('of a big directory copies its leaves', async () => {
    for (let i = 0; i < 9000; i++) fs.writeFileSync(inside(`file ${String(i).padStart(6, '0')}`), '');
    fs.mkdirSync(inside('file 004000 directory'));
    const first = await take(directory);
    assert.deepEqual((await again(first)).log, ['END 1']);
    fs.writeFileSync(inside('file 008000'), 'changed');
    fs.rmSync(inside('file 000100'));
    const second = await again(first);
    assert.ok(second.log.length < 12, second.log.join('\n'));
    await agrees(second);
    for (let i = 0; i < 8999; i++) fs.rmSync(inside(`file ${String(i).padStart(6, '0')}`), { force: true });
    await agrees(await again(first));
  });

  test('reads again what changed so late that the clock may not show it', async () => {
    makeTree();
    const first = await take(directory);
    const changedSec = Math.floor(fs.statSync(inside('d')).ctimeMs / 1000);
    const untrusting = await again(first, { trustBeforeSec: changedSec - 5 });
    assert.equal(untrusting.log.filter((line) => line.startsWith('FILE')).length, 7);
    assert.deepEqual(untrusting.root, first.root);
    assert.deepEqual((await again(first, { trustBeforeSec: changedSec + 5 })).log, ['END 1']);
  });

  test('a damaged directory of the parent is taken anew', async () => {
    makeTree();
    const first = await take(directory);
    const entries = await listing(first.chunks, first.root);
    const lost = (entries.get('a') as Seen).reader.directory();
    assert.ok(lost !== undefined);
    first.chunks.chunks.delete(lost.id.toString('hex'));
    const damaged: string[] = [];
    const second = await again(first, { onDamage: (error) => damaged.push(String(error)) });
    assert.equal(damaged.length, 1);
    await agrees(second);
    await listing(second.chunks, second.root);
  });
});

describe('what is left out', () => {
  test('excludes, also of what the parent had', async () => {
    for (const name of ['keep', 'node_modules', 'node_modules/x']) fs.mkdirSync(inside(name));
    for (const name of ['keep/a.o', 'keep/a.c', 'node_modules/x/y']) fs.writeFileSync(inside(name), name);
    const whole = await take(directory);
    const excludes = ['*.o', 'node_modules', `${directory}/nothing`];
    const partial = await again(whole, { excludes });
    const entries = await listing(partial.chunks, partial.root);
    assert.deepEqual([...entries.keys()], ['keep', 'keep/a.c']);
    assert.equal(partial.counts.excluded, 2);
    assert.deepEqual(partial.root, (await take(directory, { excludes })).root);
    const absolute = await take(directory, { excludes: [inside('keep/a.c')] });
    assert.equal((await listing(absolute.chunks, absolute.root)).has('keep/a.c'), false);
  });

  test('one filesystem: what is mounted is an empty directory', async () => {
    const taken = await take('/', { roots: ['/dev'], oneFilesystem: true });
    const entries = await listing(taken.chunks, taken.root);
    const mounts = [...entries].filter(
      ([name, { type }]) =>
        type === DIRECTORY && fs.lstatSync(`/dev/${name}`).dev !== fs.statSync('/dev').dev,
    );
    for (const [mount] of mounts)
      assert.ok(![...entries.keys()].some((name) => name.startsWith(`${mount}/`)), `${mount} was entered`);
    assert.ok(mounts.length > 0, 'nothing is mounted below /dev');
  });
});

describe('a file system that changes meanwhile', () => {
  type Files = NonNullable<TakeOptions['files']>;

  /** Runs `act` once, just before a call of `call` that is about a file named `about`. */
  function interfere(call: 'openAt' | 'statAt', about: string, act: () => void): Files {
    let hasActed = false;
    const meet = (name: Uint8Array, start?: number, end?: number): void => {
      if (hasActed || Buffer.from(name.subarray(start, end)).toString() !== about) return;
      hasActed = true;
      act();
    };
    if (call === 'openAt')
      return {
        ...sysFiles,
        openAt: (dirfd, name, flags, mode, start, end) => {
          meet(name, start, end);
          return sysFiles.openAt(dirfd, name, flags, mode, start, end);
        },
      };
    return {
      ...sysFiles,
      statAt: (dirfd, name, stat, start, end) => {
        meet(name, start, end);
        return sysFiles.statAt(dirfd, name, stat, start, end);
      },
    };
  }

  test('a directory swapped for a symlink is not followed', async () => {
    fs.mkdirSync(inside('source/victim'), { recursive: true });
    fs.writeFileSync(inside('source/victim/inner'), 'inside');
    fs.mkdirSync(inside('outside'));
    fs.writeFileSync(inside('outside/inner'), 'secret');
    const files = interfere('openAt', 'victim', () => {
      fs.renameSync(inside('source/victim'), inside('source/victim.moved'));
      fs.symlinkSync(inside('outside'), inside('source/victim'));
    });
    const taken = await take(inside('source'), { files });
    const entries = await listing(taken.chunks, taken.root);
    assert.equal(entries.get('victim')?.type, SYMLINK);
    assert.equal(entries.has('victim/inner'), false);
    for (const { data } of taken.chunks.chunks.values()) assert.ok(!data.includes('secret'));
  });

  test('a file swapped for a fifo, a symlink or another file is taken as what it is then', async () => {
    const swaps: Record<string, () => void> = {
      [FIFO]: () => assert.equal(sysFiles.mknodAt(-100, at(directory, 'file'), 0o010600, 0, 0), 0),
      [SYMLINK]: () => fs.symlinkSync('/etc/passwd', inside('file')),
      [FILE]: () => fs.writeFileSync(inside('file'), 'another'),
      [DIRECTORY]: () => fs.mkdirSync(inside('file')),
    };
    // one that is new is opened by what its directory says, one that changed after it was looked at
    for (const isKnown of [false, true])
      for (const [type, swap] of Object.entries(swaps)) {
        fs.writeFileSync(inside('file'), 'first');
        const first = isKnown ? await take(directory) : undefined;
        if (isKnown) fs.writeFileSync(inside('file'), 'changed');
        const files = interfere('openAt', 'file', () => {
          fs.renameSync(inside('file'), inside('zzz'));
          swap();
        });
        const taken = first === undefined ? await take(directory, { files }) : await again(first, { files });
        const entries = await listing(taken.chunks, taken.root);
        assert.equal(entries.get('file')?.type, Number(type));
        assert.deepEqual(taken.events, []);
        fs.rmSync(inside('file'), { recursive: true });
        fs.rmSync(inside('zzz'), { force: true });
      }
  });

  test('what is replaced again and again is told, and left', async () => {
    fs.writeFileSync(inside('file'), 'first');
    fs.writeFileSync(inside('other'), 'other');
    const first = await take(directory);
    fs.writeFileSync(inside('file'), 'changed');
    const files: Files = {
      ...sysFiles,
      openAt: (dirfd, name, flags, mode, start, end) => {
        if (Buffer.from(name.subarray(start, end)).toString() !== 'file')
          return sysFiles.openAt(dirfd, name, flags, mode, start, end);
        fs.copyFileSync(inside('file'), inside('copy'));
        fs.renameSync(inside('copy'), inside('file'));
        return sysFiles.openAt(dirfd, name, flags, mode, start, end);
      },
    };
    const taken = await again(first, { files });
    assert.deepEqual([...(await listing(taken.chunks, taken.root)).keys()], ['other']);
    assert.match(taken.events.join(), /file: it was replaced again and again/);
    assert.equal(taken.counts.unreadable, 1);
  });

  test('what vanishes is absent; between look and opening, it is told', async () => {
    for (const name of ['early', 'late', 'stays']) fs.writeFileSync(inside(name), name);
    const first = await take(directory);
    fs.writeFileSync(inside('late'), 'changed');
    const early = interfere('statAt', 'early', () => fs.rmSync(inside('early')));
    const late = interfere('openAt', 'late', () => fs.rmSync(inside('late')));
    const taken = await again(first, { files: { ...early, openAt: late.openAt } });
    assert.deepEqual([...(await listing(taken.chunks, taken.root)).keys()], ['stays']);
    assert.deepEqual(taken.events, [`${inside('late')}: vanished before it could be opened`]);
    assert.equal(taken.counts.vanished, 1);
    assert.equal(taken.counts.unreadable, 0);
  });

  test('what cannot be opened is in the snapshot without contents, and tried again', async () => {
    fs.mkdirSync(inside('closed'));
    for (const name of ['a', 'closed/b']) fs.writeFileSync(inside(name), 'x');
    const refuse: Files = {
      ...sysFiles,
      openAt: (dirfd, name, flags, mode, start, end) => {
        const text = Buffer.from(name.subarray(start, end)).toString();
        if (text === 'a' || text === 'closed') return -13;
        return sysFiles.openAt(dirfd, name, flags, mode, start, end);
      },
    };
    const first = await take(directory, { files: refuse });
    assert.deepEqual(first.events, [
      `${inside('a')}: open: permission denied`,
      `${inside('closed')}: open: permission denied`,
    ]);
    const entries = await listing(first.chunks, first.root);
    assert.deepEqual([...entries.keys()], ['a', 'closed']);
    for (const { flags } of entries.values()) assert.equal(flags, FLAG_UNREADABLE);
    const second = await again(first, { files: refuse });
    assert.deepEqual(second.root, first.root);
    const third = await again(first);
    assert.deepEqual(third.root, (await take(directory)).root);
    // and what could be read before is not lost silently
    const fourth = await again(third, { files: refuse });
    assert.deepEqual(fourth.log, [...unreadableDirectoryLog()]);
  });

  function* unreadableDirectoryLog(): Generator<string> {
    yield `EVENT ${inside('closed')} open: permission denied`;
    yield 'ENTER ';
    yield 'COPY 0 0 1';
    yield 'ENTER closed';
    yield 'LEAVE closed';
    yield 'LEAVE ';
    yield 'END 0';
  }

  test('a full descriptor table ends the walk', async () => {
    fs.writeFileSync(inside('a'), 'x');
    const full: Files = {
      ...sysFiles,
      openAt: (dirfd, name, flags, mode, start, end) =>
        Buffer.from(name.subarray(start, end)).toString() === 'a'
          ? -24
          : sysFiles.openAt(dirfd, name, flags, mode, start, end),
    };
    await assert.rejects(take(directory, { files: full }), /openat/);
  });

  test('a directory moved away while deep inside it: the rest is taken', async () => {
    const depth = 100;
    const names = Array.from({ length: depth }, (_, i) => `d${i}`);
    fs.mkdirSync(inside(names.join('/')), { recursive: true });
    for (let i = 0; i < depth; i++) fs.writeFileSync(`${inside(names.slice(0, i + 1).join('/'))}/z`, 'z');
    fs.writeFileSync(inside('z'), 'z');
    // when the deepest is read, d20 goes out of d19, which is closed by then
    const files = interfere('openAt', 'z', () => {
      fs.renameSync(inside(names.slice(0, 21).join('/')), inside('moved'));
    });
    const taken = await take(directory, { files });
    const entries = await listing(taken.chunks, taken.root);
    assert.ok(entries.has('z'));
    assert.ok(entries.has(`${names.slice(0, 20).join('/')}/z`), 'd19 is read to its end');
    assert.ok(entries.has(`${names.slice(0, 21).join('/')}/z`), 'd20 is found through its child');
  });
});

describe('the two sides', () => {
  test('no batch is longer than a message may be', () => {
    assert.ok(BATCH_LONGEST_BYTES <= BATCH_MAX_BYTES);
    assert.ok(BATCH_FULL_DESCRIPTORS <= BATCH_MAX_DESCRIPTORS);
  });

  test('a walker that is cancelled stops, and closes what it had', async () => {
    for (let i = 0; i < 2000; i++) fs.writeFileSync(inside(`${i}`), 'x');
    let opened = 0;
    const files: TakeOptions['files'] = {
      ...sysFiles,
      openAt: (dirfd, name, flags, mode, start, end) => {
        opened++;
        return sysFiles.openAt(dirfd, name, flags, mode, start, end);
      },
    };
    await assert.rejects(take(directory, { files, failAfterBatches: 2 }), /builder gave up/);
    assert.ok(opened < 1500, `${opened} files opened`);
  });

  test('descriptors under way are bounded', async () => {
    for (let i = 0; i < 3000; i++) fs.writeFileSync(inside(`${i}`), 'x');
    const taken = await take(directory);
    assert.equal(taken.counts.files, 3000);
    assert.ok(taken.mostDescriptors <= 512, `${taken.mostDescriptors} descriptors`);
  });

  test('a tree node of the parent may be longer than the window', async () => {
    fs.mkdirSync(inside('big'));
    for (let i = 0; i < 3000; i++) fs.writeFileSync(inside(`big/${String(i).padStart(250, '0')}`), '');
    const first = await take(directory);
    const biggest = Math.max(...[...first.chunks.chunks.values()].map(({ data }) => data.length));
    assert.ok(
      biggest > 256 << 10 && [...first.chunks.chunks.values()].some(({ kind }) => kind === CHUNK_TREE),
    );
    assert.deepEqual((await again(first, { pieceBytes: 1000 })).log, ['END 1']);
  });
});
