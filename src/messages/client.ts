/**
 * What plakarctl and the control process say to each other on the channel that
 * a client gets when it connects. Everything a client sends is judged by its
 * credentials (SO_PEERCRED) and the `permit` rules before anything happens.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, nothing, oneOf, optional, real, record, text } from '../ipc/shape.ts';
import { TOPICS } from '../trace.ts';

/** Limits of what crosses this channel. */
export const NAME_MAX_CHARS = 128;
export const PATH_MAX_BYTES = 64 << 10;
export const TAGS_MAX = 32;
export const PATHS_MAX = 64;
export const SNAPSHOTS_MAX = 4096;

const name = text(NAME_MAX_CHARS);
const repository = optional(name);
const tags = list(name, TAGS_MAX);
/** A snapshot as a person names it: a UUID, an unambiguous prefix, or `latest`. */
const snapshotName = text(64);
const line = text(4096);

/** What a push came to. Bytes are of file contents; `stored` is what the repository grew by. */
export const summary = record({
  snapshot: text(36),
  repository: name,
  source: name,
  parent: optional(text(36)),
  files: integer(),
  directories: integer(),
  others: integer(),
  bytes: integer(),
  filesNew: integer(),
  filesChanged: integer(),
  filesUnchanged: integer(),
  unreadable: integer(),
  inconsistent: integer(),
  excluded: integer(),
  readBytes: integer(),
  addedBytes: integer(),
  storedBytes: integer(),
  durationMs: real,
});

/** Paths in one problem. */
export const PATHS_TOLD_MAX = 64;
/** One thing that could not be read, or that is damaged. */
const problemFields = {
  object: line,
  text: line,
  /** paths that it touches, as SNAPSHOT:PATH */
  paths: optional(list(bytes(PATH_MAX_BYTES), PATHS_TOLD_MAX)),
};
export const problem = record(problemFields);

export const progress = record({
  job: integer(),
  operation: text(32),
  files: integer(),
  bytes: integer(),
  /** what the whole is expected to come to; missing where nobody knows */
  bytesExpected: optional(integer()),
  filesExpected: optional(integer()),
  storedBytes: integer(),
  problems: integer(),
});

/** What one repository holds. Sizes in bytes. */
export const repositoryInfo = record({
  name,
  id: text(36),
  location: text(4096),
  format: integer(),
  created: real,
  encryption: boolean,
  compression: text(32),
  snapshots: integer(),
  packs: integer(),
  segments: integer(),
  chunks: integer(),
  storedBytes: integer(),
});

const processState = record({
  role: text(32),
  instance: text(NAME_MAX_CHARS),
  pid: integer(),
  state: text(32),
});
const jobState = record({
  job: integer(),
  operation: text(32),
  repository: name,
  source: optional(name),
  user: text(64),
  startedMs: real,
  files: integer(),
  bytes: integer(),
});
/** What is done by itself: what it is about to do, and how it went. Times in ms since 1970. */
const taskFields = {
  name: text(4 * NAME_MAX_CHARS),
  operation: text(32),
  running: boolean,
  /** missing where it has no schedule */
  nextMs: optional(real),
  lastMs: optional(real),
  endMs: optional(real),
  goodMs: optional(real),
  /** of the last good one */
  snapshot: optional(text(36)),
  /** what that came to */
  result: optional(line),
  /** runs that failed since then, and why the last did */
  failures: integer(),
  text: optional(line),
  /** nothing good within twice its interval */
  missed: boolean,
};
/** What looks after the repositories. */
export const taskState = record(taskFields);
/** A push of the configuration. */
export const pushState = record({ ...taskFields, source: name, repository: name, watched: boolean });
export const status = record({
  version: text(32),
  pid: integer(),
  startedMs: real,
  configuration: text(4096),
  repositories: list(record({ name, location: text(4096), state: text(32) }), 256),
  sources: list(
    record({
      name,
      paths: list(text(4096), PATHS_MAX),
      /** its last good snapshot, whoever asked for it */
      goodMs: optional(real),
      snapshot: optional(text(36)),
      /** of a watched one: how that goes */
      watch: optional(line),
    }),
    256,
  ),
  processes: list(processState, 1024),
  jobs: list(jobState, 1024),
  pushes: list(pushState, 4096),
  tasks: list(taskState, 8192),
  /** nothing begins by itself since then */
  paused: optional(record({ sinceMs: real, untilMs: optional(real) })),
});

/** Control's events while a request is at work; they precede its reply. */
export const PROGRESS = message(32, 'progress', progress);
export const PROBLEM = message(
  33,
  'problem',
  record({
    job: integer(),
    ...problemFields,
    /** paths that it touches beyond those */
    more: optional(integer()),
  }),
  { maxBytes: 1 << 20 },
);

