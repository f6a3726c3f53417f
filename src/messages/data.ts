/**
 * The data path inside one repository: chunker, crypto and storage. Contents
 * are in shared slots; messages carry slot numbers and lengths. See "Data path"
 * in plakard(8).
 *
 * A plain slot is lent: chunker → crypto (SEAL) → chunker (SEALED), or, to
 * read, chunker → storage (FETCH) → crypto (UNSEAL) → chunker (FETCHED).
 * A sealed slot belongs to one crypto worker (writing) or to storage (reading)
 * and is lent to the other: STORE / STORE_DONE, UNSEAL / UNSEAL_DONE.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, nothing, oneOf, optional, real, record, text } from '../ipc/shape.ts';

/** Objects that pass through messages (headers, indexes, footers, key slots), bytes. */
export const OBJECT_MAX_BYTES = (3 << 20) + (512 << 10);
export const OBJECTS_MAX = 4096;
/** Bytes of objects in one answer; a longer list is asked for in parts. */
export const OBJECTS_REPLY_BYTES = 1 << 20;

const slot = integer(0, 1023);
const length = integer(0, 8 << 20);
const count = integer(0, 8192);
const objectName = text(128);
/** Of the key that something is sealed with. */
const epoch = integer(1, 0xffff_ffff);
export const objectKind = oneOf('config', 'keys', 'packs', 'index', 'snapshots', 'leases', 'log');

/** Numbers the segments of one chunker's life; what is stored is acknowledged by it. */
const sequence = integer();

/** chunker → crypto: the raw segment in plain slot `slot`, followed by its `count` full ids. */
export const SEAL = message(128, 'seal', record({ sequence, slot, length, count, kind: integer(1, 2) }), {
  prompt: true,
});
/** crypto → chunker: the slot is free; the sealed segment is on its way to storage. */
export const SEALED = message(129, 'sealed', record({ slot, sealedBytes: length }));
/** crypto → storage: a sealed segment in sealed slot `slot`, its ids behind it. */
export const STORE = message(
  130,
  'store',
  record({ sequence, slot, length, count, kind: integer(1, 2), epoch }),
);
/** storage → crypto: the sealed slot is free again. */
export const STORE_DONE = message(131, 'store done', record({ slot }));
/** storage → chunker: the segment is in a pack, and in the table. */
export const STORED = message(132, 'stored', record({ sequence, sealedBytes: length }));
/** Anyone on the data path → chunker: storing failed; what is not yet durable is lost. */
export const STORE_FAILED = message(133, 'store failed', record({ kind: text(16), text: text(4096) }));

/** chunker → storage: segment `segment` into plain slot `slot`, opened by worker `worker`. */
export const FETCH = message(
  134,
  'fetch',
  record({ request: integer(), segment: integer(0, 0xffffffff), slot, worker: integer(0, 255) }),
  { prompt: true },
);
/** storage → crypto: open sealed slot `sealed` into plain slot `slot`. */
export const UNSEAL = message(
  135,
  'unseal',
  record({ request: integer(), sealed: slot, length, slot, epoch }),
);
/** crypto → storage: the sealed slot is free again. */
export const UNSEAL_DONE = message(136, 'unseal done', record({ sealed: slot }));
/** crypto → chunker: the raw segment is in the plain slot. */
export const FETCHED = message(137, 'fetched', record({ request: integer(), length }));
/** storage or crypto → chunker: it could not be had. */
export const FETCH_FAILED = message(
  138,
  'fetch failed',
  record({ request: integer(), kind: text(16), text: text(4096) }),
);

/** storage → chunker: the chunk table is now this mapping (one descriptor). */
export const TABLE = message(139, 'table', record({ bytes: integer(64) }), { maxDescriptors: 1 });

/** chunker → storage: make everything stored so far durable, packs and index. */
export const FLUSH = message(140, 'flush', nothing);
export const FLUSHED = message(141, 'flushed', nothing);

