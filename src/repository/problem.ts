/**
 * Damage that was found in a repository, as data: opening and checking go on
 * behind it and name everything. Made by store.ts and check.ts.
 */
import { describe } from '../error.ts';

/** One thing that is wrong: KIND/NAME of the object (or a chunk), what about it, and the paths it touches. */
export interface Problem {
  readonly object: string;
  readonly text: string;
  /** SNAPSHOT:PATH, where known */
  readonly paths?: readonly Buffer[];
}

/** The problem that an error means for `object`. */
export function problemOf(object: string, error: unknown): Problem {
  return { object, text: describe(error) };
}
