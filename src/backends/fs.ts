/**
 * Objects as files under one directory, which is `/` in the storage process.
 * Called by the storage process and by tests. Owns the order that makes an
 * object durable, and all of it or nothing:
 *
 *   write tmp/RANDOM, fsync it, rename it (link it, for ifAbsent), fsync the
 *   directory of the name
 *
 *   ROOT/config          the configuration object
 *   ROOT/KIND/NAME       objects of the other kinds
 *   ROOT/packs/XX/NAME   packs, by the first two digits of their name
 *   ROOT/tmp/RANDOM      objects under way; what a writer that died left behind
 *   ROOT/reserve         space that urgent objects get on a full disk
 *
 * Files with other names are nobody's business here: no listing shows them.
 */
import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { Failure } from '../error.ts';
import { errnoError } from '../sys/errno.ts';
import { setDirect } from '../sys/files.ts';
import { addressOf } from '../sys/foreign.ts';
import { trace, tracing } from '../trace.ts';
import {
  type Backend,
  type ByteRange,
  checkObjectName,
  isObjectName,
  OBJECT_KINDS,
  OBJECT_MAX_BYTES,
  type ObjectKind,
  type ObjectWriter,
  type PutOptions,
} from './objects.ts';
import type { Pace } from './pace.ts';
import { BLOCK_BYTES, pieceWriter } from './pieces.ts';

const TMP = 'tmp';
const TMP_NAME = /^[0-9a-f]{32}$/;
const FANOUT = /^[0-9a-f]{2}$/;
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
/** Packs kept open for reading. */
const OPEN_PACKS_MAX = 16;
/** How often an object is written when fsync (or the write) gives EIO, or a cleanup elsewhere took its file for a leftover. */
const ATTEMPTS = 2;
const AGAIN: readonly (string | undefined)[] = ['EIO', 'ENOENT'];
/** As few slabs as this are not worth the calls. */
const DIRECT_MIN_PIECES = 4;
const RESERVE = 'reserve';
/** More than the largest urgent object, a mark, and its directory entries. */
const RESERVE_BYTES = 1 << 20;
const FULL: readonly (string | undefined)[] = ['ENOSPC', 'EDQUOT'];

export interface FsOptions {
  readonly random: (bytes: number) => Buffer;
  /** What is read and written keeps to these. */
  readonly pace?: { readonly read: Pace; readonly write: Pace };
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await fs.open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: fs.FileHandle, pieces: readonly Buffer[], pace?: Pace): Promise<void> {
  for (const piece of pieces) {
    await pace?.take(piece.length);
    for (let at = 0; at < piece.length; ) {
      const { bytesWritten } = await handle.write(piece, at, piece.length - at);
      at += bytesWritten;
    }
  }
}

