/**
 * A window of a restore: chunks that the walk has found to be needed, and which
 * part of which file each one is. It is read in the order in which the chunks
 * are in the repository, each chunk once, and handed to the files, or to hands
 * that make them. There are two: one is filled while the other is read. Called
 * by the walk. Invariant: its memory is bounded by the two limits below,
 * whatever the tree is; nothing is allocated per chunk.
 */
import type { Failure } from '../error.ts';
import { addressOf } from '../sys/foreign.ts';
import { type BulkSource, CHUNK_DATA, ID_BYTES } from './chunks.ts';
import type { Directories, Directory } from './restore-directory.ts';
import type { Files, LargeFile } from './restore-file.ts';
import type { Hands } from './restore-hands.ts';
import { JobWriter, RECORD_MAX_BYTES } from './restore-jobs.ts';
import { EntryReader } from './tree.ts';

/** Parts of files in one window. */
export const PARTS_MAX = 32 << 10;
/** Leaves of directories that one window holds on to for the metadata of its files. */
export const LEAVES_MAX_BYTES = 32 << 20;
/** Places in the table of ids; a power of two, so that it is at most half full. */
const TABLE_SIZE = 2 * PARTS_MAX;
const NONE = -1;
/** With these it is worth reading, when nothing else is read. */
const PARTS_WORTHWHILE = 1024;

/** Jobs that are put together for a hand, or on their way. */
interface Batch {
  /** which part each job is, and its data */
  readonly parts: number[];
  readonly data: Buffer[];
  readonly done: PromiseWithResolvers<void>;
}

/** Settles when both have: the data that they were given are used until then. */
async function both(first: Promise<void>, second: Promise<void>): Promise<void> {
  await Promise.allSettled([first, second]);
  await first;
  await second;
}

export class Window {
  readonly #source: BulkSource;
  readonly #files: Files;
  readonly #directories: Directories;
  readonly #hands: Hands;
  readonly #onChunk: () => void;
  readonly #jobs = new JobWriter();
  #batch: Batch | undefined;
  /** parts of files */
  #parts = 0;
  readonly #directoryOf: (Directory | undefined)[] = new Array(PARTS_MAX);
  /** a file that is this one chunk: the bounds of its entry in a leaf */
  readonly #leafOf: (Buffer | undefined)[] = new Array(PARTS_MAX);
  readonly #starts = new Uint32Array(PARTS_MAX);
  readonly #ends = new Uint32Array(PARTS_MAX);
  /** a part of a longer file: where it goes */
  readonly #fileOf: (LargeFile | undefined)[] = new Array(PARTS_MAX);
  readonly #offsets = new Float64Array(PARTS_MAX);
  /** the next part with the same chunk, or NONE */
  readonly #next = new Int32Array(PARTS_MAX);
  /** chunks, each once: id, length, the first part that needs it */
  #chunks = 0;
  readonly #ids = Buffer.allocUnsafeSlow(PARTS_MAX * ID_BYTES);
  readonly #lengths = new Uint32Array(PARTS_MAX);
  readonly #first = new Int32Array(PARTS_MAX);
  /** chunk numbers by id, open addressing, NONE where free */
  readonly #table = new Int32Array(TABLE_SIZE).fill(NONE);
  /** chunk numbers in the order of reading, and what is asked for in that order */
  readonly #order = new Uint32Array(PARTS_MAX);
  readonly #sortedIds = Buffer.allocUnsafeSlow(PARTS_MAX * ID_BYTES);
  readonly #sortedLengths = new Uint32Array(PARTS_MAX);
  readonly #entry = new EntryReader();
  #leafBytes = 0;
  /** what the leaf of the last file came in; many leaves may share it */
  #lastMemory: ArrayBufferLike | undefined;

  /** @param onChunk called before each chunk is handed on; what it throws ends the restore */
  constructor(source: BulkSource, files: Files, directories: Directories, hands: Hands, onChunk: () => void) {
    this.#source = source;
    this.#files = files;
    this.#directories = directories;
    this.#hands = hands;
    this.#onChunk = onChunk;
  }

  get full(): boolean {
    return this.#parts >= PARTS_MAX || this.#leafBytes >= LEAVES_MAX_BYTES;
  }

  get isWorthwhile(): boolean {
    return this.#parts >= PARTS_WORTHWHILE;
  }

