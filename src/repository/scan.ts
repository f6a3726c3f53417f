/**
 * Finds the segments of a pack whose footer is lost: their lengths are in no
 * index and no clear byte, but each segment's sealed header tells its own.
 * Called by repairs in the storage process, which asks crypto to look. What is
 * found is a guess until the segment has been opened and authenticated.
 *
 * Where a header is damaged, the next segment begins at one of the few lengths
 * that sealed messages can have; they are all tried.
 */
import type { Backend } from '../backends/objects.ts';
import { HEADER_BYTES } from '../keys/frame.ts';
import {
  PACK_MAX_BYTES,
  PACK_SEGMENTS_MAX,
  SEGMENT_SEALED_MAX_BYTES,
  SEGMENT_SEALED_MIN_BYTES,
} from './constants.ts';
import type { PackRecord } from './index.ts';
import type { SegmentRecord } from './listing.ts';
import { padme } from './padding.ts';
import { HEAD_BYTES, type SegmentClass } from './segment.ts';

/** What a sealed header says, unauthenticated. */
export interface Head {
  /** of the sealed segment, bytes; 0 where that is no header of a segment */
  readonly length: number;
  readonly kind: SegmentClass;
  readonly epoch: number;
}

export interface Scanned {
  /** without the ids of chunks */
  readonly record: PackRecord;
  /** bytes between segments that could not be told apart */
  readonly gaps: number;
}

/** Every length that a sealed segment can have, ascending. */
function* sealedLengths(): Generator<number> {
  for (
    let length = padme(SEGMENT_SEALED_MIN_BYTES);
    length <= SEGMENT_SEALED_MAX_BYTES;
    length = padme(length + 1)
  )
    yield length;
}

/**
 * The segments of a pack, as far as they can be told; undefined where there is
 * no such pack. `look` says what the headers are that begin with these bytes,
 * HEAD_BYTES each.
 */
export async function scanPack(
  backend: Backend,
  name: string,
  look: (heads: Buffer) => Promise<readonly Head[]>,
): Promise<Scanned | undefined> {
  const packBytes = await backend.stat('packs', name);
  if (packBytes === undefined) return undefined;
  const end = Math.min(packBytes, PACK_MAX_BYTES);
  const segments: SegmentRecord[] = [];
  let gaps = 0;
  for (let at = HEADER_BYTES; at + HEAD_BYTES <= end && segments.length < PACK_SEGMENTS_MAX; ) {
    const length = Math.min(end - at, SEGMENT_SEALED_MAX_BYTES + HEAD_BYTES);
    const window = await backend.get('packs', name, { offset: at, length });
    if (window === undefined) return undefined;
    const [head] = await look(window.subarray(0, HEAD_BYTES));
    if (head !== undefined && head.length > 0) {
      // one that is cut short cannot be opened
      if (at + head.length > end) break;
      const { kind, epoch } = head;
      segments.push({ offset: at, sealedLength: head.length, kind, keyEpoch: epoch, count: 0, ids: NO_IDS });
      at += head.length;
      continue;
    }
    const gap = await nextSegment(window, look);
    if (gap === 0) break;
    gaps += gap;
    at += gap;
  }
  return { record: { name, packBytes, segments }, gaps };
}

const NO_IDS = Buffer.alloc(0);

/** How far it is to the next header of a segment; 0 where there is none. */
async function nextSegment(
  window: Buffer,
  look: (heads: Buffer) => Promise<readonly Head[]>,
): Promise<number> {
  const lengths = [...sealedLengths()].filter((length) => length + HEAD_BYTES <= window.length);
  if (lengths.length === 0) return 0;
  const heads = await look(
    Buffer.concat(lengths.map((length) => window.subarray(length, length + HEAD_BYTES))),
  );
  return lengths[heads.findIndex((head) => head.length > 0)] ?? 0;
}