export const STATUS = message(34, 'status', nothing);
export const STATUS_IS = message(35, 'status is', status, { maxBytes: 1 << 20 });

export const CREATE = message(36, 'create', record({ repository, noEncryption: optional(boolean) }));
export const CREATED = message(
  37,
  'created',
  record({ repository: name, id: text(36), location: text(4096) }),
);

/** Opens a reader session: see reader.ts. The operation is what `permit` rules speak of. */
export const OPEN = message(
  38,
  'open',
  record({
    repository,
    operation: oneOf('ls', 'cat', 'pull', 'tarball', 'find', 'diff', 'checksum', 'info'),
  }),
);
/** Three descriptors: stream and descriptor ends of the session's channel, and its ring. */
export const OPENED = message(39, 'opened', record({ repository: name, ringBytes: integer() }), {
  maxDescriptors: 3,
});

/** Pushes a configured source. */
export const PUSH = message(40, 'push', record({ repository, source: name, tags }));
export const PUSHED = message(41, 'pushed', summary);

/** Pushes what the client itself walks, with its own rights: the scan channel comes back. See scan.ts. */
export const PUSH_PATH = message(
  42,
  'push path',
  record({ repository, paths: list(bytes(PATH_MAX_BYTES, 1), PATHS_MAX), tags }),
  { maxBytes: 1 << 20 },
);
/** Two descriptors: stream and descriptor ends of the scan channel. */
export const PUSH_OPENED = message(43, 'push opened', record({ repository: name, job: integer() }), {
  maxDescriptors: 2,
});

export const checkDepth = oneOf('fast', 'snapshots', 'full', 'sample');
export const CHECK = message(
  44,
  'check',
  record({
    repository,
    depth: checkDepth,
    snapshots: list(snapshotName, SNAPSHOTS_MAX),
    /** of a sample: in how many runs everything is read */
    runs: optional(integer(1, 1000)),
  }),
  { maxBytes: 512 << 10 },
);
export const CHECKED = message(
  45,
  'checked',
  record({
    repository: name,
    depth: checkDepth,
    snapshots: integer(),
    packs: integer(),
    chunks: integer(),
    bytes: integer(),
    /** chunks nothing refers to; no damage */
    orphans: integer(),
    /** chunks that are stored more than once, beyond the first; no damage */
    duplicates: integer(),
    /** packs that are damaged, and were set aside by a repair */
    quarantined: integer(),
    /** objects that something is wrong with */
    problems: integer(),
    /** of a sample: everything is read in `runs` runs, this one being number `turn`, from 0 */
    runs: optional(integer()),
    turn: optional(integer()),
    /** what was lost, and has been made again from what is there */
    notes: list(text(1024), 64),
    durationMs: real,
  }),
  { maxBytes: 256 << 10 },
);

export const REMOVE = message(
  46,
  'rm',
  record({ repository, snapshots: list(snapshotName, SNAPSHOTS_MAX) }),
  {
    maxBytes: 512 << 10,
  },
);
export const REMOVED = message(
  47,
  'removed',
  record({ repository: name, snapshots: list(text(36), SNAPSHOTS_MAX) }),
  {
    maxBytes: 512 << 10,
  },
);

export const INFO = message(48, 'info', record({ repository }));
export const INFO_IS = message(49, 'info is', repositoryInfo);

export const RELOAD = message(50, 'reload', nothing);
export const STOP = message(51, 'stop', nothing);
export const DONE = message(52, 'done', nothing);
/** What was wrong with the configuration, a line each; empty where it was applied. */
export const RELOADED = message(53, 'reloaded', record({ errors: list(line, 100) }), { maxBytes: 2 << 20 });

/** `plakarctl log verbose|brief`: answered by DONE. */
export const SET_LOG = message(54, 'log', record({ verbose: boolean }));
/** Events of all jobs from now on; answered by DONE when the daemon ends. */
export const MONITOR = message(55, 'monitor', nothing);
export const EVENT = message(
  56,
  'event',
  record({
    timeMs: real,
    kind: oneOf('begun', 'progress', 'problem', 'over', 'failed'),
    job: integer(),
    operation: text(32),
    repository: name,
    source: optional(name),
    user: text(64),
    files: integer(),
    bytes: integer(),
    text: optional(line),
    /** events before this one that were not sent, as the client did not read */
    missed: integer(),
  }),
);
/** The state of the daemon as OpenMetrics text. */
export const METRICS = message(57, 'metrics', nothing);
export const METRICS_ARE = message(58, 'metrics are', record({ text: text(1 << 20) }), { maxBytes: 4 << 20 });

