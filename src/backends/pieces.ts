/**
 * The bytes of an object under way, kept until it is durable: after a failed
 * fsync what the kernel had is gone, and the object is written again from
 * here. Called by the backends' writers.
 */

const SLAB_BYTES = 1 << 20;
/** Slabs that are kept for the next object: a pack and a half. */
const FREE_MAX = 48;
const free: Buffer[] = [];

export class Pieces {
  readonly #slabs: Buffer[] = [];
  sizeBytes = 0;

  append(data: Buffer): void {
    for (let from = 0; from < data.length; ) {
      const at = this.sizeBytes % SLAB_BYTES;
      if (at === 0) this.#slabs.push(free.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES));
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
