/** plakarctl as one bundle: it does what the modules do, is made anew when they change, and is used from nowhere else. */

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Manifest, makeBundles } from '../../scripts/bundle.ts';
import { importsOf } from '../../scripts/layers.ts';
import type { ChunkKind } from '../../src/snapshot/chunks.ts';
import { RUNTIME_FLAGS } from '../installed.ts';
import { Node } from '../restore/plant.ts';
import { Daemon, serveReader } from './daemon.ts';
import { headerOf, TestChunks } from './tree.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const MAIN = path.join(ROOT, 'src/plakarctl.ts');
/** More than a restore makes without threads of its own. */
const FILES = 1500;
/** What a thread writes that makes files, and does not only begin. */
const HAND_BYTES = 2000;

let top = '';

describe('the bundle of plakarctl', () => {
  let bundle = '';
  before(async () => {
    top = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-')));
    bundle = path.join((await makeBundles('client', MAIN, top)) ?? '', 'client.cjs');
  });
  after(() => fs.rmSync(top, { recursive: true }));

  const run = (main: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [...RUNTIME_FLAGS, main, ...args]);
    return { status, stdout: stdout.toString(), stderr: stderr.toString() };
  };

  for (const [what, args, expected] of [
    ['version', ['version'], 0],
    ['help', ['help', 'push'], 0],
    ['a wrong option', ['push', '-nonsense'], 2],
    ['no daemon', ['-j', '-s', '/nonexistent/socket', 'status'], 1],
  ] as const)
    test(`says what the modules say: ${what}`, () => {
      const { status, stdout, stderr } = run(bundle, ...args);
      assert.equal(status, expected);
      assert.match(stdout + stderr, /./);
      assert.deepEqual(run(MAIN, ...args), { status, stdout, stderr });
    });

  test('tells every source it is of', () => {
    const { stamps } = JSON.parse(fs.readFileSync(path.join(top, 'client.json'), 'utf8')) as Manifest;
    const files = new Set(stamps.map(([file]) => file));
    for (const name of [
      'src/plakarctl.ts',
      'src/client/status.ts',
      'src/ipc/channel.ts',
      'scripts/bundle.ts',
    ])
      assert.ok(files.has(path.join(ROOT, name)), name);
  });

  test('has no command pay for what only others need', () => {
    const loaded = (...names: string[]): string[] => {
      const found = new Set(names.map((name) => path.join(ROOT, 'src', name)));
      for (const file of found)
        for (const { name, typeOnly, dynamic } of importsOf(fs.readFileSync(file, 'utf8')))
          if (name.startsWith('.') && !typeOnly && !dynamic)
            found.add(path.resolve(path.dirname(file), name));
      return [...found].map((file) => path.relative(path.join(ROOT, 'src'), file));
    };
    const unexpected = (files: string[], expected: RegExp) => files.filter((file) => !expected.test(file));
    assert.deepEqual(
      unexpected(loaded('plakarctl.ts'), /^(?:client\/|(?:plakarctl|builtin|error)\.ts$)/),
      [],
    );
    const status = loaded('client/status.ts', 'client/connection.ts');
    assert.ok(status.includes('ipc/channel.ts'));
    assert.deepEqual(
      unexpected(status, /^(?:(?:client|ipc|messages|sys)\/|(?:builtin|error|trace)\.ts$)/),
      [],
    );
  });

  test('restores with its threads', async () => {
    const daemon = new Daemon();
    await daemon.start();
    try {
      let pid = 0;
      const hasWritten = (task: string): boolean => {
        const of = `/proc/${pid}/task/${task}`;
        try {
          if (fs.readFileSync(`${of}/comm`, 'utf8') !== 'hand\n') return false;
          return Number(/^wchar: (\d+)$/m.exec(fs.readFileSync(`${of}/io`, 'utf8'))?.[1]) > HAND_BYTES;
        } catch {
          // a thread that has ended
          return false;
        }
      };
      class Waiting extends TestChunks {
        override async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
          // the last files are given once a hand has made some of the others
          const isLate = kind === 1 && this.gets >= FILES;
          while (isLate && !fs.readdirSync(`/proc/${pid}/task`).some(hasWritten)) await setImmediate();
          return super.get(kind, id, length);
        }
      }
      const chunks = new Waiting();
      const node = new Node(chunks);
      for (let i = 0; i < FILES; i++) node.file(`${10_000 + i}`, Buffer.from(`contents of ${i}\n`));
      daemon.serve = (channel) => serveReader(channel, chunks, [headerOf(node.root())]);
      const target = path.join(top, 'restored');
      const args = [...RUNTIME_FLAGS, bundle, '-s', daemon.socket, 'pull', '-to', target, 'latest'];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
      pid = child.pid ?? 0;
      const { code, stderr } = await daemon.outcome(child);
      assert.equal(code, 0, stderr);
      assert.equal(fs.readdirSync(target).length, FILES);
      assert.equal(fs.readFileSync(path.join(target, '11499'), 'utf8'), 'contents of 1499\n');
    } finally {
      daemon.stop();
    }
  });
});

