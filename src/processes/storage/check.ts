/**
 * What storage answers to a check: how each pack is by the index, by its size
 * and by its footer; what was found when the index was read; which packs are
 * missing. It holds no keys, so what is in segments is for the chunker to verify.
 */
import { describe, Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { Received } from '../../ipc/message.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import {
  FINDINGS,
  FINDINGS_ARE,
  MISSING_IS,
  MISSING_PACK,
  PACK_IS,
  VERIFY_PACK,
} from '../../messages/data.ts';
import { INDEX_ID_BYTES, type PackRecord } from '../../repository/index.ts';
import { missingPacks } from '../../repository/mend.ts';
import { readFooter } from '../../repository/pack.ts';
import { checkPlain, type Plain } from '../../repository/plain.ts';
import { noteProblem, problemOf } from '../../repository/problem.ts';
import type { Store } from '../../repository/store.ts';

const TEXT_MAX_CHARS = 1024;
const MENDED_MAX = 64;
const PROBLEMS_MAX = 4096;

/** Answers what the chunker asks; `plain` is what opened the repository. */
export function serveChecks(store: Store, plain: Plain, chunker: Channel): void {
  chunker.handler(VERIFY_PACK, async (message: Received<PayloadOf<typeof VERIFY_PACK.shape>>) => {
    const { pack, footer } = message.payload;
    chunker.reply(message, PACK_IS, await verifyPack(store, pack, footer === 1));
  });
  chunker.handler(FINDINGS, async (message) => {
    await store.refresh();
    const found = await checkPlain(store.backend, plain);
    if (message.payload.again) await store.indexes.readAgain(store.problems);
    await mendIndex(store);
    const problems = [...found, ...store.problems].slice(0, PROBLEMS_MAX).map(({ object, text }) => ({
      object,
      text: text.slice(0, TEXT_MAX_CHARS),
    }));
    const mended = store.mended.slice(0, MENDED_MAX).map((text) => text.slice(0, TEXT_MAX_CHARS));
    chunker.reply(message, FINDINGS_ARE, { problems, mended });
  });
  let missing: readonly PackRecord[] = [];
  chunker.handler(MISSING_PACK, async (message) => {
    const { number } = message.payload;
    if (number === 0) missing = await missingPacks(store);
    const record = missing[number];
    chunker.reply(message, MISSING_IS, { name: record?.name ?? '', ids: record ? idsOf(record) : NO_IDS });
  });
}

/** An index that was lost or damaged meanwhile is made again, as when the repository is opened; where that fails, it stays a problem. */
async function mendIndex(store: Store): Promise<void> {
  const indexed = await store.indexes.indexed();
  // one that was missing may have been put back
  const isBack = store.orphans.some((name) => indexed.has(name));
  if (!isBack && store.indexes.damaged.size === 0 && (await store.unnamed()).length === 0) return;
  try {
    await store.recover();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    noteProblem(store.problems, problemOf('index', error));
  }
}

const NO_IDS = Buffer.alloc(0);

function idsOf({ segments }: PackRecord): Buffer {
  return Buffer.concat(
    segments.flatMap(({ ids, count }) => {
      const stride = ids.length / count;
      return Array.from({ length: count }, (_, i) => ids.subarray(i * stride, i * stride + INDEX_ID_BYTES));
    }),
  );
}

/** The first pack whose number is `from` or more, as it is by the index, by its size, and, if asked, by its footer. */
async function verifyPack(
  store: Store,
  from: number,
  footer: boolean,
): Promise<PayloadOf<typeof PACK_IS.shape>> {
  const { segments, backend, marks } = store;
  let pack = from;
  const exists = (number: number) => segments.packNumber(segments.packName(number)) === number;
  while (pack < segments.packNumberEnd && !exists(pack)) pack++;
  const nothing = { problems: [], disagrees: false, quarantined: false, chunks: 0 };
  if (pack >= segments.packNumberEnd) return { pack, name: '', bytes: 0, segments: [], ...nothing };
  const name = segments.packName(pack);
  const ordinals = segments.segmentsOf(pack);
  const bytes = await backend.stat('packs', name);
  const expected = segments.packBytes(pack);
  const found = { pack, name, bytes: bytes ?? 0, segments: ordinals };
  const quarantined = marks.quarantined.has(name);
  if (bytes === undefined) {
    await store.refresh();
    // a cleanup may have removed it meanwhile
    const isMissing = store.problems.some(({ object }) => object === `packs/${name}`);
    return isMissing
      ? { ...found, ...nothing, problems: ['pack is missing'] }
      : { ...found, ...nothing, segments: [] };
  }
  // one that is being written has no size yet
  if (expected > 0 && bytes !== expected) {
    const problem = `pack has ${bytes} bytes, not the ${expected} that the index says`;
    return { ...found, ...nothing, problems: [problem], quarantined };
  }
  if (!footer) return { ...found, ...nothing, quarantined };
  return { ...found, ...(await verifyFooter(store, name, ordinals)), quarantined };
}

async function verifyFooter(
  store: Store,
  name: string,
  ordinals: readonly number[],
): Promise<{ problems: string[]; disagrees: boolean; chunks: number }> {
  try {
    const record = await readFooter(store.backend, store.codec, name);
    let chunks = 0;
    for (const { count } of record?.segments ?? []) chunks += count;
    if (record !== undefined && agrees(store, record, ordinals))
      return { problems: [], disagrees: false, chunks };
    return { problems: ['its footer and the index disagree'], disagrees: true, chunks };
  } catch (error) {
    return { problems: [describe(error).slice(0, TEXT_MAX_CHARS)], disagrees: false, chunks: 0 };
  }
}

/** Whether the index has the same segments, and every chunk of theirs somewhere. */
function agrees({ segments, table }: Store, record: PackRecord, ordinals: readonly number[]): boolean {
  return (
    record.segments.length === ordinals.length &&
    record.segments.every((segment, i) => {
      const place = segments.place(ordinals[i] ?? -1);
      if (place?.offset !== segment.offset || place.sealedLength !== segment.sealedLength) return false;
      const stride = segment.ids.length / segment.count;
      for (let at = 0; at < segment.ids.length; at += stride)
        if (table.lookup(segment.ids, at) < 0) return false;
      return true;
    })
  );
}
