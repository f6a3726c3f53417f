/**
 * What a supervisor and a child say to each other for privsep's own sake.
 * Numbers 1 to 31 are reserved for it; everything else on the channel belongs
 * to the role.
 *
 *   parent → child   SETUP (1 descriptor)  who you are, and your root directory
 *   child → parent   READY | FAILED        dropped, confined, set up; or why not
 *   parent → child   PEER (2 descriptors)  answered by PEER_TAKEN
 *   parent → child   BEGIN                 your whole group is ready
 *   child → parent   PEER_FAILED           a peer broke the rules; its channel is closed
 *   parent → child   STOP                  finish, and exit
 *   parent → child   PING                  does your event loop turn? answered by PONG
 *   parent → child   TRACE                 trace these topics, and no others
 *   child → parent   TRACED                a trace; too many of them are not sent
 */
import { message } from '../ipc/message.ts';
import { bytes, integer, list, nothing, oneOf, optional, record, text } from '../ipc/shape.ts';
import { TOPICS } from '../trace.ts';
import { CAPABILITIES, INSTANCE_MAX_CHARS, LIMITS, ROLE_MAX_CHARS } from './declare.ts';
import { PROFILES } from './seccomp.ts';

/** The packed settings of a role, bytes. */
export const SETTINGS_MAX_BYTES = 1 << 20;
const WIRE_TEXT_MAX_CHARS = 4096;
/** One trace. */
export const TRACE_MAX_CHARS = 1024;
const LIMITS_MAX = 16;
const ID_MAX = 0xffff_fffe;

const role = text(ROLE_MAX_CHARS);
const instance = text(INSTANCE_MAX_CHARS);
const failure = record({ kind: text(32), text: text(WIRE_TEXT_MAX_CHARS) });

type CapabilityNames = readonly (keyof typeof CAPABILITIES)[];
type LimitNames = readonly (keyof typeof LIMITS)[];

export const SETUP = message(
  1,
  'setup',
  record({
    parent: integer(1),
    uid: integer(1, ID_MAX),
    gid: integer(1, ID_MAX),
    profile: oneOf(...PROFILES),
    capabilities: list(oneOf(...(Object.keys(CAPABILITIES) as CapabilityNames)), LIMITS_MAX),
    limits: list(
      record({ name: oneOf(...(Object.keys(LIMITS) as LimitNames)), value: integer() }),
      LIMITS_MAX,
    ),
    settings: optional(bytes(SETTINGS_MAX_BYTES)),
  }),
  { maxBytes: SETTINGS_MAX_BYTES + (32 << 10), maxDescriptors: 1 },
);
export const READY = message(2, 'ready', nothing);
export const FAILED = message(3, 'failed', failure);
export const PEER = message(4, 'peer', record({ role, instance }), { maxDescriptors: 2 });
export const PEER_TAKEN = message(5, 'peer taken', nothing);
export const BEGIN = message(6, 'begin', nothing);
export const STOP = message(7, 'stop', nothing);
export const PEER_FAILED = message(8, 'peer failed', record({ role, instance, failure }));
export const PING = message(9, 'ping', nothing);
export const PONG = message(10, 'pong', nothing);
export const TRACE = message(11, 'trace', record({ topics: list(oneOf(...TOPICS), TOPICS.length) }), {
  untraced: true,
});
export const TRACED = message(
  12,
  'traced',
  record({ topic: oneOf(...TOPICS), text: text(TRACE_MAX_CHARS), missed: integer() }),
  { untraced: true },
);
