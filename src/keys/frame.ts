/**
 * What every object of a repository begins with, and how the two kinds of
 * object that are not sealed (the configuration object and key slots) end.
 * Called by src/keys and src/repository. Owns the format number.
 *
 * Header, 16 bytes:
 *
 *   offset size
 *        0    8  magic, which names the kind of object
 *        8    2  format, 1
 *       10    6  zero
 *
 * A plain object is header ‖ content ‖ SHA-256(header ‖ content): the digest
 * tells an accident from a wrong key; against an adversary each has its own
 * means (see slot.ts and derive.ts).
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { Failure } from '../error.ts';

/** The format of everything that this program writes. */
export const FORMAT = 1;
export const HEADER_BYTES = 16;
const DIGEST_BYTES = 32;

/** The magic of each kind of object, 8 bytes of ASCII. */
export const MAGIC = {
  config: 'plakard\n',
  slot: 'plakslot',
  pack: 'plakpack',
  index: 'plakindx',
  snapshot: 'plaksnap',
  lease: 'plakleas',
  log: 'plaklog\n',
  mark: 'plakmark',
  verdict: 'plakverd',
  void: 'plakvoid',
} as const;
export type Magic = (typeof MAGIC)[keyof typeof MAGIC];

/** The header of an object, as a new buffer. */
export function encodeHeader(magic: Magic): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(magic, 'latin1');
  header.writeUInt16LE(FORMAT, 8);
  return header;
}

/** Throws a Failure of kind 'damaged' unless `bytes` begins with the header of `magic` in a format we read. */
export function checkHeader(bytes: Buffer, magic: Magic, object: string): void {
  if (bytes.length < HEADER_BYTES || bytes.toString('latin1', 0, 8) !== magic)
    throw new Failure('read', object, { cause: 'not an object of its kind', kind: 'damaged' });
  const format = bytes.readUInt16LE(8);
  if (format !== FORMAT)
    throw new Failure('read', object, {
      cause: `format ${format} is unknown`,
      kind: 'damaged',
      remedy: 'if a newer plakard wrote it, use that one',
    });
  if (bytes.readUIntLE(10, 6) !== 0)
    throw new Failure('read', object, { cause: 'reserved bytes of the header are set', kind: 'damaged' });
}

/** A plain object around `content`. */
export function encodePlain(magic: Magic, content: Buffer): Buffer {
  const body = Buffer.concat([encodeHeader(magic), content]);
  return Buffer.concat([body, hash('sha256', body, 'buffer')]);
}

/** The content of a plain object of at most `maxBytes`, a view; throws a Failure of kind 'damaged'. */
export function decodePlain(bytes: Buffer, magic: Magic, object: string, maxBytes: number): Buffer {
  checkHeader(bytes, magic, object);
  if (bytes.length > maxBytes)
    throw new Failure('read', object, { cause: `larger than ${maxBytes} bytes`, kind: 'damaged' });
  const end = bytes.length - DIGEST_BYTES;
  if (
    end < HEADER_BYTES ||
    !timingSafeEqual(hash('sha256', bytes.subarray(0, end), 'buffer'), bytes.subarray(end))
  )
    throw new Failure('read', object, { cause: 'digest does not match', kind: 'damaged' });
  return bytes.subarray(HEADER_BYTES, end);
}
