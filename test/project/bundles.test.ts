/** plakard's bundles, one for each of its processes: which of them runs which, and what children are told. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type Manifest, makeBundles } from '../../scripts/bundle.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const ROLES = ['control', 'scanner', 'chunker', 'crypto', 'storage', 'keys'] as const;

/** Says which process it is and how it runs; with `start`, the parent starts a scanner as its child. */
const MAIN = `import { execFileSync } from 'node:child_process';
const how = typeof module === 'undefined' ? 'modules' : 'bundle';
const [flag, role] = process.argv.slice(2);
async function run(): Promise<void> {
  if (flag === '-x') {
    const { scanner } = await import('./processes/scanner.ts');
    console.log([how, scanner(role)].join(' '));
    process.emit('plakard compiled', role);
    return;
  }
  const { daemon } = await import('./daemon.ts');
  const { before } = await import('./before.ts');
  console.log([how, daemon(), ...process.argv.slice(2)].join(' '));
  process.emit('plakard compiled', 'parent');
  if (flag !== 'start') return;
  before();
  const launcher = import.meta.dirname + '/../bin/daemon.cjs';
  const args = [...process.execArgv, launcher, '-x', 'scanner', '-i', 'home'];
  const env: Record<string, string> = {};
  for (const name of ['NODE_COMPILE_CACHE', 'PLAKARD_BUNDLES', 'PLAKARD_CACHE'])
    if (process.env[name] !== undefined) env[name] = process.env[name];
  process.stdout.write(execFileSync(process.execPath, args, { env }));
}
void run();
`;
const SCANNER = "export const scanner = (role: string): string => 'scanner as ' + role;\n";

let top = '';
let tree = '';
let cache = '';

