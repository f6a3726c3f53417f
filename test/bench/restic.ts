/** restic, as Debian packages it: encrypted, as it always is, with its default compression. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { type Command, failed, follow, run } from './command.ts';
import type { Store, Tool } from './tool.ts';

class ResticStore implements Store {
  readonly path: string;
  readonly daemon = undefined;
  readonly #source: string;
  readonly #env: Readonly<Record<string, string>>;

  constructor(directory: string, source: string) {
    this.path = path.join(directory, 'repository');
    this.#source = source;
    const cache = path.join(directory, 'cache');
    mkdirSync(cache);
    this.#env = { RESTIC_REPOSITORY: this.path, RESTIC_PASSWORD: 'benchmark', RESTIC_CACHE_DIR: cache };
    run(this.#command('init'));
  }

  #command(...args: string[]): Command {
    return { argv: ['restic', '--quiet', ...args], env: this.#env };
  }

  push(): Command {
    return this.#command('backup', this.#source);
  }

  pull(to: string): Command {
    return this.#command('restore', 'latest', '--target', to);
  }

  restored(to: string): string {
    return path.join(to, this.#source);
  }

  check(): Command {
    return this.#command('check', '--read-data');
  }

  tree(): Command {
    return this.#command('ls', '--long', 'latest');
  }

  snapshots(): Command {
    return this.#command('snapshots');
  }

  cat(name: string): Command {
    return this.#command('dump', 'latest', path.join(this.#source, name));
  }

  /** Its writers do not exclude each other, and most of each start is deriving the key. */
  async multiply(count: number): Promise<void> {
    let left = count;
    const worker = async () => {
      while (left-- > 0) await this.#pushAside();
    };
    await Promise.all(Array.from({ length: availableParallelism() }, worker));
  }

  async #pushAside(): Promise<void> {
    const command = this.push();
    const [program, ...args] = command.argv;
    const child = spawn(program, args, { env: { ...process.env, ...command.env }, stdio: 'ignore' });
    follow(child);
    const [code, signal] = await once(child, 'exit');
    if (code !== 0) throw failed(command, signal ?? `exit code ${code}`, '');
  }

  async close(): Promise<void> {}
}

export function restic(): Tool {
  const version = run({ argv: ['restic', 'version'] }).split(' compiled')[0] ?? '';
  return {
    name: 'restic',
    about: `${version.trim()}, default compression`,
    create: async (directory, source) => new ResticStore(directory, source),
  };
}
