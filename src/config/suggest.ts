/**
 * "Did you mean": the known word nearest to an unknown one. Called only to word
 * an error. Time is bounded by the limits below.
 */

import { shown } from './model.ts';

/** Longer words get no suggestion. */
const WORD_MAX_CHARS = 40;
/** No more candidates are looked at. */
const CANDIDATES_MAX = 256;
/** Changes, as a share of the word's length, up to which two words are taken for the same. */
const NEAR_SHARE = 3;
/** So much of a word's beginning stands for the word. */
const BEGUN_MIN_CHARS = 3;

/** `, did you mean 'x'?` for the candidate nearest to `word`, or nothing if none is near. */
export function suggestion(word: string, candidates: Iterable<string>): string {
  if (word.length > WORD_MAX_CHARS) return '';
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / NEAR_SHARE)) + 1;
  let looked = 0;
  for (const candidate of candidates) {
    if (++looked > CANDIDATES_MAX) break;
    const begun = word.length >= BEGUN_MIN_CHARS && candidate.startsWith(word);
    if (!begun && Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = begun ? 1 : editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best === undefined ? '' : `, did you mean ${shown(best)}?`;
}

/** Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`. */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let least = Math.min(
        cell(above, column) + 1,
        cell(current, column - 1) + 1,
        cell(above, column - 1) + (same ? 0 : 1),
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        least = Math.min(least, cell(before, column - 2) + 1);
      }
      current.push(least);
    }
    before = above;
    above = current;
  }
  return cell(above, b.length);
}

function cell(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}