/** Says where the code is from, as a module sees itself, and what it has loaded. */
const REPORT = `import { text } from './part.ts';
import('./late.ts').then(({ late }) => {
  const how = typeof module === 'undefined' ? 'modules' : 'bundle';
  console.log([how, text, late(), ...process.argv.slice(2)].join(' '));
});
`;
const LATE = `import path from 'node:path';
export const late = () => path.relative(process.cwd(), import.meta.filename);
`;

describe('the launcher of plakarctl', () => {
  let tree = '';
  let cache = '';
  before(() => {
    top = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-')));
  });
  beforeEach(() => {
    tree = fs.mkdtempSync(path.join(top, 'a tree '));
    cache = path.join(tree, 'node_modules/.plakard');
    fs.cpSync(path.join(ROOT, 'bin'), path.join(tree, 'bin'), { recursive: true });
    fs.mkdirSync(path.join(tree, 'scripts'));
    fs.copyFileSync(path.join(ROOT, 'scripts/bundle.ts'), path.join(tree, 'scripts/bundle.ts'));
    fs.mkdirSync(path.join(tree, 'node_modules'));
    for (const name of [`node-linux-${process.arch}`, 'esbuild'])
      fs.symlinkSync(path.join(ROOT, 'node_modules', name), path.join(tree, 'node_modules', name));
    fs.writeFileSync(path.join(tree, 'package.json'), '{"type":"module"}');
    write('src/plakarctl.ts', REPORT);
    write('src/part.ts', "export const text: string = 'before';\n");
    write('src/late.ts', LATE);
    write('src/snapshot/restore-hand.ts', '');
  });
  after(() => fs.rmSync(top, { recursive: true }));

  function write(name: string, text: string): void {
    const file = path.join(tree, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }
  const options = () => ({ encoding: 'utf8' as const, cwd: tree });
  const launch = (): string => execFileSync(path.join(tree, 'bin/plakarctl'), ['one', 'two'], options());
  const manifest = (): Manifest => JSON.parse(fs.readFileSync(path.join(cache, 'client.json'), 'utf8'));
  const bundle = (): string => path.join(cache, manifest().bundle, 'client.cjs');
  const forge = (): void => fs.writeFileSync(bundle(), "console.log('forged');\n");

  test('runs a bundle, which sees itself as its modules do', () => {
    assert.equal(launch(), 'bundle before src/late.ts one two\n');
    assert.equal(launch(), 'bundle before src/late.ts one two\n');
  });

  test('runs a bundle of sources that are elsewhere', () => {
    fs.renameSync(path.join(tree, 'src'), path.join(tree, 'elsewhere'));
    fs.symlinkSync('elsewhere', path.join(tree, 'src'));
    assert.equal(launch(), 'bundle before elsewhere/late.ts one two\n');
  });

  test('runs no bundle of sources that have changed since, nor one that has', () => {
    launch();
    write('src/part.ts', "export const text: string = 'after!';\n");
    assert.equal(launch(), 'bundle after! src/late.ts one two\n');
    forge();
    assert.equal(launch(), 'bundle after! src/late.ts one two\n');
    fs.truncateSync(bundle(), 100);
    assert.equal(launch(), 'bundle after! src/late.ts one two\n');
    fs.rmSync(bundle());
    assert.equal(launch(), 'bundle after! src/late.ts one two\n');
    const hand = () => path.join(path.dirname(bundle()), 'hand.cjs');
    const before = hand();
    fs.appendFileSync(before, "console.log('forged');\n");
    assert.equal(launch(), 'bundle after! src/late.ts one two\n');
    assert.notEqual(hand(), before);
  });

  test('makes it several times at once without harm, and leaves nothing unfinished', async () => {
    const launched = Array.from({ length: 3 }, () =>
      promisify(execFile)(path.join(tree, 'bin/plakarctl'), ['one', 'two'], options()),
    );
    for (const { stdout } of await Promise.all(launched))
      assert.equal(stdout, 'bundle before src/late.ts one two\n');
    const names = fs.readdirSync(cache).filter((name) => name.startsWith('client'));
    assert.deepEqual(
      names.filter((name) => !/^client-\w{6}$/.test(name)),
      ['client.json'],
    );
    for (const name of names.slice(0, -1))
      assert.deepEqual(
        fs.readdirSync(path.join(cache, name)),
        ['client', 'hand'].flatMap((of) => [`${of}.cjs`, `${of}.cjs.map`]),
      );
  });

  test('keeps the last few that were made', () => {
    for (let i = 0; i < 6; i++) {
      write('src/part.ts', `export const text = '${i}';\n`);
      assert.equal(launch(), `bundle ${i} src/late.ts one two\n`);
    }
    assert.equal(fs.readdirSync(cache).filter((name) => name.startsWith('client-')).length, 4);
    assert.ok(fs.existsSync(bundle()));
  });

  test('is told by no variable which program makes it', () => {
    write('evil', '#!/bin/sh\ntouch "$0.ran"\n');
    fs.chmodSync(path.join(tree, 'evil'), 0o755);
    const env = { ...process.env, ESBUILD_BINARY_PATH: path.join(tree, 'evil') };
    const output = execFileSync(path.join(tree, 'bin/plakarctl'), { ...options(), env });
    assert.equal(output, 'bundle before src/late.ts\n');
    assert.equal(fs.existsSync(path.join(tree, 'evil.ran')), false);
  });

  test('makes it anew where the manifest cannot be read', () => {
    launch();
    fs.writeFileSync(path.join(cache, 'client.json'), '{"stamps":');
    assert.equal(launch(), 'bundle before src/late.ts one two\n');
  });

  for (const [what, spoil] of [
    ['esbuild is missing', () => fs.rmSync(path.join(tree, 'node_modules/esbuild'))],
    ['nothing can be kept', () => fs.writeFileSync(cache, '')],
    [
      'there can be no bundle',
      () => write('src/part.ts', "export const text = await Promise.resolve('before');\n"),
    ],
  ] as const)
    test(`runs the modules where ${what}`, () => {
      spoil();
      assert.equal(launch(), 'modules before src/late.ts one two\n');
    });

  for (const [what, open] of [
    ['that others may write to', () => fs.chmodSync(cache, 0o770)],
    ["that is somebody else's", () => fs.chownSync(cache, 61999, 61999)],
    [
      'that is elsewhere',
      () => {
        fs.renameSync(cache, path.join(tree, 'elsewhere'));
        fs.symlinkSync('../elsewhere', cache);
      },
    ],
  ] as const)
    test(`runs nothing from a cache ${what}`, () => {
      launch();
      // its stamp as it should be, so that nothing but the directory tells
      const { stamps, ...others } = manifest();
      forge();
      const { ctimeMs, size } = fs.statSync(bundle());
      const forged = stamps.map((stamp) => (stamp[0] === bundle() ? [bundle(), ctimeMs, size] : stamp));
      fs.writeFileSync(path.join(cache, 'client.json'), JSON.stringify({ ...others, stamps: forged }));
      assert.equal(launch(), 'forged\n');
      open();
      assert.equal(launch(), 'modules before src/late.ts one two\n');
    });

  test('keeps what was compiled for each command, and uses it for that bundle alone', () => {
    const kept = (): string[] => fs.readdirSync(cache).filter((name) => name.includes('compiled'));
    const run = (...words: string[]): string =>
      execFileSync(path.join(tree, 'bin/plakarctl'), words, options()).trim();
    const program = (word: string): string =>
      `process.emit('plakard compiled', process.argv.at(-1)); console.log('${word}');\n`;
    write('src/plakarctl.ts', program('one'));
    for (const command of ['ls', 'cat', 'ls']) assert.equal(run('-s', '/socket', 'home', command), 'one');
    assert.deepEqual(kept().sort(), ['client-cat.compiled', 'client-ls.compiled']);
    const compiled = path.join(cache, 'client-cat.compiled');
    assert.equal(fs.statSync(compiled).mode & 0o777, 0o600);
    const before = fs.readFileSync(compiled);
    assert.equal(run('cat'), 'one');
    assert.deepEqual(fs.readFileSync(compiled), before);
    // of the same length, and so the same to V8
    write('src/plakarctl.ts', program('two'));
    assert.equal(run('cat'), 'two');
    const after = fs.readFileSync(compiled);
    assert.notDeepEqual(after, before);
    const flipped = Array.from({ length: 5 }, (_, i) => {
      const bytes = Buffer.from(after);
      const at = Math.floor((after.length * (i + 5)) / 10);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      return bytes;
    });
    for (const spoilt of [Buffer.alloc(0), before, after.subarray(0, -1000), ...flipped]) {
      fs.writeFileSync(compiled, spoilt);
      assert.equal(run('cat'), 'two');
      assert.notDeepEqual(fs.readFileSync(compiled), spoilt);
    }
    // what is no command's name is no file's
    assert.equal(run('../cat'), 'two');
    assert.deepEqual(kept().sort(), ['client-cat.compiled', 'client-ls.compiled']);
  });

  test('runs the bundle of dist, wherever that was put', () => {
    write('dist/plakarctl.js', "console.log('modules');\n");
    write('src/plakard.ts', REPORT);
    execFileSync(path.join(tree, 'bin/node'), [path.join(tree, 'scripts/bundle.ts')]);
    fs.rmSync(path.join(tree, 'src'), { recursive: true });
    fs.rmSync(path.join(tree, 'scripts'), { recursive: true });
    const moved = path.join(top, 'moved');
    fs.renameSync(tree, moved);
    tree = moved;
    assert.equal(launch(), 'bundle before dist/late.js one two\n');
  });
});
