/**
 * The storage side of a repository: packs, index and the table of chunks, over
 * a backend and without keys. The storage process wraps it in messages. Owns
 * the commit order (packs durable, then the index that names them; snapshot
 * headers come after `flush` returned) and the rule that no chunk stays in the
 * table whose pack never became durable.
 */

import type { Backend, ObjectWriter } from '../backends/objects.ts';
import { Failure } from '../error.ts';
import { CHUNK_ID_BYTES } from '../keys/derive.ts';
import { encodeHeader, MAGIC } from '../keys/frame.ts';
import {
  LISTING_MAX_BYTES,
  PACK_SEGMENTS_MAX,
  PACK_TARGET_BYTES,
  SEGMENT_CHUNKS_MAX,
  SEGMENT_SEALED_MAX_BYTES,
  SEGMENT_SEALED_MIN_BYTES,
} from './constants.ts';
import {
  decodeIndex,
  encodeIndex,
  frameIndex,
  groupForIndex,
  indexedPackBytes,
  type PackRecord,
  unframeIndex,
} from './index.ts';
import { rowBytes, type SegmentRecord } from './listing.ts';
import { decodeFooter, encodeFooter, encodeTrailer, PACK_TRAILER_BYTES, readFooter } from './pack.ts';
import { type Problem, problemOf } from './problem.ts';
import type { SegmentClass } from './segment.ts';
import { SegmentTable } from './segments.ts';
import { IdTable, tableSizeFor } from './table.ts';

/** Packs that may be on their way to the backend before `append` waits. */
const FINISHING_MAX = 2;
/** Index rows that are gathered before an index object is written ahead of the next flush, bytes. */
const INDEX_EARLY_BYTES = 1 << 20;

/** Opens and seals footers and index objects, where the keys are. `name` is the pack's or the index object's. */
export interface IndexCodec {
  openIndex(kind: 'footer' | 'index', name: string, sealed: Buffer): Promise<Buffer>;
  sealIndex(kind: 'footer' | 'index', name: string, plaintext: Buffer): Promise<Buffer>;
}

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
}

export interface StoreTotals {
  readonly packs: number;
  readonly segments: number;
  readonly chunks: number;
  readonly storedBytes: number;
}

interface OpenPack {
  readonly number: number;
  readonly name: string;
  readonly writer: ObjectWriter;
  readonly segments: SegmentRecord[];
  readonly ordinals: number[];
  footerBytes: number;
}

export class Store {
  readonly backend: Backend;
  readonly segments = new SegmentTable();
  /** What was found damaged on the way; `recover` mends what can be mended. */
  readonly problems: Problem[] = [];
  /** Packs that no index object names: of writers that died, or of a lost index. */
  orphans: string[] = [];
  /** Counts losses: what was appended under another generation may be gone. */
  generation = 0;
  readonly #options: StoreOptions;
  #table: IdTable;
  readonly #open = new Map<SegmentClass, OpenPack>();
  readonly #finishing = new Map<number, Promise<void>>();
  /** durable packs that no durable index object names yet */
  readonly #unindexed: PackRecord[] = [];
  #unindexedBytes = 0;
  /** index objects that were read or written */
  readonly #known = new Set<string>();
  #damagedIndex: string[] = [];
  #indexing: Promise<void> = Promise.resolve();
  #storedBytes = 0;
  #loss: Failure | undefined;

  private constructor(options: StoreOptions, table: IdTable) {
    this.backend = options.backend;
    this.#options = options;
    this.#table = table;
  }

