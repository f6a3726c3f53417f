/**
 * `npm run check [-- NAME...]`: every check that is no test, one line each, and
 * the output of those that fail. CHECKS is the list; .ci/run runs them all.
 */

import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..');

interface Check {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  /** The Debian package that brings the command, where npm does not. */
  readonly debian?: string;
}

function filesIn(directory: string): string[] {
  return fs.readdirSync(path.join(ROOT, directory)).map((name) => path.join(directory, name));
}

const DEBIAN = ['init', 'postinst', 'prerm', 'postrm'].map((name) => `etc/debian/${name}`);
const LAUNCHERS = filesIn('bin').filter((name) => !name.endsWith('.cjs'));
const SHELL = [...LAUNCHERS, '.ci/run', 'rc.d/plakard', ...DEBIAN, 'etc/completions/plakarctl.bash'];

const CHECKS: readonly Check[] = [
  { name: 'format', command: ['biome', 'check', '--error-on-warnings'] },
  { name: 'types', command: ['tsc', '-p', 'tsconfig.json'] },
  { name: 'layers', command: ['bin/node', 'scripts/layers.ts'] },
  { name: 'unused', command: ['knip', '--no-progress'] },
  { name: 'manual', command: ['mandoc', '-T', 'lint', '-W', 'warning', ...filesIn('man')], debian: 'mandoc' },
  { name: 'shell', command: ['shellcheck', '--severity=style', ...SHELL], debian: 'shellcheck' },
];

/** Runs one check; its output where it failed, undefined where it passed. */
function run({ command: [program, ...args], debian }: Check): string | undefined {
  // npm puts node_modules/.bin first in PATH; so do we, to work without npm.
  const PATH = `${path.join(ROOT, 'node_modules/.bin')}:${process.env.PATH ?? ''}`;
  const env = { ...process.env, PATH };
  const result = spawnSync(program, args, { cwd: ROOT, env, encoding: 'utf8', maxBuffer: 64 << 20 });
  if (result.error !== undefined) {
    const remedy = debian === undefined ? 'npm ci' : `apt-get install ${debian}`;
    return `${program}: ${result.error.message} (${remedy} brings it)\n`;
  }
  return result.status === 0 ? undefined : result.stdout + result.stderr;
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !CHECKS.some((check) => check.name === name));
if (unknown.length > 0) {
  console.error(`check: no such check: ${unknown} (there are ${CHECKS.map(({ name }) => name).join(', ')})`);
  process.exit(2);
}
for (const check of CHECKS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  const begun = performance.now();
  const output = run(check);
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(`${output === undefined ? 'ok    ' : 'FAILED'} ${check.name.padEnd(8)} ${seconds} s`);
  if (output !== undefined) {
    process.stdout.write(output.replace(/^(?=.)/gm, '  '));
    process.exitCode = 1;
  }
}
