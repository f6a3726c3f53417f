/**
 * Which chunk of one repository is which of another, as far as it is remembered:
 * a table of fixed size in which a newer pair takes the place of an older one.
 * Used where snapshots are copied between repositories, so that contents that
 * many files share are moved once. Invariant: memory does not grow, and what is
 * forgotten costs a chunk that is moved again, and nothing else.
 */
import { ID_BYTES } from './chunks.ts';

const PAIR_BYTES = 2 * ID_BYTES;
/** 8 MiB */
const PAIRS = 1 << 17;

export class IdMap {
  readonly #pairs: Buffer;
  readonly #mask: number;

  /** @param pairs a power of two */
  constructor(pairs = PAIRS) {
    this.#pairs = Buffer.alloc(pairs * PAIR_BYTES);
    this.#mask = pairs - 1;
  }

  /** Ids are outputs of HMAC, so their own first bits place them. */
  #place(id: Buffer): number {
    return (id.readUInt32LE(0) & this.#mask) * PAIR_BYTES;
  }

  /** The other repository's id, a view that the next `set` may change; undefined where it is not remembered. */
  get(id: Buffer): Buffer | undefined {
    const at = this.#place(id);
    if (id.compare(this.#pairs, at, at + ID_BYTES, 0, ID_BYTES) !== 0) return undefined;
    return this.#pairs.subarray(at + ID_BYTES, at + PAIR_BYTES);
  }

  set(id: Buffer, other: Buffer): void {
    const at = this.#place(id);
    id.copy(this.#pairs, at, 0, ID_BYTES);
    other.copy(this.#pairs, at + ID_BYTES, 0, ID_BYTES);
  }
}
