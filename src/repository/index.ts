/**
 * Index objects: which pack holds which chunk, so that opening a repository
 * reads no packs. Called by store.ts and check.ts; sealing happens elsewhere.
 * An index object names whole packs: the index is the union of all index
 * objects, a pack that two of them name counts once, and what a footer says
 * prevails.
 *
 * Object:    header (frame.ts) ‖ sealed (sealed.ts)
 * Plaintext: u32 packs, then for each pack
 *
 *   offset size
 *        0   16  name
 *       16    4  packBytes
 *       20    4  segments
 *       24       a row (listing.ts) for each, with 16 bytes of each id
 */
import { Failure } from '../error.ts';
import { checkHeader, encodeHeader, HEADER_BYTES, MAGIC } from '../keys/frame.ts';
import { INDEX_PACKS_MAX, LISTING_MAX_BYTES, PACK_MAX_BYTES, PACK_SEGMENTS_MAX } from './constants.ts';
import { ListingReader, ListingWriter, rowBytes, type SegmentRecord } from './listing.ts';

/** The bytes of an id that the index keeps. */
export const INDEX_ID_BYTES = 16;
const PACK_NAME_BYTES = 16;
const PACK_ROW_BYTES = PACK_NAME_BYTES + 8;

/** A pack as the index names it. */
export interface PackRecord {
  /** 32 hexadecimal digits */
  readonly name: string;
  readonly packBytes: number;
  readonly segments: readonly SegmentRecord[];
}

/** The bytes of a pack in an index object. */
export function indexedPackBytes(pack: PackRecord): number {
  let bytes = PACK_ROW_BYTES;
  for (const segment of pack.segments) bytes += rowBytes(segment.count, INDEX_ID_BYTES);
  return bytes;
}

/** Whether a pack has a chunk whose id begins with one of `ids`, which are `idBytes` long and in latin1. */
export function holdsAny({ segments }: PackRecord, ids: ReadonlySet<string>, idBytes: number): boolean {
  return segments.some((segment) => {
    const stride = segment.ids.length / segment.count;
    for (let at = 0; at < segment.ids.length; at += stride)
      if (ids.has(segment.ids.toString('latin1', at, at + idBytes))) return true;
    return false;
  });
}

/** Splits packs into groups that each fit an index object. */
export function groupForIndex(packs: readonly PackRecord[]): PackRecord[][] {
  const groups: PackRecord[][] = [];
  let room = 0;
  for (const pack of packs) {
    const bytes = indexedPackBytes(pack);
    const group = groups.at(-1);
    if (group === undefined || bytes > room || group.length >= INDEX_PACKS_MAX) {
      groups.push([pack]);
      room = LISTING_MAX_BYTES - 4 - bytes;
    } else {
      group.push(pack);
      room -= bytes;
    }
  }
  return groups;
}

/** The plaintext of an index object that names `packs`. Ids may be whole or INDEX_ID_BYTES. */
export function encodeIndex(packs: readonly PackRecord[]): Buffer {
  let bytes = 4;
  for (const pack of packs) bytes += indexedPackBytes(pack);
  if (bytes > LISTING_MAX_BYTES)
    throw new Failure('encode index', '', { cause: `${bytes} bytes are more than ${LISTING_MAX_BYTES}` });
  const writer = new ListingWriter(bytes);
  writer.u32(packs.length);
  for (const pack of packs) {
    writer.bytes(Buffer.from(pack.name, 'hex'));
    writer.u32(pack.packBytes);
    writer.u32(pack.segments.length);
    for (const segment of pack.segments) writer.segment(segment, INDEX_ID_BYTES);
  }
  return writer.finish();
}

/** The packs that an index object names; ids are views. Throws a Failure of kind 'damaged'. */
export function decodeIndex(plaintext: Buffer, name: string): PackRecord[] {
  const reader = new ListingReader(plaintext, `index/${name}`);
  const count = reader.u32(1, INDEX_PACKS_MAX, 'packs');
  const packs: PackRecord[] = [];
  for (let i = 0; i < count; i++) packs.push(decodePack(reader));
  reader.finish();
  return packs;
}

function decodePack(reader: ListingReader): PackRecord {
  const name = reader.bytes(PACK_NAME_BYTES).toString('hex');
  const packBytes = reader.u32(0, PACK_MAX_BYTES, 'pack bytes');
  const count = reader.u32(1, PACK_SEGMENTS_MAX, 'segments');
  const segments: SegmentRecord[] = [];
  let end = HEADER_BYTES;
  for (let i = 0; i < count; i++) {
    const segment = reader.segment(INDEX_ID_BYTES);
    if (segment.offset < end) throw reader.damaged(`segments of pack ${name} overlap`);
    end = segment.offset + segment.sealedLength;
    segments.push(segment);
  }
  if (end > packBytes) throw reader.damaged(`segments exceed pack ${name}`);
  return { name, packBytes, segments };
}

/** The object that holds `sealed`, with a key of `epoch`: what is put. */
export function frameIndex(sealed: Buffer, epoch?: number): Buffer[] {
  return [encodeHeader(MAGIC.index, epoch), sealed];
}

/** The sealed part of an index object, a view. Throws a Failure of kind 'damaged'. */
export function unframeIndex(object: Buffer, name: string): Buffer {
  checkHeader(object, MAGIC.index, `index/${name}`);
  return object.subarray(HEADER_BYTES);
}
