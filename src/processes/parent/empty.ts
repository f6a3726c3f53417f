/**
 * The root directory of children that need no files. Used by the parent, which
 * makes it. Invariant: nobody but root may write to it.
 */
import { mkdirSync, statSync } from 'node:fs';
import { Failure } from '../../error.ts';

/** The root directory of children that need no files. The parent makes it, and nobody may write to it. */
export const EMPTY_DIRECTORY = '/var/empty';

/** The root directory of those that need none: made where the system has no such directory, never writable. */
export function makeEmptyDirectory(): void {
  mkdirSync(EMPTY_DIRECTORY, { recursive: true, mode: 0o755 });
  const stat = statSync(EMPTY_DIRECTORY);
  if (stat.uid !== 0 || (stat.mode & 0o022) !== 0)
    throw new Failure('use', EMPTY_DIRECTORY, {
      cause: 'others than root may write to it',
      remedy: `chown root ${EMPTY_DIRECTORY}; chmod 755 ${EMPTY_DIRECTORY}`,
    });
}
