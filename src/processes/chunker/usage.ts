/**
 * How much of each segment is in use, given the chunks that snapshots refer to:
 * what the chunker tells storage, which plans a cleanup by it (plan.ts of the
 * repository). Owns the encoding of both lists.
 */
import { Failure } from '../../error.ts';
import { OBJECT_MAX_BYTES, THIN_ENTRY_BYTES, THIN_MAX_BYTES } from '../../messages/data.ts';
import { THIN_BYTES } from '../../repository/plan.ts';
import type { PendingTable } from '../../repository/table.ts';
import type { SegmentFetcher } from './fetch.ts';

/** Numbers by ordinal, which grow as they are needed. */
class Counts {
  #counts = new Float64Array(1024);
  end = 0;

  add(ordinal: number, more: number): void {
    if (ordinal >= this.#counts.length) {
      const larger = new Float64Array(Math.max(ordinal + 1, 2 * this.#counts.length));
      larger.set(this.#counts);
      this.#counts = larger;
    }
    this.#counts[ordinal] = (this.#counts[ordinal] ?? 0) + more;
    if (ordinal >= this.end) this.end = ordinal + 1;
  }

  of(ordinal: number): number {
    return this.#counts[ordinal] ?? 0;
  }
}

export class Usage {
  /** A bit for each segment that has a chunk in use. */
  readonly live: Buffer;
  /** For each segment of which little is in use, its ordinal and the bytes of those chunks, u32 each. */
  readonly thin: Buffer;

  /** `seen` are the chunks in use, with their lengths. Reads the whole table twice. */
  constructor(fetcher: SegmentFetcher, seen: PendingTable) {
    const all = new Counts();
    const used = new Counts();
    const usedBytes = new Counts();
    fetcher.eachOrdinal((ordinal) => all.add(ordinal, 1));
    seen.each((id, length) => {
      const ordinal = fetcher.locate(id);
      if (ordinal < 0) return;
      used.add(ordinal, 1);
      usedBytes.add(ordinal, length);
    });
    if (used.end > 8 * OBJECT_MAX_BYTES)
      throw new Failure('count what is in use', '', { cause: 'too many segments' });
    this.live = Buffer.alloc(Math.ceil(used.end / 8));
    const thin: number[] = [];
    for (let ordinal = 0; ordinal < used.end; ordinal++) {
      const count = used.of(ordinal);
      if (count === 0) continue;
      this.live[ordinal >>> 3] = (this.live[ordinal >>> 3] ?? 0) | (1 << (ordinal & 7));
      if (2 * count <= all.of(ordinal) && usedBytes.of(ordinal) < THIN_BYTES) thin.push(ordinal);
    }
    // a longer list is for the next cleanup
    const told = thin.slice(0, THIN_MAX_BYTES / THIN_ENTRY_BYTES);
    this.thin = Buffer.alloc(told.length * THIN_ENTRY_BYTES);
    for (const [i, ordinal] of told.entries()) {
      this.thin.writeUInt32LE(ordinal, i * THIN_ENTRY_BYTES);
      this.thin.writeUInt32LE(usedBytes.of(ordinal), i * THIN_ENTRY_BYTES + 4);
    }
  }
}
