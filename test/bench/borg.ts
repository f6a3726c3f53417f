/** borg, as Debian packages it: encrypted with repokey-blake2, with its default compression (lz4). */
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type Command, run } from './command.ts';
import type { Store, Tool } from './tool.ts';

const ENCRYPTION = 'repokey-blake2';

/** `borg create` many times in one process, which saves the start of the interpreter. */
const MULTIPLY = `
import sys
from borg.archiver import Archiver
repository, source, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(first, first + count):
    archiver = Archiver()
    status = archiver.run(archiver.get_args(['borg', 'create', '%s::%d' % (repository, number), source], None))
    if status != 0:
        sys.exit(status)
`;

class BorgStore implements Store {
  readonly path: string;
  readonly daemon = undefined;
  readonly #source: string;
  readonly #env: Readonly<Record<string, string>>;
  /** archives are numbered from 1; borg knows none as the latest */
  #newest = 0;

  constructor(directory: string, source: string) {
    this.path = path.join(directory, 'repository');
    this.#source = source;
    const base = path.join(directory, 'base');
    mkdirSync(base);
    this.#env = { BORG_PASSPHRASE: 'benchmark', BORG_BASE_DIR: base };
    run(this.#command('init', '--encryption', ENCRYPTION, this.path));
  }

  #command(...args: string[]): Command {
    return { argv: ['borg', ...args], env: this.#env };
  }

  get #archive(): string {
    return `${this.path}::${this.#newest}`;
  }

  push(): Command {
    this.#newest++;
    return this.#command('create', this.#archive, this.#source);
  }

  pull(to: string): Command {
    return { ...this.#command('extract', this.#archive), cwd: to };
  }

  restored(to: string): string {
    return path.join(to, this.#source);
  }

  check(): Command {
    return this.#command('check', '--verify-data', this.path);
  }

  tree(): Command {
    return this.#command('list', this.#archive);
  }

  snapshots(): Command {
    return this.#command('list', this.path);
  }

  cat(name: string): Command {
    return this.#command('extract', '--stdout', this.#archive, path.join(this.#source, name).slice(1));
  }

  async multiply(count: number): Promise<void> {
    // the interpreter that the package was made for, from the first line of the program
    const program = run({ argv: ['sh', '-c', 'command -v borg'] }).trim();
    const interpreter = /^#! *(\S+)/.exec(readFileSync(program, 'latin1'))?.[1] ?? 'python3';
    const args = [this.path, this.#source, `${this.#newest + 1}`, `${count}`];
    run({ argv: [interpreter, '-c', MULTIPLY, ...args], env: this.#env });
    this.#newest += count;
  }

  async close(): Promise<void> {}
}

export function borg(): Tool {
  return {
    name: 'borg',
    about: `${run({ argv: ['borg', '--version'] }).trim()}, ${ENCRYPTION}, default compression`,
    create: async (directory, source) => new BorgStore(directory, source),
  };
}
