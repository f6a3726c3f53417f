/**
 * Where chunks come from: segments that storage reads and crypto opens into
 * plain slots, kept there while they are used and for as long as nobody else
 * needs the slot. Used by sessions, pushes (the parent's tree) and check.
 * Invariant: a chunk leaves here only after its id was computed again over the
 * very bytes that are handed out.
 */
import { Failure, fromWire } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { Ring, SlotPool } from '../../ipc/ring.ts';
import { CHUNK_DATA, CHUNK_LIST, CHUNK_TREE, type ChunkKind } from '../../keys/derive.ts';
import type { ChunkHasher } from '../../keys/ids.ts';
import type { Pieces } from '../../keys/lanes.ts';
import { FETCH } from '../../messages/data.ts';
import { SEGMENT_RAW_MAX_BYTES } from '../../repository/constants.ts';
import { SegmentReader } from '../../repository/segment.ts';
import type { IdTable } from '../../repository/table.ts';
import type { ChunkSource } from '../../snapshot/chunks.ts';
import { trace, tracing } from '../../trace.ts';
import type { Identified } from './repack.ts';

const ID_BYTES = 32;
/** A segment does not say which kind its chunks are of; most are data. */
const KINDS: readonly ChunkKind[] = [CHUNK_DATA, CHUNK_TREE, CHUNK_LIST];

/** A segment in a plain slot. Whoever has it must release it. */
export interface LoadedSegment {
  readonly ordinal: number;
  readonly slot: number;
  readonly reader: SegmentReader;
  /** the raw bytes; valid until it is released */
  raw: Buffer;
  /** how many use it */
  users: number;
  /** where the last chunk was found: the next is likely behind it */
  hint: number;
}

/** A chunk that is looked for in a segment; its id is in a buffer with those of others. */
export interface Wanted {
  readonly kind: ChunkKind;
  readonly idOffset: number;
  readonly length: number;
}

interface Waiting {
  readonly resolve: (rawBytes: number) => void;
  readonly reject: (failure: Failure) => void;
}

export interface FetchParts {
  readonly ring: Ring;
  /** the slots that may be used for reading */
  readonly slots: SlotPool;
  readonly hasher: ChunkHasher;
  /** number of crypto workers */
  readonly workers: number;
  readonly storage: Channel;
  readonly table: () => IdTable;
}

export class SegmentFetcher implements ChunkSource {
  readonly #parts: FetchParts;
  /** by ordinal, least recently used first; a promise while on its way */
  readonly #segments = new Map<number, Promise<LoadedSegment> | LoadedSegment>();
  readonly #requests = new Map<number, Waiting>();
  readonly #id = Buffer.alloc(ID_BYTES);
  /** what the next segment's chunks are tried as first */
  #likely: ChunkKind = CHUNK_DATA;
  /** of chunks of one segment that are named together */
  #ids = Buffer.alloc(0);
  #starts = new Uint32Array(0);
  #lengths = new Uint32Array(0);
  /** readers are reused, as their tables are large */
  readonly #readers: SegmentReader[] = [];
  #request = 0;
  #worker = 0;

  constructor(parts: FetchParts) {
    this.#parts = parts;
  }

  /** How many segments can be loaded at once, by all users together. */
  get slots(): number {
    return this.#parts.slots.size;
  }

  /** The segment a chunk is in, or -1. */
  locate(id: Buffer, offset = 0): number {
    return this.#parts.table().lookup(id, offset);
  }

  /** Whether the chunk is in the repository to stay: only then may a new snapshot refer to it. */
  holds(id: Buffer, offset = 0): boolean {
    return this.#parts.table().holds(id, offset);
  }

