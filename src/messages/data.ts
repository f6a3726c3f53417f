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
import { bytes, integer, list, nothing, oneOf, optional, real, record, text } from '../ipc/shape.ts';

/** Objects that pass through messages (headers, indexes, footers, key slots), bytes. */
export const OBJECT_MAX_BYTES = (3 << 20) + (512 << 10);
export const OBJECTS_MAX = 4096;
/** Bytes of objects in one answer; a longer list is asked for in parts. */
export const OBJECTS_REPLY_BYTES = 1 << 20;

const slot = integer(0, 1023);
const length = integer(0, 8 << 20);
const count = integer(0, 8192);
const objectName = text(128);
export const objectKind = oneOf('config', 'keys', 'packs', 'index', 'snapshots', 'leases', 'log');

/** Numbers the segments of one chunker's life; what is stored is acknowledged by it. */
const sequence = integer();

/** chunker → crypto: the raw segment in plain slot `slot`, followed by its `count` full ids. */
export const SEAL = message(128, 'seal', record({ sequence, slot, length, count, kind: integer(1, 2) }));
/** crypto → chunker: the slot is free; the sealed segment is on its way to storage. */
export const SEALED = message(129, 'sealed', record({ slot, sealedBytes: length }));
/** crypto → storage: a sealed segment in sealed slot `slot`, its ids behind it. */
export const STORE = message(
  130,
  'store',
  record({ sequence, slot, length, count, kind: integer(1, 2), epoch: integer(1, 0xffffffff) }),
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
);
/** storage → crypto: open sealed slot `sealed` into plain slot `slot`. */
export const UNSEAL = message(135, 'unseal', record({ request: integer(), sealed: slot, length, slot }));
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
export const PUT = message(
  146,
  'put',
  record({ kind: objectKind, name: objectName, data: bytes(OBJECT_MAX_BYTES) }),
  {
    maxBytes: OBJECT_MAX_BYTES + 1024,
  },
);
export const DELETE = message(147, 'delete', record({ kind: objectKind, name: objectName }));
export const OK = message(148, 'ok', nothing);

/** To crypto: seal or open a small object; its kind and name are bound to it. */
export const SEAL_OBJECT = message(
  149,
  'seal object',
  record({ kind: objectKind, name: objectName, data: bytes(OBJECT_MAX_BYTES) }),
  { maxBytes: OBJECT_MAX_BYTES + 1024 },
);
export const OBJECT = message(150, 'object', record({ data: bytes(OBJECT_MAX_BYTES) }), {
  maxBytes: OBJECT_MAX_BYTES + 1024,
});
export const OPEN_OBJECTS = message(
  151,
  'open objects',
  record({
    kind: objectKind,
    objects: list(record({ name: objectName, data: bytes(OBJECT_MAX_BYTES) }), OBJECTS_MAX),
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
/** chunker → storage: compare pack number `pack` with its footer and the index. */
export const VERIFY_PACK = message(154, 'verify pack', record({ pack: integer(), footer: integer(0, 1) }));
export const PACK_IS = message(
  155,
  'pack is',
  record({
    name: text(64),
    bytes: integer(),
    /** their ordinals */
    segments: list(integer(0, 0xffffffff), 65535),
    problems: list(text(1024), 256),
  }),
  { maxBytes: 512 << 10 },
);
