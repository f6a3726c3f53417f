/**
 * What the parent and its children say to each other beyond privsep's own
 * messages. The parent answers only what is declared here; anything else costs
 * the child its channel.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, nothing, oneOf, optional, real, record, text } from '../ipc/shape.ts';
import { NAME_MAX_CHARS, status } from './client.ts';

const name = text(NAME_MAX_CHARS);
const key = bytes(32, 32);

/**
 * control → parent: bring up (and connect) what a job on these needs, and leave
 * it as it is until the job is over; with a source where its scanner is needed.
 */
export const NEED = message(
  192,
  'need',
  record({ job: integer(1), repository: name, source: optional(name) }),
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
      record({ name, location: text(4096), compression: text(32), encryption: boolean }),
      256,
    ),
    sources: list(record({ name, paths: list(text(4096), 64) }), 256),
    permits: list(permit, 4096),
  }),
  { maxBytes: 2 << 20 },
);

/** parent → storage: the configuration object and key slots, as stored. */
export const READ_KEYS = message(202, 'read keys', nothing);
export const KEYS_ARE = message(
  203,
  'keys are',
  record({ config: bytes(64 << 10), slots: list(record({ name: text(64), data: bytes(64 << 10) }), 64) }),
  { maxBytes: 2 << 20 },
);
/** parent → storage: write a new repository's configuration object and first key slot. */
export const INITIALIZE = message(
  204,
  'initialize',
  record({ config: bytes(64 << 10), slotName: text(64), slot: bytes(64 << 10) }),
  { maxBytes: 256 << 10 },
);
/** parent → storage: the keys are in place; load the index. */
export const LOAD = message(205, 'load', nothing);
export const LOADED = message(206, 'loaded', record({ chunks: integer(), packs: integer() }));

/** parent → keys: open a slot, or make one. */
export const UNLOCK = message(
  207,
  'unlock',
  record({
    repository: bytes(16, 16),
    credential: optional(bytes(64 << 10)),
    slots: list(record({ name: text(64), data: bytes(64 << 10) }), 64),
  }),
  { maxBytes: 5 << 20 },
);
export const UNLOCKED = message(
  208,
  'unlocked',
  record({ master: key, epoch: integer(1, 0xffffffff), slot: text(64) }),
);
export const MAKE_SLOT = message(
  209,
  'make slot',
  record({
    repository: bytes(16, 16),
    credential: optional(bytes(64 << 10)),
    master: key,
    epoch: integer(1, 0xffffffff),
    label: text(128),
    created: real,
  }),
  { maxBytes: 128 << 10 },
);
export const SLOT_MADE = message(210, 'slot made', record({ slot: bytes(64 << 10) }), {
  maxBytes: 128 << 10,
});

/** parent → chunker and crypto: the keys each may hold, and the rings. */
export const CHUNKER_KEYS = message(211, 'chunker keys', record({ id: key, chunking: key }));
export const CRYPTO_KEYS = message(
  212,
  'crypto keys',
  record({
    repository: bytes(16, 16),
    epoch: integer(1, 0xffffffff),
    segment: key,
    index: key,
    snapshot: key,
    log: key,
  }),
);
/** parent → members of a repository: its shared rings, as descriptors in the order of `rings`. */
export const RINGS = message(
  213,
  'rings',
  record({
    rings: list(record({ name: text(16), slots: integer(1, 1024), slotBytes: integer(4096) }), 2),
  }),
  { maxDescriptors: 2 },
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
export const WHY = message(217, 'why', record({ repository: name, source: optional(name), sinceMs: real }));
export const WHY_IS = message(218, 'why is', record({ text: optional(text(4096)) }));
/** parent → control: push a source, as the schedule says. */
export const RUN_PUSH = message(219, 'run push', record({ repository: name, source: name }));
export const PUSH_RUN = message(220, 'push run', record({ snapshot: text(36) }));
/** control → parent: log more or less; answered by PARENT_DONE. */
export const PARENT_LOG = message(221, 'set log', record({ verbose: boolean }));
