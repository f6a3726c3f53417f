/**
 * Copying snapshots between repositories, as it is asked for, allowed and done.
 * The taking chunker writes, the giving one reads; the parent connects the two,
 * and control tells the giver what it may give to whom. What is given goes
 * through the ring of a reader session (reader.ts), past everybody else.
 *
 *   client ─SYNC─▶ control ─ALLOW─▶ giver
 *                  control ─TAKE──▶ taker ─GIVE─▶ giver    answered as a session is opened
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, oneOf, optional, real, record, text } from '../ipc/shape.ts';
import { NAME_MAX_CHARS, SNAPSHOTS_MAX, TAGS_MAX } from './client.ts';

const name = text(NAME_MAX_CHARS);
const uuid = text(36);
/** Snapshots that one sync tells about, each by itself. */
export const SYNC_TOLD_MAX = 32_768;

/** Which snapshots: those that are named, and those that fit all that is given of the rest; all where nothing is. */
const selection = record({
  snapshots: list(text(64), SNAPSHOTS_MAX),
  tags: list(name, TAGS_MAX),
  source: optional(name),
  /** ms since 1970: begun then or later */
  sinceMs: optional(real),
});

const asked = {
  /** clone: all, to a repository that holds nothing else */
  operation: oneOf('clone', 'sync'),
  dryRun: boolean,
  selection,
  /** what is named need not be there: the other direction may have it */
  lenient: boolean,
};

/** client → control: snapshots of `from` to `to`. Answered by SYNCED, after PROGRESS and PROBLEM. */
export const SYNC = message(300, 'sync', record({ from: name, to: name, ...asked }), { maxBytes: 512 << 10 });
export const SYNCED = message(
  301,
  'synced',
  record({
    from: name,
    to: name,
    dryRun: boolean,
    /** clone: the repository was made for it, or would be */
    created: boolean,
    /** what came of each that was not there already, oldest first, of a dry run what would */
    snapshots: list(
      record({
        snapshot: uuid,
        time: real,
        /** of its files */
        bytes: integer(),
        /** removed: it was there once, and was removed; failed: said as a problem */
        outcome: oneOf('moved', 'removed', 'failed'),
      }),
      SYNC_TOLD_MAX,
    ),
    /** those that were there already */
    held: integer(),
    /** names of the selection that name nothing; only of a lenient one */
    unknown: list(text(64), SNAPSHOTS_MAX),
    /** new to the repository */
    chunks: integer(),
    /** plaintext that came from the other repository */
    movedBytes: integer(),
    /** plaintext that was new */
    addedBytes: integer(),
    /** what the repository grew by */
    storedBytes: integer(),
    /** the gravest kind of what failed */
    failure: optional(text(16)),
    durationMs: real,
  }),
  { maxBytes: 4 << 20 },
);

/** control → chunker: `to` may take what is of these sources, for this job. Answered by data.ts' OK. */
export const ALLOW = message(
  302,
  'allow',
  record({ job: integer(1), to: name, sources: optional(list(name, 256)) }),
);
/** control → chunker: no more. */
export const FORBID = message(303, 'forbid', record({ job: integer(1) }));
/** control → chunker: take snapshots. Answered by SYNCED, after PROGRESS and PROBLEM. */
export const TAKE = message(304, 'take', record({ job: integer(1), from: name, ...asked }), {
  maxBytes: 512 << 10,
});
/** chunker → chunker: a session, for a job that control has allowed. Answered by client.ts' OPENED. */
export const GIVE = message(305, 'give', record({ job: integer(1) }));

/**
 * chunker → storage: make a snapshot under a lease that is not its own id's:
 * first the lease's, which `provisional` is the header of, then the snapshot,
 * then the first goes. Answered by data.ts' PUT_IS.
 */
export const COMMIT_COPY = message(
  306,
  'commit copy',
  record({ lease: uuid, provisional: bytes(128 << 10), snapshot: uuid, data: bytes(128 << 10) }),
  { maxBytes: 512 << 10 },
);
