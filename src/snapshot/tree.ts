/**
 * Directories as chunks: a snapshot's tree is nodes of kind 'tree' that name
 * each other by id, from the root node down. The builder writes them; the
 * scanner compares with them; restore, ls, diff and check read them.
 * Invariants: a node's bytes depend on nothing but the entries (no access
 * times, names in strictly ascending order of their bytes), so that equal
 * directories are equal chunks; and no decoder here trusts what it reads:
 * whatever is wrong is a Failure of kind 'damaged'.
 *
 * Node, little-endian, at most 4 MiB:
 *
 *   offset size
 *        0    1  version, 1
 *        1    1  height: 0 entries; 1..4 shards, which name nodes of height-1; 255 the root of a snapshot
 *        2    2  zero
 *        4    4  number of records
 *        8       records
 *
 * A root node has one record: the entry of the snapshot's root directory, with
 * an empty name. A directory is one node of height 0 or, when its records fill
 * more than one (directory.ts says where one ends), a node of shards:
 *
 *   Shard                                   Entry
 *   offset size                             offset size
 *        0    4  length of this record           0    4  length of this record
 *        4   32  id of the node                  4    1  type: 1 file, 2 directory, 3 symlink, 4 fifo, 5 socket,
 *       36    4  length of the node                      6 character device, 7 block device
 *       40    8  entries in and below it         5    1  flags: 1 xattrs, 2 more than one link, 4 changed while
 *       48    2  length n of the name                    it was read, 16 could not be read (no content)
 *       50    n  name of its first entry         6    2  length n of the name, 1..255 (0 in a root node)
 *                                                8    4  mode, as in stat(2), with the type's bits
 *                                               12    4  uid
 *                                               16    4  gid
 *                                               20    4  file system: 0 the root's, 1 the next met in the walk, ...
 *                                               24    8  inode
 *                                               32    8  size: of a file; else 0
 *                                               40    8  mtime, seconds, signed
 *                                               48    4  mtime, nanoseconds
 *                                               52    4  ctime, nanoseconds
 *                                               56    8  ctime, seconds, signed
 *                                               64    n  name
 *                                                        xattrs, if flagged
 *                                                        content
 *
 *   Xattrs: u32 bytes that follow, u16 count, then for each, in ascending order:
 *           u8 length of the name, name, u32 length of the value, value
 *   Content: file       a content block (content.ts); none of its records where it could not be read
 *            directory  32 bytes id, u32 length of its node; id and length zero where it could not be read
 *            symlink    u32 length of the target, target
 *            device     u32 major, u32 minor
 *            others     nothing
 *
 * (inode, file system) names the file that entries with flag 2 share.
 */
import { Failure } from '../error.ts';
import { UnknownVersion } from '../keys/frame.ts';
import { type Bytes, compareBytes, getInt64, getUint64, putInt64 } from './bytes.ts';
import { CHUNK_MAX_BYTES, ID_BYTES } from './chunks.ts';
import { BlockReader, INLINE_RECORDS_MAX } from './content.ts';

export const NODE_VERSION = 1;
export const NODE_HEAD_BYTES = 8;
/** Height of a root node. */
export const HEIGHT_ROOT = 255;
/** Shards of shards of ...: far beyond what any directory needs. */
export const HEIGHT_MAX = 4;

export const FILE = 1;
export const DIRECTORY = 2;
export const SYMLINK = 3;
export const FIFO = 4;
export const SOCKET = 5;
export const CHARACTER_DEVICE = 6;
export const BLOCK_DEVICE = 7;

export const FLAG_XATTRS = 1;
/** The file has more than one link. */
export const FLAG_LINKED = 2;
/** The file changed while it was read: its contents are of no single moment. */
export const FLAG_INCONSISTENT = 4;
/** The file or directory could not be read; its contents are missing. */
export const FLAG_UNREADABLE = 16;
const FLAGS_KNOWN = FLAG_XATTRS | FLAG_LINKED | FLAG_INCONSISTENT | FLAG_UNREADABLE;

export const ENTRY_HEAD_BYTES = 64;
export const NAME_MAX = 255;
export const TARGET_MAX_BYTES = 4096;
export const XATTRS_MAX = 4096;
export const XATTR_VALUE_MAX_BYTES = 64 << 10;
/** All xattrs of one entry, encoded. */
export const XATTRS_MAX_BYTES = 1 << 20;
/** No entry is longer: head, name, xattrs, and 64 records of content. */
export const ENTRY_MAX_BYTES = ENTRY_HEAD_BYTES + NAME_MAX + 4 + XATTRS_MAX_BYTES + 8 + TARGET_MAX_BYTES;
export const DIRECTORY_CONTENT_BYTES = ID_BYTES + 4;

