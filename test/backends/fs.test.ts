import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { FsBackend } from '../../src/backends/fs.ts';
import { Pace } from '../../src/backends/pace.ts';
import { conformance, nameOf } from './conformance.ts';

const options = { random: randomBytes };

async function inDirectory(use: (root: string) => Promise<void>): Promise<void> {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  try {
    await use(root);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

conformance('fs', (use) =>
  inDirectory(async (root) => {
    const backend = await FsBackend.create(root, options);
    await use(backend);
    assert.deepEqual(fs.readdirSync(path.join(root, 'tmp')), []);
    backend.close();
  }),
);

describe('fs', () => {
  test('a directory that is no repository is refused as such', () =>
    inDirectory(async (root) => {
      await assert.rejects(FsBackend.open(root, options), { name: 'Failure', kind: 'no-repository' });
      await assert.rejects(FsBackend.open(path.join(root, 'none'), options), { kind: 'no-repository' });
      await assert.rejects(FsBackend.create(path.join(root, 'none'), options), { name: 'Failure' });
    }));

  test('what was put is there for the next process, and making it again does no harm', () =>
    inDirectory(async (root) => {
      const first = await FsBackend.create(root, options);
      await first.put('packs', nameOf('packs'), [Buffer.from('x')]);
      for (const again of [await FsBackend.open(root, options), await FsBackend.create(root, options)])
        assert.deepEqual(await again.list('packs'), [nameOf('packs')]);
    }));

  for (const [what, directory] of [
    ['a disk', os.tmpdir()],
    ['a file system in memory', '/dev/shm'],
  ] as const)
    test(`a pack of whole and broken blocks is what was written to ${what}`, async () => {
      const root = fs.mkdtempSync(path.join(directory, 'plakard-'));
      try {
        const backend = await FsBackend.create(root, options);
        const data = randomBytes((6 << 20) + 4097);
        const name = nameOf('packs');
        const writer = backend.create('packs');
        for (let at = 0; at < data.length; at += 777_777) await writer.write(data.subarray(at, at + 777_777));
        await writer.commit(name);
        assert.ok(data.equals((await backend.get('packs', name)) ?? Buffer.alloc(0)));
        backend.close();
      } finally {
        fs.rmSync(root, { recursive: true });
      }
    });

  test('what is read and written keeps to its pace', () =>
    inDirectory(async (root) => {
      const taken = { read: 0, write: 0 };
      const clock = { ms: 0 };
      const tools = {
        nowMs: () => clock.ms,
        minuteOfDay: () => 0,
        wait: async (ms: number) => {
          clock.ms += ms;
        },
      };
      const pace = {
        read: new Pace([{ bytesPerSecond: 1 << 20 }], tools),
        write: new Pace([{ bytesPerSecond: 1 << 20 }], tools),
      };
      const backend = await FsBackend.create(root, { ...options, pace });
      const name = nameOf('packs');
      const writer = backend.create('packs');
      await writer.write(Buffer.alloc((8 << 20) + 5));
      await writer.commit(name);
      taken.write = clock.ms;
      await backend.get('packs', name);
      taken.read = clock.ms - taken.write;
      assert.ok(taken.write >= 7000 && taken.write <= 9000, `written in ${taken.write} ms`);
      assert.ok(taken.read >= 7000 && taken.read <= 9000, `read in ${taken.read} ms`);
      backend.close();
    }));

  test('foreign files are not listed, leftovers are named apart', () =>
    inDirectory(async (root) => {
      const backend = await FsBackend.create(root, options);
      for (const foreign of [
        'packs/README',
        'packs/aa',
        'packs/zz',
        'index/lost+found',
        'index/.nfs01',
        'keys/backup~',
      ])
        fs.mkdirSync(path.join(root, foreign));
      fs.writeFileSync(path.join(root, 'packs/aa', nameOf('packs', 'b')), 'in the wrong place');
      fs.writeFileSync(path.join(root, 'tmp', nameOf('packs')), 'half');
      fs.writeFileSync(path.join(root, 'tmp', 'notes'), 'foreign');
      for (const kind of ['packs', 'index', 'keys'] as const) assert.deepEqual(await backend.list(kind), []);
      assert.deepEqual(await backend.leftovers(), [nameOf('packs')]);
      await backend.removeLeftover(nameOf('packs'));
      await backend.removeLeftover(nameOf('packs'));
      await assert.rejects(backend.removeLeftover('../config'), { name: 'Failure' });
      assert.deepEqual(await backend.leftovers(), []);
    }));

  test('a listing of a missing directory fails rather than being empty', () =>
    inDirectory(async (root) => {
      const backend = await FsBackend.create(root, options);
      fs.rmdirSync(path.join(root, 'index'));
      await assert.rejects(backend.list('index'), { name: 'Failure' });
    }));

  test('a name that exists but cannot be an object fails by name', () =>
    inDirectory(async (root) => {
      const backend = await FsBackend.create(root, options);
      fs.mkdirSync(path.join(root, 'index', nameOf('index')));
      await assert.rejects(backend.get('index', nameOf('index')), {
        message: `read index/${nameOf('index')}`,
      });
    }));
});

/** Runs `program` with system calls failing as `inject` says; its output. */
function injected(root: string, inject: readonly string[], program: string): string {
  const args = ['-f', '-o', '/dev/null', ...inject.flatMap((one) => ['-e', `inject=${one}`])];
  const source = new URL('../../src/backends/fs.ts', import.meta.url).href;
  const script = `const { FsBackend } = await import('${source}');
    const { randomBytes } = await import('node:crypto');
    const backend = await FsBackend.open('${root}', { random: randomBytes });
    const name = '${nameOf('packs')}';
    try { ${program} } catch (error) { console.log(error.message, error.cause.code); }`;
  const env = { ...process.env, UV_THREADPOOL_SIZE: '1' };
  const node = [process.execPath, '--input-type=module', '-e', script];
  const result = spawnSync('strace', [...args, ...node], { env, encoding: 'utf8' });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout.trim();
}

// opening syncs the root and six directories, so the first fsync of a put in a new fan-out is number 8: packs/ itself
const OPEN_SYNCS = 7;
const put = `console.log(await backend.put('packs', name, [Buffer.from('x')]));`;

describe('fs: system calls that fail', () => {
  const files = (root: string, directory: string) => fs.readdirSync(path.join(root, directory));
  const faulty = (inject: (root: string) => string[], body: (root: string, output: string) => void) =>
    inDirectory(async (root) => {
      await FsBackend.create(root, options);
      body(root, injected(root, inject(root), put));
      assert.deepEqual(files(root, 'tmp'), []);
    });

  test('a failed fsync of the file: written again under a new name', () =>
    faulty(
      () => [`fsync:error=EIO:when=${OPEN_SYNCS + 2}`],
      (root, output) => {
        assert.equal(output, 'true');
        assert.equal(fs.readFileSync(path.join(root, 'packs/aa', nameOf('packs')), 'utf8'), 'x');
      },
    ));

  test('a failed fsync of the directory: written again', () =>
    faulty(
      () => [`fsync:error=EIO:when=${OPEN_SYNCS + 3}`],
      (root, output) => {
        assert.equal(output, 'true');
        assert.deepEqual(files(root, 'packs/aa'), [nameOf('packs')]);
      },
    ));

  test('fsync that never works: a failure, and no object', () =>
    faulty(
      () => [`fsync:error=EIO:when=${OPEN_SYNCS + 2}+`],
      (root, output) => {
        assert.equal(output, `write packs/${nameOf('packs')} EIO`);
        assert.deepEqual(files(root, 'packs/aa'), []);
      },
    ));

  test('fsync of the directory that never works: a failure, and no object', () =>
    faulty(
      () => [`fsync:error=EIO:when=${OPEN_SYNCS + 3}+2`],
      (root, output) => {
        assert.equal(output, `write packs/${nameOf('packs')} EIO`);
        assert.deepEqual(files(root, 'packs/aa'), []);
      },
    ));

  test('a rename that fails: a failure, and no object', () =>
    faulty(
      () => ['rename:error=ENOSPC'],
      (root, output) => {
        assert.equal(output, `write packs/${nameOf('packs')} ENOSPC`);
        assert.deepEqual(files(root, 'packs/aa'), []);
      },
    ));
});
