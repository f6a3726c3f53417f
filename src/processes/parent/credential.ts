/**
 * What the configuration says opens a repository, read anew each time so that
 * a changed file needs no restart. Used by keys.ts, which wipes it after use.
 *
 * Invariant: a file is opened only when it was found to be a key file: a plain
 * one, that nobody else may read or change, behind no link of somebody else's.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { checkKeyFile, type Encryption } from '../../config/config.ts';
import { Failure } from '../../error.ts';
import type { Credential } from '../../keys/slot.ts';
import { CREDENTIAL_MAX_BYTES } from '../../messages/keys.ts';
import { openPath } from '../../sys/path.ts';

const NEWLINE = 0x0a;

/** The credential of a repository. Its bytes are the caller's, to be given to `wipe`. */
export function readCredential(encryption: Encryption): Credential {
  if (encryption.kind === 'none') return { type: 'none' };
  const { path } = encryption;
  let secret: Buffer;
  try {
    secret = readKeyFile(path);
  } catch (cause) {
    throw new Failure('read key file', path, { cause });
  }
  if (encryption.kind === 'keyfile') return { type: 'key file', secret };
  // a passphrase ends where its line does
  const newline = secret.indexOf(NEWLINE);
  const line = newline < 0 ? secret : secret.subarray(0, newline);
  if (line.length === 0) throw new Failure('read passphrase', path, { cause: 'its first line is empty' });
  return { type: 'passphrase', secret: line };
}

/** Overwrites all that was read, of a credential that `readCredential` returned. */
export function wipe(credential: Credential): void {
  if (credential.type !== 'none') new Uint8Array(credential.secret.buffer).fill(0);
}

function readKeyFile(path: string): Buffer {
  const name = openPath(path);
  try {
    checkKeyFile(path, fstatSync(name), process.getuid?.() ?? 0);
    const fd = openSync(`/proc/self/fd/${name}`, constants.O_RDONLY);
    try {
      return readWhole(fd);
    } finally {
      closeSync(fd);
    }
  } finally {
    closeSync(name);
  }
}

/** All of it, in memory of its own. */
function readWhole(fd: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(CREDENTIAL_MAX_BYTES);
  let length = 0;
  for (let count = -1; count !== 0 && length < buffer.length; length += count)
    count = readSync(fd, buffer, length, buffer.length - length, null);
  return buffer.subarray(0, length);
}