/** Offsets of an entry's fields from its beginning. */
export const AT_TYPE = 4;
export const AT_FLAGS = 5;
export const AT_NAME_LENGTH = 6;
export const AT_MODE = 8;
export const AT_UID = 12;
export const AT_GID = 16;
export const AT_FILESYSTEM = 20;
export const AT_INO = 24;
export const AT_SIZE = 32;
export const AT_MTIME = 40;
export const AT_MTIME_NSEC = 48;
export const AT_CTIME_NSEC = 52;
export const AT_CTIME = 56;

const NSEC_MAX = 999_999_999;
const SLASH = 0x2f;
const DOT = 0x2e;

/** File type bits of the mode, by entry type. */
const MODE_TYPES = [0, 0o100000, 0o040000, 0o120000, 0o010000, 0o140000, 0o020000, 0o060000];
const MODE_TYPE_MASK = 0o170000;

/** The entry type of a mode as in stat(2); 0 where there is none. */
export function typeOfMode(mode: number): number {
  switch (mode & MODE_TYPE_MASK) {
    case 0o100000:
      return FILE;
    case 0o040000:
      return DIRECTORY;
    case 0o120000:
      return SYMLINK;
    case 0o010000:
      return FIFO;
    case 0o140000:
      return SOCKET;
    case 0o020000:
      return CHARACTER_DEVICE;
    case 0o060000:
      return BLOCK_DEVICE;
    default:
      return 0;
  }
}

/** What an entry takes from stat(2); src/sys's Stat is one. Numbers are whole; times in seconds may be negative. */
export interface EntryStat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly inoLow: number;
  readonly inoHigh: number;
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly ctimeSec: number;
  readonly ctimeNsec: number;
}

/** What is wrong with a node that was read. */
export function damaged(cause: string): Failure {
  return new Failure('read directory node', '', { kind: 'damaged', cause });
}

/** Whether bytes `start`..`end` can name an entry: 1..255 bytes, no '/' or NUL, not '.' or '..'. */
export function isName(bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start;
  if (length < 1 || length > NAME_MAX) return false;
  if (bytes[start] === DOT && (length === 1 || (length === 2 && bytes[start + 1] === DOT))) return false;
  for (let i = start; i < end; i++) {
    const byte = bytes[i];
    if (byte === 0 || byte === SLASH) return false;
  }
  return true;
}

// ---- encoding

/** Appends a node's head, with no records yet; `setCount` completes it. Returns where it begins. */
export function appendNodeHead(out: Bytes, height: number): number {
  const at = out.extend(NODE_HEAD_BYTES);
  out.view.setUint32(at, NODE_VERSION | (height << 8), true);
  out.view.setUint32(at + 4, 0, true);
  return at;
}

/** Sets the number of records of the node that begins at `node`. */
export function setCount(out: Bytes, node: number, count: number): void {
  out.view.setUint32(node + 4, count, true);
}

/**
 * Appends an entry's head and name (bytes `nameStart`..`nameEnd` of `name`) and returns where the record begins.
 * Xattrs and content follow, then `endEntry`. The type is the mode's; `flags` without FLAG_LINKED.
 */
export function beginEntry(
  out: Bytes,
  stat: EntryStat,
  filesystem: number,
  flags: number,
  name: Uint8Array,
  nameStart: number,
  nameEnd: number,
): number {
  const at = out.extend(ENTRY_HEAD_BYTES);
  const type = typeOfMode(stat.mode);
  const { view, buffer } = out;
  buffer[at + AT_TYPE] = type;
  buffer[at + AT_FLAGS] = flags;
  view.setUint16(at + AT_NAME_LENGTH, nameEnd - nameStart, true);
  view.setUint32(at + AT_FILESYSTEM, filesystem, true);
  setStat(view, at, stat);
  out.bytes(name, nameStart, nameEnd);
  return at;
}

