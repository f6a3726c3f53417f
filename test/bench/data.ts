/**
 * The data that is backed up: made once for each run below the work directory.
 * Called by bench.ts' works. Invariant: the same machine, scale and seed
 * give the same data.
 */
import { createCipheriv, createHash } from 'node:crypto';
import {
  closeSync,
  type Dirent,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { progress, run } from './command.ts';

export type DataName = 'a' | 'b' | 'c' | 'e' | 'tiny';

/** Directories of data, and what is known of them. */
export interface Data {
  readonly directory: string;
  readonly files: number;
  readonly bytes: number;
  readonly about: string;
}

const SYSTEM = '/usr';
const TREE_FILES = 100_000;
const TREE_BYTES = 2e9;
/** Larger files are left out of the tree, which would be many times 2 GB before it had its files: (b) has them. */
const TREE_FILE_MAX_BYTES = 16 << 20;
const ARCHIVE_BYTES = 2e9;
const SMALL_FILES = 1_000_000;
const SMALL_DIRECTORIES = 1000;
const SMALL_MIN_BYTES = 200;
const SMALL_MAX_BYTES = 8192;
const RANDOM_BYTES = 2e9;
const RANDOM_FILES = 8;
const TINY_FILES = 20;
/** The file of the tiny tree that is printed. */
export const TINY_FILE = 'file-7';
const SEED = 0x9e3779b9;

/** Marsaglia's xorshift, 32 bits: fast, and the same everywhere. doi:10.18637/jss.v008.i14 */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** a whole number from 0 to 2^32 - 1 */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** a number from 0 up to, not including, 1 */
  fraction(): number {
    return this.next() / 2 ** 32;
  }
}

// ---- (a): real files

interface Selection {
  /** paths below SYSTEM, directories before what is in them */
  readonly names: Buffer[];
  files: number;
  bytes: number;
}

/** Names in a directory in the order of their bytes. */
function sortedEntries(directory: Buffer): Dirent<Buffer>[] {
  const entries = readdirSync(directory, { encoding: 'buffer', withFileTypes: true });
  return entries.sort((one, other) => one.name.compare(other.name));
}

/** Selects in the order of paths until there are enough files and bytes. */
function select(directory: Buffer, wanted: { files: number; bytes: number }, selection: Selection): void {
  for (const entry of sortedEntries(directory)) {
    if (selection.files >= wanted.files && selection.bytes >= wanted.bytes) return;
    const file = Buffer.concat([directory, Buffer.from('/'), entry.name]);
    const name = file.subarray(SYSTEM.length + 1);
    if (entry.isFile()) {
      const { size } = lstatSync(file);
      if (size > TREE_FILE_MAX_BYTES) continue;
      selection.files++;
      selection.bytes += size;
      selection.names.push(name);
    } else if (entry.isDirectory()) {
      selection.names.push(name);
      select(file, wanted, selection);
    } else if (entry.isSymbolicLink()) selection.names.push(name);
  }
}

function makeTree(directory: string, scale: number): void {
  const selection: Selection = { names: [], files: 0, bytes: 0 };
  const wanted = { files: TREE_FILES * scale, bytes: TREE_BYTES * scale };
  select(Buffer.from(SYSTEM), wanted, selection);
  if (selection.files < wanted.files || selection.bytes < wanted.bytes)
    progress(`${SYSTEM} has only ${selection.files} files, ${selection.bytes} bytes to take`);
  const list = `${directory}.list`;
  writeFileSync(list, Buffer.concat(selection.names.flatMap((name) => [name, Buffer.alloc(1)])));
  // what cp -a keeps is kept: owners, modes, times, hard links, extended attributes
  const take = `tar --xattrs --acls --null --no-recursion -C ${SYSTEM} -T "$1" -cf -`;
  const put = 'tar --xattrs --xattrs-include="*" --acls -C "$2" -xpf -';
  run({ argv: ['bash', '-o', 'pipefail', '-c', `${take} | ${put}`, 'bash', list, directory] });
}

