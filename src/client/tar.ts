/**
 * Headers of the pax interchange format (POSIX.1-2017, pax, "ustar Interchange
 * Format" and "pax Header Block"). Called by tarball. What does not fit a ustar
 * header goes into an extended header before it: long or odd names, large
 * numbers, nanoseconds, extended attributes (as SCHILY.xattr.*, which GNU tar,
 * bsdtar and star read).
 *
 *   offset size            offset size            offset size
 *        0  100  name          148    8  checksum     297   32  group
 *      100    8  mode          156    1  type         329    8  major
 *      108    8  uid           157  100  link name    337    8  minor
 *      116    8  gid           257    6  "ustar\0"    345  155  prefix
 *      124   12  size          263    2  "00"         500   12  zero
 *      136   12  mtime         265   32  user
 */
import type { Xattr } from '../snapshot/tree.ts';

export const BLOCK_BYTES = 512;
const NAME_BYTES = 100;
const ID_MAX = 0o7777777;
const SIZE_MAX = 0o77777777777;
const NO_NAME = Buffer.alloc(0);

/** Types of entries, as the characters of the type field. */
export const TAR_FILE = '0';
export const TAR_LINK = '1';
export const TAR_SYMLINK = '2';
export const TAR_CHARACTER = '3';
export const TAR_BLOCK = '4';
export const TAR_DIRECTORY = '5';
export const TAR_FIFO = '6';
const TAR_EXTENDED = 'x';

export interface TarEntry {
  readonly type: string;
  /** Without a leading slash; of a directory with one at its end. */
  readonly name: Buffer;
  readonly linkName?: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of what follows the header, bytes. */
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: readonly Xattr[];
}

/** Zeros that fill `size` bytes up to whole blocks. */
export function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
}

/** The end of an archive. */
export const TAR_END = Buffer.alloc(2 * BLOCK_BYTES);

/** A number in octal, NUL behind it; 0 where it does not fit and an extended header has it. */
function putOctal(block: Buffer, value: number, at: number, bytes: number, max: number): void {
  const shown = value >= 0 && value <= max ? value : 0;
  block.write(`${shown.toString(8).padStart(bytes - 1, '0')}\0`, at, 'latin1');
}

function ustar(entry: TarEntry): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  entry.name.copy(block, 0, 0, NAME_BYTES);
  putOctal(block, entry.mode & 0o7777, 100, 8, ID_MAX);
  putOctal(block, entry.uid, 108, 8, ID_MAX);
  putOctal(block, entry.gid, 116, 8, ID_MAX);
  putOctal(block, entry.size, 124, 12, SIZE_MAX);
  putOctal(block, entry.mtimeSec, 136, 12, SIZE_MAX);
  block.write(entry.type, 156, 'latin1');
  entry.linkName?.copy(block, 157, 0, NAME_BYTES);
  block.write('ustar\u000000', 257, 'latin1');
  putOctal(block, entry.major ?? 0, 329, 8, ID_MAX);
  putOctal(block, entry.minor ?? 0, 337, 8, ID_MAX);
  // the checksum is counted as spaces
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** One record of an extended header: its own length, in decimal, counts its own digits. */
function paxRecord(keyword: Buffer, value: Buffer): Buffer {
  const rest = keyword.length + value.length + 3;
  let length = rest + 1;
  while (length !== rest + length.toString().length) length = rest + length.toString().length;
  return Buffer.concat([Buffer.from(`${length} `), keyword, Buffer.from('='), value, Buffer.from('\n')]);
}

function isAscii(name: Buffer): boolean {
  return name.every((byte) => byte < 0x80);
}

/** Whether the bytes are the UTF-8 that extended headers are in, unless they say otherwise. */
function isUtf8(name: Buffer): boolean {
  return Buffer.from(name.toString('utf8')).equals(name);
}

/** Seconds with their fraction; of a negative time both count from the same side. */
function paxTime(seconds: number, nanoseconds: number): string {
  if (nanoseconds === 0) return seconds.toString();
  if (seconds >= 0) return `${seconds}.${nanoseconds.toString().padStart(9, '0')}`;
  return `-${-seconds - 1}.${(1_000_000_000 - nanoseconds).toString().padStart(9, '0')}`;
}

function paxRecords(entry: TarEntry): Buffer[] {
  const { name, linkName = NO_NAME, uid, gid, size, mtimeSec, mtimeNsec, xattrs = [] } = entry;
  const records: Buffer[] = [];
  const add = (keyword: string | Buffer, value: string | Buffer) =>
    records.push(paxRecord(Buffer.from(keyword as string), Buffer.from(value as string)));
  // POSIX: names that are in no known character set are binary
  if (!isUtf8(name) || !isUtf8(linkName)) add('hdrcharset', 'BINARY');
  if (name.length > NAME_BYTES || !isAscii(name)) add('path', name);
  if (linkName.length > NAME_BYTES || !isAscii(linkName)) add('linkpath', linkName);
  if (uid > ID_MAX) add('uid', uid.toString());
  if (gid > ID_MAX) add('gid', gid.toString());
  if (size > SIZE_MAX) add('size', size.toString());
  if (mtimeNsec !== 0 || mtimeSec < 0 || mtimeSec > SIZE_MAX) add('mtime', paxTime(mtimeSec, mtimeNsec));
  for (const { name: attribute, value } of xattrs)
    add(Buffer.concat([Buffer.from('SCHILY.xattr.'), attribute]), value);
  return records;
}

/** All that precedes the contents of an entry. */
export function tarHeader(entry: TarEntry): Buffer {
  const records = paxRecords(entry);
  if (records.length === 0) return ustar(entry);
  const body = Buffer.concat(records);
  const extended = ustar({
    type: TAR_EXTENDED,
    name: Buffer.from('././@PaxHeader'),
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: body.length,
    mtimeSec: 0,
    mtimeNsec: 0,
  });
  return Buffer.concat([extended, body, padding(body.length), ustar(entry)]);
}
