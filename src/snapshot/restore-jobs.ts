/**
 * What a restore has its hands do: files to make, and parts of files to write,
 * many in one message. Written by the window, read by restore-hand.ts. Both are
 * threads of one process, so descriptors and addresses mean the same to both,
 * and whoever wrote a job keeps both alive until it is done.
 *
 *   offset  size
 *        0     1  kind: 1 a whole file, 2 a part of one
 *        1     1  for a whole file: 1 if new files in the directory inherit an ACL
 *        2     2  length of the record
 *        4     4  descriptor: of the directory, or of the file
 *        8     8  f64: address of the data
 *       16     8  f64: where in the file the data goes
 *       24     8  f64: the group that a new file gets; -1 where that is not known. For a part: another
 *                 descriptor of the file, for writing past the page cache, or -1
 *       32     4  length of the data
 *       36     n  for a whole file: its entry in the snapshot
 */
const HEAD_BYTES = 36;
/** Jobs in one message: enough that a message costs little, few enough that every hand has some. */
const JOBS_MAX = 64;
const DATA_MAX_BYTES = 1 << 20;
const BATCH_BYTES = 64 << 10;
/** A longer entry, with large extended attributes, is not handed over. */
export const RECORD_MAX_BYTES = 8 << 10;

const WHOLE = 1;
const PART = 2;

/** Where a new file is made, as far as making it has to know. */
export interface Place {
  /** of the directory */
  readonly dirfd: number;
  /** the group that a new file in it gets; -1 where that is not known */
  readonly newGid: number;
  /** files made in it inherit an ACL */
  readonly hasDefaultAcl: boolean;
}

/** Jobs that are put together. */
export class JobWriter {
  count = 0;
  readonly #bytes = Buffer.alloc(BATCH_BYTES);
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, BATCH_BYTES);
  #length = 0;
  #dataBytes = 0;

  get isFull(): boolean {
    const isLong = this.#length > BATCH_BYTES - HEAD_BYTES - RECORD_MAX_BYTES;
    return isLong || this.count >= JOBS_MAX || this.#dataBytes >= DATA_MAX_BYTES;
  }

  /** A file that is all of the data, whose entry is at `start`..`end` of `leaf`: at most RECORD_MAX_BYTES. */
  whole(place: Place, leaf: Buffer, start: number, end: number, address: number, dataLength: number): void {
    const at = this.#head(WHOLE, place.dirfd, address, dataLength);
    this.#view.setUint8(at + 1, place.hasDefaultAcl ? 1 : 0);
    this.#view.setUint16(at + 2, end - start, true);
    this.#view.setFloat64(at + 24, place.newGid, true);
    this.#length += leaf.copy(this.#bytes, at + HEAD_BYTES, start, end);
  }

  /** Data that goes to `offset` of an open file; `direct` is opened with O_DIRECT, or -1. */
  part(fd: number, direct: number, offset: number, address: number, dataLength: number): void {
    const at = this.#head(PART, fd, address, dataLength);
    this.#view.setFloat64(at + 16, offset, true);
    this.#view.setFloat64(at + 24, direct, true);
  }

  #head(kind: number, descriptor: number, address: number, dataLength: number): number {
    const view = this.#view;
    const at = this.#length;
    view.setUint32(at, kind, true);
    view.setInt32(at + 4, descriptor, true);
    view.setFloat64(at + 8, address, true);
    view.setUint32(at + 32, dataLength, true);
    this.#length += HEAD_BYTES;
    this.#dataBytes += dataLength;
    this.count++;
    return at;
  }

  /** The jobs so far, as a copy, and begins anew. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = new Uint8Array(this.#length);
    taken.set(this.#bytes.subarray(0, this.#length));
    this.count = 0;
    this.#length = 0;
    this.#dataBytes = 0;
    return taken;
  }
}

/** A cursor over jobs: `next` moves to the next one. */
export class JobReader {
  readonly bytes: Buffer;
  readonly #view: DataView;
  #at = 0;
  #next = 0;

  constructor(jobs: Uint8Array) {
    this.bytes = Buffer.from(jobs.buffer, jobs.byteOffset, jobs.length);
    this.#view = new DataView(jobs.buffer, jobs.byteOffset, jobs.length);
  }

  next(): boolean {
    if (this.#next >= this.bytes.length) return false;
    this.#at = this.#next;
    this.#next = this.recordStart + this.#view.getUint16(this.#at + 2, true);
    return true;
  }

  get isWhole(): boolean {
    return this.#view.getUint8(this.#at) === WHOLE;
  }
  get hasDefaultAcl(): boolean {
    return this.#view.getUint8(this.#at + 1) !== 0;
  }
  get descriptor(): number {
    return this.#view.getInt32(this.#at + 4, true);
  }
  get address(): number {
    return this.#view.getFloat64(this.#at + 8, true);
  }
  get offset(): number {
    return this.#view.getFloat64(this.#at + 16, true);
  }
  get newGid(): number {
    return this.#view.getFloat64(this.#at + 24, true);
  }
  get direct(): number {
    return this.#view.getFloat64(this.#at + 24, true);
  }
  get dataLength(): number {
    return this.#view.getUint32(this.#at + 32, true);
  }
  get recordStart(): number {
    return this.#at + HEAD_BYTES;
  }
  get recordEnd(): number {
    return this.#next;
  }
}
