/**
 * Stores chunks again that are in packs which are to go: of a segment that a
 * cleanup opens, those in use, and of a damaged pack, those that can be read.
 * Runs in the chunker, which can recompute ids. The packs are marked, so their
 * chunks count as new. Invariant: nothing is stored that is not what its id says.
 */
import { describe, Failure } from '../../error.ts';
import type { ChunkKind } from '../../keys/derive.ts';
import type { SegmentFetcher } from './fetch.ts';
import type { SegmentStore } from './store.ts';

export interface RepackParts {
  readonly fetcher: SegmentFetcher;
  readonly store: SegmentStore;
  /** Whether a chunk is to be stored again, where it is not to stay already; the id may be a view. */
  readonly isWanted: (id: Buffer) => boolean;
  /** Throws to end it. */
  readonly onSegment: () => void;
}

/** What came of it. Bytes are of chunks. */
export interface Repacked {
  segments: number;
  chunks: number;
  bytes: number;
  /** segments that could not be read, by ordinal, and why */
  readonly damaged: Map<number, string>;
}

/** Stores what is wanted of the segments again; it is durable after a flush of the store. */
export async function repack(ordinals: readonly number[], parts: RepackParts): Promise<Repacked> {
  const repacked: Repacked = { segments: 0, chunks: 0, bytes: 0, damaged: new Map() };
  for (const ordinal of ordinals) {
    parts.onSegment();
    try {
      await repackSegment(ordinal, parts, repacked);
      repacked.segments++;
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
      repacked.damaged.set(ordinal, describe(error));
    }
  }
  return repacked;
}

async function repackSegment(ordinal: number, parts: RepackParts, repacked: Repacked): Promise<void> {
  const { fetcher, store, isWanted } = parts;
  const segment = await fetcher.segment(ordinal);
  try {
    const stored = Buffer.alloc(32);
    for (let i = 0; i < segment.reader.count; i++) {
      const chunk = fetcher.identify(segment, i);
      if (chunk === undefined)
        throw new Failure('verify segment', String(ordinal), {
          cause: `chunk ${i} is not what its id says`,
          kind: 'damaged',
        });
      if (store.has(chunk.id) || !isWanted(chunk.id)) continue;
      const { length } = chunk.data;
      const waiting = store.put(chunk.kind, chunk.data, stored);
      if (waiting !== undefined) await waiting;
      // it is not what a push adds that runs meanwhile
      store.totals.chunks--;
      store.totals.addedBytes -= length;
      repacked.chunks++;
      repacked.bytes += length;
    }
  } finally {
    fetcher.release(segment);
  }
}

/** A chunk of a loaded segment, with its id recomputed. */
export interface Identified {
  readonly kind: ChunkKind;
  /** a view, until the next call */
  readonly id: Buffer;
  /** a view, until the segment is released */
  readonly data: Buffer;
}
