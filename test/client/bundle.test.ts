/** plakarctl as one bundle: what is refused, what is made anew, and that the launcher runs it. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type Manifest, makeBundle } from '../../src/client/bundle.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const RUNTIME = `node-linux-${process.arch}`;

let top = '';
let tree = '';

function write(name: string, text: string): void {
  const file = path.join(tree, 'src', name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
}

function bundle(): Manifest {
  const cache = path.join(tree, 'cache');
  fs.mkdirSync(cache, { mode: 0o700 });
  return makeBundle(path.join(tree, 'src/plakarctl.ts'), cache, path.join(cache, 'client.json'));
}

function launch(): string {
  return execFileSync(path.join(tree, 'bin/plakarctl'), ['one', 'two'], { encoding: 'utf8' });
}

function manifest(): Manifest {
  return JSON.parse(fs.readFileSync(path.join(tree, 'node_modules/.plakard/client.json'), 'utf8'));
}

describe('the bundle of plakarctl', () => {
  before(() => {
    top = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-')));
  });
  beforeEach(() => {
    tree = fs.mkdtempSync(path.join(top, 'a tree '));
    fs.cpSync(path.join(ROOT, 'bin'), path.join(tree, 'bin'), { recursive: true });
    fs.mkdirSync(path.join(tree, 'node_modules'));
    fs.symlinkSync(path.join(ROOT, 'node_modules', RUNTIME), path.join(tree, 'node_modules', RUNTIME));
    fs.writeFileSync(path.join(tree, 'package.json'), '{"type":"module"}');
    write('client/bundle.ts', fs.readFileSync(path.join(ROOT, 'src/client/bundle.ts'), 'utf8'));
  });
  after(() => fs.rmSync(top, { recursive: true }));

  test('takes all of the real one', () => {
    const cache = path.join(tree, 'cache');
    fs.mkdirSync(cache, { mode: 0o700 });
    const main = path.join(ROOT, 'src/plakarctl.ts');
    const { directory, refused, stamps } = makeBundle(main, cache, path.join(cache, 'client.json'));
    assert.equal(refused, undefined);
    const files = fs.readdirSync(path.join(cache, directory ?? ''));
    assert.ok(files.includes('src-plakarctl.ts.cjs') && files.includes('src-client-status.ts.cjs'));
    assert.ok(stamps.some(([file]) => file === path.join(ROOT, 'src/ipc/channel.ts')));
    const modules = (name: string): string[] => {
      const text = fs.readFileSync(path.join(cache, directory ?? '', name), 'utf8');
      return [...text.matchAll(/^define\("([^"]+)"/gm)].map(([, id]) => id ?? '');
    };
    // no command pays for what only others need
    assert.deepEqual(
      modules('src-plakarctl.ts.cjs').filter(
        (id) => !/^src\/(?:client\/|plakarctl\.ts$|error\.ts$)/.test(id),
      ),
      [],
    );
    const status = [...modules('src-client-status.ts.cjs'), ...modules('src-client-connection.ts.cjs')];
    assert.ok(status.includes('src/ipc/channel.ts'));
    assert.deepEqual(
      status.filter(
        (id) => !/^(?:src\/(?:client|ipc|messages|sys)\/|src\/trace\.ts$|node_modules\/msgpackr\/)/.test(id),
      ),
      [],
    );
  });

  test('runs what its modules say: names, defaults, spaces, patterns, and what is loaded later', () => {
    write(
      'plakarctl.ts',
      [
        "import fs, { existsSync as there } from 'node:fs';",
        "import * as path from 'node:path';",
        "import { e } from './again.ts';",
        "import { type Kind, a, b as c, D } from './part.ts';",
        "const kind: Kind = 'x';",
        "import('./late.ts').then(({ f }) => {",
        '  const files = [there("/"), fs.existsSync("/"), path.basename(import.meta.filename)];',
        '  console.log(JSON.stringify([kind, a, c, D.name, e(), f(), ...files, ...process.argv.slice(2)]));',
        '});',
      ].join('\n'),
    );
    write(
      'part.ts',
      [
        "export type Kind = 'x';",
        'export const { a, z: b } = { a: 1, z: 2 };',
        'export class D {}',
        'export function five(): number {',
        '  return 5;',
        '}',
      ].join('\n'),
    );
    write('again.ts', "export { five as e } from './part.ts';\n");
    write('late.ts', "import { a } from './part.ts';\nexport function f() {\n  return a + 10;\n}\n");
    const expected = `${JSON.stringify(['x', 1, 2, 'D', 5, 11, true, true, 'plakarctl.ts', 'one', 'two'])}\n`;
    assert.equal(launch(), expected);
    assert.equal(manifest().refused, undefined);
    assert.notEqual(manifest().directory, undefined);
    assert.equal(launch(), expected);
  });

  test('is made anew when a source has changed', () => {
    write('plakarctl.ts', "import { text } from './part.ts';\nconsole.log(text);\n");
    write('part.ts', "export const text = 'before';\n");
    assert.equal(launch(), 'before\n');
    write('part.ts', "export const text = 'after!';\n");
    assert.equal(launch(), 'after!\n');
  });

  for (const [what, text] of [
    ['imports in a circle', "import { x } from './part.ts';\nexport const y = 1;\nconsole.log(x);\n"],
    ['what is awaited while loading', 'const x = await Promise.resolve(1);\nconsole.log(x);\n'],
    ['a variable that is exported', 'export let x = 1;\nconsole.log(x);\n'],
    ['what is not understood', "export * from './whole.ts';\nconsole.log(1);\n"],
  ] as const)
    test(`refuses ${what}, and it runs all the same`, () => {
      write('plakarctl.ts', text);
      write(
        'part.ts',
        "import { y } from './plakarctl.ts';\nexport const x = 1;\nexport const z = () => y;\n",
      );
      write('whole.ts', 'export const w = 1;\n');
      const { directory, refused } = bundle();
      assert.equal(directory, undefined);
      assert.match(refused ?? '', /./);
      assert.equal(launch(), '1\n');
    });

  test('is neither made nor used where others may write', () => {
    write('plakarctl.ts', "console.log('real');\n");
    assert.equal(launch(), 'real\n');
    const cache = path.join(tree, 'node_modules/.plakard');
    const file = path.join(cache, manifest().directory ?? '', 'src-plakarctl.ts.cjs');
    fs.writeFileSync(file, "module.exports = () => console.log('forged');\n");
    fs.chmodSync(cache, 0o777);
    assert.equal(launch(), 'real\n');
  });
});
