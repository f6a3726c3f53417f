/**
 * What control and a chunker say to each other: sessions, pushes, checks and
 * removals. Control has already judged the client; the chunker holds it to the
 * sources that control names.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, nothing, optional, record, text } from '../ipc/shape.ts';
import {
  checkDepth,
  keepFields,
  NAME_MAX_CHARS,
  PATH_MAX_BYTES,
  PATHS_MAX,
  policy,
  repairFields,
  SNAPSHOTS_MAX,
  TAGS_MAX,
} from './client.ts';

const name = text(NAME_MAX_CHARS);
/** The sources a client may see; missing means all. */
const sources = optional(list(name, 256));

/** Answered by client.ts' OPENED with three descriptors. */
export const SESSION = message(160, 'session', record({ job: integer(), sources }));
const pushFields = {
  job: integer(),
  host: text(256),
  user: text(64),
  paths: list(bytes(PATH_MAX_BYTES, 1), PATHS_MAX),
  tags: list(name, TAGS_MAX),
};
/** Push a configured source through its scanner; answered by client.ts' PUSHED, after PROGRESS and PROBLEM. */
export const PUSH_SOURCE = message(161, 'push source', record({ ...pushFields, source: name }), {
  maxBytes: 1 << 20,
});
/** Push what a client walks; answered by client.ts' PUSH_OPENED with two descriptors. */
export const PUSH_CLIENT = message(162, 'push client', record({ ...pushFields }), { maxBytes: 1 << 20 });
/** Answered by client.ts' CHECKED, after PROGRESS and PROBLEM. */
export const CHECK_REPOSITORY = message(
  163,
  'check repository',
  record({
    job: integer(),
    depth: checkDepth,
    snapshots: list(text(64), SNAPSHOTS_MAX),
    /** of a sample: in how many runs everything is read */
    runs: optional(integer(1, 1000)),
  }),
  { maxBytes: 512 << 10 },
);
/** Answered by client.ts' REMOVED. */
export const REMOVE_SNAPSHOTS = message(
  164,
  'remove snapshots',
  record({ job: integer(), snapshots: list(text(64), SNAPSHOTS_MAX), sources }),
  { maxBytes: 512 << 10 },
);
export const HOLDINGS = message(165, 'holdings', nothing);
export const HOLDINGS_ARE = message(
  166,
  'holdings are',
  record({
    snapshots: integer(),
    packs: integer(),
    segments: integer(),
    chunks: integer(),
    storedBytes: integer(),
  }),
);
/** The client went away, or asked to stop. */
export const CANCEL = message(167, 'cancel', record({ job: integer() }));
/** chunker → control: a client's own push or session is over. */
export const JOB_OVER = message(168, 'job over', record({ job: integer() }));
/** Answered by client.ts' KEPT. */
export const KEEP_SNAPSHOTS = message(
  169,
  'keep snapshots',
  record({ job: integer(), sources, policy, ...keepFields }),
);
/** Answered by client.ts' CLEANED_UP, after PROGRESS. */
export const CLEAN_REPOSITORY = message(
  170,
  'clean repository',
  record({ job: integer(), dryRun: boolean, reseal: boolean }),
);
/** Answered by client.ts' REPAIRED, after PROGRESS and PROBLEM. */
export const REPAIR_REPOSITORY = message(
  268,
  'repair repository',
  record({ job: integer(), ...repairFields }),
);
