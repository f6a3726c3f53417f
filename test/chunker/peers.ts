/**
 * One repository's data path in one process, for tests of the chunker's parts:
 * the far ends of its channels seal nothing and keep segments as they came, in
 * the same rings and the same messages as crypto and storage.
 */
import fs from 'node:fs';
import { Channel, channelPair } from '../../src/ipc/channel.ts';
import { createRing, openRing, type Ring, SlotPool } from '../../src/ipc/ring.ts';
import { ChunkHasher } from '../../src/keys/ids.ts';
import {
  FETCH,
  FETCH_FAILED,
  FETCHED,
  FLUSH,
  FLUSHED,
  SEAL,
  SEALED,
  STORED,
} from '../../src/messages/data.ts';
import { SegmentFetcher } from '../../src/processes/chunker/fetch.ts';
import { SegmentStore } from '../../src/processes/chunker/store.ts';
import { PLAIN_SLOT_BYTES, slotRange } from '../../src/processes/rings.ts';
import { SEGMENT_RAW_MAX_BYTES } from '../../src/repository/constants.ts';
import { IdTable, tableSizeFor } from '../../src/repository/table.ts';

/** Slots that are filled, or wait to be sealed. */
export const WRITE_SLOTS = 3;

export interface Peers {
  readonly store: SegmentStore;
  readonly fetcher: SegmentFetcher;
  readonly hasher: ChunkHasher;
  readonly segments: Buffer[];
  readonly ring: Ring;
  readonly readSlots: SlotPool;
  /** Segments that FETCH is refused for. */
  readonly broken: Set<number>;
  /** Holds SEALs back until it is called. */
  hold(): () => void;
  close(): void;
}

export function connectPeers(readSlots: number): Peers {
  const fd = createRing('test plain', readSlots + WRITE_SLOTS, PLAIN_SLOT_BYTES);
  const ring = openRing(fd, readSlots + WRITE_SLOTS, PLAIN_SLOT_BYTES, 'write');
  fs.closeSync(fd);
  const [nearEnds, farEnds] = channelPair();
  const near = new Channel(nearEnds, { name: 'peers' });
  const far = new Channel(farEnds, { name: 'chunker' });
  const table = IdTable.create(Buffer.from(new ArrayBuffer(tableSizeFor(100_000))));
  const hasher = new ChunkHasher(Buffer.alloc(32, 7));
  const writing = new SlotPool(slotRange(readSlots, WRITE_SLOTS));
  const reading = new SlotPool(slotRange(0, readSlots));
  const segments: Buffer[] = [];
  const broken = new Set<number>();
  let held: (() => void)[] | undefined;

  const store = new SegmentStore({
    ring,
    slots: writing,
    hasher,
    workers: [near],
    storage: near,
    table: () => table,
  });
  const fetcher = new SegmentFetcher({
    ring,
    slots: reading,
    hasher,
    workers: 1,
    storage: near,
    table: () => table,
  });
  near.handler(SEALED, ({ payload }) => writing.release(payload.slot));
  near.handler(STORED, ({ payload }) => store.stored(payload.sequence, payload.sealedBytes));
  near.handler(FETCHED, ({ payload }) => fetcher.fetched(payload.request, payload.length));
  near.handler(FETCH_FAILED, ({ payload }) => fetcher.failed(payload.request, payload.kind, payload.text));

  far.handler(SEAL, ({ payload }) => {
    const seal = (): void => {
      const { sequence, slot, length, count } = payload;
      const ordinal = segments.push(Buffer.from(ring.slot(slot).subarray(0, length))) - 1;
      for (let i = 0; i < count; i++) table.insert(ring.slot(slot), SEGMENT_RAW_MAX_BYTES + 32 * i, ordinal);
      far.message(SEALED, { slot, sealedBytes: length });
      far.message(STORED, { sequence, sealedBytes: length });
    };
    if (held === undefined) seal();
    else held.push(seal);
  });
  far.handler(FLUSH, (message) => far.reply(message, FLUSHED, {}));
  far.handler(FETCH, ({ payload }) => {
    const { request, segment, slot } = payload;
    const raw = segments[segment];
    if (raw === undefined || broken.has(segment)) {
      far.message(FETCH_FAILED, { request, kind: 'damaged', text: 'broken on purpose' });
      return;
    }
    raw.copy(ring.slot(slot));
    far.message(FETCHED, { request, length: raw.length });
  });
  for (const channel of [near, far]) channel.dispatch().catch(() => undefined);

  return {
    store,
    fetcher,
    hasher,
    segments,
    ring,
    readSlots: reading,
    broken,
    hold() {
      held ??= [];
      return () => {
        const waiting = held ?? [];
        held = undefined;
        for (const seal of waiting) seal();
      };
    },
    close() {
      near.close();
      far.close();
    },
  };
}
