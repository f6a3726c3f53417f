/**
 * What the parent and its children say to each other beyond privsep's own
 * messages. The parent answers only what is declared here; anything else costs
 * the child its channel.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, nothing, oneOf, optional, real, record, text } from '../ipc/shape.ts';
import { TOPICS } from '../trace.ts';
import { NAME_MAX_CHARS, PAUSE, policy, status } from './client.ts';

const name = text(NAME_MAX_CHARS);

/**
 * control → parent: bring up (and connect) what a job on these needs, and leave
 * it as it is until the job is over; with a source where its scanner is needed,
 * with an other repository where that is read, by the first one's chunker.
 */
export const NEED = message(
  192,
  'need',
  record({ job: integer(1), repository: name, source: optional(name), other: optional(name) }),
);
export const READY_FOR = message(
  193,
  'ready for',
  record({ id: text(36), format: integer(), created: real, encryption: boolean }),
);
/** control → parent: make the repository. */
export const MAKE = message(194, 'make', record({ repository: name }));
export const MADE = message(195, 'made', record({ id: text(36) }));
/** Answered by client.ts' RELOADED. */
export const PARENT_RELOAD = message(196, 'reload', nothing);
export const PARENT_STOP = message(197, 'stop', nothing);
export const PARENT_STATUS = message(198, 'status', nothing);
export const PARENT_STATUS_IS = message(199, 'status is', status, { maxBytes: 1 << 20 });
export const PARENT_DONE = message(200, 'done', nothing);

/** One `permit` rule with its names resolved to numbers. */
const permit = record({
  uid: optional(integer()),
  gid: optional(integer()),
  operations: list(text(32), 64),
  source: optional(name),
  repository: optional(name),
});
/** parent → control: what the configuration says that control must know. */
export const CONTROL_SETTINGS = message(
  201,
  'control settings',
  record({
    host: text(256),
    repositories: list(
      record({
        name,
        location: text(4096),
        compression: text(32),
        encryption: boolean,
        /** what `keep` goes by, where it is given no policy of its own */
        keep: optional(policy),
      }),
      256,
    ),
    sources: list(record({ name, paths: list(text(4096), 64) }), 256),
    permits: list(permit, 4096),
  }),
  { maxBytes: 2 << 20 },
);

/** parent → storage: write a new repository's configuration object and first key slot. */
export const INITIALIZE = message(
  204,
  'initialize',
  record({ config: bytes(64 << 10), slotName: text(64), slot: bytes(64 << 10) }),
  { maxBytes: 256 << 10 },
);
/** parent → storage: the keys are in place; load the index. New packs are of this epoch. */
export const LOAD = message(205, 'load', record({ epoch: integer(1, 0xffff_ffff) }));
export const LOADED = message(206, 'loaded', record({ chunks: integer(), packs: integer() }));

/** parent → members of a repository: its shared rings, as descriptors in the order of `rings`. */
export const RINGS = message(
  213,
  'rings',
  record({
    rings: list(record({ name: text(16), slots: integer(1, 1024), slotBytes: integer(4096) }), 2),
  }),
  { maxDescriptors: 2 },
);
/** scanner → parent: its source has changed, and the changes have settled. */
export const CHANGED = message(345, 'changed', nothing);
/** scanner → parent: its source is watched by so many watches, or why it is not. */
export const WATCHING = message(
  346,
  'watching',
  record({ watches: integer(), failed: optional(text(1024)) }),
);
/** Any child → parent: an event to log on its behalf. */
export const LOG = message(
  214,
  'log',
  record({ level: oneOf('debug', 'info', 'warn', 'error'), text: text(4096) }),
  { maxBytes: 16 << 10 },
);
/** parent → control: the listening socket (one descriptor). */
export const LISTEN = message(215, 'listen', nothing, { maxDescriptors: 1 });
/** control → parent: a job that NEED was answered for is over; a push, with its snapshot if it made one. */
export const RELEASE = message(216, 'release', record({ job: integer(1), snapshot: optional(text(36)) }));
/** control → parent: which death since then was the end of a job on these? */
export const WHY = message(
  217,
  'why',
  record({ repository: name, source: optional(name), other: optional(name), sinceMs: real }),
);
export const WHY_IS = message(218, 'why is', record({ text: optional(text(4096)) }));
/** parent → control: do what the schedule says; the first of a sync's repositories is `repository`. */
export const RUN_TASK = message(
  219,
  'run task',
  record({
    operation: oneOf('push', 'keep', 'check', 'cleanup', 'sync'),
    repository: name,
    source: optional(name),
    depth: optional(oneOf('fast', 'snapshot', 'full')),
    other: optional(name),
    direction: optional(oneOf('to', 'from', 'with')),
  }),
);
/** Its snapshot, or what else it came to. */
export const TASK_RUN = message(
  220,
  'task run',
  record({ snapshot: optional(text(36)), result: optional(text(4096)) }),
);
/** control → parent: the schedule waits, for so many seconds or until it is told to go on. Answered by PARENT_DONE. */
export const PARENT_PAUSE = message(342, 'pause', PAUSE.shape);
export const PARENT_RESUME = message(343, 'resume', nothing);
/** control → parent: log more or less; answered by PARENT_DONE. */
export const PARENT_LOG = message(221, 'set log', record({ verbose: boolean }));

/** Clients that trace at once. */
export const TRACERS_MAX = 16;
const traceTopic = oneOf(...TOPICS);
/** control → parent: trace this, and nothing else; answered by PARENT_DONE. */
export const PARENT_TRACE = message(
  280,
  'set traces',
  record({
    wanted: list(
      record({ process: optional(text(2 * NAME_MAX_CHARS)), topics: list(traceTopic, TOPICS.length) }),
      TRACERS_MAX,
    ),
  }),
);
/** parent → control: what a process traced. */
export const PARENT_TRACED = message(
  281,
  'traced',
  record({
    process: text(2 * NAME_MAX_CHARS),
    topic: traceTopic,
    text: text(1024),
    timeMs: real,
    missed: integer(),
  }),
  { untraced: true },
);
/** parent → control: the metrics as text. */
export const RENDER = message(282, 'render metrics', nothing);
export const RENDERED = message(283, 'metrics rendered', record({ text: text(1 << 20) }), {
  maxBytes: 4 << 20,
});
