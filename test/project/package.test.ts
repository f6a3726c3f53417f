/** package.json and its lockfile keep what CONTRIBUTING.md promises of an install. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

const ROOT = path.join(import.meta.dirname, '../..');

function read(name: string): string {
  return fs.readFileSync(path.join(ROOT, name), 'utf8');
}

interface Package {
  readonly dependencies: Record<string, string>;
  readonly optionalDependencies: Record<string, string>;
  readonly devDependencies: Record<string, string>;
}

const manifest = JSON.parse(read('package.json')) as Package;

test('every version is exact, so that an install is the same every time', () => {
  const { dependencies, optionalDependencies, devDependencies } = manifest;
  const versions = Object.entries({ ...dependencies, ...optionalDependencies, ...devDependencies });
  assert.notEqual(versions.length, 0);
  for (const [name, version] of versions) assert.match(version, /^\d+\.\d+\.\d+$/, name);
});

test('both architectures have the same runtime', () => {
  assert.equal(new Set(Object.values(manifest.optionalDependencies)).size, 1);
});

test('no script of a package is run', () => {
  assert.match(read('.npmrc'), /^ignore-scripts=true$/m);
});

test('the lockfile names no registry', () => {
  const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, { resolved?: string }> };
  const hosts = Object.values(lock.packages).flatMap(({ resolved }) => resolved ?? []);
  assert.deepEqual(hosts, []);
});

test('every package is accounted for in test/dependencies.md', () => {
  const text = read('test/dependencies.md');
  for (const name of Object.keys({
    ...manifest.dependencies,
    ...manifest.optionalDependencies,
    ...manifest.devDependencies,
  }))
    assert.ok(text.includes(`\`${name}\``), `${name} is missing`);
});
