/**
 * The golden configurations: each `.conf` in golden/ stands beside the `.ok` it
 * prints as, or the `.err` it is refused with. A first line such as
 * `# test: host=alpha mode=fast` sets the machine and -D macros. Read by the
 * golden tests, and mutated by the fuzz test.
 */

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import {
  diskFiles,
  type FileSource,
  formatError,
  type Parsed,
  parseFile,
  print,
} from '../../src/config/config.ts';

export const GOLDEN = path.join(import.meta.dirname, 'golden');

/** The names of the golden configurations. */
export function goldenNames(): string[] {
  return readdirSync(GOLDEN)
    .filter((name) => name.endsWith('.conf'))
    .sort();
}

/** The golden directory as if it were the current one, so that errors name files without it. */
export const goldenFiles: FileSource = (() => {
  const disk = diskFiles(0);
  return {
    uid: disk.uid,
    stat: (file) => disk.stat(path.resolve(GOLDEN, file)),
    readFile: (file, maxBytes) => disk.readFile(path.resolve(GOLDEN, file), maxBytes),
  };
})();

/** Reads a golden configuration as its first line says, from `files` if they are not the golden ones. */
export function parseGolden(name: string, files: FileSource = goldenFiles): Parsed {
  const first = readFileSync(path.join(GOLDEN, name), 'utf8').split('\n', 1)[0] ?? '';
  const given = first.startsWith('# test:') ? first.slice('# test:'.length).trim().split(/ +/) : [];
  const { host = 'testhost', system = 'linux', ...macros } = Object.fromEntries(given.map(definition));
  return parseFile(name, { files, host, system, macros });
}

function definition(argument: string): readonly [string, string] {
  const equals = argument.indexOf('=');
  return [argument.slice(0, equals), argument.slice(equals + 1)];
}

/** What stands in the `.ok` or `.err`. */
export function render({ configuration, errors }: Parsed): string {
  if (configuration !== undefined) return print(configuration);
  return errors.map((error) => `${formatError(error)}\n`).join('');
}
