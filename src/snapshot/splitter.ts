/**
 * Cuts file contents into chunks where the content says so (FastCDC, Xia et al.,
 * USENIX ATC 2016, with its skipping of the minimum and normalized chunking), so
 * that an insertion moves no boundary but those beside it. Called by the chunker
 * for every byte it reads. Invariant: boundaries depend on the gear table, the
 * sizes, and the bytes since the last boundary alone.
 *
 * The gear table is 256 words drawn from the repository's chunking key
 * (keys/derive.ts), so that boundaries say nothing to who does not hold it. For
 * each byte b after the first `min`:
 * h = (h << 1) + gear[b] mod 2^32, with h = 0 before the first. A chunk ends after
 * the byte where h & mask is 0: mask has its upper log2(normal) - 2 bits set from
 * `normal` bytes on, and four bits more before; or after `max` bytes.
 */
import { Failure } from '../error.ts';
import { GEAR_MODULE } from './gear.ts';

/** Sizes in bytes: no chunk but a file's last is shorter than `min`, and none is longer than `max`. */
export interface ChunkSizes {
  readonly min: number;
  readonly normal: number;
  readonly max: number;
}

/** Those of format 1. */
export const CHUNK_SIZES: ChunkSizes = { min: 256 << 10, normal: 1 << 20, max: 4 << 20 };

const GEAR_WORDS = 256;
const NORMALIZATION_BITS = 2;
/** Where gear.wat has the bytes, behind the table; the rest of its memory. */
const WINDOW_AT = 64 << 10;
const WINDOW_BYTES = 64 << 10;

/** What gear.wat exports. */
interface Gear {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly hash: { value: number };
  scan(from: number, to: number, limit: number): number;
}

/** The part of WebAssembly that is used here, which the runtime's types leave to those of browsers. */
interface Assembly {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
}
const { Module, Instance } = (globalThis as unknown as { WebAssembly: Assembly }).WebAssembly;

const gearModule = new Module(GEAR_MODULE);

/** A mask of the uppermost `bits` bits. */
function upperMask(bits: number): number {
  return (-1 << (32 - bits)) | 0;
}

/** The masks before and after the normal size. */
export function cutMasks(normal: number): { before: number; after: number } {
  const bits = Math.log2(normal);
  return { before: upperMask(bits + NORMALIZATION_BITS), after: upperMask(bits - NORMALIZATION_BITS) };
}

export class Splitter {
  readonly sizes: ChunkSizes;
  /** Whether the chunk that `cut` found last may go on. */
  isOpen = false;
  readonly #gear: Gear;
  readonly #window: Uint8Array;
  readonly #before: number;
  readonly #after: number;

  /** Throws where table or sizes make no sense. */
  constructor(gear: Int32Array, sizes: ChunkSizes = CHUNK_SIZES) {
    const { min, normal, max } = sizes;
    const isPower = Number.isInteger(Math.log2(normal));
    if (gear.length !== GEAR_WORDS)
      throw new Failure('split', '', { cause: `gear table of ${gear.length} words` });
    if (!isPower || normal < 64 || normal > 1 << 28 || min < 0 || min > normal || max < normal)
      throw new Failure('split', '', { cause: `chunk sizes ${min}, ${normal}, ${max}` });
    this.sizes = sizes;
    // the module is ours: what it exports is what gear.wat says
    this.#gear = new Instance(gearModule).exports as Gear;
    new Int32Array(this.#gear.memory.buffer, 0, GEAR_WORDS).set(gear);
    this.#window = new Uint8Array(this.#gear.memory.buffer, WINDOW_AT, WINDOW_BYTES);
    const { before, after } = cutMasks(normal);
    this.#before = before;
    this.#after = after;
  }

  /**
   * Where the chunk that begins at `start` ends, at most at `end`. If that is for nothing but that the bytes end there,
   * it `isOpen`: where the file goes on, the caller reads on and asks again with more. The bytes that were `seen` are
   * not looked at again then, if it says what `hash` was.
   */
  cut(buffer: Uint8Array, start: number, end: number, seen = 0, hash = 0): number {
    const { min, normal, max } = this.sizes;
    this.isOpen = end - start < max;
    if (end - start <= min) return end;
    this.#gear.hash.value = seen <= min ? 0 : hash;
    const from = start + Math.max(min, seen);
    const normalEnd = Math.min(start + normal, end);
    const maxEnd = Math.min(start + max, end);
    let found = this.#scan(buffer, from, normalEnd, this.#before);
    if (found < 0) found = this.#scan(buffer, Math.max(from, normalEnd), maxEnd, this.#after);
    if (found < 0) return maxEnd;
    this.isOpen = false;
    return found;
  }

  /** Of the bytes that `cut` looked at last. */
  get hash(): number {
    return this.#gear.hash.value;
  }

  /** Goes on from `from`: just behind the first byte where the masked hash is 0, or -1 if there is none. */
  #scan(buffer: Uint8Array, from: number, to: number, mask: number): number {
    const { scan } = this.#gear;
    // the mask's bits are the upper ones: what has none of them is less than the lowest of them
    const limit = -mask | 0;
    for (let at = from; at < to; at += WINDOW_BYTES) {
      const length = Math.min(WINDOW_BYTES, to - at);
      // beside the scan a copy within the processor's caches costs a twentieth
      this.#window.set(buffer.subarray(at, at + length));
      const found = scan(WINDOW_AT, WINDOW_AT + length, limit);
      if (found !== 0) return at + found - WINDOW_AT;
    }
    return -1;
  }
}
