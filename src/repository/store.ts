/**
 * The storage side of a repository: packs, index and the table of chunks, over
 * a backend and without keys. The storage process wraps it in messages. Owns
 * the commit order (packs durable, then the index that names them; snapshot
 * headers come after `flush` returned), the rule that no chunk stays in the
 * table whose pack never became durable, and that a chunk is marked in the
 * table if, and only if, every durable pack that has it is (marks.ts).
 */

import type { Backend, ObjectWriter } from '../backends/objects.ts';
import { Failure } from '../error.ts';
import { CHUNK_ID_BYTES, FIRST_EPOCH } from '../keys/derive.ts';
import { encodeHeader, MAGIC } from '../keys/frame.ts';
import { release } from '../sys/release.ts';
import {
  LISTING_MAX_BYTES,
  PACK_SEGMENTS_MAX,
  PACK_TARGET_BYTES,
  SEGMENT_CHUNKS_MAX,
  SEGMENT_SEALED_MAX_BYTES,
  SEGMENT_SEALED_MIN_BYTES,
} from './constants.ts';
import { holdsAny, indexedPackBytes, type PackRecord } from './index.ts';
import { type IndexCodec, Indexes } from './indexes.ts';
import { rowBytes, type SegmentRecord } from './listing.ts';
import { Marks } from './marks.ts';
import { recover } from './mend.ts';
import { MovedSegments } from './moved.ts';
import { decodeFooter, encodeFooter, encodeTrailer, PACK_TRAILER_BYTES } from './pack.ts';
import { dropFound, noteProblem, PACK_IS_MISSING, type Problem } from './problem.ts';
import type { SegmentClass } from './segment.ts';
import { SegmentTable } from './segments.ts';
import { IdTable, TABLE_ID_BYTES, tableSizeFor } from './table.ts';

/** Packs on their way to the backend at which `append` waits, where nothing else is said. */
const PACKS_MAX = 3;
/** Index rows that are gathered before an index object is written ahead of the next flush, bytes. */
const INDEX_EARLY_BYTES = 1 << 20;

export interface StoreOptions {
  readonly backend: Backend;
  readonly codec: IndexCodec;
  readonly random: (bytes: number) => Buffer;
  /** Zeroed memory for the table of chunks, aligned to 4: a mapping that others can read, or a Buffer. */
  readonly allocate: (bytes: number) => Buffer;
  /** The table is in this buffer from now on; the former one is not written any more. */
  readonly onTable?: (buffer: Buffer) => void;
  /** Segments that `append` took are lost: whoever may refer to them must not commit. */
  readonly onLoss?: (failure: Failure) => void;
  /** Packs on their way to the backend at which `append` waits: at least 1. */
  readonly packsMax?: number;
  /** The epoch of what is written until `epoch` is set; the first where missing. */
  readonly epoch?: number;
}

export interface StoreTotals {
  readonly packs: number;
  readonly segments: number;
  readonly chunks: number;
  readonly storedBytes: number;
}

interface OpenPack {
  readonly number: number;
  /** of its footer, as its header says */
  readonly epoch: number;
  readonly name: string;
  readonly writer: ObjectWriter;
  readonly segments: SegmentRecord[];
  readonly ordinals: number[];
  footerBytes: number;
}

export class Store {
  readonly backend: Backend;
  readonly segments = new SegmentTable();
  readonly marks = new Marks();
  readonly codec: IndexCodec;
  readonly indexes: Indexes;
  /** What was found damaged on the way; `recover` mends what can be mended. */
  readonly problems: Problem[] = [];
  /** What was lost, and has been made again from what is there. */
  readonly mended: string[] = [];
  /** Packs that no index object names: of writers that died, or of a lost index. */
  orphans: string[] = [];
  /** Counts losses: what was appended under another generation may be gone. */
  generation = 0;
  /** Counts how often chunks that are in several packs may have come to be found in another. */
  learned = 0;
  readonly #options: StoreOptions;
  #table: IdTable;
  readonly #open = new Map<SegmentClass, OpenPack>();
  readonly #finishing = new Map<number, Promise<void>>();
  /** durable packs that no durable index object names yet */
  readonly #unindexed: PackRecord[] = [];
  #unindexedBytes = 0;
  readonly #salvaged = new Set<string>();
  /** marked packs that no index object names, which only their footers know */
  #unindexedMarked: PackRecord[] = [];
  /** what is known of marked packs, by name */
  #markedRecords = new Map<string, PackRecord>();
  readonly #moved = new MovedSegments();
  /** what index objects said that has not been taken in yet */
  readonly #fresh: PackRecord[] = [];
  /** the table may lack chunks that are there, or have marks that are not */
  #stale = false;
  /** chunks are being moved to packs that are there to stay */
  #learning = false;
  #refreshing: Promise<unknown> = Promise.resolve();
  #storedBytes = 0;
  #loss: Failure | undefined;
  /** The epoch of the key that new packs and index objects are sealed with. */
  epoch: number;

