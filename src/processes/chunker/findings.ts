/**
 * What a check has found wrong: each object once, with all that is wrong with
 * it and the paths that it touches. Used by check.ts. Owns the limits of what is
 * told: what is beyond them is counted.
 */

import type { PayloadOf } from '../../ipc/shape.ts';
import { PATHS_TOLD_MAX, type PROBLEM } from '../../messages/client.ts';

export type Finding = Omit<PayloadOf<typeof PROBLEM.shape>, 'job'>;

/** Objects that are told; others are counted. */
const OBJECTS_MAX = 1000;
/** Of one object. */
const TEXTS_MAX = 4;
const PATHS_MAX_BYTES = 512 << 10;
const LINE_MAX_CHARS = 4096;

interface Found {
  readonly texts: Set<string>;
  moreTexts: number;
  readonly paths: Buffer[];
  pathsBytes: number;
  morePaths: number;
}

export class Findings {
  readonly #found = new Map<string, Found>();
  /** objects that are not told */
  #more = new Set<string>();

  /** Objects that something is wrong with. */
  get count(): number {
    return this.#found.size + this.#more.size;
  }

  add(object: string, text: string): void {
    let found = this.#found.get(object);
    if (found === undefined) {
      if (this.#found.size >= OBJECTS_MAX) {
        this.#more.add(object);
        return;
      }
      found = { texts: new Set(), moreTexts: 0, paths: [], pathsBytes: 0, morePaths: 0 };
      this.#found.set(object, found);
    }
    if (found.texts.has(text)) return;
    if (found.texts.size < TEXTS_MAX) found.texts.add(text);
    else found.moreTexts++;
  }

  /** The object's damage touches this path, as SNAPSHOT:PATH. */
  touch(object: string, path: Buffer): void {
    const found = this.#found.get(object);
    if (found === undefined) return;
    const fits = found.paths.length < PATHS_TOLD_MAX && found.pathsBytes + path.length <= PATHS_MAX_BYTES;
    if (!fits) {
      found.morePaths++;
      return;
    }
    found.paths.push(path);
    found.pathsBytes += path.length;
  }

  *[Symbol.iterator](): Generator<Finding> {
    for (const [object, { texts, moreTexts, paths, morePaths }] of this.#found) {
      const rest = moreTexts > 0 ? [`and ${moreTexts} more`] : [];
      yield {
        object: object.slice(0, LINE_MAX_CHARS),
        text: [...texts, ...rest].join('; ').slice(0, LINE_MAX_CHARS),
        paths: paths.length > 0 ? paths : undefined,
        more: morePaths > 0 ? morePaths : undefined,
      };
    }
    if (this.#more.size > 0)
      yield { object: '', text: `${this.#more.size} more objects`, paths: undefined, more: undefined };
  }
}
