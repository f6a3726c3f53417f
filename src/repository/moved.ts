/**
 * Where segments have gone whose packs a cleanup removed: whoever has asked for
 * one by its ordinal finds it in its new pack. Called by store.ts. An ordinal
 * stands for the id of one of its chunks, which the table of chunks locates.
 */

/** Segments of packs that are gone whose successors are still found by their ordinal. */
const MOVED_MAX = 1 << 16;

export class MovedSegments {
  /** the oldest first */
  readonly #ids = new Map<number, Buffer>();

  /** `id` is of a chunk that is, or was, in the segment; a view is copied. */
  note(ordinal: number, id: Buffer): void {
    if (this.#ids.has(ordinal)) return;
    this.#ids.set(ordinal, Buffer.from(id));
    if (this.#ids.size <= MOVED_MAX) return;
    for (const [oldest] of this.#ids) {
      this.#ids.delete(oldest);
      break;
    }
  }

  idOf(ordinal: number): Buffer | undefined {
    return this.#ids.get(ordinal);
  }
}
