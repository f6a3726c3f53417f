/**
 * What a cleanup would do, given the segments that are in use: a pure function
 * of the store's tables. Called by cleanup.ts. Packs are weighed one by one;
 * what is in use moves in whole segments, which nobody needs to open for that.
 */
import { PACK_TARGET_BYTES } from './constants.ts';
import { CLASS_DATA, type SegmentClass } from './segment.ts';
import type { Store } from './store.ts';

/** A pack of which less than this share is in use is rewritten. */
const SPARSE_SHARE = 0.5;
/** Packs smaller than this are merged, when so many of a class have come together. */
const SMALL_BYTES = PACK_TARGET_BYTES / 4;
const SMALL_COUNT = 8;
/** What one cleanup copies at most: the next goes on. */
const COPY_MAX_BYTES = 2 ** 30;

export interface CleanupPlan {
  /** packs that were looked at */
  readonly packs: number;
  /** names of the packs of which nothing is in use */
  readonly dead: readonly string[];
  readonly deadBytes: number;
  /** packs that go when these segments, by their ordinals, have been copied */
  readonly moves: readonly { readonly pack: string; readonly segments: readonly number[] }[];
  /** of those packs */
  readonly movedPackBytes: number;
  /** of those segments */
  readonly copiedBytes: number;
}

interface Weighed {
  readonly name: string;
  readonly packBytes: number;
  readonly liveBytes: number;
  readonly live: readonly number[];
  readonly kind: SegmentClass;
}

export function planCleanup(store: Store, isLive: (ordinal: number) => boolean): CleanupPlan {
  const weighed = weigh(store, isLive);
  const dead = weighed.filter(({ live }) => live.length === 0);
  const used = weighed.filter(({ live }) => live.length > 0);
  const isSparse = ({ liveBytes, packBytes }: Weighed) => liveBytes < packBytes * SPARSE_SHARE;
  const small = [1, 2].flatMap((kind) => {
    const those = used.filter(
      (pack) => pack.kind === kind && !isSparse(pack) && pack.packBytes < SMALL_BYTES,
    );
    return those.length >= SMALL_COUNT ? those : [];
  });
  let copiedBytes = 0;
  const moving = [...used.filter(isSparse), ...small].filter(({ liveBytes }) => {
    if (copiedBytes + liveBytes > COPY_MAX_BYTES) return false;
    copiedBytes += liveBytes;
    return true;
  });
  const sum = (packs: readonly Weighed[]) => packs.reduce((bytes, { packBytes }) => bytes + packBytes, 0);
  return {
    packs: weighed.length,
    dead: dead.map(({ name }) => name),
    deadBytes: sum(dead),
    moves: moving.map(({ name, live }) => ({ pack: name, segments: live })),
    movedPackBytes: sum(moving),
    copiedBytes,
  };
}

/** All packs that are durable, and that no mark names yet. */
function weigh({ segments, marks }: Store, isLive: (ordinal: number) => boolean): Weighed[] {
  const weighed: Weighed[] = [];
  for (const pack of segments.packNumbers()) {
    const name = segments.packName(pack);
    const packBytes = segments.packBytes(pack);
    if (packBytes === 0 || marks.marked.has(name) || marks.doomed.has(name)) continue;
    const ordinals = segments.segmentsOf(pack);
    const live = ordinals.filter(isLive);
    const bytesOf = (ordinal: number) => segments.place(ordinal)?.sealedLength ?? 0;
    const liveBytes = live.reduce((bytes, ordinal) => bytes + bytesOf(ordinal), 0);
    const kind = segments.place(ordinals[0] ?? -1)?.kind ?? CLASS_DATA;
    weighed.push({ name, packBytes, liveBytes, live, kind });
  }
  return weighed;
}
