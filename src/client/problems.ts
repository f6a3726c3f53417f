/**
 * Problems as events: files that could not be read, objects that are damaged.
 * Emitted by the connection as the daemon reports them, and by commands that
 * find one themselves.
 */
import { nameFields, safeName, safeText } from './escape.ts';
import type { EventType } from './output.ts';

export interface Problem {
  /** What was being done: `push home`. */
  readonly about?: string | undefined;
  /** What it is about: a path, or an object of the repository. */
  readonly object: string;
  readonly text: string;
  /** Paths that it touches, as SNAPSHOT:PATH. */
  readonly paths?: readonly Buffer[] | undefined;
  /** Paths that it touches beyond those. */
  readonly more?: number | undefined;
}

/** Paths that a problem touches, in its text; all are in the JSON. */
const PATHS_SHOWN = 8;

function pathsText(paths: readonly Buffer[], more = 0): string {
  const shown = paths.slice(0, PATHS_SHOWN).map(safeName).join(', ');
  const rest = Math.max(0, paths.length - PATHS_SHOWN) + more;
  return rest > 0 ? `${shown} and ${rest} more` : shown;
}

/**
 * `packs/4f2a…: segment 3: authentication failed (99e53a9c:/home/a)`, or where
 * it is about a path alone, `push home: read /home/a/mail.db: permission denied`.
 */
export const PROBLEM_EVENT: EventType<Problem> = {
  name: 'problem',
  json: ({ object, text, paths, more }) => ({
    object,
    text,
    ...(paths === undefined ? {} : { paths: paths.map((path) => nameFields('path', path)) }),
    ...(more === undefined ? {} : { more }),
  }),
  text: ({ about, object, text, paths = [], more }) => {
    const before = about === undefined ? '' : `${safeText(about)}: `;
    const [path] = paths;
    if (object === '' && path !== undefined && paths.length === 1)
      return `${before}read ${safeName(path)}: ${safeText(text)}`;
    // a snapshot that is named in front of its paths
    if (object.endsWith(':')) return `${before}${safeText(object)}${pathsText(paths)}: ${safeText(text)}`;
    const subject = object === '' ? '' : `${safeText(object)}: `;
    const touched = paths.length === 0 ? '' : ` (${pathsText(paths, more)})`;
    return before + subject + safeText(text) + touched;
  },
  aside: true,
};

/** An error that ended the command. Its text goes to standard error by itself. */
export const ERROR_EVENT: EventType<{ kind: string; text: string; exitCode: number }> = {
  name: 'error',
  json: (event) => event,
  text: ({ text }) => text,
  aside: true,
};
