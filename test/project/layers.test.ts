/** scripts/layers.ts finds every kind of breach, and none in what is allowed. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkLayers, importsOf } from '../../scripts/layers.ts';

function check(files: Record<string, string>): string[] {
  return checkLayers(new Map(Object.entries(files)));
}

describe('importsOf', () => {
  test('reads every form of import, over several lines too', () => {
    const source = [
      "import './a.ts';",
      "import b from './b.ts';",
      'import {',
      '  c,',
      '  type D,',
      "} from './c.ts';",
      "export { e } from './e.ts';",
      "export * from './f.ts';",
      "const load = () => import('./g.ts');",
      "import type { H } from './h.ts';",
    ].join('\n');
    assert.deepEqual(
      importsOf(source).map(({ name }) => name.charAt(2)),
      ['a', 'b', 'c', 'e', 'f', 'h', 'g'],
    );
  });

  test('prose and strings are no imports', () => {
    const source = [
      " * import from './a.ts' would be wrong here",
      "// import('./b.ts')",
      'const text = "export { x }";',
      "export const FROM = 'from';",
      '  throw new Error(\'imported from "./c.ts"\');',
    ].join('\n');
    assert.deepEqual(importsOf(source), []);
  });
});

describe('checkLayers', () => {
  test('arrows that point down are allowed', () => {
    const faults = check({
      'plakard.ts': "import './processes/parent.ts';\nimport './config/print.ts';",
      'processes/parent.ts': "import '../snapshot/tree.ts';\nimport 'pino';\nimport 'node:fs';",
      'snapshot/tree.ts': "import '../repository/pack.ts';\nimport '../error.ts';",
      'repository/pack.ts': "import '../keys/seal.ts';",
      'keys/seal.ts': "import '@noble/ciphers/chacha.js';\nimport '../sys/memory.ts';",
      'sys/memory.ts': "import ffi from 'ffi-napi';\nimport './errno.ts';",
      'sys/errno.ts': "import '../error.ts';",
      'config/print.ts': "import { Failure } from '../error.ts';",
      'error.ts': '',
    });
    assert.deepEqual(faults, []);
  });

  for (const [what, file, target] of [
    ['upwards', 'sys/files.ts', 'ipc/channel.ts'],
    ['from one directory to its neighbour', 'repository/pack.ts', 'snapshot/tree.ts'],
    ['from a library to a process', 'privsep/start.ts', 'processes/storage.ts'],
    ['from config to anything but error.ts', 'config/lexer.ts', 'sys/files.ts'],
    ['from error.ts', 'error.ts', 'sys/files.ts'],
  ] as const) {
    test(`an import ${what} is a breach, and named`, () => {
      const from = file.includes('/') ? `../${target}` : `./${target}`;
      const faults = check({ [file]: `import '${from}';`, [target]: '' });
      assert.equal(faults.length, 1);
      assert.match(faults[0] ?? '', new RegExp(`^src/${file}: may `));
    });
  }

  test('a dynamic import is held to the same', () => {
    const faults = check({
      'privsep/start.ts': "const role = await import('../processes/storage.ts');",
      'processes/storage.ts': '',
    });
    assert.deepEqual(faults, ['src/privsep/start.ts: may not import processes: arrows point down only']);
  });

  test('ffi-napi, ref-napi and @noble belong to one directory each', () => {
    const faults = check({
      'ipc/ring.ts': "import ffi from 'ffi-napi';\nimport ref from 'ref-napi';",
      'repository/seal.ts': "import { gcm } from '@noble/ciphers/aes.js';",
    });
    assert.deepEqual(faults, [
      'src/ipc/ring.ts: may not import ffi-napi: only src/sys does',
      'src/ipc/ring.ts: may not import ref-napi: only src/sys does',
      'src/repository/seal.ts: may not import @noble/ciphers/aes.js: only src/keys does',
    ]);
  });

  test('a cycle is shown from end to end', () => {
    const faults = check({
      'ipc/a.ts': "import './b.ts';",
      'ipc/b.ts': "import './c.ts';",
      'ipc/c.ts': "import './a.ts';",
    });
    assert.deepEqual(faults, ['a cycle of imports: ipc/a.ts → ipc/b.ts → ipc/c.ts → ipc/a.ts']);
  });

  test('types that name each other are no cycle', () => {
    const faults = check({
      'ipc/a.ts': "import type { B } from './b.ts';",
      'ipc/b.ts': "import { a } from './a.ts';",
    });
    assert.deepEqual(faults, []);
  });

  test('a directory that no layer names, and a file that is not there, are breaches', () => {
    assert.match(check({ 'utils/misc.ts': '' })[0] ?? '', /utils is in no layer/);
    assert.match(
      check({ 'ipc/a.ts': "import './gone.ts';" })[0] ?? '',
      /imports \.\/gone\.ts, which is not there/,
    );
  });
});
