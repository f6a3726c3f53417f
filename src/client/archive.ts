/**
 * Entries of snapshots into a tar archive, in order. Called by tarball. Small
 * files are gathered and read many at a time; their headers are written when
 * their contents are there, so a damaged one is left out whole. A large file is
 * written as it is read: damage in the middle of one ends the archive, as its
 * size has been written by then and nothing true could follow.
 */
import { Failure } from '../error.ts';
import { CHUNK_DATA, ID_BYTES } from '../snapshot/chunks.ts';
import { BlockReader, INLINE_RECORDS_MAX } from '../snapshot/content.ts';
import * as tree from '../snapshot/tree.ts';
import { type ContentSource, writeContents } from './contents.ts';
import * as tar from './tar.ts';

/** Small files gathered before they are read: how many, and their bytes. */
const GATHERED_MAX = 512;
const GATHERED_MAX_BYTES = 8 << 20;
/** Files with several names of one snapshot that are remembered; beyond it each name is a file of its own. */
const LINKS_MAX = 1 << 20;
/** Headers and small contents leave in writes of this size. */
const STAGED_BYTES = 1 << 20;
const SLASH = Buffer.from('/');

/** A header, and the chunk that follows it, if any. */
interface Gathered {
  readonly header: Buffer;
  readonly path: Buffer;
  /** Bytes of contents; 0: none follow. */
  readonly length: number;
  readonly id: Buffer;
}

const TYPES: Readonly<Record<number, string>> = {
  [tree.FILE]: tar.TAR_FILE,
  [tree.DIRECTORY]: tar.TAR_DIRECTORY,
  [tree.SYMLINK]: tar.TAR_SYMLINK,
  [tree.FIFO]: tar.TAR_FIFO,
  [tree.CHARACTER_DEVICE]: tar.TAR_CHARACTER,
  [tree.BLOCK_DEVICE]: tar.TAR_BLOCK,
};

export class Archive {
  readonly #source: ContentSource;
  readonly #out: (bytes: Buffer) => Promise<void>;
  readonly #block = new BlockReader();
  #gathered: Gathered[] = [];
  #gatheredBytes = 0;
  #snapshot = '';
  #broken: Failure | undefined;
  readonly #staged = Buffer.alloc(STAGED_BYTES);
  #stagedBytes = 0;
  /** The first name of files with several, by snapshot, file system and inode. */
  readonly #links = new Map<string, Buffer>();
  #problem: (path: Buffer, error: unknown) => void = () => undefined;

  /** @param out takes bytes, that are the caller's again when its promise resolves */
  constructor(source: ContentSource, out: (bytes: Buffer) => Promise<void>) {
    this.#source = source;
    this.#out = out;
  }

  /** What follows is of this snapshot; `problem` is told of what had to be left out. */
  begin(snapshot: string, problem: (path: Buffer, error: unknown) => void): void {
    this.#snapshot = snapshot;
    this.#problem = problem;
  }

  /** Adds the directory that was named itself. */
  async root(entry: tree.EntryReader): Promise<void> {
    this.#gather(this.#header(entry, Buffer.from('./')), Buffer.from('/'));
    await this.flush();
  }

  /** Adds an entry under its path without the first `strip` bytes. Waits only when enough is gathered. */
  add(entry: tree.EntryReader, path: Buffer, strip: number): Promise<void> | undefined {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    // an archive has no type for them, and whoever listens makes them anew
    if (entry.type === tree.SOCKET) return undefined;
    if ((entry.flags & tree.FLAG_UNREADABLE) !== 0 && entry.type === tree.FILE)
      return this.#skip(path, 'it could not be read when the snapshot was taken');
    const plain = path.subarray(strip);
    const name = entry.type === tree.DIRECTORY ? Buffer.concat([plain, SLASH]) : Buffer.from(plain);
    if ((entry.flags & tree.FLAG_LINKED) !== 0) return this.#linked(entry, name, path);
    return this.#addOne(entry, name, path);
  }

  /** Writes everything gathered. */
  async flush(): Promise<void> {
    const gathered = this.#gathered;
    this.#gathered = [];
    this.#gatheredBytes = 0;
    const files = gathered.filter(({ length }) => length > 0);
    const ids = Buffer.alloc(files.length * ID_BYTES);
    files.forEach(({ id }, i) => {
      id.copy(ids, i * ID_BYTES);
    });
    const lengths = Uint32Array.from(files, ({ length }) => length);
    const missing = new Set<Gathered>();
    let at = 0;
    const headersUpTo = async (file: Gathered | undefined) => {
      for (let next = gathered[at]; next !== undefined && next !== file; next = gathered[++at])
        if (!missing.has(next)) await this.#write(next.header);
    };
    const take = async (index: number, bytes: Buffer) => {
      const file = files[index] as Gathered;
      await headersUpTo(file);
      at++;
      await this.#write(file.header);
      await this.#write(bytes);
      await this.#write(tar.padding(file.length));
    };
    const fail = (index: number, failure: Failure) => {
      const file = files[index] as Gathered;
      missing.add(file);
      this.#problem(file.path, failure);
    };
    await this.#source.readInOrder({ kind: CHUNK_DATA, ids, lengths, count: files.length }, take, fail);
    await headersUpTo(undefined);
  }

