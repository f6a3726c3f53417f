/**
 * What a walker (scanner, or plakarctl for its user) tells the chunker, as
 * records in batches: the differences between the file system and the parent
 * snapshot's tree. The walker encodes; the chunker decodes and hands on to the
 * builder. The walker may have been taken over, so the decoder checks all that
 * one record can show; that the records make a tree, the builder checks.
 *
 * Record, little-endian; none is split between batches:
 *
 *   offset size
 *        0    4  length of the record
 *        4    1  what: see below
 *        5    1  flags
 *        6    2  zero
 *        8       the rest:
 *
 *   1 ENTER       into a directory. flag 1: it has an old node; then 32 bytes id, u32 length of that. Name; empty
 *                 for the root, which is entered first. All until its LEAVE is in this directory, in the
 *                 ascending order of names.
 *   2 COPY        u32 part, u32 from, u32 to: entries from..to-1 of the `part`th leaf of the directory's old node
 *                 stay as they are, and all that is below them. to 0xffffffff: to the end of the leaf.
 *   3 FILE        entry without content of a regular file to be read. flag 1: its descriptor is the next of the
 *                 batch; without it the file could not be opened (the entry is flagged so).
 *   4 SPECIAL     complete entry of what is neither file nor directory.
 *   5 LEAVE       entry without content of the directory that was entered last; its name as in ENTER.
 *   6 EVENT       something to tell: flags is which (1 unreadable, 2 vanished); u16 length of text, text, path.
 *   7 END         flag 1: nothing differs from the parent: there was no other record but EVENTs. 10 x u64: see
 *                 COUNTS.
 */
import { Failure } from '../error.ts';
import { type Bytes, getUint64 } from './bytes.ts';
import { ID_BYTES } from './chunks.ts';
import {
  AT_SIZE,
  DIRECTORY,
  ENTRY_HEAD_BYTES,
  ENTRY_MAX_BYTES,
  EntryReader,
  FILE,
  FLAG_INCONSISTENT,
  FLAG_LINKED,
  FLAG_UNREADABLE,
  FLAG_XATTRS,
  isName,
} from './tree.ts';

export const ENTER = 1;
export const COPY = 2;
export const FILE_TO_READ = 3;
export const SPECIAL = 4;
export const LEAVE = 5;
export const EVENT = 6;
export const END = 7;

/** COPY's `to` that stands for the end of the leaf. */
export const TO_END = 0xffffffff;
export const EVENT_UNREADABLE = 1;
export const EVENT_VANISHED = 2;

export const RECORD_HEAD_BYTES = 8;
export const EVENT_TEXT_MAX_BYTES = 256;
/** A longer path is cut at its front. */
export const EVENT_PATH_MAX_BYTES = 4096;
/** A batch is handed on as soon as it holds this: with half as much the processes wake each other more often, 1 % of a push. */
export const BATCH_FULL_BYTES = 128 << 10;
export const BATCH_FULL_DESCRIPTORS = 250;
/** No batch is longer: a full one is not added to. */
export const BATCH_LONGEST_BYTES = BATCH_FULL_BYTES + RECORD_HEAD_BYTES + ENTRY_MAX_BYTES;

/** What the walk met. Every regular file counts as one of new, changed, unchanged; nothing else does. */
export interface ScanCounts {
  files: number;
  directories: number;
  others: number;
  /** of regular files */
  bytes: number;
  new: number;
  changed: number;
  unchanged: number;
  unreadable: number;
  vanished: number;
  excluded: number;
}

/** The order of the counts in END. */
export const COUNTS = [
  'files',
  'directories',
  'others',
  'bytes',
  'new',
  'changed',
  'unchanged',
  'unreadable',
  'vanished',
  'excluded',
] as const satisfies readonly (keyof ScanCounts)[];

export function noCounts(): ScanCounts {
  return {
    files: 0,
    directories: 0,
    others: 0,
    bytes: 0,
    new: 0,
    changed: 0,
    unchanged: 0,
    unreadable: 0,
    vanished: 0,
    excluded: 0,
  };
}

// ---- encoding

/** Begins a record; what follows is appended to `out`, then `endRecord`. Returns where it begins. */
export function beginRecord(out: Bytes, what: number, flags: number): number {
  const at = out.extend(RECORD_HEAD_BYTES);
  out.view.setUint32(at + 4, what | (flags << 8), true);
  return at;
}

