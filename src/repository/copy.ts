/**
 * Copies segments from packs that a cleanup empties to new ones, as they are:
 * nobody opens them. Called by cleanup.ts. Invariant: a segment is found in its
 * copy only once that is durable and indexed.
 */
import { Failure } from '../error.ts';
import type { SegmentRecord } from './listing.ts';
import { readFooter } from './pack.ts';
import type { Store } from './store.ts';

/** Of one pack, the ordinals of the segments that move. */
export interface Move {
  readonly pack: string;
  readonly segments: readonly number[];
}

interface Copied {
  readonly segment: SegmentRecord;
  readonly from: number;
  readonly to: number;
}

/**
 * Copies, flushes, and has the chunks be found in the copies: the bytes that
 * were copied, and the packs that were there. A pack that is damaged stays
 * where it is: repair deals with it.
 */
export async function copySegments(
  store: Store,
  moves: readonly Move[],
): Promise<{ bytes: number; packs: string[] }> {
  const since = store.generation;
  const packs: string[] = [];
  const copied: Copied[] = [];
  let bytes = 0;
  for (const move of moves) {
    try {
      const ofPack = await copyPack(store, move);
      if (ofPack === undefined) continue;
      packs.push(move.pack);
      copied.push(...ofPack);
      for (const { segment } of ofPack) bytes += segment.sealedLength;
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
    }
  }
  await store.flush(since);
  for (const { segment, from, to } of copied) store.settleCopy(segment, from, to);
  return { bytes, packs };
}

/** Appends the segments of one pack to the open ones; undefined where it is gone. */
async function copyPack(store: Store, { pack, segments }: Move): Promise<Copied[] | undefined> {
  const { backend, codec } = store;
  const record = await readFooter(backend, codec, pack);
  const number = store.segments.packNumber(pack);
  if (record === undefined || number === undefined) return undefined;
  const ordinals = store.segments.segmentsOf(number);
  const fail = (cause: string) => new Failure('copy segment', `packs/${pack}`, { cause, kind: 'damaged' });
  const copied: Copied[] = [];
  for (const from of segments) {
    const segment = record.segments[ordinals.indexOf(from)];
    if (segment === undefined) throw fail('its footer and the index disagree');
    const range = { offset: segment.offset, length: segment.sealedLength };
    const sealed = await backend.get('packs', pack, range);
    if (sealed === undefined) throw fail('pack is missing');
    const to = await store.append(sealed, segment.kind, segment.keyEpoch, segment.ids);
    copied.push({ segment, from, to });
  }
  return copied;
}