/** Writes what `stat` says into the entry at `at`; type, flags but FLAG_LINKED, and file system stay. */
export function setStat(view: DataView, at: number, stat: EntryStat): void {
  const type = view.getUint8(at + AT_TYPE);
  const linked = type !== DIRECTORY && stat.nlink > 1 ? FLAG_LINKED : 0;
  view.setUint8(at + AT_FLAGS, (view.getUint8(at + AT_FLAGS) & ~FLAG_LINKED) | linked);
  view.setUint32(at + AT_MODE, stat.mode, true);
  view.setUint32(at + AT_UID, stat.uid, true);
  view.setUint32(at + AT_GID, stat.gid, true);
  view.setUint32(at + AT_INO, stat.inoLow, true);
  view.setUint32(at + AT_INO + 4, stat.inoHigh, true);
  putInt64(view, at + AT_SIZE, type === FILE ? stat.size : 0);
  putInt64(view, at + AT_MTIME, stat.mtimeSec);
  view.setUint32(at + AT_MTIME_NSEC, stat.mtimeNsec, true);
  view.setUint32(at + AT_CTIME_NSEC, stat.ctimeNsec, true);
  putInt64(view, at + AT_CTIME, stat.ctimeSec);
}

/** Ends the entry that begins at `entry`: its length becomes what has been written since. */
export function endEntry(out: Bytes, entry: number): void {
  out.view.setUint32(entry, out.length - entry, true);
}

export interface Xattr {
  readonly name: Buffer;
  readonly value: Buffer;
}

/** Appends xattrs to the entry at `entry` and flags it; none appends nothing. They are sorted here. */
export function appendXattrs(out: Bytes, entry: number, xattrs: readonly Xattr[]): void {
  if (xattrs.length === 0) return;
  const sorted = [...xattrs].sort((a, b) => Buffer.compare(a.name, b.name));
  const at = out.length;
  out.u32(0);
  out.u16(sorted.length);
  for (const { name, value } of sorted) {
    out.u8(name.length);
    out.bytes(name);
    out.u32(value.length);
    out.bytes(value);
  }
  out.view.setUint32(at, out.length - at - 4, true);
  out.buffer[entry + AT_FLAGS] = (out.buffer[entry + AT_FLAGS] as number) | FLAG_XATTRS;
}

// ---- decoding

const NOTHING = Buffer.alloc(0);
const NO_VIEW = new DataView(new ArrayBuffer(0));

/** A node's height; throws where `node` is no node of this format. */
export function nodeHeight(node: Buffer): number {
  if (node.length < NODE_HEAD_BYTES) throw damaged('shorter than its head');
  if (node.length > CHUNK_MAX_BYTES) throw damaged(`${node.length} bytes`);
  const version = node[0] as number;
  // it is authentic, so whoever wrote it meant it
  if (version > NODE_VERSION) throw new UnknownVersion('tree node', `version ${version}`);
  if (version !== NODE_VERSION) throw damaged(`unknown version ${version}`);
  const height = node[1] as number;
  if (height > HEIGHT_MAX && height !== HEIGHT_ROOT) throw damaged(`height ${height}`);
  if (node.readUInt16LE(2) !== 0) throw damaged('reserved bytes are not zero');
  return height;
}

/** Checks xattrs at `at`..`end` and returns where they end. */
function checkXattrs(view: DataView, bytes: Buffer, at: number, end: number): number {
  if (end - at < 6) throw damaged('truncated xattrs');
  const length = view.getUint32(at, true);
  const stop = at + 4 + length;
  if (length < 2 || length > XATTRS_MAX_BYTES || stop > end) throw damaged(`${length} bytes of xattrs`);
  const count = view.getUint16(at + 4, true);
  if (count < 1 || count > XATTRS_MAX) throw damaged(`${count} xattrs`);
  let from = at + 6;
  let previous = from;
  let previousEnd = from;
  for (let i = 0; i < count; i++) {
    if (stop - from < 5) throw damaged('truncated xattr');
    const nameStart = from + 1;
    const nameEnd = nameStart + (bytes[from] as number);
    if (nameEnd === nameStart || nameEnd + 4 > stop) throw damaged('malformed xattr name');
    if (bytes.subarray(nameStart, nameEnd).includes(0)) throw damaged('NUL in an xattr name');
    if (i > 0 && compareBytes(bytes, previous, previousEnd, bytes, nameStart, nameEnd) >= 0)
      throw damaged('xattrs out of order');
    const valueLength = view.getUint32(nameEnd, true);
    if (valueLength > XATTR_VALUE_MAX_BYTES || nameEnd + 4 + valueLength > stop)
      throw damaged('malformed xattr value');
    previous = nameStart;
    previousEnd = nameEnd;
    from = nameEnd + 4 + valueLength;
  }
  if (from !== stop) throw damaged('bytes after the last xattr');
  return stop;
}

/**
 * A cursor over entries: those of a node of height 0, the one of a root node, or single records. `next` moves to
 * the next and checks it completely, so the getters cannot fail; nothing is allocated but by the methods that
 * return a Buffer (a view into the node).
 */
