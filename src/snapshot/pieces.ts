/**
 * Pieces of one buffer, and their ids: what becomes chunks together. Filled
 * again and again by whoever cuts or reads files. Invariant: nothing is
 * allocated after the beginning.
 */
import type { Pieces } from '../keys/lanes.ts';
import { ID_BYTES } from './chunks.ts';
import type { ContentWriter } from './content.ts';

export class NamedPieces implements Pieces {
  buffer: Buffer = Buffer.alloc(0);
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  count = 0;
  /** one behind the other, for whoever computes them */
  readonly ids: Buffer;
  readonly #idOf: readonly Buffer[];

  /** No more than `max` are added at a time. */
  constructor(max: number) {
    this.starts = new Uint32Array(max);
    this.lengths = new Uint32Array(max);
    this.ids = Buffer.alloc(max * ID_BYTES);
    this.#idOf = Array.from({ length: max }, (_, i) => this.ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES));
  }

  /** Forgets what there was; those that are added next are of `buffer`. */
  begin(buffer: Buffer): void {
    this.buffer = buffer;
    this.count = 0;
  }

  add(start: number, length: number): void {
    this.starts[this.count] = start;
    this.lengths[this.count++] = length;
  }

  /** Adds those from `begin` to `end` to a file's list. A promise only where it had to wait. */
  list(content: ContentWriter, begin = 0, end = this.count): undefined | Promise<void> {
    for (let i = begin; i < end; i++) {
      const listing = content.data(this.lengths[i] as number, this.id(i));
      if (listing !== undefined) return listing.then(() => this.list(content, i + 1, end));
    }
    return undefined;
  }

  /** The id of one of them, until there are others. */
  id(index: number): Buffer {
    return this.#idOf[index] as Buffer;
  }
}