  private constructor(options: StoreOptions, table: IdTable) {
    this.backend = options.backend;
    this.#options = options;
    this.#table = table;
    this.codec = options.codec;
    this.epoch = options.epoch ?? FIRST_EPOCH;
    this.indexes = new Indexes({ ...options, epoch: () => this.epoch });
  }

  /** Reads the whole index. Damaged index objects and missing packs are in `problems`; a failing backend is a Failure. */
  static async open(options: StoreOptions): Promise<Store> {
    const names = await options.backend.list('index');
    let sealedBytes = 0;
    for (const name of names) sealedBytes += (await options.backend.stat('index', name)) ?? 0;
    // each chunk takes 16 bytes of an index object
    const store = new Store(options, IdTable.create(options.allocate(tableSizeFor(sealedBytes / 16))));
    await store.refresh();
    options.onTable?.(store.#table.buffer);
    return store;
  }

  get table(): IdTable {
    return this.#table;
  }

  get totals(): StoreTotals {
    return {
      packs: this.segments.packs,
      segments: this.segments.segments,
      chunks: this.#table.count,
      storedBytes: this.#storedBytes,
    };
  }

  /**
   * Learns what others have done since: marks first, then the index, then
   * packs, so that no pack is taken for there to stay that a mark has already
   * been carried out on. Otherwise as `open`. Returns the marks that are heeded
   * from now on.
   */
  refresh(): Promise<readonly string[]> {
    const refreshed = this.#refreshing.then(() => this.#refresh());
    this.#refreshing = refreshed.catch(() => undefined);
    return refreshed;
  }

  async #refresh(): Promise<readonly string[]> {
    // what is learned here stays to be done if the rest fails
    if (await this.marks.refresh(this.backend)) this.#stale = true;
    await this.indexes.readNew(this.#fresh, this.problems);
    const durable = this.#durable();
    // after the index, so that no pack that it names can be newer than the listing
    const present = new Set(await this.backend.list('packs'));
    await dropFound(this.problems, present, this.indexes);
    const isThere = (name: string) => present.has(name) && !this.marks.doomed.has(name);
    const gone = durable.filter((name) => !isThere(name));
    const named = [...gone, ...this.#fresh.map(({ name }) => name)];
    await this.#noteMissing(named.filter((name) => !present.has(name)));
    this.#lose(gone);
    for (const pack of this.#fresh.splice(0))
      if (isThere(pack.name) && this.segments.packNumber(pack.name) === undefined) this.#adopt(pack);
    if (this.#stale) await this.#relearn();
    this.orphans = [...present].filter(
      (name) => this.segments.packNumber(name) === undefined && !this.marks.doomed.has(name),
    );
    return this.marks.heeded;
  }

  /** The names of the packs that are complete. */
  #durable(): string[] {
    const packs = [...this.segments.packNumbers()].filter((pack) => this.segments.packBytes(pack) > 0);
    return packs.map((pack) => this.segments.packName(pack));
  }

  /** A pack that is not there is a problem, unless a cleanup has removed it: then its mark, or a new index, says so. */
  async #noteMissing(missing: readonly string[]): Promise<void> {
    if (missing.length === 0) return;
    const indexed = await this.indexes.indexed();
    const { marked, doomed } = this.marks;
    const told = new Set(this.problems.map(({ object }) => object));
    for (const name of new Set(missing))
      if (indexed.has(name) && !marked.has(name) && !doomed.has(name) && !told.has(`packs/${name}`))
        noteProblem(this.problems, { object: `packs/${name}`, text: PACK_IS_MISSING });
  }

  /** Packs are gone; their chunks are found until something is known of others that have them. */
  #lose(packs: readonly string[]): void {
    for (const name of packs) {
      const pack = this.segments.packNumber(name);
      if (pack === undefined) continue;
      this.#storedBytes -= this.segments.packBytes(pack);
      this.segments.lose(pack);
      this.#stale = true;
    }
  }

  /** Takes packs out of the tables: nobody finds, or deduplicates against, their chunks any more. */
  forget(packs: readonly string[]): void {
    this.#lose(packs);
    this.#sweep();
  }

  #sweep(): void {
    this.#table.sweep(
      (ordinal) => this.segments.isLost(ordinal),
      (id, ordinal) => this.#moved.note(ordinal, id),
    );
  }

  /**
   * Marks in the table what is marked now, and has each chunk be found in a
   * pack that is there to stay, where there is one, or else in a marked one.
   */
  async #relearn(): Promise<void> {
    const { marked } = this.marks;
    const isMarked = new Set<number>();
    for (const name of marked) {
      const pack = this.segments.packNumber(name);
      if (pack !== undefined) isMarked.add(pack);
    }
    // a chunk whose pack is gone is found there until it is known where else: nobody refers to it meanwhile
    this.#table.mark(
      (ordinal) => isMarked.has(this.segments.packOf(ordinal)) || this.segments.isLost(ordinal),
    );
    // whoever loses a pack while the index is read says so again
    this.#stale = false;
    this.#learning = true;
    const markedRecords = new Map<string, PackRecord>();
    const learn = (record: PackRecord) => {
      if (marked.has(record.name)) markedRecords.set(record.name, record);
      else this.#learn(record);
    };
    try {
      for await (const record of this.indexes.readAll()) learn(record);
      for (const record of [...this.#unindexed, ...this.#unindexedMarked]) learn(record);
    } catch (error) {
      this.#stale = true;
      throw error;
    } finally {
      this.#learning = false;
    }
    this.#sweep();
    for (const record of markedRecords.values()) this.#learn(record);
    this.#markedRecords = markedRecords;
    this.learned++;
  }

  #learn(record: PackRecord): void {
    const pack = this.segments.packNumber(record.name);
    if (pack === undefined) return;
    const ordinals = this.segments.segmentsOf(pack);
    record.segments.forEach((segment, i) => {
      const ordinal = ordinals[i];
      if (ordinal !== undefined) this.#insertDurable(record.name, segment, ordinal);
    });
  }

  /** Takes a durable pack into the tables. */
  #adopt(record: PackRecord): void {
    const pack = this.segments.addPack(record.name);
    this.segments.setPackBytes(pack, record.packBytes);
    this.#storedBytes += record.packBytes;
    for (const segment of record.segments)
      this.#insertDurable(record.name, segment, this.segments.add(pack, segment));
  }

  #insertDurable(pack: string, segment: SegmentRecord, ordinal: number): void {
    const marked = this.marks.marked.has(pack);
    this.#insert(segment, ordinal, marked);
    if (!marked && this.#mayMove) this.#settle(segment, ordinal);
  }

  /** Whether the table may have marked chunks. */
  get #mayMove(): boolean {
    return this.#stale || this.#learning || this.marks.marked.size > 0;
  }

  /** Has the chunks of a durable segment that were marked be found there from now on. */
  #settle({ ids, count }: SegmentRecord, ordinal: number, from = -1): void {
    const stride = ids.length / count;
    for (let at = 0; at < ids.length; at += stride) this.#table.move(ids, at, ordinal, from);
  }

  #insert({ ids, count }: SegmentRecord, ordinal: number, marked = false): void {
    if (this.#table.needsGrowth(count)) this.#growTable(count);
    const stride = ids.length / count;
    for (let at = 0; at < ids.length; at += stride) this.#table.insert(ids, at, ordinal, marked);
  }

  #growTable(more: number): void {
    this.#table = this.#table.grown(more, this.#options.allocate);
    this.#options.onTable?.(this.#table.buffer);
  }

  /**
   * Puts a sealed segment with its chunks' ids (32 bytes each) in a pack of its
   * class, and its chunks in the table; the segment's ordinal. Both buffers
   * may be used again when it settles. It waits while packs are on their way;
   * a Failure means that this segment, and others of its pack, are lost.
   */
  async append(sealed: Buffer, kind: SegmentClass, keyEpoch: number, ids: Buffer): Promise<number> {
    const count = ids.length / CHUNK_ID_BYTES;
    if (
      sealed.length < SEGMENT_SEALED_MIN_BYTES ||
      sealed.length > SEGMENT_SEALED_MAX_BYTES ||
      !(Number.isInteger(count) && count >= 1 && count <= SEGMENT_CHUNKS_MAX)
    )
      throw new Failure('store segment', '', { cause: `${sealed.length} bytes with ${count} chunks` });
    this.epoch = Math.max(this.epoch, keyEpoch);
    const pack = this.#packFor(kind, rowBytes(count, CHUNK_ID_BYTES));
    const offset = pack.writer.sizeBytes;
    const segment: SegmentRecord = {
      offset,
      sealedLength: sealed.length,
      kind,
      keyEpoch,
      count,
      ids: Buffer.from(ids),
    };
    const ordinal = this.segments.add(pack.number, segment);
    pack.segments.push(segment);
    pack.ordinals.push(ordinal);
    pack.footerBytes += rowBytes(count, CHUNK_ID_BYTES);
    this.#insert(segment, ordinal);
    try {
      const written = pack.writer.write(sealed);
      if (written !== undefined) await written;
    } catch (error) {
      throw await this.#giveUp(pack, error);
    }
    if (pack.writer.sizeBytes >= PACK_TARGET_BYTES) this.#finish(pack);
    while (this.#finishing.size >= (this.#options.packsMax ?? PACKS_MAX))
      await Promise.race(this.#finishing.values());
    return ordinal;
  }

  /** The open pack of the class, if it is of this epoch and one more row fits in its footer; or a new one. */
  #packFor(kind: SegmentClass, moreBytes: number): OpenPack {
    const open = this.#open.get(kind);
    if (open !== undefined) {
      const hasRoom =
        open.segments.length < PACK_SEGMENTS_MAX && open.footerBytes + moreBytes <= LISTING_MAX_BYTES;
      if (hasRoom && open.epoch === this.epoch) return open;
      this.#finish(open);
    }
    const name = this.#options.random(16).toString('hex');
    const writer = this.backend.create('packs');
    const number = this.segments.addPack(name);
    const epoch = this.epoch;
    const pack: OpenPack = { number, epoch, name, writer, segments: [], ordinals: [], footerBytes: 4 };
    this.#open.set(kind, pack);
    // a failure shows at the write behind it: writes are in order
    const written = writer.write(encodeHeader(MAGIC.pack, epoch));
    if (written !== undefined) written.catch(() => undefined);
    return pack;
  }

  /** Closes a pack to further segments and sends it on its way; the outcome is in `#finishing` and `generation`. */
  #finish(pack: OpenPack): void {
    for (const [kind, open] of this.#open) if (open === pack) this.#open.delete(kind);
    const finished = this.#commit(pack)
      .catch((error: unknown) => this.#giveUp(pack, error).then(() => undefined))
      .finally(() => this.#finishing.delete(pack.number));
    this.#finishing.set(pack.number, finished);
  }

  async #commit(pack: OpenPack): Promise<void> {
    const { name, epoch, segments, writer } = pack;
    const end = writer.sizeBytes;
    const footer = encodeFooter(segments);
    decodeFooter(footer, name, end);
    const sealed = await this.codec.sealIndex('footer', name, footer, epoch);
    const footerLength = sealed.length;
    await writer.write(sealed);
    release(sealed);
    release(footer);
    await writer.write(encodeTrailer(footerLength));
    const packBytes = writer.sizeBytes;
    if (packBytes !== end + footerLength + PACK_TRAILER_BYTES)
      throw new Failure('write pack', name, { cause: 'something was written behind its end' });
    await writer.commit(name);
    this.segments.setPackBytes(pack.number, packBytes);
    this.#storedBytes += packBytes;
    // what was marked, or swept away meanwhile, is here to stay now
    segments.forEach((segment, i) => {
      this.#insertDurable(name, segment, pack.ordinals[i] ?? 0);
    });
    this.#noteUnindexed({ name, packBytes, segments });
    if (this.#unindexedBytes >= INDEX_EARLY_BYTES) {
      // ahead of time: a failure leaves them unindexed, and the next flush tries again and tells
      await this.writeIndex().catch(() => undefined);
    }
  }

  #noteUnindexed(record: PackRecord): void {
    this.#unindexed.push(record);
    this.#unindexedBytes += indexedPackBytes(record);
  }

  /** Takes a pack that will never be durable out of the tables; returns the failure for whoever asked. */
  async #giveUp(pack: OpenPack, error: unknown): Promise<Failure> {
    const failure = new Failure('write pack', pack.name, { cause: error });
    for (const [kind, open] of this.#open) if (open === pack) this.#open.delete(kind);
    if (this.segments.packNumber(pack.name) === undefined) return failure;
    this.segments.lose(pack.number);
    pack.segments.forEach(({ ids }, i) => {
      const ordinal = pack.ordinals[i] ?? 0;
      for (let at = 0; at < ids.length; at += CHUNK_ID_BYTES) this.#table.remove(ids, at, ordinal);
    });
    this.generation++;
    this.#stale = true;
    this.#loss = failure;
    this.#options.onLoss?.(failure);
    await pack.writer.abort();
    return failure;
  }

  /**
   * Makes everything appended so far durable, and the index that names it.
   * Rejects if any of it was lost, or anything at all since `generation` was
   * `since`. Returns the bytes of all packs.
   */
  async flush(since = this.generation): Promise<number> {
    for (const pack of [...this.#open.values()]) this.#finish(pack);
    await Promise.all(this.#finishing.values());
    this.#checkGeneration(since);
    await this.writeIndex();
    this.#checkGeneration(since);
    return this.#storedBytes;
  }

  #checkGeneration(since: number): void {
    if (since !== this.generation) throw this.#loss ?? new Failure('store', '', { cause: 'a pack was lost' });
  }

  /** Writes index objects for the packs that have none. */
  writeIndex(): Promise<void> {
    return this.indexes.write(
      () => [...this.#unindexed],
      (group) => {
        this.#unindexed.splice(0, group.length);
        for (const pack of group) this.#unindexedBytes -= indexedPackBytes(pack);
      },
    );
  }

  /** Leaves packs that are `gone` out of the index, and writes what is of epochs before `since` anew. */
  async reindex(gone: ReadonlySet<string>, since?: number): Promise<void> {
    await this.indexes.rewrite(gone, since);
  }

  /**
   * Leaves packs out of the index that do not exist, for whoever has seen that
   * nothing in use is in them: cleanups that wrote the index at the same time
   * may have brought one back.
   */
  async reindexAbsent(): Promise<void> {
    const indexed = await this.indexes.indexed();
    for (const name of await this.backend.list('packs')) indexed.delete(name);
    await this.indexes.rewrite(indexed);
  }

  /**
   * Reads a sealed segment into `out`, which has SEGMENT_SEALED_MAX_BYTES; one that was moved to another pack is read
   * there. Its length and epoch. A missing or short pack is a Failure of kind 'damaged'.
   */
  async readSealed(ordinal: number, out: Buffer): Promise<{ length: number; epoch: number }> {
    const found = await this.#readAt(ordinal, out);
    if (found !== undefined) return found;
    // a cleanup elsewhere may have moved it
    await this.refresh();
    const moved = await this.#readAt(ordinal, out);
    if (moved !== undefined) return moved;
    const pack = this.segments.packOf(ordinal);
    if (pack < 0)
      throw new Failure('read segment', String(ordinal), { cause: 'there is none', kind: 'damaged' });
    const object = `packs/${this.segments.packName(pack)}`;
    throw new Failure('read segment', object, { cause: 'pack is missing', kind: 'damaged' });
  }

  /** As `readSealed`; undefined where its pack is gone. */
  async #readAt(ordinal: number, out: Buffer): Promise<{ length: number; epoch: number } | undefined> {
    const pack = this.segments.packOf(ordinal);
    const open = [...this.#open.values()].find(({ number }) => number === pack);
    if (open !== undefined) this.#finish(open);
    await this.#finishing.get(pack);
    const place = this.segments.place(this.segments.isLost(ordinal) ? this.#successor(ordinal) : ordinal);
    if (place === undefined) return undefined;
    const { offset, sealedLength, keyEpoch } = place;
    const name = this.segments.packName(place.pack);
    const found = await this.backend.getInto('packs', name, offset, out.subarray(0, sealedLength));
    return found ? { length: sealedLength, epoch: keyEpoch } : undefined;
  }

  /** Where the segment is now whose pack is gone; -1 if nobody knows. */
  #successor(ordinal: number): number {
    const id = this.#moved.idOf(ordinal);
    return id === undefined ? -1 : this.#table.lookup(id, 0);
  }

  /** Has the chunks of segment `from` be found in `to`, a durable copy of it. */
  settleCopy(segment: SegmentRecord, from: number, to: number): void {
    this.#settle(segment, to, from);
    this.#moved.note(from, segment.ids.subarray(0, TABLE_ID_BYTES));
  }

  /**
   * The marked packs that have a chunk which is in a segment that `isLive`
   * says is in use, and in no pack that is there to stay.
   */
  needed(isLive: (ordinal: number) => boolean): Set<string> {
    const stranded = new Set<string>();
    this.#table.each((id, ordinal, marked) => {
      if (marked && isLive(ordinal)) stranded.add(id.toString('latin1'));
    });
    const needed = new Set<string>();
    if (stranded.size === 0) return needed;
    for (const name of this.marks.marked) {
      const record = this.#markedRecords.get(name);
      // one that nobody has described cannot be judged, unless all was taken out of it
      if (record === undefined && this.#salvaged.has(name)) continue;
      if (record === undefined || holdsAny(record, stranded, TABLE_ID_BYTES)) needed.add(name);
    }
    return needed;
  }

  /** Indexes packs that are there to stay after all, where no index object names them. */
  async reclaim(packs: ReadonlySet<string>): Promise<void> {
    for (const record of this.#unindexedMarked) if (packs.has(record.name)) this.#noteUnindexed(record);
    this.#unindexedMarked = this.#unindexedMarked.filter(({ name }) => !packs.has(name));
    await this.writeIndex();
  }

  /** Takes a durable pack that no index names into the tables, for `writeIndex`; false where that must not be. */
  adoptOrphan(record: PackRecord): boolean {
    const { name } = record;
    // meanwhile an index may have come that names it, or a verdict
    if (this.segments.packNumber(name) !== undefined || this.marks.doomed.has(name)) return false;
    this.#adopt(record);
    return this.name(record);
  }

  /** Has the next index object name a durable pack of the tables, but for a marked one: that only if it is to stay. */
  name(record: PackRecord): boolean {
    const { name } = record;
    if (this.segments.packNumber(name) === undefined) return false;
    if (this.marks.marked.has(name)) {
      this.#unindexedMarked.push(record);
      this.#markedRecords.set(name, record);
    } else this.#noteUnindexed(record);
    return true;
  }

  /** Durable packs in the tables that no index object names: it has gone, or cannot be read any more. */
  async unnamed(): Promise<string[]> {
    const indexed = await this.indexes.indexed();
    for (const { name } of [...this.#unindexed, ...this.#unindexedMarked]) indexed.add(name);
    return this.#durable().filter((name) => !indexed.has(name));
  }

  /**
   * Takes a marked pack whose footer is lost into the table of segments, so
   * that they can be read; nobody finds a chunk there. Their ordinals.
   */
  adoptScanned(record: PackRecord): number[] {
    const known = this.segments.packNumber(record.name);
    if (known !== undefined) return this.segments.segmentsOf(known);
    const pack = this.segments.addPack(record.name);
    this.segments.setPackBytes(pack, record.packBytes);
    this.#storedBytes += record.packBytes;
    return record.segments.map((segment) => this.segments.add(pack, segment));
  }

  /** Whatever of a marked pack can be read, and is in use, is in another: its removal needs no footer. */
  noteSalvaged(pack: string): void {
    this.#salvaged.add(pack);
  }

  /** Index objects for what durable ones do not name yet; see mend.ts. */
  recover(): Promise<void> {
    return recover(this);
  }
}
