/**
 * Packs: the unit of storage. Called by store.ts and check.ts; the sealing of
 * the footer happens elsewhere, since storage holds no keys. Owns the layout:
 *
 *   header (frame.ts)                                   16 bytes, of the footer's epoch
 *   sealed segments, one after another                  the first at offset 16
 *   sealed footer (sealed.ts)                           footerLength bytes
 *   u32 footerLength ‖ "plakfoot"                       12 bytes
 *
 * Footer:  u32 segments, then for each segment a row (listing.ts) with the
 * whole ids of its chunks. Rows are in order, and cover the bytes between
 * header and footer without a gap.
 */
import type { Backend } from '../backends/objects.ts';
import { Failure } from '../error.ts';
import { CHUNK_ID_BYTES } from '../keys/derive.ts';
import { checkHeader, HEADER_BYTES, MAGIC } from '../keys/frame.ts';
import { LISTING_MAX_BYTES, PACK_MAX_BYTES, PACK_SEGMENTS_MAX } from './constants.ts';
import type { PackRecord } from './index.ts';
import { ListingReader, ListingWriter, rowBytes, type SegmentRecord } from './listing.ts';
import { sealedBytes } from './sealed.ts';

const TRAILER_MAGIC = 'plakfoot';
export const PACK_TRAILER_BYTES = 12;
const FOOTER_MAX_SEALED_BYTES = sealedBytes(LISTING_MAX_BYTES);

/** The bytes that a footer of these segments takes, unsealed; ids are counted with 32 bytes. */
export function footerBytes(segments: readonly SegmentRecord[]): number {
  let bytes = 4;
  for (const segment of segments) bytes += rowBytes(segment.count, CHUNK_ID_BYTES);
  return bytes;
}

/** The plaintext of a footer. */
export function encodeFooter(segments: readonly SegmentRecord[]): Buffer {
  const writer = new ListingWriter(footerBytes(segments));
  writer.u32(segments.length);
  for (const segment of segments) writer.segment(segment, CHUNK_ID_BYTES);
  return writer.finish();
}

/**
 * The segments that a footer lists, ids 32 bytes each (views). `end` is where
 * the pack's sealed footer begins. Throws a Failure of kind 'damaged'.
 */
export function decodeFooter(plaintext: Buffer, name: string, end: number): SegmentRecord[] {
  const reader = new ListingReader(plaintext, `packs/${name} footer`);
  const count = reader.u32(1, PACK_SEGMENTS_MAX, 'segments');
  const segments: SegmentRecord[] = [];
  let at = HEADER_BYTES;
  for (let i = 0; i < count; i++) {
    const segment = reader.segment(CHUNK_ID_BYTES);
    if (segment.offset !== at) throw reader.damaged(`segment ${i} is at ${segment.offset}, not ${at}`);
    at += segment.sealedLength;
    segments.push(segment);
  }
  if (at !== end) throw reader.damaged(`segments end at ${at}, not ${end}`);
  reader.finish();
  return segments;
}

/** What follows the sealed footer. */
export function encodeTrailer(footerLength: number): Buffer {
  const trailer = Buffer.alloc(PACK_TRAILER_BYTES);
  trailer.writeUInt32LE(footerLength);
  trailer.write(TRAILER_MAGIC, 4, 'latin1');
  return trailer;
}

/** Where the sealed footer of a pack of `packBytes` is, by its trailer. Throws a Failure of kind 'damaged'. */
export function footerRange(
  trailer: Buffer,
  packBytes: number,
  name: string,
): { offset: number; length: number } {
  const fail = (cause: string) => new Failure('read pack', `packs/${name}`, { cause, kind: 'damaged' });
  if (packBytes > PACK_MAX_BYTES) throw fail(`${packBytes} bytes are too many`);
  if (trailer.length !== PACK_TRAILER_BYTES || trailer.toString('latin1', 4) !== TRAILER_MAGIC)
    throw fail('no footer at its end');
  const length = trailer.readUInt32LE(0);
  const offset = packBytes - PACK_TRAILER_BYTES - length;
  if (length > FOOTER_MAX_SEALED_BYTES || offset <= HEADER_BYTES) throw fail(`footer of ${length} bytes`);
  return { offset, length };
}

/** Opens footers and index objects, where the keys are. */
export interface FooterOpener {
  openIndex(kind: 'footer', name: string, sealed: Buffer, epoch: number): Promise<Buffer>;
}

/**
 * What a pack's own footer says of it; undefined where there is no such pack.
 * Throws a Failure of kind 'damaged' for a pack that is torn or not ours.
 */
export async function readFooter(
  backend: Backend,
  opener: FooterOpener,
  name: string,
): Promise<PackRecord | undefined> {
  const packBytes = await backend.stat('packs', name);
  if (packBytes === undefined) return undefined;
  if (packBytes < HEADER_BYTES + PACK_TRAILER_BYTES)
    throw new Failure('read pack', `packs/${name}`, { cause: `it has ${packBytes} bytes`, kind: 'damaged' });
  const header = await backend.get('packs', name, { offset: 0, length: HEADER_BYTES });
  const trailerAt = { offset: packBytes - PACK_TRAILER_BYTES, length: PACK_TRAILER_BYTES };
  const trailer = await backend.get('packs', name, trailerAt);
  if (header === undefined || trailer === undefined) return undefined;
  const epoch = checkHeader(header, MAGIC.pack, `packs/${name}`);
  const range = footerRange(trailer, packBytes, name);
  const sealed = await backend.get('packs', name, range);
  if (sealed === undefined) return undefined;
  const plaintext = await opener.openIndex('footer', name, sealed, epoch);
  return { name, packBytes, segments: decodeFooter(plaintext, name, range.offset) };
}