/** Snapshots that `keep` judges at once. */
export const KEEP_MAX = 32_768;
/** How many of each are kept; see keep.ts of the repository. */
export const policy = record({
  last: optional(integer(1)),
  hourly: optional(integer(1)),
  daily: optional(integer(1)),
  weekly: optional(integer(1)),
  monthly: optional(integer(1)),
  quarterly: optional(integer(1)),
  yearly: optional(integer(1)),
  withinSeconds: optional(integer()),
  tags: optional(tags),
});
/** What `keep` asks for, in both of its messages: only snapshots with all of `tags`, and of `source`, are judged. */
export const keepFields = { dryRun: boolean, tags, source: optional(name) };
/** Without a policy, by the one of the configuration. */
export const KEEP = message(60, 'keep', record({ repository, policy: optional(policy), ...keepFields }));
export const KEPT = message(
  61,
  'kept',
  record({
    repository: name,
    /** oldest first; without a reason it was removed, or would be */
    snapshots: list(record({ snapshot: text(36), time: real, reasons: list(text(160), 64) }), KEEP_MAX),
  }),
  { maxBytes: 3 << 20 },
);

/** Of both messages about repairs: `mend` from what is in it, and `end` after what is lost has been read from sources again. */
export const repairFields = { step: oneOf('mend', 'end'), dryRun: boolean, accept: boolean, remove: boolean };
export const REPAIR = message(266, 'repair', record({ repository, ...repairFields }));
export const REPAIRED = message(
  267,
  'repaired',
  record({
    repository: name,
    dryRun: boolean,
    /** objects that something was wrong with */
    problems: integer(),
    /** packs that were indexed by their footers, and that an index named and are not there */
    indexed: integer(),
    missing: integer(),
    /** configuration, key slots and keyrings that were put back, and that cannot be */
    putBack: integer(),
    unmended: integer(),
    /** damaged packs that were set aside; of them, what was stored again */
    quarantined: integer(),
    salvagedChunks: integer(),
    salvagedBytes: integer(),
    unreadableSegments: integer(),
    /** chunks that snapshots refer to, and that nobody can read now */
    lostChunks: integer(),
    /** snapshots that cannot be restored whole, and the sources that may have what they miss */
    broken: list(text(36), SNAPSHOTS_MAX),
    sources: list(name, 256),
    /** of them, those that were removed */
    removed: integer(),
    /** problems of the log */
    accepted: integer(),
    unaccepted: integer(),
    durationMs: real,
  }),
  { maxBytes: 512 << 10 },
);

export const CLEANUP = message(62, 'cleanup', record({ repository, dryRun: boolean, reseal: boolean }));
export const CLEANED_UP = message(
  63,
  'cleaned up',
  record({
    repository: name,
    dryRun: boolean,
    /** what is left under older epochs than the newest: packs, after -reseal */
    oldPacks: integer(),
    packs: integer(),
    /** what was removed, or, of a dry run, would be */
    removedPacks: integer(),
    removedBytes: integer(),
    rewrittenPacks: integer(),
    copiedBytes: integer(),
    /** marked, and waiting for the writers that do not know of it */
    waitingPacks: integer(),
    waitingBytes: integer(),
    writers: integer(),
    givenUp: integer(),
    leftovers: integer(),
    notes: list(text(1024), 16),
    /** of all packs, afterwards */
    storedBytes: integer(),
    durationMs: real,
  }),
);

/** 136 years, so that its end is a date. */
const PAUSE_MAX_SECONDS = 2 ** 32;
/** `plakarctl pause` (for so many seconds, or until `resume`) and `resume`: the schedule. Answered by DONE. */
export const PAUSE = message(340, 'pause', record({ seconds: optional(integer(1, PAUSE_MAX_SECONDS)) }));
export const RESUME = message(341, 'resume', nothing);

/** Traces of these topics, of one process or all, from now on; answered by DONE when the daemon ends. */
export const TRACE = message(
  80,
  'trace',
  record({
    /** `storage local`, or `storage` */
    process: optional(text(2 * NAME_MAX_CHARS)),
    topics: list(oneOf(...TOPICS), TOPICS.length),
  }),
);
export const TRACE_IS = message(
  81,
  'trace is',
  record({
    timeMs: real,
    process: text(2 * NAME_MAX_CHARS),
    topic: oneOf(...TOPICS),
    text: text(1024),
    /** traces before this one that were not sent, here or on the way here */
    missed: integer(),
  }),
  { untraced: true },
);
