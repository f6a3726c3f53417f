/**
 * zstd with contexts that are kept, from memory to memory: the runtime's own
 * library, whose functions it exports. node:zlib makes a context and new output
 * buffers for each call, which costs a third of the time at level 1 and, per
 * megabyte, hundreds of page faults. Called by the segment codec alone.
 *
 * Invariant: what is compressed or decompressed never runs over its output: the
 * library is told the room there is, and a frame's declared length is checked
 * by the caller.
 */
import { Failure } from '../error.ts';
import { addressOf, callNumber, callNumberOnPool, type Entry, entry } from './foreign.ts';

// zstd.h, the stable part of the interface
const PARAMETER_LEVEL = 100;
const PARAMETER_WINDOW_LOG = 101;
const PARAMETER_HASH_LOG = 102;
const PARAMETER_CHAIN_LOG = 103;
const PARAMETER_MIN_MATCH = 105;
const PARAMETER_WINDOW_LOG_MAX = 100; // of decompression
const WINDOW_LOG_MAX = 23;
// of the part that may change: how hard it looks for where to split a block, from 1 (not at all) to 6; 0 is its own choice
const PARAMETER_BLOCK_SPLITTER = 1017;
/**
 * What levels 1 and 3 do other than zstd would, measured on segments of real files (test/bench/README.md): level 1 takes
 * 1 to 4 % more time for 1.2 to 1.5 % less, level 3 takes 19 % less for 2.5 % more.
 */
const TUNED: Readonly<Record<number, readonly (readonly [parameter: number, value: number])[]>> = {
  1: [
    [PARAMETER_HASH_LOG, 14],
    [PARAMETER_MIN_MATCH, 6],
    [PARAMETER_BLOCK_SPLITTER, 1],
  ],
  3: [
    [PARAMETER_HASH_LOG, 16],
    [PARAMETER_CHAIN_LOG, 14],
    [PARAMETER_BLOCK_SPLITTER, 2],
  ],
};

const createCompressor = entry('ZSTD_createCCtx');
const createDecompressor = entry('ZSTD_createDCtx');
const setCompression = entry('ZSTD_CCtx_setParameter');
const setDecompression = entry('ZSTD_DCtx_setParameter');
const compress2 = entry('ZSTD_compress2');
const decompressDCtx = entry('ZSTD_decompressDCtx');
const freeCompressor = entry('ZSTD_freeCCtx');
const freeDecompressor = entry('ZSTD_freeDCtx');

function make(how: Entry): number {
  const context = callNumber(how);
  if (context === 0) throw new Failure('make zstd context', '', { cause: 'out of memory' });
  return context;
}

function set(how: Entry, context: number, parameter: number, value: number): void {
  if (callNumber(how, context, parameter, value) < 0)
    throw new Failure('set zstd parameter', `${parameter} to ${value}`, { cause: 'refused' });
}

/** Compresses buffers at one level; each becomes one frame. */
export class Compressor {
  readonly #context = make(createCompressor);

  /** `level` is 1..22, or negative for faster than 1; `windowLog` bounds what a match reaches back. */
  constructor(level: number, windowLog = WINDOW_LOG_MAX) {
    set(setCompression, this.#context, PARAMETER_LEVEL, level);
    set(setCompression, this.#context, PARAMETER_WINDOW_LOG, windowLog);
    for (const [parameter, value] of TUNED[level] ?? []) set(setCompression, this.#context, parameter, value);
  }

  /** Compresses `from` into `to`: the bytes written, or -1 where they do not fit. The two must not overlap. */
  compress(from: Buffer, to: Buffer): number {
    const bytes = callNumber(compress2, ...this.#given(from, to));
    return bytes < 0 ? -1 : bytes;
  }

  /**
   * As `compress`, on a thread of the pool: several compressors can be at work at once, each at one buffer. Both
   * buffers must stay until then, and be mappings or have an ArrayBuffer of their own.
   */
  async compressOnPool(from: Buffer, to: Buffer): Promise<number> {
    const bytes = await callNumberOnPool(compress2, ...this.#given(from, to));
    return bytes < 0 ? -1 : bytes;
  }

  #given(from: Buffer, to: Buffer): [number, number, number, number, number] {
    return [this.#context, addressOf(to), to.length, addressOf(from), from.length];
  }

  /** Gives the context back; nothing can be compressed afterwards. */
  free(): void {
    callNumber(freeCompressor, this.#context);
  }
}

/** Decompresses frames. */
export class Decompressor {
  readonly #context = make(createDecompressor);

  constructor() {
    set(setDecompression, this.#context, PARAMETER_WINDOW_LOG_MAX, WINDOW_LOG_MAX);
  }

  /** Decompresses `from` into `to`: the bytes written, or -1 if it is no frame, or longer than `to`. */
  decompress(from: Buffer, to: Buffer): number {
    const bytes = callNumber(
      decompressDCtx,
      this.#context,
      addressOf(to),
      to.length,
      addressOf(from),
      from.length,
    );
    return bytes < 0 ? -1 : bytes;
  }

  /** Gives the context back; nothing can be decompressed afterwards. */
  free(): void {
    callNumber(freeDecompressor, this.#context);
  }
}
