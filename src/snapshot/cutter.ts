/**
 * The next whole chunks of a buffer: what reading a file and splitting a copied
 * one anew have in common. Several are cut before any is stored, as their ids
 * together take half of the time that they take one by one. Allocates nothing.
 */
import { NamedPieces } from './pieces.ts';
import type { Splitter } from './splitter.ts';

/** Chunks that are cut together: as many as two segments can have, where each is as short as may be. */
const TOGETHER_MAX = 64;

export class ChunkCutter {
  readonly splitter: Splitter;
  /** What was cut since the last `begin`. */
  readonly pieces = new NamedPieces(TOGETHER_MAX);
  /** Of the chunk that `cut` ended before: its bytes, if it is whole and only did not fit; 0 where its end is not known. */
  refused = 0;
  /** how much of the chunk that `cut` ended before the splitter has seen, without finding its end */
  #seen = 0;
  #hash = 0;

  constructor(splitter: Splitter) {
    this.splitter = splitter;
  }

  /**
   * Adds the chunks from `start` on, up to `filled`, that are whole (any is, where the data has `ended`) and that `fits`
   * says may follow; returns where the last of them ends. What is behind that comes first the next time, unless it is
   * of another file, before which `forget` is called.
   */
  cut(
    buffer: Buffer,
    start: number,
    filled: number,
    ended: boolean,
    fits: (start: number, length: number) => boolean = always,
  ): number {
    const { pieces, splitter } = this;
    let at = start;
    while (at < filled && pieces.count < TOGETHER_MAX) {
      const whole = this.refused;
      const end = whole > 0 ? at + whole : splitter.cut(buffer, at, filled, this.#seen, this.#hash);
      const length = end - at;
      if (whole === 0 && splitter.isOpen && !ended) {
        this.#seen = length;
        this.#hash = splitter.hash;
        break;
      }
      this.refused = 0;
      this.#seen = 0;
      if (!fits(at, length)) {
        this.refused = length;
        break;
      }
      pieces.add(at, length);
      at = end;
    }
    return at;
  }

  /** What is cut next is of another file. */
  forget(): void {
    this.#seen = 0;
    this.refused = 0;
  }
}

function always(): boolean {
  return true;
}
