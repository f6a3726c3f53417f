/**
 * What a key file must be before it is trusted: there, a plain file, and nobody
 * else's to read. The parent asks each time it reads one, of the descriptor that
 * it has open; plakard -n asks for all of a configuration.
 */

import { describe, Failure } from '../error.ts';
import { isRegular } from './file.ts';
import type { ConfigError, Configuration, FileSource, FileStat } from './model.ts';

/** The longest key or passphrase file. */
export const KEY_FILE_MAX_BYTES = 64 * 1024;
const OTHERS = 0o077;

/**
 * Throws a Failure unless `stat`, of the key file at `path`, is of a file that
 * only root or `uid` (the current user) can read or change.
 */
export function checkKeyFile(path: string, stat: FileStat, uid: number): void {
  const refuse = (cause: string, remedy?: string) => new Failure('key file', path, { cause, remedy });
  if (!isRegular(stat)) throw refuse('not a regular file');
  if (stat.uid !== 0 && stat.uid !== uid) {
    throw refuse(`owned by user ${stat.uid}, who could change it`, `chown root ${path}`);
  }
  if ((stat.mode & OTHERS) !== 0) {
    const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0');
    throw refuse(`others than its owner may use it (mode ${mode})`, `chmod 600 ${path}`);
  }
  if (stat.size === 0) throw refuse('empty');
  if (stat.size > KEY_FILE_MAX_BYTES) throw refuse(`longer than ${KEY_FILE_MAX_BYTES} bytes`);
}

/** What is wrong with the key files of a configuration, each at its statement. */
export function checkFiles(configuration: Configuration, files: FileSource): ConfigError[] {
  const errors: ConfigError[] = [];
  for (const { encryption } of configuration.repositories) {
    if (encryption.kind === 'none') continue;
    const { path, at } = encryption;
    try {
      checkKeyFile(path, statKeyFile(path, files), files.uid);
    } catch (error) {
      errors.push({ ...at, message: describe(error) });
    }
  }
  return errors;
}

function statKeyFile(path: string, files: FileSource): FileStat {
  try {
    return files.stat(path);
  } catch (cause) {
    throw new Failure('key file', path, { cause });
  }
}
