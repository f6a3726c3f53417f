/**
 * Sealed objects other than segments: pack footers, index objects, snapshot
 * headers and log entries. Called by the crypto process. Owns what each is
 * bound to: format, repository, kind of object and, where it has one, name.
 *
 * Associated data:                    Content of a sealed object:
 *   offset size                         offset size
 *        0    7  "plakard"                   0    4  length
 *        7    2  format, 1                   4    n  plaintext
 *        9   16  repository id             4+n       zeros, so that the sealed
 *       25    1  sealed kind                         length is a Padmé length
 *       26    n  name, ASCII; for segments none
 */
import { Failure } from '../error.ts';
import { FORMAT } from '../keys/frame.ts';
import { SEAL_OVERHEAD_BYTES } from '../keys/overhead.ts';
import type { Sealer } from '../keys/seal.ts';
import { release } from '../sys/release.ts';
import { isZero, padme, zeros } from './padding.ts';

export const SEALED_SEGMENT = 1;
export const SEALED_FOOTER = 2;
export const SEALED_INDEX = 3;
export const SEALED_SNAPSHOT = 4;
export const SEALED_LOG = 5;
export type SealedKind = 1 | 2 | 3 | 4 | 5;

const AAD_BYTES = 26;
const LENGTH_BYTES = 4;

/** What a sealed message of `kind` and `name` in the repository with this 16-byte id is bound to. */
export function associatedData(repositoryId: Buffer, kind: SealedKind, name = ''): Buffer {
  const aad = Buffer.alloc(AAD_BYTES + name.length);
  aad.write('plakard', 'latin1');
  aad.writeUInt16LE(FORMAT, 7);
  repositoryId.copy(aad, 9, 0, 16);
  aad[25] = kind;
  aad.write(name, AAD_BYTES, 'latin1');
  return aad;
}

/** The bytes that sealing `plainBytes` comes to. */
export function sealedBytes(plainBytes: number): number {
  return padme(SEAL_OVERHEAD_BYTES + LENGTH_BYTES + plainBytes);
}

/** Seals `plaintext`, padded, and opens it again to see that it can be. */
export function sealPadded(sealer: Sealer, plaintext: Buffer, aad: Buffer): Buffer {
  const sealed = Buffer.alloc(sealedBytes(plaintext.length));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(plaintext.length);
  const padding = zeros(sealed.length - SEAL_OVERHEAD_BYTES - LENGTH_BYTES - plaintext.length);
  sealer.sealPiecesInto([length, plaintext, padding], aad, sealed, 0);
  const opened = openPadded(sealer, sealed, aad);
  const isSame = opened.equals(plaintext);
  release(opened);
  if (!isSame)
    throw new Failure('seal', '', {
      cause: 'it does not open to what was sealed',
      remedy: 'test this machine’s memory',
    });
  return sealed;
}

/** The plaintext; throws a Failure of kind 'damaged'. */
export function openPadded(sealer: Sealer, sealed: Buffer, aad: Buffer): Buffer {
  const content = Buffer.alloc(Math.max(0, sealed.length - SEAL_OVERHEAD_BYTES));
  const contentBytes = sealer.openInto(sealed, aad, content, 0);
  const plainBytes = contentBytes < LENGTH_BYTES ? -1 : content.readUInt32LE(0);
  const end = LENGTH_BYTES + plainBytes;
  if (
    plainBytes < 0 ||
    end > contentBytes ||
    sealedBytes(plainBytes) !== sealed.length ||
    !isZero(content.subarray(end))
  )
    throw new Failure('open sealed', '', { cause: 'lengths disagree', kind: 'damaged' });
  return content.subarray(LENGTH_BYTES, end);
}