/** Reads until `out` is full; returns what there was. */
async function readAll(handle: fs.FileHandle, out: Buffer, position: number): Promise<number> {
  let at = 0;
  while (at < out.length) {
    const { bytesRead } = await handle.read(out, at, out.length - at, position + at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return at;
}

export class FsBackend implements Backend {
  readonly location: string;
  readonly #random: (bytes: number) => Buffer;
  readonly #pace: FsOptions['pace'];
  /** names in tmp/ that this process is writing */
  readonly #underWay = new Set<string>();
  /** fan-out directories that are known to be durable */
  readonly #fanout = new Set<string>();
  /** packs open for reading, the least recently used first */
  readonly #open = new Map<string, Promise<fs.FileHandle>>();

  /** Touches nothing yet: see `create` and `open`. */
  constructor(root: string, options: FsOptions) {
    this.location = root;
    this.#random = options.random;
    this.#pace = options.pace;
  }

  /** Makes the directories in an existing `root`, where they are missing, and opens it. */
  static async create(root: string, options: FsOptions): Promise<FsBackend> {
    try {
      for (const name of [TMP, ...OBJECT_KINDS]) {
        if (name === 'config') continue;
        await fs.mkdir(path.join(root, name), { mode: DIRECTORY_MODE }).catch((error: unknown) => {
          if (codeOf(error) !== 'EEXIST') throw error;
        });
      }
    } catch (cause) {
      throw new Failure('make repository', root, { cause });
    }
    return FsBackend.open(root, options);
  }

  /**
   * Opens a repository's directory; a Failure of kind 'no-repository' if it is
   * none. What an earlier writer renamed but could not sync any more is synced.
   */
  static async open(root: string, options: FsOptions): Promise<FsBackend> {
    const backend = new FsBackend(root, options);
    try {
      for (const kind of OBJECT_KINDS) await syncDirectory(kind === 'config' ? root : path.join(root, kind));
      for (const name of await fs.readdir(path.join(root, 'packs'))) {
        if (!FANOUT.test(name)) continue;
        await syncDirectory(path.join(root, 'packs', name));
        backend.#fanout.add(name);
      }
    } catch (cause) {
      throw new Failure('open repository', root, {
        cause,
        kind: codeOf(cause) === 'ENOENT' || codeOf(cause) === 'ENOTDIR' ? 'no-repository' : 'failed',
      });
    }
    return backend;
  }

  #directory(kind: ObjectKind, name: string): string {
    if (kind === 'config') return this.location;
    return kind === 'packs'
      ? path.join(this.location, kind, name.slice(0, 2))
      : path.join(this.location, kind);
  }

  #path(kind: ObjectKind, name: string): string {
    checkObjectName(kind, name);
    return path.join(this.#directory(kind, name), name);
  }

  async get(kind: ObjectKind, name: string, range?: ByteRange): Promise<Buffer | undefined> {
    if (range === undefined) return this.#getWhole(kind, name);
    const out = Buffer.allocUnsafe(range.length);
    return (await this.getInto(kind, name, range.offset, out)) ? out : undefined;
  }

  async #getWhole(kind: ObjectKind, name: string): Promise<Buffer | undefined> {
    const sizeBytes = await this.stat(kind, name);
    if (sizeBytes === undefined) return undefined;
    if (sizeBytes > OBJECT_MAX_BYTES)
      throw new Failure('read', `${kind}/${name}`, {
        cause: `${sizeBytes} bytes are too many`,
        kind: 'damaged',
      });
    const out = Buffer.allocUnsafe(sizeBytes);
    return (await this.getInto(kind, name, 0, out)) ? out : undefined;
  }

  async getInto(kind: ObjectKind, name: string, offset: number, out: Buffer): Promise<boolean> {
    const file = this.#path(kind, name);
    if (tracing.object) trace('object', `read ${kind}/${name}, ${out.length} bytes at ${offset}`);
    let bytes: number;
    try {
      await this.#pace?.read.take(out.length);
      bytes = kind === 'packs' ? await this.#readPack(file, out, offset) : await readOnce(file, out, offset);
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return false;
      throw new Failure('read', `${kind}/${name}`, { cause });
    }
    if (bytes < out.length)
      throw new Failure('read', `${kind}/${name}`, {
        cause: `it ends at ${offset + bytes}, before ${offset + out.length}`,
        kind: 'damaged',
      });
    return true;
  }

  async #readPack(file: string, out: Buffer, offset: number): Promise<number> {
    let opened = this.#open.get(file);
    this.#open.delete(file);
    opened ??= fs.open(file, 'r');
    this.#open.set(file, opened);
    if (this.#open.size > OPEN_PACKS_MAX)
      for (const [oldest] of this.#open) {
        this.#forget(oldest);
        break;
      }
    try {
      return await readAll(await opened, out, offset);
    } catch (error) {
      this.#forget(file);
      throw error;
    }
  }

  /** Closes a pack that was read; close waits for reads that are under way. */
  #forget(file: string): void {
    const opened = this.#open.get(file);
    this.#open.delete(file);
    // an open that failed has told its reader; a close of what was only read has nothing to lose
    opened?.then((handle) => handle.close()).catch(() => undefined);
  }

  async put(
    kind: ObjectKind,
    name: string,
    pieces: readonly Buffer[],
    options: PutOptions = {},
  ): Promise<boolean> {
    const target = this.#path(kind, name);
    if (tracing.object) trace('object', `write ${kind}/${name}`);
    try {
      if (kind === 'packs') await this.#makeFanout(name.slice(0, 2));
      for (let attempt = 1; ; attempt++) {
        try {
          return await this.#putOnce(target, pieces, options.ifAbsent === true);
        } catch (error) {
          const helped =
            options.urgent === true && FULL.includes(codeOf(error)) && (await this.#useReserve());
          if (!helped && (attempt === ATTEMPTS || !AGAIN.includes(codeOf(error)))) throw error;
        }
      }
    } catch (cause) {
      throw new Failure('write', `${kind}/${name}`, { cause });
    }
  }

  async #putOnce(target: string, pieces: readonly Buffer[], ifAbsent: boolean): Promise<boolean> {
    const tmpName = this.#random(16).toString('hex');
    const tmp = path.join(this.location, TMP, tmpName);
    this.#underWay.add(tmpName);
    let named = false;
    try {
      await writeDurably(tmp, pieces, this.#pace?.write);
      if (ifAbsent) named = await linkIfAbsent(tmp, target);
      else {
        await fs.rename(tmp, target);
        named = true;
      }
      await syncDirectory(path.dirname(target));
      return named;
    } catch (error) {
      // what may or may not survive a power cut must not be found meanwhile
      if (named) await removeQuietly(target);
      throw error;
    } finally {
      if (ifAbsent || !named) await removeQuietly(tmp);
      this.#underWay.delete(tmpName);
    }
  }

  /** Frees the reserve; false where there is none. */
  async #useReserve(): Promise<boolean> {
    try {
      await fs.unlink(path.join(this.location, RESERVE));
      return true;
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false;
      throw error;
    }
  }

  async reserve(): Promise<boolean> {
    const file = path.join(this.location, RESERVE);
    try {
      const handle = await fs.open(file, 'a', FILE_MODE);
      try {
        const { size } = await handle.stat();
        // random, so that no file system makes nothing of it
        if (size < RESERVE_BYTES) await writeAll(handle, [this.#random(RESERVE_BYTES - size)]);
        await handle.sync();
      } finally {
        await handle.close();
      }
      return true;
    } catch (cause) {
      if (!FULL.includes(codeOf(cause))) throw new Failure('reserve space', file, { cause });
      // less is no reserve, but space that somebody needs
      await removeQuietly(file);
      return false;
    }
  }

  async #makeFanout(name: string): Promise<void> {
    if (this.#fanout.has(name)) return;
    await fs
      .mkdir(path.join(this.location, 'packs', name), { mode: DIRECTORY_MODE })
      .catch((error: unknown) => {
        if (codeOf(error) !== 'EEXIST') throw error;
      });
    await syncDirectory(path.join(this.location, 'packs'));
    this.#fanout.add(name);
  }

  create(kind: ObjectKind): ObjectWriter {
    return pieceWriter((name, views) => this.put(kind, name, views));
  }

  async list(kind: ObjectKind): Promise<string[]> {
    if (tracing.object) trace('object', `list ${kind}`);
    try {
      if (kind === 'config') return (await this.stat(kind, 'config')) === undefined ? [] : ['config'];
      const directory = path.join(this.location, kind);
      const entries = await fs.readdir(directory);
      if (kind !== 'packs') return entries.filter((name) => isObjectName(kind, name));
      const packs: string[] = [];
      for (const fanout of entries) {
        if (!FANOUT.test(fanout)) continue;
        for (const name of await fs.readdir(path.join(directory, fanout)))
          if (isObjectName(kind, name) && name.startsWith(fanout)) packs.push(name);
      }
      return packs;
    } catch (cause) {
      throw new Failure('list', kind, { cause });
    }
  }

  async stat(kind: ObjectKind, name: string): Promise<number | undefined> {
    try {
      return (await fs.lstat(this.#path(kind, name))).size;
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return undefined;
      throw new Failure('look at', `${kind}/${name}`, { cause });
    }
  }

  async delete(kind: ObjectKind, name: string): Promise<boolean> {
    const file = this.#path(kind, name);
    if (tracing.object) trace('object', `remove ${kind}/${name}`);
    this.#forget(file);
    try {
      await fs.unlink(file);
      await syncDirectory(path.dirname(file));
      return true;
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return false;
      throw new Failure('remove', `${kind}/${name}`, { cause });
    }
  }

  async leftovers(): Promise<string[]> {
    try {
      const names = await fs.readdir(path.join(this.location, TMP));
      return names.filter((name) => TMP_NAME.test(name) && !this.#underWay.has(name));
    } catch (cause) {
      throw new Failure('list', TMP, { cause });
    }
  }

  async removeLeftover(name: string): Promise<void> {
    if (!TMP_NAME.test(name)) throw new Failure('remove leftover', '', { cause: 'malformed name' });
    await fs.unlink(path.join(this.location, TMP, name)).catch((cause: unknown) => {
      if (codeOf(cause) !== 'ENOENT') throw new Failure('remove', `${TMP}/${name}`, { cause });
    });
  }

  /** Closes what is open for reading. */
  close(): void {
    for (const file of [...this.#open.keys()]) this.#forget(file);
  }
}

async function readOnce(file: string, out: Buffer, offset: number): Promise<number> {
  const handle = await fs.open(file, 'r');
  try {
    return await readAll(handle, out, offset);
  } finally {
    await handle.close();
  }
}

async function writeDurably(tmp: string, pieces: readonly Buffer[], pace?: Pace): Promise<void> {
  const handle = await fs.open(tmp, 'wx', FILE_MODE);
  try {
    await writeAll(handle, await writeDirect(handle, pieces, pace), pace);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isAligned(piece: Buffer): boolean {
  return piece.length % BLOCK_BYTES === 0 && addressOf(piece) % BLOCK_BYTES === 0;
}

/**
 * Writes what of the pieces is whole blocks past the page cache, which is
 * others' (1.3 GB/s, where the cache took 0.3 to 0.7 and three times the
 * processor's time). Returns what is left to be written: all of it where the
 * file system knows no such thing, or wants larger blocks.
 */
async function writeDirect(
  handle: fs.FileHandle,
  pieces: readonly Buffer[],
  pace?: Pace,
): Promise<readonly Buffer[]> {
  const end = pieces.findIndex((piece) => !isAligned(piece));
  let whole = pieces.slice(0, end < 0 ? pieces.length : end);
  const rest = pieces.slice(whole.length);
  if (whole.length < DIRECT_MIN_PIECES || setDirect(handle.fd, true) < 0) return pieces;
  // without a rate all at once: each call wakes a thread, which wakes this one again
  const isPaced = pace !== undefined && !pace.isUnlimited;
  try {
    while (whole.length > 0) {
      const next = isPaced ? whole.slice(0, 1) : whole;
      await pace?.take(next[0]?.length ?? 0);
      const { bytesWritten } = await handle.writev(next);
      whole = after(whole, bytesWritten);
    }
  } catch (error) {
    if (codeOf(error) !== 'EINVAL') throw error;
  }
  const back = setDirect(handle.fd, false);
  if (back < 0) throw errnoError(back, 'fcntl', '');
  return [...whole, ...rest];
}

/** What is behind the first `bytes` of the pieces. */
function after(pieces: readonly Buffer[], bytes: number): Buffer[] {
  const left: Buffer[] = [];
  let skip = bytes;
  for (const piece of pieces) {
    if (skip < piece.length) left.push(piece.subarray(skip));
    skip = Math.max(0, skip - piece.length);
  }
  return left;
}

/** False where `target` was there. */
async function linkIfAbsent(tmp: string, target: string): Promise<boolean> {
  try {
    await fs.link(tmp, target);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

/** On the way out of a failure that is reported already, or of a name that is not needed any more: a leftover at worst. */
async function removeQuietly(file: string): Promise<void> {
  await fs.unlink(file).catch(() => undefined);
}