  /** Reads the whole index. Damaged index objects and missing packs are in `problems`; a failing backend is a Failure. */
  static async open(options: StoreOptions): Promise<Store> {
    const names = await options.backend.list('index');
    let sealedBytes = 0;
    for (const name of names) sealedBytes += (await options.backend.stat('index', name)) ?? 0;
    // each chunk takes 16 bytes of an index object
    const store = new Store(options, IdTable.create(options.allocate(tableSizeFor(sealedBytes / 16))));
    await store.#load(names);
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

  /** Reads index objects that others have written since; as `open` otherwise. */
  async refresh(): Promise<void> {
    const names = await this.backend.list('index');
    await this.#load(names.filter((name) => !this.#known.has(name)));
  }

  async #load(names: readonly string[]): Promise<void> {
    for (const name of names) {
      try {
        const object = await this.backend.get('index', name);
        if (object === undefined) continue;
        const sealed = unframeIndex(object, name);
        const packs = decodeIndex(await this.#options.codec.openIndex('index', name, sealed), name);
        for (const pack of packs) if (this.segments.packNumber(pack.name) === undefined) this.#adopt(pack);
      } catch (error) {
        if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
        this.problems.push(problemOf(`index/${name}`, error));
        this.#damagedIndex.push(name);
      }
      this.#known.add(name);
    }
    // after the index, so that no pack that it names can be newer than the listing
    const present = new Set(await this.backend.list('packs'));
    const missing: string[] = [];
    for (const pack of this.segments.packNumbers()) {
      const name = this.segments.packName(pack);
      if (this.segments.packBytes(pack) > 0 && !present.has(name)) missing.push(name);
    }
    for (const name of missing) this.problems.push({ object: `packs/${name}`, text: 'pack is missing' });
    this.forget(missing);
    this.orphans = [...present].filter((name) => this.segments.packNumber(name) === undefined);
  }

  /** Takes packs out of the tables: nobody finds, or deduplicates against, their chunks any more. */
  forget(packs: readonly string[]): void {
    let forgotten = 0;
    for (const name of packs) {
      const pack = this.segments.packNumber(name);
      if (pack === undefined) continue;
      forgotten++;
      this.#storedBytes -= this.segments.packBytes(pack);
      this.segments.lose(pack);
    }
    if (forgotten > 0) this.#table.sweep((ordinal) => this.segments.place(ordinal) === undefined);
  }

  /** Takes a durable pack into the tables. */
  #adopt(record: PackRecord): void {
    const pack = this.segments.addPack(record.name);
    this.segments.setPackBytes(pack, record.packBytes);
    this.#storedBytes += record.packBytes;
    for (const segment of record.segments) {
      const ordinal = this.segments.add(pack, segment);
      this.#insert(segment, ordinal);
    }
  }

  #insert({ ids, count }: SegmentRecord, ordinal: number): void {
    if (this.#table.needsGrowth(count)) this.#growTable(count);
    const stride = ids.length / count;
    for (let at = 0; at < ids.length; at += stride) this.#table.insert(ids, at, ordinal);
  }

  #growTable(more: number): void {
    const larger = IdTable.create(this.#options.allocate(tableSizeFor(this.#table.count * 2 + more)));
    this.#table.copyTo(larger);
    this.#table = larger;
    this.#options.onTable?.(larger.buffer);
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
      throw await this.#lose(pack, error);
    }
    if (pack.writer.sizeBytes >= PACK_TARGET_BYTES) this.#finish(pack);
    while (this.#finishing.size > FINISHING_MAX) await Promise.race(this.#finishing.values());
    return ordinal;
  }