export function endRecord(out: Bytes, record: number): void {
  out.view.setUint32(record, out.length - record, true);
}

export function appendCopy(out: Bytes, part: number, from: number, to: number): void {
  const record = beginRecord(out, COPY, 0);
  out.u32(part);
  out.u32(from);
  out.u32(to);
  endRecord(out, record);
}

/** `path` is cut at its front, `text` at its end, to what an EVENT may hold. */
export function appendEvent(out: Bytes, event: number, text: string, path: Uint8Array): void {
  const record = beginRecord(out, EVENT, event);
  const bytes = Buffer.from(text, 'utf8').subarray(0, EVENT_TEXT_MAX_BYTES);
  out.u16(bytes.length);
  out.bytes(bytes);
  out.bytes(path, Math.max(0, path.length - EVENT_PATH_MAX_BYTES));
  endRecord(out, record);
}

export function appendEnd(out: Bytes, same: boolean, counts: ScanCounts): void {
  const record = beginRecord(out, END, same ? 1 : 0);
  for (const name of COUNTS) out.i64(counts[name]);
  endRecord(out, record);
}

// ---- decoding

function malformed(cause: string): Failure {
  return new Failure('read scan record', '', { cause });
}

const NOTHING = Buffer.alloc(0);

/**
 * Writes the sizes of the files whose descriptors come with `batch`, in their order, as far as `sizes` has room. It
 * goes no further than records are whole: what is wrong with one is said when it is read.
 */
export function sizesToRead(batch: Buffer, sizes: Float64Array): void {
  const view = new DataView(batch.buffer, batch.byteOffset, batch.length);
  let count = 0;
  for (let at = 0; at + RECORD_HEAD_BYTES <= batch.length && count < sizes.length; ) {
    const length = view.getUint32(at, true);
    if (length < RECORD_HEAD_BYTES || length > batch.length - at) return;
    const isFile = batch[at + 4] === FILE_TO_READ && ((batch[at + 5] as number) & 1) !== 0;
    if (isFile && length >= RECORD_HEAD_BYTES + ENTRY_HEAD_BYTES)
      sizes[count++] = getUint64(view, at + RECORD_HEAD_BYTES + AT_SIZE);
    at += length;
  }
}

/**
 * A cursor over the records of a batch: `next` moves to the next and checks it. Which fields mean something depends
 * on `what`; the others hold what they held.
 */
export class ScanReader {
  buffer: Buffer = NOTHING;
  what = 0;
  flags = 0;
  /** ENTER: where id and name are; `oldLength` 0 where there is no old node */
  oldStart = 0;
  oldLength = 0;
  nameStart = 0;
  nameEnd = 0;
  /** COPY */
  part = 0;
  from = 0;
  to = 0;
  /** FILE, SPECIAL, LEAVE: the entry, without content but for SPECIAL */
  readonly entry = new EntryReader();
  /** EVENT */
  text = '';
  path: Buffer = NOTHING;
  /** END */
  counts: ScanCounts = noCounts();
  #view = new DataView(new ArrayBuffer(0)) as DataView;
  #at = 0;

  load(batch: Buffer): this {
    this.buffer = batch;
    this.#view = new DataView(batch.buffer, batch.byteOffset, batch.length);
    this.#at = 0;
    return this;
  }

  next(): boolean {
    const start = this.#at;
    const left = this.buffer.length - start;
    if (left === 0) return false;
    if (left < RECORD_HEAD_BYTES) throw malformed('truncated');
    const length = this.#view.getUint32(start, true);
    if (length < RECORD_HEAD_BYTES || length > left) throw malformed(`length ${length}`);
    if (this.#view.getUint16(start + 6, true) !== 0) throw malformed('reserved bytes are not zero');
    this.what = this.buffer[start + 4] as number;
    this.flags = this.buffer[start + 5] as number;
    this.#at = start + length;
    try {
      this.#parse(start + RECORD_HEAD_BYTES, start + length);
    } catch (cause) {
      // a malformed entry is the walker's fault here, and no damage to the repository
      throw new Failure('read scan record', '', { cause, kind: 'failed' });
    }
    return true;
  }

  #parse(start: number, end: number): void {
    switch (this.what) {
      case ENTER:
        this.#enter(start, end);
        break;
      case COPY:
        this.#copy(start, end);
        break;
      case FILE_TO_READ:
        this.#file(start, end);
        break;
      case SPECIAL:
        this.#special(start, end);
        break;
      case LEAVE:
        this.#leave(start, end);
        break;
      case EVENT:
        this.#event(start, end);
        break;
      case END:
        this.#end(start, end);
        break;
      default:
        throw malformed(`unknown record ${this.what}`);
    }
  }