export class EntryReader {
  buffer: Buffer = NOTHING;
  view: DataView = NO_VIEW;
  /** entries in the node */
  count = 0;
  /** index of the current entry; -1 before the first */
  index = -1;
  /** the current record's bounds, and those of its parts */
  start = 0;
  end = 0;
  nameStart = 0;
  nameEnd = 0;
  xattrsStart = 0;
  contentStart = 0;
  readonly #block = new BlockReader();
  #isRoot = false;

  /** Begins with a node of entries (or a root node, if `root`); throws where it is none. */
  load(node: Buffer, root = false): this {
    const height = nodeHeight(node);
    if (height !== (root ? HEIGHT_ROOT : 0)) throw damaged(`a node of height ${height} in place of entries`);
    this.#use(node, root);
    this.count = this.view.getUint32(4, true);
    if (root && this.count !== 1) throw damaged(`${this.count} entries in a root node`);
    this.end = NODE_HEAD_BYTES;
    return this;
  }

  /**
   * Takes the single record at `start`..`end` of `buffer`. Without `content`, it ends where content would begin.
   * `root` allows for an empty name.
   */
  loadRecord(buffer: Buffer, start: number, end: number, content: boolean, root = false): this {
    this.#use(buffer, root);
    this.count = 1;
    this.index = 0;
    this.#parse(start, end, content);
    if (this.end !== end) throw damaged('bytes after the entry');
    return this;
  }

