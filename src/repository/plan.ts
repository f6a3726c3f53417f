/**
 * What a cleanup would do, given what is in use: a pure function of the store's
 * tables. Called by cleanup.ts. Packs are weighed one by one. What is in use
 * moves in whole segments, which nobody needs to open for that, except where
 * little of a segment is in use, or where it has to be sealed anew: such a
 * segment is opened, and the chunks in use are packed again.
 */
import { PACK_TARGET_BYTES, SEGMENT_TARGET_BYTES } from './constants.ts';
import { CLASS_DATA, type SegmentClass } from './segment.ts';
import type { Store } from './store.ts';

/** A pack is rewritten if less than this share of its segments' bytes is in use. */
const SPARSE_SHARE = 0.5;
/** Packs smaller than this are merged, when so many of a class have come together. */
const SMALL_BYTES = PACK_TARGET_BYTES / 4;
const SMALL_COUNT = 8;
/** What one cleanup copies at most: the next goes on. */
const COPY_MAX_BYTES = 2 ** 30;
/** Segments that one cleanup opens at most. */
export const REPACK_MAX = 16_384;

/** What is in use, as far as the plan needs to know. */
export interface InUse {
  /** Whether a chunk in use is found in the segment. */
  isLive(ordinal: number): boolean;
  /**
   * Chunk bytes in use of a segment of which at most half of the chunks are;
   * undefined of any other, and where nobody knows.
   */
  thinBytes?(ordinal: number): number | undefined;
  /** Whether the segment must be opened and sealed anew, however much of it is in use. */
  mustReseal?(ordinal: number): boolean;
}

/** A segment is opened if less than this is in use of it, and at most half of its chunks: half of a usual one. */
export const THIN_BYTES = SEGMENT_TARGET_BYTES / 2;

export interface CleanupPlan {
  /** packs that were looked at */
  readonly packs: number;
  /** names of the packs of which nothing is in use */
  readonly dead: readonly string[];
  readonly deadBytes: number;
  /** packs that go when these segments, by their ordinals, have been copied */
  readonly moves: readonly { readonly pack: string; readonly segments: readonly number[] }[];
  /** of those packs, the segments that are opened, and of which only the chunks in use are packed again */
  readonly repack: readonly number[];
  /** of the packs of `moves` */
  readonly movedPackBytes: number;
  /** of what is in use in them; an upper bound where segments are opened */
  readonly copiedBytes: number;
}

interface Weighed {
  readonly name: string;
  readonly packBytes: number;
  /** of all its segments: header and footer are those of every pack, and do not make a small one sparse */
  readonly segmentBytes: number;
  /** what would be left of those if it were rewritten */
  readonly liveBytes: number;
  /** segments that move as they are */
  readonly whole: readonly number[];
  /** segments that are opened */
  readonly opened: readonly number[];
  readonly mustMove: boolean;
  readonly kind: SegmentClass;
}

export function planCleanup(store: Store, use: InUse): CleanupPlan {
  const weighed = weigh(store, use);
  const isUsed = ({ whole, opened }: Weighed) => whole.length + opened.length > 0;
  const dead = weighed.filter((pack) => !isUsed(pack));
  const used = weighed.filter(isUsed);
  const isSparse = ({ liveBytes, segmentBytes, mustMove }: Weighed) =>
    mustMove || liveBytes < segmentBytes * SPARSE_SHARE;
  const small = [1, 2].flatMap((kind) => {
    const those = used.filter(
      (pack) => pack.kind === kind && !isSparse(pack) && pack.packBytes < SMALL_BYTES,
    );
    return those.length >= SMALL_COUNT ? those : [];
  });
  const moving = affordable([...used.filter(isSparse), ...small]);
  const sum = (packs: readonly Weighed[], bytesOf: (pack: Weighed) => number) =>
    packs.reduce((bytes, pack) => bytes + bytesOf(pack), 0);
  return {
    packs: weighed.length,
    dead: dead.map(({ name }) => name),
    deadBytes: sum(dead, ({ packBytes }) => packBytes),
    moves: moving.map(({ name, whole }) => ({ pack: name, segments: whole })),
    repack: moving.flatMap(({ opened }) => opened),
    movedPackBytes: sum(moving, ({ packBytes }) => packBytes),
    copiedBytes: sum(moving, ({ liveBytes }) => liveBytes),
  };
}

/** As many of the packs as one cleanup may rewrite. */
function affordable(packs: readonly Weighed[]): Weighed[] {
  let copiedBytes = 0;
  let repacked = 0;
  return packs.filter(({ liveBytes, opened }) => {
    if (copiedBytes + liveBytes > COPY_MAX_BYTES || repacked + opened.length > REPACK_MAX) return false;
    copiedBytes += liveBytes;
    repacked += opened.length;
    return true;
  });
}

/** All packs that are durable, and that no mark names yet. */
function weigh({ segments, marks }: Store, use: InUse): Weighed[] {
  const weighed: Weighed[] = [];
  for (const pack of segments.packNumbers()) {
    const name = segments.packName(pack);
    const packBytes = segments.packBytes(pack);
    if (packBytes === 0 || marks.marked.has(name) || marks.doomed.has(name)) continue;
    const ordinals = segments.segmentsOf(pack);
    const whole: number[] = [];
    const opened: number[] = [];
    let segmentBytes = 0;
    let liveBytes = 0;
    let mustMove = false;
    for (const ordinal of ordinals) {
      const sealedBytes = segments.place(ordinal)?.sealedLength ?? 0;
      segmentBytes += sealedBytes;
      const reseal = use.mustReseal?.(ordinal) === true;
      if (reseal) mustMove = true;
      if (!use.isLive(ordinal)) continue;
      const thinBytes = use.thinBytes?.(ordinal);
      if (reseal || (thinBytes !== undefined && thinBytes < THIN_BYTES)) opened.push(ordinal);
      else whole.push(ordinal);
      liveBytes += Math.min(sealedBytes, thinBytes ?? sealedBytes);
    }
    const kind = segments.place(ordinals[0] ?? -1)?.kind ?? CLASS_DATA;
    weighed.push({ name, packBytes, segmentBytes, liveBytes, whole, opened, mustMove, kind });
  }
  return weighed;
}