/** Small objects, as they are in the repository. */
export const NAMES = message(142, 'names', record({ kind: objectKind }));
export const NAMES_ARE = message(143, 'names are', record({ names: list(objectName, 65536) }), {
  maxBytes: 3 << 20,
});
export const GET = message(144, 'get', record({ kind: objectKind, names: list(objectName, OBJECTS_MAX) }), {
  maxBytes: 512 << 10,
});
/** As many of the asked as fit, in order; a missing one is nil with its reason. */
export const OBJECTS = message(
  145,
  'objects',
  record({
    objects: list(
      record({ data: optional(bytes(OBJECT_MAX_BYTES)), why: optional(text(1024)) }),
      OBJECTS_MAX,
    ),
  }),
  { maxBytes: OBJECT_MAX_BYTES + (256 << 10) },
);
/** chunker → storage: a log entry, where there is none of that name; space for it is found even on a full disk. */
export const PUT = message(
  146,
  'put',
  record({ kind: objectKind, name: objectName, data: bytes(OBJECT_MAX_BYTES) }),
  {
    maxBytes: OBJECT_MAX_BYTES + 1024,
  },
);
/** Whether it was made: not where there was one. */
export const PUT_IS = message(230, 'put is', record({ made: boolean }));
/** chunker → storage: remove a snapshot or an entry of the log; one that is gone already is none to remove. */
export const DELETE = message(147, 'delete', record({ kind: objectKind, name: objectName }));
export const OK = message(148, 'ok', nothing);
/** chunker → storage: a snapshot or log entry sealed anew, where there is one of that name; answered by OK. */
export const REPLACE = message(
  253,
  'replace',
  record({ kind: oneOf('snapshots', 'log'), name: objectName, data: bytes(OBJECT_MAX_BYTES) }),
  { maxBytes: OBJECT_MAX_BYTES + 1024 },
);

/**
 * To crypto: seal or open a small object; its kind and name are bound to it.
 * Without an epoch it is sealed under the newest; the answer says which that is.
 */
export const SEAL_OBJECT = message(
  149,
  'seal object',
  record({ kind: objectKind, name: objectName, data: bytes(OBJECT_MAX_BYTES), epoch: optional(epoch) }),
  { maxBytes: OBJECT_MAX_BYTES + 1024 },
);
export const OBJECT = message(150, 'object', record({ data: bytes(OBJECT_MAX_BYTES), epoch }), {
  maxBytes: OBJECT_MAX_BYTES + 1024,
});
export const OPEN_OBJECTS = message(
  151,
  'open objects',
  record({
    kind: objectKind,
    objects: list(record({ name: objectName, data: bytes(OBJECT_MAX_BYTES), epoch }), OBJECTS_MAX),
  }),
  { maxBytes: OBJECT_MAX_BYTES + (256 << 10) },
);

/** chunker → storage: what the repository holds. */
export const TOTALS = message(152, 'totals', nothing);
export const TOTALS_ARE = message(
  153,
  'totals are',
  record({ packs: integer(), segments: integer(), chunks: integer(), storedBytes: real }),
);
/** chunker → storage: compare the first pack whose number is `pack` or more with its footer and the index. */
export const VERIFY_PACK = message(154, 'verify pack', record({ pack: integer(), footer: integer(0, 1) }));
/** What it is; an empty name where there are no more. */
export const PACK_IS = message(
  155,
  'pack is',
  record({
    pack: integer(),
    name: text(64),
    bytes: integer(),
    /** their ordinals */
    segments: list(integer(0, 0xffffffff), 65535),
    problems: list(text(1024), 256),
    /** what is wrong is that its footer and the index disagree */
    disagrees: boolean,
    /** it is damaged, and was set aside by a repair */
    quarantined: boolean,
    /** in its footer, if that was read */
    chunks: integer(),
  }),
  { maxBytes: 512 << 10 },
);

/**
 * chunker → storage: what is wrong with the index and the packs in it, and what was mended; `again`: by reading all
 * objects but packs, snapshots and the log again.
 */
export const FINDINGS = message(262, 'findings', record({ again: boolean }));
export const FINDINGS_ARE = message(
  263,
  'findings are',
  record({
    problems: list(record({ object: text(256), text: text(1024) }), 4096),
    mended: list(text(1024), 64),
  }),
  { maxBytes: 2 << 20 },
);
/** chunker → storage: the pack with this number, from 0 on, of those that are missing. */
export const MISSING_PACK = message(264, 'missing pack', record({ number: integer() }));
/** Its name, empty where there are no more, and the first 16 bytes of the id of each of its chunks. */
export const MISSING_IS = message(
  265,
  'missing is',
  record({ name: text(64), ids: bytes(OBJECT_MAX_BYTES) }),
  {
    maxBytes: OBJECT_MAX_BYTES + 1024,
  },
);

