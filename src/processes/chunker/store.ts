/**
 * Where new chunks go: one after another into the open segment of their class,
 * which is handed to a crypto worker when it is full. Used by the push jobs of
 * one chunker. Invariant: a chunk counts as known only while it is in the
 * table that storage keeps, or in a segment that is on its way there; when
 * storing fails, everything on its way is forgotten and every job that may
 * refer to it fails.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { Ring, SlotPool } from '../../ipc/ring.ts';
import { CHUNK_DATA, CHUNK_ID_BYTES, type ChunkKind } from '../../keys/derive.ts';
import type { ChunkHasher } from '../../keys/ids.ts';
import type { Pieces } from '../../keys/lanes.ts';
import { FLUSH, FLUSHED, SEAL } from '../../messages/data.ts';
import { SEGMENT_CHUNKS_MAX, SEGMENT_RAW_MAX_BYTES } from '../../repository/constants.ts';
import { belongs, classOf, type SegmentClass, SegmentWriter, targetBytes } from '../../repository/segment.ts';
import { type IdTable, PendingTable } from '../../repository/table.ts';
import { trace, tracing } from '../../trace.ts';

/** Of the slots, those that are free before filling goes on where there was none; two may be open, one of each class. */
const RESUME_SHARE = 0.45;
/** Ids on their way to storage before an older generation of them is let go. */
const GENERATION_IDS = 1 << 16;

interface OpenSegment {
  readonly slot: number;
  readonly writer: SegmentWriter;
}

/** What went through the store, bytes and counts; a push compares before and after, as only one runs at a time. */
export interface StoreTotals {
  chunks: number;
  addedBytes: number;
  storedBytes: number;
}

export interface StoreParts {
  readonly ring: Ring;
  /** the slots that may be used for writing */
  readonly slots: SlotPool;
  readonly hasher: ChunkHasher;
  /** channels to the crypto workers, by number */
  readonly workers: readonly Channel[];
  readonly storage: Channel;
  /** the table as it is now: storage may replace it */
  readonly table: () => IdTable;
}

/** Part of the open segment, behind its chunks, that more are read to before they are known by name. */
export interface Stage {
  readonly segment: OpenSegment;
  readonly buffer: Buffer;
  /** where the buffer begins in `memory` of the store */
  readonly base: number;
  /** the first chunk begins here, and none ends behind `end` */
  readonly start: number;
  readonly end: number;
  readonly chunksMax: number;
  /** where the segment ends while nothing but these chunks goes there */
  next: number;
}

export class SegmentStore {
  readonly totals: StoreTotals = { chunks: 0, addedBytes: 0, storedBytes: 0 };
  /** Counts failures: a job that began under another generation must not commit. */
  generation = 0;
  /** Why the last generation ended. */
  failure: Failure | undefined;
  readonly #parts: StoreParts;
  readonly #open: (OpenSegment | undefined)[] = [undefined, undefined, undefined];
  /** by class: a segment's tables are used again for the next, as clearing and collecting them takes longer than filling */
  readonly #writers: (SegmentWriter | undefined)[] = [];
  readonly #underWay = new Set<number>();
  #staged: Stage | undefined;
  /** that the next segment of data begins in: see `reserve` */
  #reserved: number | undefined;
  #sequence = 0;
  /** somebody waits for several slots */
  #isGathering = false;
  #worker = 0;
  #pending = new PendingTable();
  #older = new PendingTable();
  /** `#older` can go when no segment up to this one is under way */
  #olderSequence = 0;
  #settled: (() => void)[] = [];

  constructor(parts: StoreParts) {
    this.#parts = parts;
  }

  /** Whether the chunk is in the repository to stay, or on its way. */
  has(id: Buffer, offset = 0): boolean {
    const known =
      this.#parts.table().holds(id, offset) || this.#pending.has(id, offset) || this.#older.has(id, offset);
    if (tracing.cache)
      trace('cache', `chunk ${id.toString('hex', offset, offset + 4)}: ${known ? 'known' : 'new'}`);
    return known;
  }

  /** Stores a chunk unless it is known; `idOut` gets its id. A promise only where it had to wait. */
  put(kind: ChunkKind, data: Buffer, idOut: Buffer): Promise<void> | undefined {
    this.#parts.hasher.id(kind, data, idOut, 0);
    return this.#putNamed(kind, data, idOut);
  }