  /** A file that is one chunk, whose id is at `idStart` of the entry's buffer. */
  addWhole(directory: Directory, entry: EntryReader, idStart: number, length: number): void {
    const part = this.#add(entry.buffer, idStart, length);
    this.#directoryOf[part] = directory;
    this.#leafOf[part] = entry.buffer;
    this.#starts[part] = entry.start;
    this.#ends[part] = entry.end;
    this.#directories.hold(directory);
    const memory = entry.buffer.buffer;
    if (memory === this.#lastMemory) return;
    this.#lastMemory = memory;
    this.#leafBytes += memory.byteLength;
  }

  /** A part of a longer file. */
  addPart(file: LargeFile, offset: number, ids: Buffer, idStart: number, length: number): void {
    const part = this.#add(ids, idStart, length);
    this.#fileOf[part] = file;
    this.#offsets[part] = offset;
    file.pending++;
  }

  #add(ids: Buffer, idStart: number, length: number): number {
    const part = this.#parts++;
    const chunk = this.#chunkOf(ids, idStart, length);
    this.#next[part] = this.#first[chunk] ?? NONE;
    this.#first[chunk] = part;
    return part;
  }

  /** The number of a chunk in this window, a new one if it is. */
  #chunkOf(ids: Buffer, idStart: number, length: number): number {
    // an id is a keyed digest: any of its bits are as good as a hash
    let slot = ids.readUInt32LE(idStart) & (TABLE_SIZE - 1);
    for (let at = this.#table[slot] ?? NONE; at !== NONE; at = this.#table[slot] ?? NONE) {
      const ours = at * ID_BYTES;
      const isSame = ids.compare(this.#ids, ours, ours + ID_BYTES, idStart, idStart + ID_BYTES) === 0;
      if (isSame && this.#lengths[at] === length) return at;
      slot = (slot + 1) & (TABLE_SIZE - 1);
    }
    const chunk = this.#chunks++;
    this.#table[slot] = chunk;
    ids.copy(this.#ids, chunk * ID_BYTES, idStart, idStart + ID_BYTES);
    this.#lengths[chunk] = length;
    this.#first[chunk] = NONE;
    this.#hands.expect(length);
    return chunk;
  }

  /** Reads every chunk and completes what needs it. Rejects with what ends the whole restore. */
  async flush(): Promise<void> {
    const count = this.#chunks;
    if (count > 0) {
      const places = await this.#source.locate(this.#ids.subarray(0, count * ID_BYTES));
      this.#sort(places, count);
      await this.#hands.ready();
      const requests = {
        kind: CHUNK_DATA,
        ids: this.#sortedIds,
        lengths: this.#sortedLengths,
        count,
      } as const;
      await this.#source.readMany(
        requests,
        (index, data) => this.#deliver(index, data, undefined),
        (index, failure) => this.#deliver(index, undefined, failure),
      );
    }
    this.#reset();
  }

  #sort(places: Float64Array, count: number): void {
    const order = this.#order.subarray(0, count);
    let isSorted = true;
    for (let i = 0; i < count; i++) {
      order[i] = i;
      if (i > 0 && (places[i] ?? 0) < (places[i - 1] ?? 0)) isSorted = false;
    }
    if (!isSorted) order.sort((a, b) => (places[a] ?? 0) - (places[b] ?? 0) || a - b);
    for (let i = 0; i < count; i++) {
      const chunk = order[i] ?? 0;
      this.#ids.copy(this.#sortedIds, i * ID_BYTES, chunk * ID_BYTES, (chunk + 1) * ID_BYTES);
      this.#sortedLengths[i] = this.#lengths[chunk] ?? 0;
    }
  }