const packName = text(32);
const packNames = list(packName, 16_384);
/** chunker → storage: set the pack of this segment aside, as something in it cannot be read; answered by OK. */
export const SET_ASIDE = message(284, 'set aside', record({ segment: integer(0, 0xffffffff) }));
/** chunker → storage: these packs are damaged, nothing new may refer to them; answered by OK. */
export const QUARANTINE = message(269, 'quarantine', record({ packs: packNames }), { maxBytes: 1 << 20 });
/** chunker → storage: index what no index names, and by their footers these; with `forgetMissing`, no packs that are not there. */
export const REINDEX = message(270, 'reindex', record({ disagreeing: packNames, forgetMissing: boolean }), {
  maxBytes: 1 << 20,
});
/** How many packs were indexed, and were missing; what opens the repository and was put back, or cannot be. */
export const REINDEXED = message(
  271,
  'reindexed',
  record({ indexed: integer(), missing: integer(), putBack: integer(), unmended: integer() }),
);
/** chunker → storage: find the segments of the pack with this number, from 0 on, of those that nothing describes. */
export const SCAN_PACK = message(272, 'scan pack', record({ number: integer() }));
/** Their ordinals, and the bytes between them; an empty name where there are no more packs. */
export const SCAN_IS = message(
  273,
  'scan is',
  record({ name: packName, segments: list(integer(0, 0xffff_ffff), 65535), gaps: integer() }),
  { maxBytes: 512 << 10 },
);
/** chunker → storage: what can be read of these packs, and is in use, is in others; answered by OK. */
export const SALVAGED = message(274, 'salvaged', record({ packs: packNames }), { maxBytes: 1 << 20 });
/** storage → crypto: may these be the beginnings of sealed segments? 36 bytes each. */
export const HEADS_LOOKED_AT_MAX = 512;
export const LOOK = message(275, 'look', record({ heads: bytes(36 * HEADS_LOOKED_AT_MAX) }));
/** For each, how long the sealed segment is; 0 where it is none. */
export const LOOKED = message(
  276,
  'looked',
  record({ heads: list(record({ length, kind: integer(1, 2), epoch }), HEADS_LOOKED_AT_MAX) }),
  { maxBytes: 128 << 10 },
);

const snapshot = text(36);
/** chunker → storage: a push begins. Nothing of the table may be referred to before the answer. */
export const BEGIN = message(224, 'begin', nothing);
/** The id that its snapshot will have. */
export const BEGUN = message(225, 'begun', record({ snapshot }));
/** chunker → storage: make the snapshot of this header, as it is stored; answered by OK. */
export const COMMIT = message(226, 'commit', record({ snapshot, data: bytes(128 << 10) }), {
  maxBytes: 256 << 10,
});
/** chunker → storage: the push is over; answered by OK. */
export const END = message(227, 'end', record({ snapshot }));

/** Segments in use, a bit for each ordinal: enough for 28 TB in one message. */
const live = bytes(OBJECT_MAX_BYTES);
/** Segments of which little is in use: u32 ordinal, u32 bytes in use. */
export const THIN_ENTRY_BYTES = 8;
export const THIN_MAX_BYTES = 256 << 10;
/**
 * chunker → storage: the next step of a cleanup (cleanup.ts): `plan` and
 * `remove` come with what is in use, the latter as of what `learned` was.
 */
export const CLEAN = message(
  228,
  'clean',
  record({
    step: oneOf('begin', 'plan', 'mark', 'settle', 'remove', 'reindex'),
    /** plan: what is sealed under older epochs than the newest is rewritten as well */
    reseal: optional(boolean),
    live: optional(live),
    thin: optional(bytes(THIN_MAX_BYTES)),
    learned: optional(integer()),
  }),
  { maxBytes: OBJECT_MAX_BYTES + THIN_MAX_BYTES - 1024 },
);
/** What the cleanup has come to so far; `done` is false where `remove` wants to know anew what is in use. */
export const CLEANED = message(
  229,
  'cleaned',
  record({
    done: boolean,
    learned: integer(),
    /** of what is written */
    epoch,
    /** packs, not marked yet, with segments of older ones */
    oldPacks: integer(),
    packs: integer(),
    removedPacks: integer(),
    removedBytes: integer(),
    rewrittenPacks: integer(),
    copiedBytes: integer(),
    waitingPacks: integer(),
    waitingBytes: integer(),
    writers: integer(),
    givenUp: integer(),
    leftovers: integer(),
    notes: list(text(1024), 16),
    /** what it means to do, after `plan` */
    deadPacks: integer(),
    deadBytes: integer(),
    sparsePacks: integer(),
    sparseBytes: integer(),
    sparseLiveBytes: integer(),
    /** after `mark`: segments to open, and to store again what is in use of them */
    repack: list(integer(0, 0xffff_ffff), 16_384),
  }),
  { maxBytes: 256 << 10 },
);
