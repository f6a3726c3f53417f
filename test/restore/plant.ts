/**
 * Trees for the tests of restore: reads a directory of the local file system
 * into a tree of chunks in memory, by itself, without the walker. Inodes are
 * numbered as they are met and ctimes left out, so that equal trees have equal
 * root ids.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Bytes } from '../../src/snapshot/bytes.ts';
import { CHUNK_TREE, type ChunkRef, ID_BYTES, MemoryChunks } from '../../src/snapshot/chunks.ts';
import { ContentWriter, SPLITTER_NONE } from '../../src/snapshot/content.ts';
import { readRoot } from '../../src/snapshot/directory.ts';
import { type RestoreOptions, type RestoreProblem, restore } from '../../src/snapshot/restore.ts';
import {
  appendNodeHead,
  appendXattrs,
  beginEntry,
  type EntryReader,
  endEntry,
  HEIGHT_ROOT,
  setCount,
  typeOfMode,
  type Xattr,
} from '../../src/snapshot/tree.ts';
import { O_NOFOLLOW, O_PATH, O_RDONLY } from '../../src/sys/constants.ts';
import {
  changeDirectory,
  openAt,
  readlinkAt,
  Stat,
  seekData,
  seekHole,
  statAt,
} from '../../src/sys/files.ts';
import { getXattr, listXattr } from '../../src/sys/xattrs.ts';

const PART_BYTES = 256 << 10;

/** A directory that is removed, whatever is in it, at the end of the test. */
export function scratch(t: { after: (fn: () => void) => void }): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** An empty file system of `size` in memory. */
export function mounted(t: { after: (fn: () => void) => void }, size: string): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', directory]);
  t.after(() => {
    execFileSync('umount', [directory]);
    fs.rmdirSync(directory);
  });
  return directory;
}

export function putData(chunks: MemoryChunks, data: Buffer): Buffer {
  const id = Buffer.alloc(ID_BYTES);
  chunks.put(1, data, id);
  return id;
}

/** Entries of one node, in any order of adding; for trees that no file system has. */
export class Node {
  readonly #records: { name: Buffer; record: Buffer }[] = [];
  readonly chunks: MemoryChunks;

  constructor(chunks: MemoryChunks) {
    this.chunks = chunks;
  }

  add(
    name: Buffer | string,
    fields: Partial<{
      mode: number;
      uid: number;
      gid: number;
      ino: number;
      nlink: number;
      size: number;
      mtimeSec: number;
      mtimeNsec: number;
      flags: number;
      xattrs: Xattr[];
    }>,
    content: (out: Bytes) => void,
  ): this {
    const bytes = Buffer.from(name as string);
    const out = new Bytes();
    const stat = {
      mode: fields.mode ?? 0o100644,
      uid: fields.uid ?? 0,
      gid: fields.gid ?? 0,
      nlink: fields.nlink ?? 1,
      inoLow: fields.ino ?? 0,
      inoHigh: 0,
      size: fields.size ?? 0,
      mtimeSec: fields.mtimeSec ?? 1e9,
      mtimeNsec: fields.mtimeNsec ?? 0,
      ctimeSec: 0,
      ctimeNsec: 0,
    };
    const at = beginEntry(out, stat, 0, fields.flags ?? 0, bytes, 0, bytes.length);
    appendXattrs(out, at, fields.xattrs ?? []);
    content(out);
    endEntry(out, at);
    this.#records.push({ name: bytes, record: Buffer.from(out.since(at)) });
    return this;
  }

  file(name: Buffer | string, data: Buffer, fields: Parameters<Node['add']>[1] = {}): this {
    return this.add(name, { size: data.length, ...fields }, (out) => {
      const writer = new ContentWriter(this.chunks);
      writer.begin(SPLITTER_NONE);
      if (data.length > 0) writer.data(data.length, putData(this.chunks, data));
      writer.finish(out);
    });
  }

  symlink(name: Buffer | string, target: string): this {
    return this.add(name, { mode: 0o120777 }, (out) => {
      out.u32(Buffer.byteLength(target));
      out.bytes(Buffer.from(target));
    });
  }

  directory(name: Buffer | string, node: ChunkRef, fields: Parameters<Node['add']>[1] = {}): this {
    return this.add(name, { mode: 0o040755, ...fields }, (out) => {
      out.bytes(node.id);
      out.u32(node.length);
    });
  }

