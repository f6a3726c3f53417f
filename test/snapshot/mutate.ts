/** A random tree in the file system, which is changed at random. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { AT_FDCWD } from '../../src/sys/constants.ts';
import { mknodAt } from '../../src/sys/files.ts';
import type { Random } from './random.ts';

export class Tree {
  readonly #top: string;
  readonly #random: Random;
  #serial = 0;

  constructor(top: string, random: Random) {
    this.#top = top;
    this.#random = random;
  }

  /** All paths but the top's own, deepest last. */
  #paths(onlyDirectories = false): string[] {
    return fs
      .readdirSync(this.#top, { recursive: true, withFileTypes: true })
      .filter((entry) => !onlyDirectories || entry.isDirectory())
      .map((entry) => path.join(entry.parentPath, entry.name));
  }

  #somewhere(): string {
    const directory = this.#random.pick([this.#top, ...this.#paths(true)]);
    return path.join(
      directory,
      `${this.#random.below(30)}.${this.#random.chance(0.3) ? this.#serial++ : ''}`,
    );
  }

  #add(): void {
    const at = this.#somewhere();
    if (fs.existsSync(at)) return;
    const kind = this.#random.below(10);
    if (kind < 3) fs.mkdirSync(at);
    else if (kind < 8) fs.writeFileSync(at, `contents ${this.#random.below(50)}`);
    else if (kind < 9) fs.symlinkSync(`target ${this.#random.below(5)}`, at);
    else assert.equal(mknodAt(AT_FDCWD, Buffer.from(at), 0o010600, 0, 0), 0);
  }

  #remove(): void {
    const paths = this.#paths();
    if (paths.length > 0) fs.rmSync(this.#random.pick(paths), { recursive: true });
  }

  #rename(): void {
    const paths = this.#paths();
    const to = this.#somewhere();
    if (paths.length === 0 || fs.existsSync(to)) return;
    const from = this.#random.pick(paths);
    if (!to.startsWith(from)) fs.renameSync(from, to);
  }

  #touch(): void {
    const paths = this.#paths().filter((at) => !fs.lstatSync(at).isSymbolicLink());
    if (paths.length === 0) return;
    const at = this.#random.pick(paths);
    const stat = fs.lstatSync(at);
    if (stat.isFile() && this.#random.chance(0.6)) fs.appendFileSync(at, 'more');
    else if (this.#random.chance(0.5)) fs.chmodSync(at, stat.mode ^ 0o20);
    else fs.utimesSync(at, 1, this.#random.below(1000));
  }

  #replace(): void {
    const paths = this.#paths();
    if (paths.length === 0) return;
    const at = this.#random.pick(paths);
    const wasDirectory = fs.lstatSync(at).isDirectory();
    fs.rmSync(at, { recursive: true });
    if (wasDirectory) fs.writeFileSync(at, 'was a directory');
    else {
      fs.mkdirSync(at);
      fs.writeFileSync(path.join(at, 'inside'), 'was none');
    }
  }

  mutate(times: number): void {
    for (let i = 0; i < times; i++) {
      const kind = this.#random.below(12);
      if (kind < 6) this.#add();
      else if (kind < 8) this.#touch();
      else if (kind < 9) this.#rename();
      else if (kind < 10) this.#replace();
      else this.#remove();
    }
  }
}