  #use(buffer: Buffer, root: boolean): void {
    if (buffer !== this.buffer) this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
    this.buffer = buffer;
    this.#isRoot = root;
    this.index = -1;
    this.nameStart = 0;
    this.nameEnd = 0;
  }

  /** Moves to the next entry; false after the last, which must end where the node does. */
  next(): boolean {
    if (this.index + 1 >= this.count) {
      if (this.end !== this.buffer.length) throw damaged('bytes after the last entry');
      this.index = this.count;
      return false;
    }
    const previousStart = this.nameStart;
    const previousEnd = this.nameEnd;
    this.#parse(this.end, this.buffer.length, true);
    if (this.index >= 0 && this.compareName(this.buffer, previousStart, previousEnd) <= 0)
      throw damaged('names out of order');
    this.index++;
    return true;
  }

  #parse(start: number, limit: number, content: boolean): void {
    const { view, buffer } = this;
    if (limit - start < ENTRY_HEAD_BYTES) throw damaged('truncated entry');
    const length = view.getUint32(start, true);
    const nameLength = view.getUint16(start + AT_NAME_LENGTH, true);
    const end = start + length;
    const nameStart = start + ENTRY_HEAD_BYTES;
    const nameEnd = nameStart + nameLength;
    if (end > limit || nameEnd > end || length > ENTRY_MAX_BYTES) throw damaged('entry of a wrong length');
    if (this.#isRoot ? nameLength !== 0 : !isName(buffer, nameStart, nameEnd))
      throw damaged('malformed name');
    this.start = start;
    this.end = end;
    this.nameStart = nameStart;
    this.nameEnd = nameEnd;
    this.#checkHead();
    this.xattrsStart = nameEnd;
    this.contentStart = this.flags & FLAG_XATTRS ? checkXattrs(view, buffer, nameEnd, end) : nameEnd;
    if (content) this.#checkContent();
    else if (this.contentStart !== end) throw damaged('content where there should be none');
  }

  #checkHead(): void {
    const { type, mode, flags } = this;
    if (type < FILE || type > BLOCK_DEVICE) throw damaged(`entry of unknown type ${type}`);
    if ((mode & MODE_TYPE_MASK) !== MODE_TYPES[type] || mode > 0xffff) throw damaged('mode of another type');
    if ((flags & ~FLAGS_KNOWN) !== 0) throw damaged(`unknown flags ${flags}`);
    if (this.#isRoot && type !== DIRECTORY) throw damaged('the root is not a directory');
    if (this.mtimeNsec > NSEC_MAX || this.ctimeNsec > NSEC_MAX) throw damaged('malformed time');
    if (this.size > Number.MAX_SAFE_INTEGER) throw damaged('malformed size');
  }

  #checkContent(): void {
    const { view, contentStart, end } = this;
    const length = end - contentStart;
    switch (this.type) {
      case FILE:
        this.#checkFile();
        return;
      case DIRECTORY: {
        if (length !== DIRECTORY_CONTENT_BYTES) throw damaged('malformed directory');
        const bytes = view.getUint32(contentStart + ID_BYTES, true);
        const isMissing = (this.flags & FLAG_UNREADABLE) !== 0;
        if (isMissing ? bytes !== 0 : bytes < NODE_HEAD_BYTES || bytes > CHUNK_MAX_BYTES)
          throw damaged('malformed directory');
        return;
      }
      case SYMLINK:
        if (length < 5 || length > 4 + TARGET_MAX_BYTES || view.getUint32(contentStart, true) !== length - 4)
          throw damaged('malformed symlink');
        return;
      case CHARACTER_DEVICE:
      case BLOCK_DEVICE:
        if (length !== 8) throw damaged('malformed device');
        return;
      default:
        if (length !== 0) throw damaged('content where there should be none');
    }
  }

  #checkFile(): void {
    const block = this.#block.load(this.buffer, this.contentStart, this.end, INLINE_RECORDS_MAX, this.view);
    while (block.next());
    const isMissing = (this.flags & FLAG_UNREADABLE) !== 0;
    if (isMissing ? block.count !== 0 : block.total !== this.size)
      throw damaged('contents of another size than the file');
  }

  get type(): number {
    return this.view.getUint8(this.start + AT_TYPE);
  }
  get flags(): number {
    return this.view.getUint8(this.start + AT_FLAGS);
  }
  get mode(): number {
    return this.view.getUint32(this.start + AT_MODE, true);
  }
  get uid(): number {
    return this.view.getUint32(this.start + AT_UID, true);
  }
  get gid(): number {
    return this.view.getUint32(this.start + AT_GID, true);
  }
  get filesystem(): number {
    return this.view.getUint32(this.start + AT_FILESYSTEM, true);
  }
  get inoLow(): number {
    return this.view.getUint32(this.start + AT_INO, true);
  }
  get inoHigh(): number {
    return this.view.getUint32(this.start + AT_INO + 4, true);
  }
  /** bytes of a file; 0 of what is none */
  get size(): number {
    return getUint64(this.view, this.start + AT_SIZE);
  }
  get mtimeSec(): number {
    return getInt64(this.view, this.start + AT_MTIME);
  }
  get mtimeNsec(): number {
    return this.view.getUint32(this.start + AT_MTIME_NSEC, true);
  }
  get ctimeSec(): number {
    return getInt64(this.view, this.start + AT_CTIME);
  }
  get ctimeNsec(): number {
    return this.view.getUint32(this.start + AT_CTIME_NSEC, true);
  }

  /** Orders the current name against bytes `start`..`end` of `other`: <0, 0, >0. */
  compareName(other: Uint8Array, start: number, end: number): number {
    return compareBytes(this.buffer, this.nameStart, this.nameEnd, other, start, end);
  }

  name(): Buffer {
    return this.buffer.subarray(this.nameStart, this.nameEnd);
  }

  /** The whole record, verbatim. */
  record(): Buffer {
    return this.buffer.subarray(this.start, this.end);
  }

  /** What follows name and xattrs: a file's block (see content.ts), or as the table above says. */
  content(): Buffer {
    return this.buffer.subarray(this.contentStart, this.end);
  }

  /** Whether a directory has a node: it could be read. */
  get hasDirectory(): boolean {
    return this.view.getUint32(this.contentStart + ID_BYTES, true) !== 0;
  }

  /** A directory's node; undefined where the directory could not be read. */
  directory(): { id: Buffer; length: number } | undefined {
    const length = this.view.getUint32(this.contentStart + ID_BYTES, true);
    if (length === 0) return undefined;
    return { id: this.buffer.subarray(this.contentStart, this.contentStart + ID_BYTES), length };
  }

  /** A symlink's target. */
  target(): Buffer {
    return this.buffer.subarray(this.contentStart + 4, this.end);
  }

  get deviceMajor(): number {
    return this.view.getUint32(this.contentStart, true);
  }
  get deviceMinor(): number {
    return this.view.getUint32(this.contentStart + 4, true);
  }

  /** The extended attributes, ACLs among them, in ascending order of their names. */
  xattrs(): Xattr[] {
    if ((this.flags & FLAG_XATTRS) === 0) return [];
    const list: Xattr[] = [];
    for (let at = this.xattrsStart + 6; at < this.contentStart; ) {
      const nameEnd = at + 1 + (this.buffer[at] as number);
      const valueEnd = nameEnd + 4 + this.view.getUint32(nameEnd, true);
      list.push({
        name: this.buffer.subarray(at + 1, nameEnd),
        value: this.buffer.subarray(nameEnd + 4, valueEnd),
      });
      at = valueEnd;
    }
    return list;
  }
}
