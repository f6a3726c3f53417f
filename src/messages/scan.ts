/**
 * What walks a tree (a scanner, or plakarctl with its user's own rights) and
 * the chunker say to each other. What is in a BATCH is described in
 * src/snapshot/scanlog.ts, and what is in the ring of nodes in stream.ts. Both
 * directions have a window, so neither side ever queues more than the window
 * for the other.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, optional, record, text } from '../ipc/shape.ts';
import { summary } from './client.ts';

/** Records in one batch, bytes; a single record (one entry with its xattrs) may be as large as it. */
export const BATCH_MAX_BYTES = (1 << 20) + (256 << 10);
/** Descriptors in one batch; the kernel's limit for one sendmsg is 253. */
export const BATCH_MAX_DESCRIPTORS = 250;
/** The ring that old nodes come in, of one slot. A node is at most 4 MiB less a bit, and comes in pieces. */
export const NODES_RING_BYTES = 2 << 20;

/** Directories that a walk may name, where it does not visit all. */
export const VISITS_MAX_BYTES = 192 << 10;

/** chunker → walker: begin. With the parent's root comes the ring of its nodes; without a parent everything is new. */
export const SCAN = message(
  96,
  'scan',
  record({
    job: integer(),
    /** the parent snapshot's root node */
    root: optional(record({ id: bytes(32, 32), length: integer(1, 4 << 20) })),
    /** seconds since 1970: what changed then or later is read again, whatever its times say */
    trustBeforeSec: optional(integer(-(2 ** 40))),
    /** of a scanner: the parent snapshot, whose nodes come once SCAN_BEGUN has said which */
    parent: optional(text(36)),
  }),
  { maxDescriptors: 1 },
);
/** scanner → chunker, to a SCAN with a parent: the directories that are visited, as in snapshot/visits.ts; missing: all. */
export const SCAN_BEGUN = message(
  344,
  'scan begun',
  record({ job: integer(), visits: optional(bytes(VISITS_MAX_BYTES)) }),
  { maxBytes: VISITS_MAX_BYTES + 1024 },
);
/** chunker → walker: so many more bytes of the parent's tree, in pre-order, are in the ring. */
export const NODES = message(
  97,
  'nodes',
  record({ job: integer(), bytes: integer(0, NODES_RING_BYTES), last: boolean }),
);
/** walker → chunker: so many of them have been used, and can be written over. */
export const NODES_USED = message(
  98,
  'nodes used',
  record({ job: integer(), bytes: integer(1, NODES_RING_BYTES) }),
);
/** walker → chunker: scan records, and the descriptors of the files to read. */
export const BATCH = message(99, 'batch', record({ job: integer(), data: bytes(BATCH_MAX_BYTES, 1) }), {
  maxBytes: BATCH_MAX_BYTES + 1024,
  maxDescriptors: BATCH_MAX_DESCRIPTORS,
  prompt: true,
});
/** chunker → walker: so much has been read. */
export const BATCH_USED = message(
  100,
  'batch used',
  record({ job: integer(), bytes: integer(), descriptors: integer() }),
  { prompt: true },
);
/** Either way: the job is over before its end. The walker stops; the chunker forgets what it built. */
export const SCAN_FAILED = message(
  101,
  'scan failed',
  record({ job: integer(), kind: text(16), text: text(4096) }),
);
/** chunker → a walking client: the snapshot is durable. A scanner is told too, so that it can begin another. */
export const SCAN_DONE = message(102, 'scan done', record({ job: integer(), summary }));