/**
 * Changes 1% of the regular files of a tree: a line of 64 characters is put
 * into the middle. `round` says which, so that every round has others.
 */
export function changeSome(directory: string, round: number): void {
  rmSync(marker(directory), { force: true });
  const files: Buffer[] = [];
  const walk = (below: Buffer) => {
    for (const entry of sortedEntries(below)) {
      const file = Buffer.concat([below, Buffer.from('/'), entry.name]);
      if (entry.isDirectory()) walk(file);
      // a file with several names would count as several
      else if (entry.isFile() && lstatSync(file).nlink === 1) files.push(file);
    }
  };
  walk(Buffer.from(directory));
  for (let i = (round * 37) % 100; i < files.length; i += 100) {
    const file = files[i];
    if (file === undefined) break;
    const contents = readFileSync(file);
    const middle = contents.length >>> 1;
    const line = createHash('sha256').update(`${SEED} ${round} ${i}`).digest('hex');
    writeFileSync(
      file,
      Buffer.concat([contents.subarray(0, middle), Buffer.from(line), contents.subarray(middle)]),
    );
  }
}

// ---- (b): one large file

function makeArchive(directory: string, scale: number): void {
  // tar ends when head has enough
  const script = 'tar -C / --sort=name -cf - "$1" 2>/dev/null | head -c "$2" > "$3"';
  const bytes = Math.round(ARCHIVE_BYTES * scale);
  run({ argv: ['sh', '-c', script, 'sh', SYSTEM.slice(1), `${bytes}`, path.join(directory, 'usr.tar')] });
}

// ---- (c): small files

const WORDS = 4096;

function words(random: Random): Buffer[] {
  return Array.from({ length: WORDS }, () => {
    const letters = 2 + (random.next() % 9);
    const word = Array.from({ length: letters }, () => String.fromCharCode(97 + (random.next() % 26)));
    return Buffer.from(`${word.join('')}${random.next() % 12 === 0 ? '\n' : ' '}`);
  });
}

/** Text-like: words, the frequent ones far more often than the others. */
function fillText(target: Buffer, random: Random, dictionary: readonly Buffer[]): void {
  for (let at = 0; at < target.length; ) {
    const word = dictionary[Math.trunc(random.fraction() ** 3 * WORDS)];
    at += word?.copy(target, at) ?? 1;
  }
}

/** Records such as programs write: a number that rises, flags, padding, and 8 random bytes. */
function fillRecords(target: Buffer, random: Random): void {
  target.fill(0);
  let number = random.next() & 0xffff;
  for (let at = 0; at + 24 <= target.length; at += 24) {
    number += random.next() & 7;
    target.writeUInt32LE(number, at);
    target.writeUInt8(random.next() & 3, at + 4);
    target.writeUInt32LE(random.next(), at + 12);
    target.writeUInt32LE(random.next(), at + 16);
  }
}

function makeSmall(directory: string, scale: number): void {
  const random = new Random(SEED);
  const dictionary = words(random);
  const buffer = Buffer.alloc(SMALL_MAX_BYTES);
  const count = Math.round(SMALL_FILES * scale);
  const perDirectory = Math.ceil(count / SMALL_DIRECTORIES);
  let below = directory;
  for (let i = 0; i < count; i++) {
    if (i % perDirectory === 0) {
      below = path.join(directory, `d${i / perDirectory}`);
      mkdirSync(below);
    }
    // sizes are spread evenly over their logarithms, as those of real files about are
    const size = Math.trunc(SMALL_MIN_BYTES * (SMALL_MAX_BYTES / SMALL_MIN_BYTES) ** random.fraction());
    const contents = buffer.subarray(0, size);
    if (random.next() % 5 < 3) fillText(contents, random, dictionary);
    else fillRecords(contents, random);
    const fd = openSync(`${below}/f${i}`, 'w');
    writeSync(fd, contents);
    closeSync(fd);
  }
}

// ---- (e): incompressible