function write(name: string, text: string): void {
  const file = path.join(tree, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
}

/** A launch of the daemon, or of its child by the arguments alone. */
function launch(args: readonly string[] = [], env: Record<string, string> = {}): string {
  const program = args[0] === '-x' ? 'bin/daemon.cjs' : 'bin/plakard';
  const command = args[0] === '-x' ? [process.execPath, program] : [program];
  const [file = '', ...rest] = [...command, ...args];
  return execFileSync(file, rest, { encoding: 'utf8', cwd: tree, env: { PATH: process.env.PATH, ...env } });
}

const manifest = (): Manifest => JSON.parse(fs.readFileSync(path.join(cache, 'daemon.json'), 'utf8'));
const bundle = (name: string): string => path.join(cache, manifest().bundle, `${name}.cjs`);

describe('the launcher of plakard', () => {
  before(() => {
    top = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-')));
  });
  after(() => fs.rmSync(top, { recursive: true }));
  beforeEach(() => {
    tree = fs.mkdtempSync(path.join(top, 'a tree '));
    cache = path.join(tree, 'node_modules/.plakard');
    fs.cpSync(path.join(ROOT, 'bin'), path.join(tree, 'bin'), { recursive: true });
    write('scripts/bundle.ts', fs.readFileSync(path.join(ROOT, 'scripts/bundle.ts'), 'utf8'));
    fs.mkdirSync(path.join(tree, 'node_modules'));
    for (const name of [`node-linux-${process.arch}`, 'esbuild'])
      fs.symlinkSync(path.join(ROOT, 'node_modules', name), path.join(tree, 'node_modules', name));
    write('package.json', '{"type":"module"}');
    write('src/plakard.ts', MAIN);
    write('src/daemon.ts', "export const daemon = (): string => 'parent';\n");
    write('src/before.ts', 'export function before(): void {}\n');
    for (const role of ROLES) write(`src/processes/${role}.ts`, `export const ${role} = 'the ${role}';\n`);
    write('src/processes/scanner.ts', SCANNER);
  });

  test('has each process run a bundle of its own, without what only others need', () => {
    assert.equal(launch(['start']), 'bundle parent start\nbundle scanner as scanner\n');
    assert.doesNotMatch(fs.readFileSync(bundle('parent'), 'utf8'), /scanner as/);
    assert.match(fs.readFileSync(bundle('scanner'), 'utf8'), /scanner as/);
    assert.doesNotMatch(fs.readFileSync(bundle('keys'), 'utf8'), /scanner as|the chunker/);
    const compiled = fs.readdirSync(cache).filter((name) => name.endsWith('.compiled'));
    assert.deepEqual(compiled, ['daemon-parent.compiled', 'daemon-scanner.compiled']);
    const kept = fs.readFileSync(path.join(cache, 'daemon-scanner.compiled'));
    launch(['start']);
    assert.deepEqual(fs.readFileSync(path.join(cache, 'daemon-scanner.compiled')), kept);
  });

  test('has children run what the parent runs, also when a source has changed since', () => {
    write(
      'src/before.ts',
      `import { writeFileSync } from 'node:fs';
export function before(): void {
  writeFileSync(${JSON.stringify(path.join(tree, 'src/processes/scanner.ts'))}, 'export const scanner = () => "another";');
}\n`,
    );
    assert.equal(launch(['start']), 'bundle parent start\nbundle scanner as scanner\n');
    assert.equal(launch(['start']), 'bundle parent start\nbundle another\n');
  });

  test('tells nobody from outside where bundles are, and takes none but those in its cache', () => {
    launch();
    const evil = path.join(tree, 'evil');
    fs.mkdirSync(evil, { mode: 0o700 });
    for (const name of ['parent', 'scanner'])
      fs.writeFileSync(path.join(evil, `${name}.cjs`), "console.log('forged');\n");
    const env = { PLAKARD_BUNDLES: evil, PLAKARD_CACHE: tree };
    assert.equal(launch(['start'], env), 'bundle parent start\nbundle scanner as scanner\n');
    const child = ['-x', 'scanner', '-i', 'home'];
    assert.equal(launch(child, { PLAKARD_BUNDLES: evil }), 'bundle scanner as scanner\n');
    // a cache that others may look into is none
    fs.chmodSync(tree, 0o755);
    assert.equal(
      launch(child, { PLAKARD_BUNDLES: evil, PLAKARD_CACHE: tree }),
      'modules scanner as scanner\n',
    );
  });

  test('has a child make no bundles, and run those that are as the sources are', () => {
    const child = ['-x', 'scanner', '-i', 'home'];
    assert.equal(launch(child), 'modules scanner as scanner\n');
    launch();
    assert.equal(launch(child), 'bundle scanner as scanner\n');
    write('src/processes/scanner.ts', "export const scanner = () => 'another';\n");
    assert.equal(launch(child), 'modules another\n');
    assert.equal(launch(['-x', '../scanner']), 'modules another\n');
    assert.equal(launch(['-x', 'nobody']), 'modules another\n');
  });

  for (const [what, spoil] of [
    ['esbuild is missing', () => fs.rmSync(path.join(tree, 'node_modules/esbuild'))],
    ['nothing can be kept', () => fs.writeFileSync(cache, '')],
    [
      'its bundles went while it ran',
      () => {
        const command = `rmSync(${JSON.stringify(cache)}, { recursive: true })`;
        write(
          'src/before.ts',
          `import { rmSync } from 'node:fs';\nexport const before = () => ${command};\n`,
        );
      },
    ],
  ] as const)
    test(`runs the modules where ${what}`, () => {
      spoil();
      const how = what.startsWith('its') ? 'bundle' : 'modules';
      assert.equal(launch(['start']), `${how} parent start\nmodules scanner as scanner\n`);
    });

  test('names the sources in traces of stacks', () => {
    write(
      'src/daemon.ts',
      "\n\nexport function daemon(): string {\n  throw new TypeError('no such luck');\n}\n",
    );
    const { status, stderr } = spawnSync(path.join(tree, 'bin/plakard'), { encoding: 'utf8' });
    assert.equal(status, 1);
    assert.ok(
      stderr.includes(`TypeError: no such luck\n    at daemon (${path.join(tree, 'src/daemon.ts')}:4:9)\n`),
      stderr,
    );
    fs.rmSync(`${bundle('parent')}.map`);
    const unmapped = spawnSync(path.join(tree, 'bin/plakard'), { encoding: 'utf8' });
    assert.ok(
      unmapped.stderr.includes(`TypeError: no such luck\n    at daemon (${bundle('parent')}:`),
      stderr,
    );
  });

  test('runs the bundles of dist, wherever that was put', () => {
    for (const name of ['plakarctl', 'snapshot/restore-hand']) write(`src/${name}.ts`, '');
    write('dist/plakard.js', "console.log('modules');\n");
    execFileSync(path.join(tree, 'bin/node'), [path.join(tree, 'scripts/bundle.ts')]);
    for (const name of ['src', 'scripts']) fs.rmSync(path.join(tree, name), { recursive: true });
    const moved = path.join(top, 'moved');
    fs.renameSync(tree, moved);
    tree = moved;
    assert.equal(launch(['start']), 'bundle parent start\nbundle scanner as scanner\n');
    fs.rmSync(path.join(tree, 'dist/bundle/parent.cjs'));
    assert.equal(launch(['start']), 'modules\n');
  });
});

test('every process of plakard has a bundle, which leaves most of the others out', async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  try {
    const made = (await makeBundles('daemon', path.join(ROOT, 'src/plakard.ts'), directory)) ?? '';
    const sourcesOf = (name: string): string[] =>
      JSON.parse(fs.readFileSync(path.join(made, `${name}.cjs.map`), 'utf8')).sources;
    const main = fs.readFileSync(path.join(ROOT, 'src/plakard.ts'), 'utf8');
    const processes = [...main.matchAll(/import\('\.\/processes\/(\w+)\.ts'\)\)\.\1\b/g)].map(
      ([, name]) => name,
    );
    assert.deepEqual(processes.sort(), [...ROLES].sort());
    for (const name of ['parent', ...ROLES]) {
      const own = name === 'parent' ? 'src/daemon.ts' : `src/processes/${name}.ts`;
      const mains = ['src/daemon.ts', ...ROLES.map((role) => `src/processes/${role}.ts`)];
      assert.deepEqual(
        sourcesOf(name).filter((source) => mains.includes(source)),
        [own],
        name,
      );
    }
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});