  #putNamed(kind: ChunkKind, data: Buffer, id: Buffer): Promise<void> | undefined {
    if (this.has(id)) return undefined;
    const segment = this.#room(kind, data.length);
    if (segment === undefined) return this.#putLater(kind, data, id);
    data.copy(segment.writer.buffer, segment.writer.offset);
    this.#append(segment, id, data.length);
    return undefined;
  }

  async #putLater(kind: ChunkKind, data: Buffer, id: Buffer): Promise<void> {
    await this.makeRoom(kind, data.length);
    const again = this.#putNamed(kind, data, id);
    if (again !== undefined) await again;
  }

  /** As `put`, of each of `chunks`; their ids go to `idsOut`, one behind the other. */
  putAll(kind: ChunkKind, chunks: Pieces, idsOut: Buffer): Promise<void> | undefined {
    this.#parts.hasher.ids(kind, chunks, idsOut);
    return this.#putFrom(0, kind, chunks, idsOut);
  }

  #putFrom(first: number, kind: ChunkKind, chunks: Pieces, ids: Buffer): Promise<void> | undefined {
    const { buffer, starts, lengths, count } = chunks;
    for (let i = first; i < count; i++) {
      const start = starts[i] as number;
      const data = buffer.subarray(start, start + (lengths[i] as number));
      const storing = this.#putNamed(kind, data, ids.subarray(i * CHUNK_ID_BYTES, (i + 1) * CHUNK_ID_BYTES));
      if (storing !== undefined) return storing.then(() => this.#putFrom(i + 1, kind, chunks, ids));
    }
    return undefined;
  }

  /**
   * Where chunks can be read to without a copy, one behind the other, the first of up to `length` bytes; undefined if
   * makeRoom must be awaited before. What was read is taken by `keep`, in its order, while `isStaged`.
   */
  stage(kind: ChunkKind, length: number): Stage | undefined {
    const segment = this.#room(kind, length);
    this.#staged = undefined;
    if (segment === undefined) return undefined;
    const { buffer, offset, count } = segment.writer;
    const end = Math.max(offset + length, targetBytes(segment.writer.kind));
    this.#staged = {
      segment,
      buffer,
      base: this.#base(segment.slot),
      start: offset,
      end,
      chunksMax: SEGMENT_CHUNKS_MAX - count,
      next: offset,
    };
    return this.#staged;
  }

  /** Whether what was read to `stage` is still there: nothing else was put or read to where it is. */
  isStaged(stage: Stage): boolean {
    const { segment, next } = stage;
    const { writer } = segment;
    return stage === this.#staged && segment === this.#open[writer.kind] && writer.offset === next;
  }

  /** Writes the ids of `chunks` to `idsOut`, one behind the other. */
  name(kind: ChunkKind, chunks: Pieces, idsOut: Buffer): void {
    this.#parts.hasher.ids(kind, chunks, idsOut);
  }

  /** Takes what was read to `start` of a stage as a chunk, unless it is known. */
  keep(stage: Stage, start: number, length: number, id: Buffer): void {
    if (!this.isStaged(stage)) throw new Error('keep of what is gone');
    if (this.has(id)) return;
    stage.next += length;
    this.#appendFrom(stage.segment, stage.base + start, id, length);
  }

  /** Where a slot begins in `memory`. */
  #base(slot: number): number {
    return slot * this.#parts.ring.slotBytes;
  }

  /** The slots of all segments: what `reserve` and `place` speak of. */
  get memory(): Buffer {
    return this.#parts.ring.memory;
  }

  /**
   * Where in `memory` the segment will begin that follows the open one of data, for chunks that are read before it is
   * known which of them are new; undefined where no slot is free. Until `unreserve`, nothing is put but by `place`.
   */
  reserve(): number | undefined {
    this.#reserved = this.#parts.slots.take();
    return this.#reserved === undefined ? undefined : this.#base(this.#reserved);
  }

  unreserve(): void {
    if (this.#reserved !== undefined) this.#parts.slots.release(this.#reserved);
    this.#reserved = undefined;
  }

  /** Takes what was read to `start` of `memory` as a chunk of data, unless it is known: of a stage, then of what was reserved. */
  place(start: number, length: number, id: Buffer): void {
    if (this.has(id)) return;
    const segment = this.#room(CHUNK_DATA, length);
    if (segment === undefined) throw new Error('place of what there is no room for');
    this.#appendFrom(segment, start, id, length);
  }

  /** Appends what lies at `start` of `memory`, most often where it is to be: one before it that was known left a gap. */
  #appendFrom(segment: OpenSegment, start: number, id: Buffer, length: number): void {
    const to = this.#base(segment.slot) + segment.writer.offset;
    if (start !== to) this.memory.copyWithin(to, start, start + length);
    this.#append(segment, id, length);
  }

  #append(segment: OpenSegment, id: Buffer, length: number): void {
    segment.writer.append(id, length);
    if (tracing.chunk) trace('chunk', `store ${id.toString('hex', 0, 4)}, ${length} bytes`);
    this.#pending.add(id, 0);
    this.totals.chunks++;
    this.totals.addedBytes += length;
    if (segment.writer.full) this.#seal(segment);
  }

  /** The open segment, if `length` more bytes fit in it; one that is too full is sent on. */
  #room(kind: ChunkKind, length: number): OpenSegment | undefined {
    const which = classOf(kind);
    const segment = this.#open[which];
    if (segment !== undefined) {
      const { writer } = segment;
      if (belongs(which, writer.offset, length) && writer.room(length)) return segment;
      this.#seal(segment);
    }
    const slot = this.#reserved ?? this.#parts.slots.take();
    this.#reserved = undefined;
    if (slot === undefined) return undefined;
    return this.#start(which, slot);
  }

  #start(which: SegmentClass, slot: number): OpenSegment {
    const buffer = this.#parts.ring.slot(slot).subarray(0, SEGMENT_RAW_MAX_BYTES);
    const used = this.#writers[which];
    const writer = used ?? new SegmentWriter(buffer, which);
    if (used === undefined) this.#writers[which] = writer;
    else used.begin(buffer);
    const segment = { slot, writer };
    this.#open[which] = segment;
    return segment;
  }

  /** Waits until a segment with room for `length` bytes is open. */
  async makeRoom(kind: ChunkKind, length: number): Promise<void> {
    const which = classOf(kind);
    const generation = this.generation;
    const slot = await this.#freeSlot();
    if (generation !== this.generation || this.#open[which]?.writer.room(length)) {
      this.#parts.slots.release(slot);
      this.checkGeneration(generation);
      return;
    }
    const full = this.#open[which];
    if (full !== undefined) this.#seal(full);
    this.#start(which, slot);
  }

  /**
   * Waits for several slots and keeps one: whoever sleeps for each slot sleeps too shortly for the kernel to give the
   * core to a crypto thread meanwhile, and the core idles.
   */
  async #freeSlot(): Promise<number> {
    const { slots } = this.#parts;
    const slot = await slots.wait();
    // one at a time: several could come to wait for what the others hold
    if (this.#isGathering) return slot;
    this.#isGathering = true;
    const more: number[] = [];
    const enough = Math.floor(slots.size * RESUME_SHARE);
    try {
      while (more.length < enough - 1) more.push(await slots.wait());
    } finally {
      for (const each of more) slots.release(each);
      this.#isGathering = false;
    }
    return slot;
  }

  #seal(segment: OpenSegment): void {
    const { writer, slot } = segment;
    this.#open[writer.kind] = undefined;
    const { count } = writer;
    const length = writer.finish();
    // the ids go with it, for the index; crypto and storage need no more of them than that
    writer.ids.copy(this.#parts.ring.slot(slot), SEGMENT_RAW_MAX_BYTES);
    const sequence = ++this.#sequence;
    this.#underWay.add(sequence);
    const worker = this.#parts.workers[this.#worker++ % this.#parts.workers.length];
    if (worker === undefined) throw new Error('no crypto worker');
    if (tracing.chunk) trace('chunk', `seal segment ${sequence}: ${count} chunks, ${length} bytes`);
    worker.message(SEAL, { sequence, slot, length, count, kind: writer.kind });
    if (this.#pending.count >= GENERATION_IDS) this.#turn();
  }

  /** Lets go of ids that have certainly arrived, so that memory stays bounded in the longest push. */
  #turn(): void {
    for (const sequence of this.#underWay) if (sequence <= this.#olderSequence) return;
    const spent = this.#older;
    this.#older = this.#pending;
    this.#olderSequence = this.#sequence;
    spent.clear();
    this.#pending = spent;
  }

  /** The segment is in a pack and in the table. */
  stored(sequence: number, sealedBytes: number): void {
    if (sequence > this.#sequence) throw new Failure('store segment', String(sequence), { cause: 'unknown' });
    // one of a generation that failed may still arrive: it is there, but nobody counts on it
    if (!this.#underWay.delete(sequence)) return;
    this.totals.storedBytes += sealedBytes;
    if (this.#underWay.size === 0) this.#wake();
  }

  /** Storing failed: whatever is not durable is forgotten. */
  fail(failure: Failure): void {
    this.generation++;
    this.failure = failure;
    this.#pending = new PendingTable();
    this.#older = new PendingTable();
    this.#underWay.clear();
    for (const segment of this.#open) if (segment !== undefined) this.#parts.slots.release(segment.slot);
    this.#open.fill(undefined);
    this.#wake();
  }

  /** Throws if storing has failed since `generation`. */
  checkGeneration(generation: number): void {
    if (generation !== this.generation) throw this.failure ?? new Failure('store', '');
  }

  #wake(): void {
    const waiting = this.#settled;
    this.#settled = [];
    for (const wake of waiting) wake();
  }

  /** Makes everything put so far durable: sealed, in packs, indexed, synced. */
  async flush(generation: number): Promise<void> {
    for (const segment of this.#open) {
      if (segment === undefined) continue;
      if (segment.writer.count > 0) this.#seal(segment);
      else {
        this.#parts.slots.release(segment.slot);
        this.#open[segment.writer.kind] = undefined;
      }
    }
    while (this.#underWay.size > 0) await new Promise<void>((resolve) => this.#settled.push(resolve));
    this.checkGeneration(generation);
    await this.#parts.storage.query(FLUSH, {}, FLUSHED);
    this.checkGeneration(generation);
  }

  /** Ids need not be remembered while nobody pushes: the table has them. */
  idle(): void {
    if (this.#underWay.size > 0) return;
    this.#pending = new PendingTable();
    this.#older = new PendingTable();
  }
}
