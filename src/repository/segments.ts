/**
 * The segments of a repository by ordinal, and the packs they are in: what the
 * ordinals in an IdTable mean. Called by store.ts. Ordinals and pack numbers
 * live as long as the process; 21 bytes per segment.
 */
import { Failure } from '../error.ts';
import type { SegmentRecord } from './listing.ts';
import type { SegmentClass } from './segment.ts';
import { ORDINAL_MAX } from './table.ts';

const NONE = 0xffff_ffff;
const FIRST_CAPACITY = 1024;

/** A segment's place. */
export interface SegmentPlace {
  readonly pack: number;
  readonly offset: number;
  readonly sealedLength: number;
  readonly kind: SegmentClass;
  readonly keyEpoch: number;
}

interface PackState {
  readonly name: string;
  packBytes: number;
  first: number;
  last: number;
  segments: number;
  lost: boolean;
}

export class SegmentTable {
  #pack = new Uint32Array(FIRST_CAPACITY);
  #offset = new Uint32Array(FIRST_CAPACITY);
  #length = new Uint32Array(FIRST_CAPACITY);
  #epoch = new Uint32Array(FIRST_CAPACITY);
  /** the next segment of the same pack */
  #next = new Uint32Array(FIRST_CAPACITY);
  #kind = new Uint8Array(FIRST_CAPACITY);
  readonly #packs: PackState[] = [];
  readonly #byName = new Map<string, number>();
  #segments = 0;
  /** Ordinals given out, those of lost packs too. */
  count = 0;

  /** Packs, without lost ones. */
  get packs(): number {
    return this.#byName.size;
  }

  /** Segments, without those of lost packs. */
  get segments(): number {
    return this.#segments;
  }

  /** A new pack's number. */
  addPack(name: string): number {
    const pack = this.#packs.length;
    this.#packs.push({ name, packBytes: 0, first: NONE, last: NONE, segments: 0, lost: false });
    this.#byName.set(name, pack);
    return pack;
  }

  /** A new segment's ordinal. */
  add(pack: number, segment: SegmentRecord): number {
    const ordinal = this.count;
    if (ordinal > ORDINAL_MAX) throw new Failure('index segment', '', { cause: 'too many segments' });
    if (ordinal === this.#pack.length) this.#grow();
    const state = this.#state(pack);
    this.#pack[ordinal] = pack;
    this.#offset[ordinal] = segment.offset;
    this.#length[ordinal] = segment.sealedLength;
    this.#epoch[ordinal] = segment.keyEpoch;
    this.#kind[ordinal] = segment.kind;
    this.#next[ordinal] = NONE;
    if (state.last === NONE) state.first = ordinal;
    else this.#next[state.last] = ordinal;
    state.last = ordinal;
    state.segments++;
    this.#segments++;
    this.count++;
    return ordinal;
  }

  setPackBytes(pack: number, packBytes: number): void {
    this.#state(pack).packBytes = packBytes;
  }

  /** The pack never came to be; its ordinals mean nothing from now on. */
  lose(pack: number): void {
    const state = this.#state(pack);
    if (state.lost) return;
    state.lost = true;
    this.#segments -= state.segments;
    this.#byName.delete(state.name);
  }

  /** Where a segment is; undefined for an ordinal that means nothing. */
  place(ordinal: number): SegmentPlace | undefined {
    if (!(ordinal >= 0 && ordinal < this.count)) return undefined;
    const pack = this.#pack[ordinal] ?? 0;
    if (this.#state(pack).lost) return undefined;
    return {
      pack,
      offset: this.#offset[ordinal] ?? 0,
      sealedLength: this.#length[ordinal] ?? 0,
      kind: this.#kind[ordinal] as SegmentClass,
      keyEpoch: this.#epoch[ordinal] ?? 0,
    };
  }

  /** The places of all segments of packs that are not lost. */
  *places(): Generator<SegmentPlace> {
    for (let ordinal = 0; ordinal < this.count; ordinal++) {
      const place = this.place(ordinal);
      if (place !== undefined) yield place;
    }
  }

  /** The number of the pack that a segment is in, lost or not; -1 for an ordinal that means nothing. */
  packOf(ordinal: number): number {
    return ordinal >= 0 && ordinal < this.count ? (this.#pack[ordinal] ?? 0) : -1;
  }

  /** Whether the segment's pack is lost. */
  isLost(ordinal: number): boolean {
    const pack = this.packOf(ordinal);
    return pack < 0 || this.#state(pack).lost;
  }

  /** Packs so far, lost ones too: their numbers are below. */
  get packNumberEnd(): number {
    return this.#packs.length;
  }

  /** The number of the pack with this name. */
  packNumber(name: string): number | undefined {
    return this.#byName.get(name);
  }

  packName(pack: number): string {
    return this.#state(pack).name;
  }

  packBytes(pack: number): number {
    return this.#state(pack).packBytes;
  }

  /** The numbers of all packs that are not lost. */
  packNumbers(): Iterable<number> {
    return this.#byName.values();
  }

  /** The ordinals of a pack's segments in their order. */
  segmentsOf(pack: number): number[] {
    const ordinals: number[] = [];
    for (let ordinal = this.#state(pack).first; ordinal !== NONE; ordinal = this.#next[ordinal] ?? NONE)
      ordinals.push(ordinal);
    return ordinals;
  }

  #state(pack: number): PackState {
    const state = this.#packs[pack];
    if (state === undefined) throw new Failure('find pack', String(pack), { cause: 'no such number' });
    return state;
  }

  #grow(): void {
    const larger = (old: Uint32Array) => {
      const array = new Uint32Array(old.length * 2);
      array.set(old);
      return array;
    };
    const kind = new Uint8Array(this.#kind.length * 2);
    kind.set(this.#kind);
    this.#kind = kind;
    this.#pack = larger(this.#pack);
    this.#offset = larger(this.#offset);
    this.#length = larger(this.#length);
    this.#epoch = larger(this.#epoch);
    this.#next = larger(this.#next);
  }
}
