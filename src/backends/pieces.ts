/**
 * The bytes of an object under way, kept until it is durable: after a failed
 * fsync what the kernel had is gone, and the object is written again from
 * here. Called by the backends' writers.
 */
import { addressOf } from '../sys/foreign.ts';
import type { ObjectWriter } from './objects.ts';

const SLAB_BYTES = 1 << 20;
/** Slabs begin at multiples of this, so that they can be written past the page cache. */
export const BLOCK_BYTES = 4096;
/** Slabs that are kept for the next object: a pack and a half. */
const FREE_MAX = 48;
const free: Buffer[] = [];

function alignedSlab(): Buffer {
  const memory = Buffer.from(new ArrayBuffer(SLAB_BYTES + BLOCK_BYTES));
  const start = -addressOf(memory) & (BLOCK_BYTES - 1);
  return memory.subarray(start, start + SLAB_BYTES);
}

class Pieces {
  readonly #slabs: Buffer[] = [];
  sizeBytes = 0;

  append(data: Buffer): void {
    for (let from = 0; from < data.length; ) {
      const at = this.sizeBytes % SLAB_BYTES;
      if (at === 0) this.#slabs.push(free.pop() ?? alignedSlab());
      const slab = this.#slabs[this.#slabs.length - 1] as Buffer;
      const copied = data.copy(slab, at, from);
      from += copied;
      this.sizeBytes += copied;
    }
  }

  /** Everything appended, as views. */
  views(): Buffer[] {
    const last = this.#slabs.length - 1;
    return this.#slabs.map((slab, i) =>
      i === last ? slab.subarray(0, this.sizeBytes - i * SLAB_BYTES) : slab,
    );
  }

  /** Gives the memory back; views of it must not be used any more. */
  release(): void {
    for (const slab of this.#slabs) if (free.length < FREE_MAX) free.push(slab);
    this.#slabs.length = 0;
    this.sizeBytes = 0;
  }
}

/** A writer that keeps the object until its commit, and then has it put as a whole. */
export function pieceWriter(put: (name: string, views: readonly Buffer[]) => Promise<unknown>): ObjectWriter {
  const pieces = new Pieces();
  return {
    write: (data) => pieces.append(data),
    get sizeBytes() {
      return pieces.sizeBytes;
    },
    commit: async (name) => {
      try {
        await put(name, pieces.views());
      } finally {
        pieces.release();
      }
    },
    abort: async () => pieces.release(),
  };
}
