/**
 * Damage that was found in a repository, as data: opening and checking go on
 * behind it and name everything. Made by store.ts and check.ts.
 */
import { describe, Failure } from '../error.ts';
import { UnknownVersion } from '../keys/frame.ts';

/** One thing that is wrong: KIND/NAME of the object (or a chunk), what about it, and the paths it touches. */
export interface Problem {
  readonly object: string;
  readonly text: string;
  /** SNAPSHOT:PATH, where known */
  readonly paths?: readonly Buffer[];
}

/** What is wrong with a pack that an index names, and that nobody has removed. */
export const PACK_IS_MISSING = 'pack is missing';
/** Problems, and things that were mended, that are kept. */
const KEPT_MAX = 4096;

/** Adds a problem, once. */
export function noteProblem(problems: Problem[], problem: Problem): void {
  const isKnown = problems.some(({ object, text }) => object === problem.object && text === problem.text);
  if (!isKnown && problems.length < KEPT_MAX) problems.push(problem);
}

/** Takes out that packs are missing, of those that are there again, or that no index names any more. */
export async function dropFound(
  problems: Problem[],
  present: ReadonlySet<string>,
  indexes: { indexed(): Promise<ReadonlySet<string>> },
): Promise<void> {
  if (!problems.some(({ text }) => text === PACK_IS_MISSING)) return;
  const indexed = await indexes.indexed();
  const isOver = (pack: string): boolean => present.has(pack) || !indexed.has(pack);
  const left = problems.filter(({ object, text }) => text !== PACK_IS_MISSING || !isOver(packOf(object)));
  if (left.length < problems.length) problems.splice(0, problems.length, ...left);
}

/** The name of the pack that a problem's object is. */
export function packOf(object: string): string {
  return object.slice(object.indexOf('/') + 1);
}

/** Adds what was mended, once. */
export function noteMended(mended: string[], text: string): void {
  if (!mended.includes(text) && mended.length < KEPT_MAX) mended.push(text);
}

/** The problem that an error means for `object`. */
export function problemOf(object: string, error: unknown): Problem {
  return { object, text: describe(error) };
}

/**
 * Whether an error says that an object cannot be read, and not that the place
 * it is in failed: it is damaged, or of a version that is none of ours.
 */
export function isUnreadable(error: unknown): error is Failure {
  return error instanceof UnknownVersion || (error instanceof Failure && error.kind === 'damaged');
}