  /** Copies what is small; what is large is written as it is. */
  async #write(bytes: Buffer): Promise<void> {
    if (this.#stagedBytes + bytes.length > STAGED_BYTES) await this.#writeStaged();
    if (bytes.length > STAGED_BYTES) await this.#out(bytes);
    else this.#stagedBytes += bytes.copy(this.#staged, this.#stagedBytes);
  }

  async #writeStaged(): Promise<void> {
    const bytes = this.#staged.subarray(0, this.#stagedBytes);
    this.#stagedBytes = 0;
    if (bytes.length > 0) await this.#out(bytes);
  }

  /** Ends the archive. */
  async end(): Promise<void> {
    await this.flush();
    await this.#write(tar.TAR_END);
    await this.#writeStaged();
  }

  #skip(path: Buffer, cause: string): undefined {
    this.#problem(path, new Failure('archive', '', { cause, kind: 'partial' }));
  }

  #addOne(entry: tree.EntryReader, name: Buffer, path: Buffer): Promise<void> | undefined {
    const header = this.#header(entry, name);
    if (entry.type !== tree.FILE || entry.size === 0) this.#gather(header, path);
    else {
      const { buffer, contentStart, end, view } = entry;
      const block = this.#block.load(buffer, contentStart, end, INLINE_RECORDS_MAX, view);
      const isOneChunk = block.count === 1 && block.depth === 0 && block.next() && !block.isHole;
      if (!isOneChunk) return this.#large(entry, header);
      this.#gather(header, path, block.chunkLength, Buffer.from(block.id()));
    }
    const isFull = this.#gathered.length >= GATHERED_MAX || this.#gatheredBytes >= GATHERED_MAX_BYTES;
    return isFull ? this.flush() : undefined;
  }

  #gather(header: Buffer, path: Buffer, length = 0, id = SLASH): void {
    this.#gathered.push({ header, path: Buffer.from(path), length, id });
    this.#gatheredBytes += length + header.length;
  }

  async #large(entry: tree.EntryReader, header: Buffer): Promise<void> {
    const { size } = entry;
    await this.flush();
    await this.#write(header);
    try {
      await writeContents(this.#source, entry, (bytes) => this.#write(bytes));
    } catch (cause) {
      this.#broken = new Failure('the archive ends early', '', { cause });
      throw this.#broken;
    }
    await this.#write(tar.padding(size));
  }

  /** A file with several names: the first is a file, others are links to it. */
  async #linked(entry: tree.EntryReader, name: Buffer, path: Buffer): Promise<void> {
    const key = `${this.#snapshot} ${entry.filesystem} ${entry.inoHigh} ${entry.inoLow}`;
    const first = this.#links.get(key);
    if (first !== undefined) {
      const header = tar.tarHeader({
        ...this.#fields(entry, name),
        type: tar.TAR_LINK,
        size: 0,
        linkName: first,
      });
      this.#gather(header, path);
      return;
    }
    // whether the first could be written is known before a link to it is
    let isWritten = true;
    const problem = this.#problem;
    this.#problem = (where, error) => {
      if (where.equals(path)) isWritten = false;
      problem(where, error);
    };
    const own = Buffer.from(path);
    try {
      await this.#addOne(entry, name, own);
      await this.flush();
    } finally {
      this.#problem = problem;
    }
    if (isWritten && this.#links.size < LINKS_MAX) this.#links.set(key, name);
  }

  #fields(entry: tree.EntryReader, name: Buffer): Omit<tar.TarEntry, 'type' | 'size'> {
    const { mode, uid, gid, mtimeSec, mtimeNsec } = entry;
    return { name, mode, uid, gid, mtimeSec, mtimeNsec };
  }

  #header(entry: tree.EntryReader, name: Buffer): Buffer {
    const { type } = entry;
    const isDevice = type === tree.CHARACTER_DEVICE || type === tree.BLOCK_DEVICE;
    return tar.tarHeader({
      ...this.#fields(entry, name),
      type: TYPES[type] ?? tar.TAR_FILE,
      size: type === tree.FILE ? entry.size : 0,
      ...(type === tree.SYMLINK ? { linkName: entry.target() } : {}),
      ...(isDevice ? { major: entry.deviceMajor, minor: entry.deviceMinor } : {}),
      xattrs: entry.xattrs(),
    });
  }
}