  /** Only the low bits of `mask` may be set in the record's flags. */
  #onlyFlags(mask: number): void {
    if ((this.flags & ~mask) !== 0) throw malformed(`flags ${this.flags} of record ${this.what}`);
  }

  #enter(start: number, end: number): void {
    this.#onlyFlags(1);
    this.oldLength = 0;
    this.nameStart = start;
    if (this.flags & 1) {
      this.nameStart = start + ID_BYTES + 4;
      if (this.nameStart > end) throw malformed('truncated');
      this.oldStart = start;
      this.oldLength = this.#view.getUint32(start + ID_BYTES, true);
      if (this.oldLength === 0) throw malformed('an old node of no length');
    }
    this.nameEnd = end;
    if (this.nameStart !== end && !isName(this.buffer, this.nameStart, end))
      throw malformed('malformed name');
  }

  #copy(start: number, end: number): void {
    this.#onlyFlags(0);
    if (end - start !== 12) throw malformed('truncated');
    this.part = this.#view.getUint32(start, true);
    this.from = this.#view.getUint32(start + 4, true);
    this.to = this.#view.getUint32(start + 8, true);
    if (this.from >= this.to) throw malformed('nothing to copy');
  }

  #file(start: number, end: number): void {
    this.#onlyFlags(1);
    const { type, flags } = this.entry.loadRecord(this.buffer, start, end, false);
    if (type !== FILE) throw malformed('a file of another type');
    const unreadable = this.flags & 1 ? 0 : FLAG_UNREADABLE;
    if ((flags & ~(FLAG_XATTRS | FLAG_LINKED)) !== unreadable) throw malformed(`flags ${flags} of a file`);
  }

  #special(start: number, end: number): void {
    this.#onlyFlags(0);
    const { type, flags } = this.entry.loadRecord(this.buffer, start, end, true);
    if (type === FILE || type === DIRECTORY) throw malformed('a file or directory as special');
    if ((flags & ~(FLAG_XATTRS | FLAG_LINKED)) !== 0) throw malformed(`flags ${flags} of a special file`);
  }

  #leave(start: number, end: number): void {
    this.#onlyFlags(0);
    // only the builder knows whether it is the root that is left
    const isRoot = end - start >= 8 && this.#view.getUint16(start + 6, true) === 0;
    const { type, flags } = this.entry.loadRecord(this.buffer, start, end, false, isRoot);
    if (type !== DIRECTORY) throw malformed('left what is no directory');
    if ((flags & ~(FLAG_XATTRS | FLAG_INCONSISTENT | FLAG_UNREADABLE)) !== 0)
      throw malformed(`flags ${flags} of a directory`);
  }

  #event(start: number, end: number): void {
    if (this.flags !== EVENT_UNREADABLE && this.flags !== EVENT_VANISHED)
      throw malformed(`event ${this.flags}`);
    if (end - start < 2) throw malformed('truncated');
    const path = start + 2 + this.#view.getUint16(start, true);
    if (path > end || path - start - 2 > EVENT_TEXT_MAX_BYTES || end - path > EVENT_PATH_MAX_BYTES)
      throw malformed('event of a wrong length');
    this.text = this.buffer.toString('utf8', start + 2, path);
    this.path = Buffer.from(this.buffer.subarray(path, end));
  }

  #end(start: number, end: number): void {
    this.#onlyFlags(1);
    if (end - start !== COUNTS.length * 8) throw malformed('truncated');
    const counts = noCounts();
    COUNTS.forEach((name, i) => {
      counts[name] = getUint64(this.#view, start + i * 8);
      if (counts[name] > Number.MAX_SAFE_INTEGER) throw malformed(`count of ${name}`);
    });
    this.counts = counts;
  }
}
