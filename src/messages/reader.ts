/**
 * A reader session: what plakarctl and a chunker say to each other, directly,
 * on a channel that control handed out. The client walks trees and restores by
 * itself; the chunker only lists snapshots and serves verified chunks by id.
 * A chunk id is a keyed digest that can be learned only from a tree that the
 * session was allowed to open, so knowing one is the permission to read it.
 *
 * READ requests are packed, READ_ENTRY_BYTES each, little-endian:
 *
 *   offset size
 *        0    1  chunk kind
 *        1    3  zero
 *        4    4  plaintext length, bytes
 *        8    4  where in the session's ring the plaintext goes, bytes
 *       12   32  chunk id
 *
 * The client owns the ring: it may name any range that it is not using.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, optional, record, text } from '../ipc/shape.ts';

/** The ring of a session, bytes: a few segments ahead for a restore. */
export const READER_RING_BYTES = 16 << 20;
export const READ_ENTRY_BYTES = 44;
/** Chunks in one READ or LOCATE. */
export const READ_MAX = 1024;
export const LOCATE_MAX = 8192;
/** READs that a session may have under way. */
export const READS_OPEN_MAX = 16;
/** Snapshot headers in one page, and the bytes of one header. */
export const PAGE_MAX = 512;
export const HEADER_MAX_BYTES = 64 << 10;

/** Snapshots whose header could not be read: name and why. */
const damaged = list(record({ name: text(64), text: text(1024) }), PAGE_MAX);

/** Snapshots from `from` on in order of time, oldest first; a page is ended early when it grows large. */
export const LIST = message(64, 'list', record({ from: integer() }));
export const HEADERS = message(
  65,
  'headers',
  record({
    /** encoded headers as in src/repository/snapshot.ts */
    headers: list(bytes(HEADER_MAX_BYTES), PAGE_MAX),
    total: integer(),
    damaged,
  }),
  { maxBytes: 2 << 20 },
);

/** The same, of each only what a list shows: see rows.ts. */
export const ROWS = message(76, 'rows', record({ from: integer() }));
export const ROWS_MAX_BYTES = 1 << 20;
export const ROWS_ARE = message(
  77,
  'rows are',
  record({
    rows: bytes(ROWS_MAX_BYTES),
    /** how many these are */
    count: integer(),
    total: integer(),
    damaged,
  }),
  { maxBytes: 3 << 20 },
);

/** The whole list as it is printed: what takes a starting program longest is to make lines of it. */
export const LINES = message(78, 'lines', record({}));
export const LINES_ARE = message(
  79,
  'lines are',
  record({
    /** printable ASCII and newlines; not given where a list is longer, or not all plain: ROWS tells it then */
    text: optional(bytes(ROWS_MAX_BYTES)),
    damaged,
  }),
  { maxBytes: 3 << 20 },
);

/** A UUID, an unambiguous prefix, or `latest`, optionally of one source; and the path in it that is looked for, if one is. */
export const NEAR_PATH_MAX_BYTES = 4096;
export const RESOLVE = message(
  66,
  'resolve',
  record({
    snapshot: text(64),
    source: optional(text(128)),
    path: optional(bytes(NEAR_PATH_MAX_BYTES)),
  }),
);
/** Chunks that come with a header, the bytes of one, and of all. */
export const NEAR_MAX = 16;
export const NEAR_MAX_BYTES = 64 << 10;
export const NEAR_ALL_MAX_BYTES = 128 << 10;
export const HEADER = message(
  67,
  'header',
  record({
    header: bytes(HEADER_MAX_BYTES),
    /** what is on the way to the path, where it is short: the client would ask for it next, one after the other */
    near: optional(list(record({ id: bytes(32, 32), node: bytes(NEAR_MAX_BYTES) }), NEAR_MAX)),
  }),
  { maxBytes: 256 << 10 },
);

/** ids, 32 bytes each; answered by 8 bytes each: a little-endian double that sorts by place in the repository, or -1 where the chunk is missing. */
export const LOCATE = message(68, 'locate', record({ ids: bytes(LOCATE_MAX * 32) }), { maxBytes: 512 << 10 });
export const PLACES = message(69, 'places', record({ places: bytes(LOCATE_MAX * 8) }), {
  maxBytes: 128 << 10,
});

/** Answered when every chunk is in the ring, or named as failed. */
export const READ = message(70, 'read', record({ chunks: bytes(READ_MAX * READ_ENTRY_BYTES) }), {
  maxBytes: 64 << 10,
});
export const READ_DONE = message(
  71,
  'read done',
  record({
    failed: list(record({ index: integer(0, READ_MAX), kind: text(16), text: text(1024) }), READ_MAX),
  }),
  { maxBytes: 2 << 20 },
);

/**
 * A tree ahead of a client that walks it: every directory node below one, in
 * the order in which the walk needs them, cut into pieces anywhere. Items:
 *
 *   offset size
 *        0    4  length of the node; 0: it could not be read
 *        4   32  its chunk id
 *       36       the node
 */
export const TREE_ITEM_HEAD_BYTES = 36;
export const TREE_PIECE_BYTES = 256 << 10;
/** What may be under way, unacknowledged. */
export const TREE_WINDOW_BYTES = 2 << 20;
/** Streams that a session may have open. */
export const TREES_OPEN_MAX = 4;

const stream = integer(1, 0xffffffff);

/** client: begin; the number is the client's own. */
export const TREE = message(72, 'tree', record({ stream, id: bytes(32, 32), length: integer(1, 4 << 20) }));
/** chunker: the next piece; `last` comes once, also after a failure. */
export const TREE_NODES = message(
  73,
  'tree nodes',
  record({ stream, data: bytes(TREE_PIECE_BYTES), last: boolean }),
  { maxBytes: TREE_PIECE_BYTES + 1024 },
);
/** client: so much has been used. */
export const TREE_USED = message(
  74,
  'tree used',
  record({ stream, bytes: integer(1, 2 * TREE_WINDOW_BYTES) }),
);
/** client: no more is wanted. */
export const TREE_STOP = message(75, 'tree stop', record({ stream }));