  #deliver(index: number, data: Buffer | undefined, failure: Failure | undefined): Promise<void> | undefined {
    this.#onChunk();
    let last: Batch | undefined;
    let handed: Promise<void> | undefined;
    let part = this.#first[this.#order[index] ?? 0] ?? NONE;
    for (; part !== NONE; part = this.#next[part] ?? NONE) {
      const batch = data === undefined ? undefined : this.#hand(part, data);
      if (batch === undefined) this.#complete(part, data, failure);
      if (batch === undefined || batch === last) continue;
      // parts of one chunk may be in several batches, which end in any order
      handed = handed === undefined ? batch.done.promise : both(handed, batch.done.promise);
      last = batch;
    }
    return handed;
  }

  /** Completes a part here. */
  #complete(part: number, data: Buffer | undefined, failure: Failure | undefined): void {
    const file = this.#fileOf[part];
    if (file !== undefined) {
      this.#fileOf[part] = undefined;
      if (data !== undefined) this.#files.part(file, this.#offsets[part] ?? 0, data);
      else this.#files.partLost(file, failure);
      return;
    }
    const directory = this.#directoryOf[part];
    const entry = this.#entryOf(part);
    if (directory === undefined || entry === undefined) return;
    this.#directoryOf[part] = undefined;
    if (data !== undefined) this.#files.whole(directory, entry, data);
    else if (failure !== undefined) this.#files.lost(directory, entry, failure);
    this.#directories.release(directory);
  }

  #entryOf(part: number): EntryReader | undefined {
    const leaf = this.#leafOf[part];
    if (leaf === undefined) return undefined;
    return this.#entry.loadRecord(leaf, this.#starts[part] ?? 0, this.#ends[part] ?? 0, true);
  }

  /** Puts a part into the batch for a hand; undefined where it is to be done here. */
  #hand(part: number, data: Buffer): Batch | undefined {
    if (this.#hands.room <= this.#jobs.count) return undefined;
    const file = this.#fileOf[part];
    const isTaken = file === undefined ? this.#handWhole(part, data) : this.#handPart(file, part, data);
    if (!isTaken) return undefined;
    this.#batch ??= this.#begin();
    const batch = this.#batch;
    batch.parts.push(part);
    batch.data.push(data);
    if (this.#jobs.isFull) this.#send(batch);
    return batch;
  }

  #begin(): Batch {
    const batch = { parts: [], data: [], done: Promise.withResolvers<void>() };
    // heard by whoever reads for us, unless that has ended
    batch.done.promise.catch(() => undefined);
    // what is delivered in one go, is sent together
    queueMicrotask(() => this.#send(batch));
    return batch;
  }

  #handWhole(part: number, data: Buffer): boolean {
    const directory = this.#directoryOf[part];
    const leaf = this.#leafOf[part];
    const start = this.#starts[part] ?? 0;
    const end = this.#ends[part] ?? 0;
    if (directory === undefined || leaf === undefined || end - start > RECORD_MAX_BYTES) return false;
    const dirfd = this.#directories.lend(directory);
    if (dirfd === undefined) return false;
    const { newGid, hasDefaultAcl } = directory;
    this.#jobs.whole({ dirfd, newGid, hasDefaultAcl }, leaf, start, end, addressOf(data), data.length);
    return true;
  }

  #handPart(file: LargeFile, part: number, data: Buffer): boolean {
    const fd = this.#files.lend(file);
    if (fd === undefined) return false;
    this.#jobs.part(fd, file.direct, this.#offsets[part] ?? 0, addressOf(data), data.length);
    return true;
  }

  #send(batch: Batch): void {
    if (this.#batch !== batch) return;
    this.#batch = undefined;
    const { count } = this.#jobs;
    this.#hands
      .ask(this.#jobs.take(), count)
      .then((isDone) => this.#handed(batch, isDone))
      .then(batch.done.resolve, batch.done.reject);
  }

  /** Takes what a hand did; what it did not, is done here, and told if it cannot be. */
  #handed({ parts, data }: Batch, isDone: Uint8Array): void {
    for (const [i, part] of parts.entries()) {
      const file = this.#fileOf[part];
      const directory = this.#directoryOf[part];
      if (file !== undefined) this.#files.giveBack(file);
      else if (directory !== undefined) this.#directories.giveBack(directory);
      if (isDone[i] === 1) this.#done(part, data[i]?.length ?? 0);
      else this.#complete(part, data[i], undefined);
    }
  }

  #done(part: number, bytes: number): void {
    const file = this.#fileOf[part];
    this.#fileOf[part] = undefined;
    if (file !== undefined) {
      this.#files.release(file);
      return;
    }
    const directory = this.#directoryOf[part];
    const entry = this.#entryOf(part);
    if (directory === undefined || entry === undefined) return;
    this.#directoryOf[part] = undefined;
    this.#files.made(directory, entry, bytes);
    this.#directories.release(directory);
  }

  #reset(): void {
    this.#leafOf.fill(undefined, 0, this.#parts);
    this.#table.fill(NONE);
    this.#parts = 0;
    this.#chunks = 0;
    this.#leafBytes = 0;
    this.#lastMemory = undefined;
  }
}