function makeRandom(directory: string, scale: number): void {
  const block = Buffer.alloc(4 << 20);
  for (let i = 0; i < RANDOM_FILES; i++) {
    const key = createHash('sha256').update(`${SEED} ${i}`).digest();
    const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
    const fd = openSync(path.join(directory, `random-${i}`), 'w');
    for (let left = Math.round((RANDOM_BYTES * scale) / RANDOM_FILES); left > 0; left -= block.length)
      writeSync(fd, cipher.update(block.subarray(0, Math.min(left, block.length))));
    closeSync(fd);
  }
}

// ---- a source for many snapshots

function makeTiny(directory: string): void {
  const random = new Random(SEED);
  const dictionary = words(random);
  for (let i = 0; i < TINY_FILES; i++) {
    const contents = Buffer.alloc(1024 + (random.next() % 4096));
    fillText(contents, random, dictionary);
    writeFileSync(path.join(directory, `file-${i}`), contents);
  }
}

const MAKERS: Readonly<Record<DataName, (directory: string, scale: number) => void>> = {
  a: makeTree,
  b: makeArchive,
  c: makeSmall,
  e: makeRandom,
  tiny: makeTiny,
};
const ABOUT: Readonly<Record<DataName, string>> = {
  a: `real files of ${SYSTEM}`,
  b: 'one tar of real files',
  c: 'small files',
  e: 'incompressible',
  tiny: 'a few small files',
};

/** Regular files below a directory: how many, and how many bytes. */
export function measureTree(directory: string): { files: number; bytes: number } {
  const total = { files: 0, bytes: 0 };
  const waiting = [Buffer.from(directory)];
  for (let below = waiting.pop(); below !== undefined; below = waiting.pop())
    for (const entry of readdirSync(below, { encoding: 'buffer', withFileTypes: true })) {
      const file = Buffer.concat([below, Buffer.from('/'), entry.name]);
      if (entry.isDirectory()) waiting.push(file);
      else if (entry.isFile()) {
        total.files++;
        total.bytes += lstatSync(file).size;
      }
    }
  return total;
}

/** A file beside the directory that says its scale: what is in there is complete, and as it was made. */
function marker(directory: string): string {
  return `${directory}.done`;
}

/** What one reading may find missing in the page cache; and so often is read at most, as it may be too small. */
const WARM_BYTES = 64 << 20;
const READINGS_MAX = 3;

/**
 * Has all files below the directory in the page cache. They are read until next to nothing of them comes from the disk:
 * a kernel that needs memory, or gives back what is idle, lets go first of what was read only once.
 */
export function warm(directory: string): void {
  for (let reading = 0; reading < READINGS_MAX; reading++) {
    const before = bytesFromDisk();
    run({ argv: ['sh', '-c', 'find "$1" -type f -exec cat {} + > /dev/null', 'sh', directory] });
    if (bytesFromDisk() - before <= WARM_BYTES) return;
  }
}

/** What this process and the children that it waited for have had the kernel read from disks. */
function bytesFromDisk(): number {
  return Number(/^read_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'latin1'))?.[1]);
}

/** What is data no more is in directories of such names until the end of the run: see `removeOld`. */
const OLD = 'old-';

/** Removes what was put aside. Not before the end: for minutes after many files were removed, ext4 is slow to make new ones. */
export function removeOld(top: string): void {
  for (const name of readdirSync(top))
    if (name.startsWith(OLD)) rmSync(path.join(top, name), { recursive: true });
}

/** Makes one kind of data below `top`, or takes what is there already from a run that was told to keep it. */
export function makeData(top: string, name: DataName, scale: number): Data {
  const directory = path.join(top, name);
  const done = marker(directory);
  if (!existsSync(done) || readFileSync(done, 'utf8') !== `${scale}`) {
    progress(`making data ${name}: ${ABOUT[name]}`);
    rmSync(done, { force: true });
    if (existsSync(directory)) renameSync(directory, path.join(mkdtempSync(path.join(top, OLD)), name));
    mkdirSync(directory);
    MAKERS[name](directory, scale);
    writeFileSync(done, `${scale}`);
  }
  return { directory, about: ABOUT[name], ...measureTree(directory) };
}
