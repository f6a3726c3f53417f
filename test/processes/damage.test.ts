/** A repository that is damaged, byte by byte and object by object: it is found and named, the rest restores, no byte is wrong. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { events, Rig } from './daemon.ts';
import { assertSame, noise, objects } from './tree.ts';

// all of them in one pack
const FILES = 14;

describe('damage', () => {
  let rig: Rig;
  let id: string;
  before(async () => {
    rig = new Rig();
    rig.configureUsual();
    fs.mkdirSync(rig.path('home', 'sub'));
    for (let i = 0; i < FILES; i++) fs.writeFileSync(nameOf(i), contentOf(i));
    await rig.start();
    await rig.ok('create');
    id = await rig.push();
    await rig.stop();
    fs.cpSync(rig.path('repository'), rig.path('pristine'), { recursive: true, preserveTimestamps: true });
  });
  after(() => rig.end());

  const nameOf = (i: number): string => path.join(rig.path('home'), i % 2 === 0 ? `${i}` : `sub/${i}`);
  // each is a good third of a segment, so that one segment touches few files
  const contentOf = (i: number): Buffer => noise(`content ${i}`, 2_200_000);

  /** The objects of a kind, largest first. */
  function named(kind: string): string[] {
    return [...objects(rig.path('pristine'))]
      .filter(([name]) => name === kind || name.startsWith(`${kind}/`))
      .sort((a, b) => b[1] - a[1])
      .map(([name]) => name);
  }

  /** Starts a daemon on a copy of the repository to which `harm` was done. */
  async function on(harm: (repository: string) => void, work: () => Promise<void>): Promise<void> {
    const repository = rig.path('repository');
    fs.rmSync(repository, { recursive: true });
    // or the daemon says that this is an older state
    fs.rmSync(rig.path('state'), { recursive: true, force: true });
    fs.cpSync(rig.path('pristine'), repository, { recursive: true, preserveTimestamps: true });
    harm(repository);
    give(repository, rig.users.storage);
    await rig.start();
    try {
      await work();
    } finally {
      await rig.stop();
    }
  }

  function give(directory: string, uid: number): void {
    fs.chownSync(directory, uid, uid);
    for (const name of fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }))
      fs.chownSync(path.join(directory, name), uid, uid);
  }

  const flip =
    (name: string, where: (size: number) => number) =>
    (repository: string): void => {
      const file = path.join(repository, name);
      const bytes = fs.readFileSync(file);
      const at = where(bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ 0x10;
      fs.chmodSync(file, 0o600);
      fs.writeFileSync(file, bytes);
    };

  /** Pulls, and returns how many files came back; each of them must be right. */
  async function pulled(code: number): Promise<{ files: number; stderr: string }> {
    const target = rig.path('out');
    fs.rmSync(target, { recursive: true, force: true });
    const { code: actual, stderr } = await rig.ctl('pull', '-to', target, id);
    assert.equal(actual, code, stderr);
    let files = 0;
    for (const [name] of fs.existsSync(target) ? objects(target) : []) {
      assert.ok(
        fs.readFileSync(path.join(target, name)).equals(contentOf(Number(path.basename(name)))),
        name,
      );
      files++;
    }
    return { files, stderr };
  }

  test('in the data of a pack: check names pack and paths, the other files come back', async () => {
    const [pack = ''] = named('packs');
    await on(
      flip(pack, (size) => size >> 1),
      async () => {
        const { code, stdout, stderr } = await rig.ctl('-j', 'check');
        assert.equal(code, 14, stderr);
        const problems = events(stdout).filter(({ event }) => event === 'problem');
        assert.ok(
          problems.some(({ object }) => String(object).includes(path.basename(pack))),
          stdout,
        );
        const touched = problems.flatMap(({ paths }) => (paths ?? []) as { path: string }[]);
        assert.ok(touched.length >= 1 && touched.length <= 4, stdout);
        const { files, stderr: said } = await pulled(14);
        assert.ok(files >= FILES - 4 && files < FILES, `${files} files`);
        for (const { path: name } of touched) assert.ok(said.includes(path.basename(name)), said);
        assert.equal((await rig.ctl('check', id)).code, 14);
        assert.equal((await rig.ctl('check', '-fast')).code, 0);
      },
    );
  });

  test('while the daemon runs: what it has read before is read again by a check', async () => {
    const kinds = ['config', 'keys', 'snapshots', 'log', 'packs'];
    await on(
      () => undefined,
      async () => {
        assert.match(await rig.ok('check'), /no damage/);
        // the smallest pack is the one that is most likely still in memory
        for (const object of [...kinds.map((kind) => named(kind)[0] ?? ''), named('packs').at(-1) ?? '']) {
          const [file, copy] = [rig.path('repository', object), rig.path('saved')];
          fs.copyFileSync(file, copy);
          flip(object, (size) => size >> 1)(rig.path('repository'));
          const { code, stderr } = await rig.ctl('check');
          fs.copyFileSync(copy, file);
          assert.equal(code, 14, `${object}: ${stderr}`);
          assert.ok(stderr.includes(path.basename(object)), `${object}: ${stderr}`);
        }
        // of the index all is in the packs, too
        const [index = ''] = named('index');
        for (const spoil of [flip(index, (size) => size >> 1), () => fs.rmSync(indexes()[0] ?? '')]) {
          spoil(rig.path('repository'));
          const { code, stderr } = await rig.ctl('check');
          assert.equal(code, 0, stderr);
          assert.match(stderr, /packs that no index named are indexed again by their footers: 2/);
        }
        assert.equal((await pulled(0)).files, FILES);
        await unneededPack();
        await rig.stop();
        await rig.start();
        assert.match(await rig.ok('check'), /no damage$/m);
      },
    );
  });

  /** A pack that is gone, and that nothing needs, is no damage: a cleanup elsewhere may have removed it. */
  async function unneededPack(): Promise<void> {
    const packs = () =>
      [...objects(rig.path('repository')).keys()].filter((name) => name.startsWith('packs/'));
    const before = new Set(packs());
    fs.mkdirSync(rig.path('extra'));
    fs.writeFileSync(rig.path('extra', 'file'), noise('extra', 100_000));
    await rig.ok('rm', (await rig.ok('-q', 'push', rig.path('extra'))).trim());
    for (const pack of packs()) if (!before.has(pack)) fs.rmSync(rig.path('repository', pack));
    const { code, stderr } = await rig.ctl('check');
    assert.equal(code, 0, stderr);
    assert.match(stderr, /missing packs of which nothing is needed, or all is in others: 2/);
    await rig.ok('cleanup');
    assert.doesNotMatch((await rig.ctl('check')).stderr, /missing/);
  }

  function indexes(): string[] {
    const directory = rig.path('repository', 'index');
    return fs.readdirSync(directory).map((name) => path.join(directory, name));
  }

  test('a pack that is missing, or cut short: even the fast check finds it', async () => {
    const [pack = ''] = named('packs');
    const missing = (repository: string): void => fs.rmSync(path.join(repository, pack));
    await on(missing, () =>
      checkFails(new RegExp(`packs/${path.basename(pack)}: pack is missing \\(${id}:/[^)]+ more\\)`)),
    );
    const short = (repository: string): void => fs.truncateSync(path.join(repository, pack), 100_000);
    await on(short, () => checkFails(new RegExp(`${path.basename(pack)}: pack has 100000 bytes, not `)));
  });

  async function checkFails(line: RegExp): Promise<void> {
    const { code, stderr } = await rig.ctl('check', '-fast');
    assert.equal(code, 14, stderr);
    assert.match(stderr, line);
    assert.ok((await pulled(14)).files < FILES);
  }

  test('in a footer: only the full check reads it, and everything comes back', async () => {
    const [pack = ''] = named('packs');
    await on(
      flip(pack, (size) => size - 20),
      async () => {
        assert.equal((await rig.ctl('check', '-fast')).code, 0);
        const { code, stderr } = await rig.ctl('check');
        assert.equal(code, 14);
        assert.ok(stderr.includes(path.basename(pack)), stderr);
        assert.equal((await pulled(0)).files, FILES);
      },
    );
  });

  test('an index that is lost, or damaged, is made again from the packs', async () => {
    const index = named('index');
    assert.ok(index.length > 0);
    const harms = [
      (repository: string) => {
        for (const name of index) fs.rmSync(path.join(repository, name));
      },
      flip(index[0] ?? '', (size) => size >> 1),
      flip(index[0] ?? '', () => 3),
    ];
    for (const harm of harms)
      await on(harm, async () => {
        assert.equal((await pulled(0)).files, FILES);
        assertSame(rig.path('home'), rig.path('out'));
        assert.equal((await rig.ctl('check', '-fast')).code, 0);
        const [cost] = await rig.json('push', 'home');
        assert.equal(cost?.addedBytes, 0);
      });
  });

  test('in the tree: a push names it and stores it anew, and everything comes back', async () => {
    const tree = named('packs').at(-1) ?? '';
    await on(
      flip(tree, () => 100),
      async () => {
        const { code, stdout, stderr } = await rig.ctl('-q', 'push', 'home');
        assert.equal(code, 0, stderr);
        assert.match(stderr, new RegExp(`parent ${id}: .*not authentic`));
        await rig.ok('pull', '-to', rig.path('mended'), stdout.trim());
        assertSame(rig.path('home'), rig.path('mended'));
        // the first snapshot is made of the same chunks
        assert.equal((await pulled(0)).files, FILES);
        assert.match(await rig.ok('check'), /no damage.*1 pack in quarantine/);
        await rig.stop();
        await rig.start();
        assert.equal((await pulled(0)).files, FILES);
      },
    );
  });

  test('in a snapshot: it is named by ls and check, and a new push works', async () => {
    for (const where of [() => 2, (size: number) => size - 1])
      await on(flip(`snapshots/${id}`, where), async () => {
        for (const words of [['ls'], ['check']]) {
          const { code, stderr } = await rig.ctl(...words);
          assert.equal(code, 14, words.join(' '));
          assert.ok(stderr.includes(id), stderr);
        }
        assert.notEqual((await rig.ctl('pull', '-to', rig.path('nothing'), id)).code, 0);
        const again = await rig.push();
        // the one that is damaged may be later, for all that anybody knows
        const { code, stderr } = await rig.ctl('cat', 'latest:/0');
        assert.equal(code, 14, stderr);
        assert.match(stderr, /find snapshot latest: one snapshot cannot be opened, and may be it/);
        assert.equal(await rig.ok('-q', 'cat', `${again}:/0`).then((text) => text.length > 0), true);
      });
  });

  test('in the configuration object or the key slot: nothing opens, and the line says what', async () => {
    for (const [kind, codes] of [
      ['config', [10, 12, 14]],
      ['keys', [12, 14]],
    ] as const)
      for (const where of [() => 2, (size: number) => size >> 1]) {
        const [name = ''] = named(kind);
        await on(flip(name, where), async () => {
          const { code, stderr } = await rig.ctl('ls');
          assert.ok(
            codes.some((each) => each === code),
            `${name}: ${code} ${stderr}`,
          );
          assert.match(stderr, /^plakarctl: ls: open repository local: [^\n]+\n$/);
        });
      }
  });
});