  /** Whether any chunk is found in the segment: reads the whole table. */
  isUsed(ordinal: number): boolean {
    let used = false;
    this.#parts.table().each((_id, of) => {
      if (of === ordinal) used = true;
    });
    return used;
  }

  /** The segment, loaded; counts the caller as a user until `release`. */
  async segment(ordinal: number): Promise<LoadedSegment> {
    for (;;) {
      const known = this.#segments.get(ordinal);
      if (tracing.cache)
        trace('cache', `segment ${ordinal}: ${known === undefined ? 'to be read' : 'loaded'}`);
      if (known === undefined) return this.#first(ordinal);
      const loaded = await known;
      // its first user may have been done with it, and the slot needed, before we woke
      if (this.#segments.get(ordinal) === loaded) return this.#use(loaded);
    }
  }

  /** Counts a user of a segment that is loaded, and notes that it was used last. */
  #use(loaded: LoadedSegment): LoadedSegment {
    this.#segments.delete(loaded.ordinal);
    this.#segments.set(loaded.ordinal, loaded);
    loaded.users++;
    return loaded;
  }

  /** As `segment`, read from the repository now: what is in memory says nothing of what is there. */
  async fresh(ordinal: number): Promise<LoadedSegment> {
    const known = this.#segments.get(ordinal);
    if (known !== undefined && !(known instanceof Promise) && known.users === 0) this.#evict(known);
    // one that others use meanwhile stays theirs
    return this.#segments.has(ordinal) ? this.#load(ordinal) : this.#first(ordinal);
  }

  /** Loads a segment that nobody has asked for; the caller is its first user. */
  async #first(ordinal: number): Promise<LoadedSegment> {
    const loading = this.#load(ordinal);
    this.#segments.set(ordinal, loading);
    try {
      const loaded = await loading;
      this.#segments.set(ordinal, loaded);
      return loaded;
    } catch (error) {
      this.#segments.delete(ordinal);
      throw error;
    }
  }

  release(segment: LoadedSegment): void {
    segment.users--;
    if (segment.users > 0) return;
    if (this.#segments.get(segment.ordinal) !== segment) this.#free(segment);
    // someone may be waiting for a slot that only this one has
    else if (this.#parts.slots.waiting > 0) this.#evict(segment);
  }

  #evict(segment: LoadedSegment): void {
    this.#segments.delete(segment.ordinal);
    this.#free(segment);
  }

  #free(segment: LoadedSegment): void {
    this.#readers.push(segment.reader);
    this.#parts.slots.release(segment.slot);
  }

  /** A slot to load into: a free one, or that of the segment that was used longest ago. */
  async #slot(): Promise<number> {
    const free = this.#parts.slots.take();
    if (free !== undefined) return free;
    for (const segment of this.#segments.values()) {
      if (segment instanceof Promise || segment.users > 0) continue;
      this.#evict(segment);
      break;
    }
    return this.#parts.slots.wait();
  }

  async #load(ordinal: number): Promise<LoadedSegment> {
    const slot = await this.#slot();
    if (tracing.chunk) trace('chunk', `read segment ${ordinal}`);
    try {
      const rawBytes = await this.#ask(ordinal, slot);
      if (rawBytes > SEGMENT_RAW_MAX_BYTES)
        throw new Failure('read segment', String(ordinal), { cause: 'too long', kind: 'damaged' });
      const raw = this.#parts.ring.slot(slot).subarray(0, rawBytes);
      const reader = this.#readers.pop() ?? new SegmentReader();
      reader.load(raw);
      return { ordinal, slot, reader, raw, users: 1, hint: 0 };
    } catch (error) {
      this.#parts.slots.release(slot);
      throw error;
    }
  }

  #ask(segment: number, slot: number): Promise<number> {
    const request = ++this.#request;
    const worker = this.#worker++ % this.#parts.workers;
    return new Promise((resolve, reject) => {
      this.#requests.set(request, { resolve, reject });
      this.#parts.storage.message(FETCH, { request, segment, slot, worker });
    });
  }

  /** crypto's answer to a request. */
  fetched(request: number, rawBytes: number): void {
    this.#answered(request).resolve(rawBytes);
  }

  /** storage's or crypto's bad news. */
  failed(request: number, kind: string, text: string): void {
    this.#answered(request).reject(fromWire({ kind, text }));
  }

  #answered(request: number): Waiting {
    const waiting = this.#requests.get(request);
    if (waiting === undefined) throw new Failure('read segment', '', { cause: 'an answer nobody asked for' });
    this.#requests.delete(request);
    return waiting;
  }

  /**
   * The chunk's bytes inside a loaded segment, verified; valid until the
   * segment is released. Throws a Failure of kind 'damaged'.
   */
  extract(segment: LoadedSegment, kind: ChunkKind, ids: Buffer, idOffset: number, length: number): Buffer {
    const data = find(segment, ids, idOffset, length);
    this.#parts.hasher.id(kind, data, this.#id, 0);
    if (this.#id.compare(ids, idOffset, idOffset + ID_BYTES) !== 0) throw altered(ids, idOffset);
    return data;
  }

  /** As `extract`, of all of `wanted`: their bytes, or why they cannot be had. Ids are computed together, which is faster. */
  extractAll(segment: LoadedSegment, wanted: readonly Wanted[], ids: Buffer): (Buffer | Failure)[] {
    const found = wanted.map(({ idOffset, length }) => {
      try {
        return find(segment, ids, idOffset, length);
      } catch (error) {
        if (error instanceof Failure) return error;
        throw error;
      }
    });
    // nearly always all are of one kind
    for (const kind of KINDS) {
      const numbers = wanted.flatMap((each, i) =>
        each.kind === kind && found[i] instanceof Buffer ? i : [],
      );
      if (numbers.length > 0) this.#proveAll(segment, kind, found, numbers, wanted, ids);
    }
    return found;
  }

  /** Replaces those of `found` at `numbers`, chunks of `kind`, that are not what their ids say. */
  #proveAll(
    { raw }: LoadedSegment,
    kind: ChunkKind,
    found: (Buffer | Failure)[],
    numbers: readonly number[],
    wanted: readonly Wanted[],
    ids: Buffer,
  ): void {
    const count = numbers.length;
    this.#makeRoom(count);
    numbers.forEach((number, i) => {
      const data = found[number] as Buffer;
      this.#starts[i] = data.byteOffset - raw.byteOffset;
      this.#lengths[i] = data.length;
    });
    this.#parts.hasher.ids(
      kind,
      { buffer: raw, starts: this.#starts, lengths: this.#lengths, count },
      this.#ids,
    );
    numbers.forEach((number, i) => {
      const { idOffset } = wanted[number] as Wanted;
      const isSame =
        this.#ids.compare(ids, idOffset, idOffset + ID_BYTES, i * ID_BYTES, (i + 1) * ID_BYTES) === 0;
      if (!isSame) found[number] = altered(ids, idOffset);
    });
  }

  /** Chunks in the index. */
  get chunks(): number {
    return this.#parts.table().count;
  }

  /** Recomputes the id of every chunk in a loaded segment; throws a Failure of kind 'damaged'. */
  verify(segment: LoadedSegment): void {
    const { reader, raw, ordinal } = segment;
    const pieces = this.#piecesOf(reader, raw);
    // nearly always all are of one kind, which is that of the segment before
    this.#parts.hasher.ids(this.#likely, pieces, this.#ids);
    for (let i = 0; i < reader.count; i++) {
      const at = i * ID_BYTES;
      if (reader.matches(i, this.#ids, at) && this.locate(this.#ids, at) >= 0) continue;
      const kind = this.#kindOf(reader, raw, i);
      if (kind === undefined)
        throw new Failure('verify segment', String(ordinal), {
          cause: `chunk ${i} is not what its id says`,
          kind: 'damaged',
        });
      this.#likely = kind;
    }
  }

  /** For so many chunks that are named together, and their ids. */
  #makeRoom(count: number): void {
    if (this.#ids.length >= count * ID_BYTES) return;
    this.#ids = Buffer.allocUnsafeSlow(2 * count * ID_BYTES);
    this.#starts = new Uint32Array(2 * count);
    this.#lengths = new Uint32Array(2 * count);
  }

  /** All chunks of a segment; makes room for their ids. */
  #piecesOf(reader: SegmentReader, raw: Buffer): Pieces {
    const { count } = reader;
    this.#makeRoom(count);
    for (let i = 0; i < count; i++) {
      this.#starts[i] = reader.offset(i);
      this.#lengths[i] = reader.length(i);
    }
    return { buffer: raw, starts: this.#starts, lengths: this.#lengths, count };
  }

  /** A chunk of a loaded segment with its id recomputed; undefined where it is not what the segment says. */
  identify({ reader, raw }: LoadedSegment, index: number): Identified | undefined {
    const start = reader.offset(index);
    const data = raw.subarray(start, start + reader.length(index));
    for (const kind of KINDS) {
      this.#parts.hasher.id(kind, data, this.#id, 0);
      if (reader.matches(index, this.#id, 0)) return { kind, id: this.#id, data };
    }
    return undefined;
  }

  /** Calls `visit` with the ordinal of the segment that each chunk is found in: reads the whole table. */
  eachOrdinal(visit: (ordinal: number) => void): void {
    this.#parts.table().each((_id, ordinal) => visit(ordinal));
  }

  /** The kind as which a chunk has an id that the segment's table and the index agree on. */
  #kindOf(reader: SegmentReader, raw: Buffer, index: number): ChunkKind | undefined {
    const start = reader.offset(index);
    const data = raw.subarray(start, start + reader.length(index));
    return KINDS.find((kind) => {
      this.#parts.hasher.id(kind, data, this.#id, 0);
      return reader.matches(index, this.#id, 0) && this.locate(this.#id) >= 0;
    });
  }

  async #loaded(ordinal: number, id: Buffer): Promise<LoadedSegment> {
    try {
      return await this.segment(ordinal);
    } catch (cause) {
      throw new Failure('read chunk', id.toString('hex', 0, 8), { cause });
    }
  }

  /** A chunk's verified bytes, as a copy. */
  async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    const now = this.now(kind, id, length);
    if (now !== undefined) return now;
    const ordinal = this.locate(id);
    if (ordinal < 0) throw missing(id, 0, 'it is not in the repository');
    return this.#copy(await this.#loaded(ordinal, id), kind, id, length);
  }

  /** As `get`, where its segment is loaded, as for most nodes of a tree it is; undefined where it is not. */
  now(kind: ChunkKind, id: Buffer, length: number): Buffer | undefined {
    const known = this.#segments.get(this.locate(id));
    if (known === undefined || known instanceof Promise) return undefined;
    return this.#copy(this.#use(known), kind, id, length);
  }

  #copy(segment: LoadedSegment, kind: ChunkKind, id: Buffer, length: number): Buffer {
    try {
      return Buffer.from(this.extract(segment, kind, id, 0, length));
    } finally {
      this.release(segment);
    }
  }
}

/** The bytes that a loaded segment has as a chunk of this id and length; nobody knows yet whether they are. */
function find(segment: LoadedSegment, ids: Buffer, idOffset: number, length: number): Buffer {
  const index = segment.reader.find(ids, idOffset, segment.hint);
  if (index < 0) throw missing(ids, idOffset, `segment ${segment.ordinal} does not hold it`);
  segment.hint = index + 1;
  if (segment.reader.length(index) !== length)
    throw missing(ids, idOffset, `it has ${segment.reader.length(index)} bytes, not ${length}`);
  const start = segment.reader.offset(index);
  return segment.raw.subarray(start, start + length);
}

function altered(ids: Buffer, idOffset: number): Failure {
  return missing(ids, idOffset, 'its bytes are not what its id says');
}

/** The failure of a chunk that cannot be had. */
export function missing(ids: Buffer, offset: number, cause: string): Failure {
  return new Failure('read chunk', ids.toString('hex', offset, offset + 8), { cause, kind: 'damaged' });
}
