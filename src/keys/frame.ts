/**
 * What every object of a repository begins with, and how those that are not
 * sealed (the configuration object, key slots, leases) end. Called by src/keys
 * and src/repository. Owns the format number, and how what is newer than this
 * program is refused.
 *
 * Header, 16 bytes:
 *
 *   offset size
 *        0    8  magic, which names the kind of object
 *        8    2  format, 1
 *       10    2  zero
 *       12    4  rotations: the epoch of the key that it is sealed with, less
 *                FIRST_EPOCH; of a pack, its footer; zero in plain objects
 *
 * A plain object is header ‖ content ‖ SHA-256(header ‖ content): the digest
 * tells an accident from a wrong key; against an adversary each has its own
 * means (see slot.ts and derive.ts).
 */
import { crypto } from '../builtin.ts';
import { Failure } from '../error.ts';
import { EPOCH_MAX, FIRST_EPOCH } from './derive.ts';

/** The format of everything that this program writes. */
export const FORMAT = 1;
export const HEADER_BYTES = 16;
const ROTATIONS_AT = 12;
const DIGEST_BYTES = 32;

/** The magic of each kind of object, 8 bytes of ASCII. */
export const MAGIC = {
  config: 'plakard\n',
  slot: 'plakslot',
  keyring: 'plakring',
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

/** The header of an object, sealed with a key of `epoch` or plain, as a new buffer. */
export function encodeHeader(magic: Magic, epoch = FIRST_EPOCH): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(magic, 'latin1');
  header.writeUInt16LE(FORMAT, 8);
  header.writeUInt32LE(epoch - FIRST_EPOCH, ROTATIONS_AT);
  return header;
}

/** What a newer program wrote, `what` being its `format 2` or the like: it is refused, and is no damage. */
export class UnknownVersion extends Failure {
  constructor(object: string, what: string) {
    super('read', object, {
      cause: `${what} is unknown to this version`,
      kind: 'failed',
      remedy: 'a newer plakard wrote it: use that one',
    });
  }
}

/**
 * Throws unless `bytes` begins with the header of `magic`: a Failure of kind
 * 'damaged', or an UnknownVersion for a format that we do not read. Returns the
 * epoch of the key that the object is sealed with.
 */
export function checkHeader(bytes: Buffer, magic: Magic, object: string): number {
  if (bytes.length < HEADER_BYTES || bytes.toString('latin1', 0, 8) !== magic)
    throw new Failure('read', object, { cause: 'not an object of its kind', kind: 'damaged' });
  const format = bytes.readUInt16LE(8);
  if (format !== FORMAT) throw new UnknownVersion(object, `format ${format}`);
  const epoch = headerEpoch(bytes);
  if (bytes.readUInt16LE(10) !== 0 || epoch > EPOCH_MAX)
    throw new Failure('read', object, { cause: 'reserved bytes of the header are set', kind: 'damaged' });
  return epoch;
}

/** The epoch that the header of a sealed object names, unchecked. */
export function headerEpoch(header: Buffer): number {
  return header.readUInt32LE(ROTATIONS_AT) + FIRST_EPOCH;
}

/** A plain object around `content`. */
export function encodePlain(magic: Magic, content: Buffer): Buffer {
  const body = Buffer.concat([encodeHeader(magic), content]);
  return Buffer.concat([body, crypto().hash('sha256', body, 'buffer')]);
}

/**
 * The content of a plain object of at most `maxBytes`, a view; throws a Failure
 * of kind 'damaged', or an UnknownVersion: only an intact object has a version.
 */
export function decodePlain(bytes: Buffer, magic: Magic, object: string, maxBytes: number): Buffer {
  const fail = (cause: string) => new Failure('read', object, { cause, kind: 'damaged' });
  if (bytes.toString('latin1', 0, 8) !== magic) throw fail('not an object of its kind');
  if (bytes.length > maxBytes) throw fail(`larger than ${maxBytes} bytes`);
  const end = bytes.length - DIGEST_BYTES;
  if (
    end < HEADER_BYTES ||
    !crypto().timingSafeEqual(crypto().hash('sha256', bytes.subarray(0, end), 'buffer'), bytes.subarray(end))
  )
    throw fail('digest does not match');
  if (checkHeader(bytes, magic, object) !== FIRST_EPOCH) throw fail('reserved bytes of the header are set');
  return bytes.subarray(HEADER_BYTES, end);
}