  /** The open pack of the class, if one more row fits in its footer; or a new one. */
  #packFor(kind: SegmentClass, moreBytes: number): OpenPack {
    const open = this.#open.get(kind);
    if (open !== undefined) {
      if (open.segments.length < PACK_SEGMENTS_MAX && open.footerBytes + moreBytes <= LISTING_MAX_BYTES)
        return open;
      this.#finish(open);
    }
    const name = this.#options.random(16).toString('hex');
    const writer = this.backend.create('packs');
    const number = this.segments.addPack(name);
    const pack: OpenPack = { number, name, writer, segments: [], ordinals: [], footerBytes: 4 };
    this.#open.set(kind, pack);
    // a failure shows at the write behind it: writes are in order
    const written = writer.write(encodeHeader(MAGIC.pack));
    if (written !== undefined) written.catch(() => undefined);
    return pack;
  }

  /** Closes a pack to further segments and sends it on its way; the outcome is in `#finishing` and `generation`. */
  #finish(pack: OpenPack): void {
    for (const [kind, open] of this.#open) if (open === pack) this.#open.delete(kind);
    const finished = this.#commit(pack)
      .catch((error: unknown) => this.#lose(pack, error).then(() => undefined))
      .finally(() => this.#finishing.delete(pack.number));
    this.#finishing.set(pack.number, finished);
  }

  async #commit(pack: OpenPack): Promise<void> {
    const { name, segments, writer } = pack;
    const end = writer.sizeBytes;
    const footer = encodeFooter(segments);
    decodeFooter(footer, name, end);
    const sealed = await this.#options.codec.sealIndex('footer', name, footer);
    await writer.write(sealed);
    await writer.write(encodeTrailer(sealed.length));
    const packBytes = writer.sizeBytes;
    if (packBytes !== end + sealed.length + PACK_TRAILER_BYTES)
      throw new Failure('write pack', name, { cause: 'something was written behind its end' });
    await writer.commit(name);
    this.segments.setPackBytes(pack.number, packBytes);
    this.#storedBytes += packBytes;
    this.#noteUnindexed({ name, packBytes, segments });
    if (this.#unindexedBytes >= INDEX_EARLY_BYTES) {
      // ahead of time: a failure leaves them unindexed, and the next flush tries again and tells
      await this.#writeIndex().catch(() => undefined);
    }
  }

  #noteUnindexed(record: PackRecord): void {
    this.#unindexed.push(record);
    this.#unindexedBytes += indexedPackBytes(record);
  }

  /** Takes a pack that will never be durable out of the tables; returns the failure for whoever asked. */
  async #lose(pack: OpenPack, error: unknown): Promise<Failure> {
    const failure = new Failure('write pack', pack.name, { cause: error });
    for (const [kind, open] of this.#open) if (open === pack) this.#open.delete(kind);
    if (this.segments.packNumber(pack.name) === undefined) return failure;
    this.segments.lose(pack.number);
    pack.segments.forEach(({ ids }, i) => {
      const ordinal = pack.ordinals[i] ?? 0;
      for (let at = 0; at < ids.length; at += CHUNK_ID_BYTES) this.#table.remove(ids, at, ordinal);
    });
    this.generation++;
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
    await this.#writeIndex();
    this.#checkGeneration(since);
    return this.#storedBytes;
  }

  #checkGeneration(since: number): void {
    if (since !== this.generation) throw this.#loss ?? new Failure('store', '', { cause: 'a pack was lost' });
  }

  /** Writes index objects for the packs that have none; one after another, whoever calls. */
  #writeIndex(): Promise<void> {
    const written = this.#indexing.then(() => this.#writeIndexNow());
    this.#indexing = written.catch(() => undefined);
    return written;
  }

  async #writeIndexNow(): Promise<void> {
    const batch = [...this.#unindexed];
    for (const group of groupForIndex(batch)) {
      const name = this.#options.random(16).toString('hex');
      const plaintext = encodeIndex(group);
      decodeIndex(plaintext, name);
      const sealed = await this.#options.codec.sealIndex('index', name, plaintext);
      await this.backend.put('index', name, frameIndex(sealed));
      this.#known.add(name);
      this.#unindexed.splice(0, group.length);
      for (const pack of group) this.#unindexedBytes -= indexedPackBytes(pack);
    }
  }

  /**
   * Reads a sealed segment into `out`, which has SEGMENT_SEALED_MAX_BYTES; its
   * sealed length. A missing or short pack is a Failure of kind 'damaged'.
   */
  async read(ordinal: number, out: Buffer): Promise<number> {
    let place = this.segments.place(ordinal);
    const open = place && [...this.#open.values()].find((pack) => pack.number === place?.pack);
    if (open !== undefined) this.#finish(open);
    if (place !== undefined) await this.#finishing.get(place.pack);
    place = this.segments.place(ordinal);
    if (place === undefined)
      throw new Failure('read segment', String(ordinal), { cause: 'there is none', kind: 'damaged' });
    const name = this.segments.packName(place.pack);
    const { offset, sealedLength } = place;
    const found = await this.backend.getInto('packs', name, offset, out.subarray(0, sealedLength));
    if (!found)
      throw new Failure('read segment', `packs/${name}`, { cause: 'pack is missing', kind: 'damaged' });
    return sealedLength;
  }

  /**
   * Takes the packs that no index names into the tables by their footers,
   * writes the index that was missing, and removes index objects that are
   * damaged once it is durable. Damaged packs go to `problems`.
   */
  async recover(): Promise<void> {
    let mended = true;
    for (const name of this.orphans) {
      try {
        const record = await readFooter(this.backend, this.#options.codec, name);
        if (record === undefined) continue;
        this.#adopt(record);
        this.#noteUnindexed(record);
      } catch (error) {
        if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
        this.problems.push(problemOf(`packs/${name}`, error));
        mended = false;
      }
    }
    await this.#writeIndex();
    this.orphans = this.orphans.filter((name) => this.segments.packNumber(name) === undefined);
    if (!mended) return;
    for (const name of this.#damagedIndex.splice(0)) await this.backend.delete('index', name);
  }
}
