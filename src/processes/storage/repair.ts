/**
 * What storage does in a repair, or where a push meets damage, as the chunker
 * tells it to: sets damaged packs aside, indexes packs anew by their footers,
 * finds the segments of packs that have none. It removes no pack.
 */
import { randomBytes } from 'node:crypto';
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import {
  HEADS_LOOKED_AT_MAX,
  LOOK,
  LOOKED,
  OK,
  QUARANTINE,
  REINDEX,
  REINDEXED,
  SALVAGED,
  SCAN_IS,
  SCAN_PACK,
  SET_ASIDE,
} from '../../messages/data.ts';
import { putMark } from '../../repository/cleanup.ts';
import { recover, reindexByFooter } from '../../repository/mend.ts';
import { checkPlain, mendPlain, type Plain } from '../../repository/plain.ts';
import { PACK_IS_MISSING } from '../../repository/problem.ts';
import { type Head, scanPack } from '../../repository/scan.ts';
import { HEAD_BYTES, type SegmentClass } from '../../repository/segment.ts';
import type { Store } from '../../repository/store.ts';

/** Answers what the chunker asks; `plain` is what opened the repository, `crypto` looks at the headers of segments. */
export function serveRepairs(store: Store, plain: Plain, chunker: Channel, crypto: Channel): void {
  const setAside = async (named: readonly string[]): Promise<void> => {
    const { quarantined } = store.marks;
    const packs = named.filter((pack) => !quarantined.has(pack));
    if (packs.length > 0) await putMark(store, randomBytes, packs, true);
  };
  chunker.handler(QUARANTINE, async (message) => {
    await setAside(message.payload.packs);
    chunker.reply(message, OK, {});
  });
  chunker.handler(SET_ASIDE, async (message) => {
    const place = store.segments.place(message.payload.segment);
    if (place !== undefined) await setAside([store.segments.packName(place.pack)]);
    chunker.reply(message, OK, {});
  });
  chunker.handler(REINDEX, async (message) => {
    const { disagreeing, forgetMissing } = message.payload;
    const before = store.totals.packs;
    await store.refresh();
    await recover(store);
    const reindexed = await reindexByFooter(store, disagreeing);
    const added = store.totals.packs - before;
    const missing = forgetMissing ? await forget(store) : 0;
    const putBack = await mendPlain(store.backend, plain);
    const left = await checkPlain(store.backend, plain);
    chunker.reply(message, REINDEXED, {
      indexed: Math.max(0, added) + reindexed,
      missing,
      putBack,
      // what writers and cleanups left is for a cleanup
      unmended: left.filter(({ object }) => !object.startsWith('leases/')).length,
    });
  });
  chunker.handler(SCAN_PACK, async (message) => {
    // those that `recover` could not take in
    const name = store.orphans[message.payload.number];
    const nothing = { name: name ?? '', segments: [], gaps: 0 };
    const scanned = name && (await scanPack(store.backend, name, (heads) => look(heads, crypto)));
    if (!scanned) return chunker.reply(message, SCAN_IS, nothing);
    const segments = store.adoptScanned(scanned.record);
    chunker.reply(message, SCAN_IS, { name: scanned.record.name, segments, gaps: scanned.gaps });
  });
  chunker.handler(SALVAGED, (message) => {
    for (const pack of message.payload.packs) store.noteSalvaged(pack);
    chunker.reply(message, OK, {});
  });
}

/** Drops packs from the index that are not there, and what was said of them; how many. */
async function forget(store: Store): Promise<number> {
  const isMissing = ({ text }: { text: string }) => text === PACK_IS_MISSING;
  const missing = store.problems.filter(isMissing).length;
  await store.reindexAbsent();
  // what is still wrong is found again by the next check
  store.problems.length = 0;
  return missing;
}

async function look(heads: Buffer, crypto: Channel): Promise<Head[]> {
  const found: Head[] = [];
  for (let at = 0; at < heads.length; at += HEADS_LOOKED_AT_MAX * HEAD_BYTES) {
    const some = heads.subarray(at, at + HEADS_LOOKED_AT_MAX * HEAD_BYTES);
    const { payload } = await crypto.query(LOOK, { heads: some }, LOOKED);
    if (payload.heads.length !== some.length / HEAD_BYTES)
      throw new Failure('look at segments', '', { cause: 'an answer about something else' });
    for (const { length, kind, epoch } of payload.heads)
      found.push({ length, kind: kind as SegmentClass, epoch });
  }
  return found;
}