  /** Stores the node; `sorted` false keeps the order of adding, which readers refuse. */
  store(height = 0, sorted = true): ChunkRef {
    const out = new Bytes();
    const at = appendNodeHead(out, height);
    if (sorted) this.#records.sort((a, b) => Buffer.compare(a.name, b.name));
    for (const { record } of this.#records) out.bytes(record);
    setCount(out, at, this.#records.length);
    const id = Buffer.alloc(ID_BYTES);
    this.chunks.put(CHUNK_TREE, out.since(at), id);
    return { id, length: out.length - at };
  }

  /** The node as that of a snapshot's root directory. */
  root(fields: Parameters<Node['add']>[1] = {}): ChunkRef {
    return new Node(this.chunks).directory('', this.store(), fields).store(HEIGHT_ROOT);
  }
}

class Scan {
  readonly #chunks: MemoryChunks;
  readonly #inodes = new Map<string, number>();
  readonly #stat = new Stat();
  readonly #buffer = Buffer.alloc(64 << 10);

  constructor(chunks: MemoryChunks) {
    this.#chunks = chunks;
  }

  #xattrs(name: Buffer): Xattr[] {
    const bytes = listXattr(name, this.#buffer);
    const names = bytes > 0 ? this.#buffer.toString('latin1', 0, bytes).split('\0').filter(Boolean) : [];
    return names.map((text) => {
      const attribute = Buffer.from(text, 'latin1');
      const length = getXattr(name, attribute, this.#buffer);
      return { name: attribute, value: Buffer.from(this.#buffer.subarray(0, Math.max(0, length))) };
    });
  }

  #contents(dirfd: number, name: Buffer, size: number, out: Bytes): void {
    const fd = openAt(dirfd, name, O_RDONLY);
    if (fd < 0) throw new Error(`open: ${fd}`);
    const writer = new ContentWriter(this.#chunks);
    writer.begin(SPLITTER_NONE);
    for (let at = 0; at < size; ) {
      const data = seekData(fd, at);
      const start = data < 0 ? size : data;
      if (start > at) writer.hole(start - at);
      const end = start < size ? Math.min(size, seekHole(fd, start), start + PART_BYTES) : size;
      if (end > start) {
        const part = Buffer.alloc(end - start);
        fs.readSync(fd, part, 0, part.length, start);
        writer.data(part.length, putData(this.#chunks, part));
      }
      at = end;
    }
    writer.finish(out);
    fs.closeSync(fd);
  }

  directory(fd: number): ChunkRef {
    const node = new Node(this.#chunks);
    for (const name of fs.readdirSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' }))
      this.#entry(node, fd, name);
    return node.store();
  }

  #entry(node: Node, dirfd: number, name: Buffer): void {
    const stat = this.#stat;
    if (statAt(dirfd, name, stat) !== 0) throw new Error(`stat ${name}`);
    const { mode, size, rdevMajor, rdevMinor } = stat;
    const type = typeOfMode(mode);
    const key = `${stat.devMajor}:${stat.devMinor}:${stat.ino}`;
    const isLinked = stat.nlink > 1 && type !== 2;
    if (isLinked && !this.#inodes.has(key)) this.#inodes.set(key, this.#inodes.size + 1);
    changeDirectory(dirfd);
    const fields = {
      mode,
      uid: stat.uid,
      gid: stat.gid,
      ino: isLinked ? (this.#inodes.get(key) ?? 0) : 0,
      nlink: isLinked ? 2 : 1,
      size: type === 1 ? size : 0,
      mtimeSec: stat.mtimeSec,
      mtimeNsec: stat.mtimeNsec,
      xattrs: this.#xattrs(name),
    };
    if (type === 2) {
      const fd = openAt(dirfd, name, O_RDONLY);
      node.directory(name, this.directory(fd), fields);
      fs.closeSync(fd);
      return;
    }
    node.add(name, fields, (out) => {
      if (type === 1) this.#contents(dirfd, name, size, out);
      if (type === 3) {
        const length = readlinkAt(dirfd, name, this.#buffer);
        out.u32(length);
        out.bytes(this.#buffer, 0, length);
      }
      if (type === 6 || type === 7) {
        out.u32(rdevMajor);
        out.u32(rdevMinor);
      }
    });
  }

  root(directory: string): ChunkRef {
    const fd = openAt(-100, Buffer.from(directory), O_RDONLY);
    const stat = this.#stat;
    const current = openAt(-100, Buffer.from('.'), O_PATH | O_NOFOLLOW);
    const node = this.directory(fd);
    if (statAt(-100, Buffer.from(directory), stat) !== 0) throw new Error(directory);
    changeDirectory(fd);
    const { mode, uid, gid, mtimeSec, mtimeNsec } = stat;
    const fields = { mode, uid, gid, mtimeSec, mtimeNsec, xattrs: this.#xattrs(Buffer.from('.')) };
    changeDirectory(current);
    fs.closeSync(current);
    fs.closeSync(fd);
    return new Node(this.#chunks).directory('', node, fields).store(HEIGHT_ROOT);
  }
}

/** Reads a directory into `chunks`; the root node of what would be its snapshot. */
export function scan(directory: string, chunks = new MemoryChunks()): ChunkRef {
  return new Scan(chunks).root(directory);
}

/** As whom the tests run. */
export function ownRights() {
  return {
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    groups: new Set(process.getgroups?.() ?? []),
  };
}

let counter = 0;
/** Bytes that differ from call to call, the same in every run. */
function counted(bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUInt32LE(++counter);
  return buffer;
}

/** Restores the snapshot whose root node is `root` into `directory`. */
export async function pullTree(
  chunks: MemoryChunks,
  root: ChunkRef,
  directory: string,
  options: Partial<RestoreOptions> = {},
) {
  return pullEntries(chunks, [await readRoot(chunks, root)], directory, options);
}

export async function pullEntries(
  chunks: MemoryChunks,
  entries: readonly EntryReader[],
  directory: string,
  options: Partial<RestoreOptions> = {},
) {
  const problems: RestoreProblem[] = [];
  const target = fs.openSync(directory, O_RDONLY);
  try {
    const result = await restore(chunks, entries, {
      target,
      targetIsNew: fs.readdirSync(directory).length === 0,
      overwrite: false,
      rights: ownRights(),
      hands: 2,
      random: counted,
      problem: (problem) => problems.push(problem),
      progress: () => undefined,
      signal: new AbortController().signal,
      ...options,
    });
    return { ...result, problems };
  } finally {
    fs.closeSync(target);
  }
}
