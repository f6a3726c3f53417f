/**
 * Everything that a child may ask of the parent: by role, in which phase of the
 * child's life, and how often. The one table for both sides: the parent's
 * handlers can be registered for what stands here only (privsep/broker.ts), and
 * a child waits by itself where it would ask too often (privsep/pace.ts).
 *
 * Whatever else a child says costs it its life, by name in the log. What a
 * request may be about at a given time (a job that has a lease, say) is judged
 * by its handler, which throws a Breach.
 */
import type { MessageType } from '../ipc/message.ts';
import { PARENT_CHANGE_KEYS, PARENT_KEYS } from '../messages/keys.ts';
import { REMEMBER } from '../messages/memory.ts';
import {
  CHANGED,
  LOG,
  MAKE,
  NEED,
  PARENT_LOG,
  PARENT_PAUSE,
  PARENT_RELOAD,
  PARENT_RESUME,
  PARENT_STATUS,
  PARENT_STOP,
  PARENT_TRACE,
  RELEASE,
  WATCHING,
  WHY,
} from '../messages/parent.ts';
import { PHASES, type Phase, type RequestRule, type RequestTable } from '../privsep/broker.ts';
import type { Rate } from '../privsep/bucket.ts';
import { TRACED } from '../privsep/messages.ts';

/** A child may still ask what it had on its way when it was told to stop. */
const AT_WORK: readonly Phase[] = ['working', 'stopping'];

/** Jobs of control at once; its share of what may be unanswered leaves them all room. */
export const JOBS_MAX = 512;
/** For each job. */
const PER_JOB: Rate = { atOnce: 2 * JOBS_MAX, perSecond: 1000 };
/** By somebody's command, or looked at over and over. */
const PER_COMMAND: Rate = { atOnce: 64, perSecond: 64 };
const LOOKED_AT: Rate = { atOnce: 256, perSecond: 1000 };
/** Of what one process traces; all that is more is counted. */
const TRACES: Rate = { atOnce: 20_000, perSecond: 10_000 };
/** A source that is watched, where changes settle within a second at the soonest. */
const WATCHED: Rate = { atOnce: 16, perSecond: 4 };
const LINES: Rate = { atOnce: 10_000, perSecond: 2000 };

/** Wants an answer. */
function query(type: MessageType<unknown>, rate: Rate, phases = AT_WORK): RequestRule {
  return { type, kind: 'query', phases, ...rate };
}

/** Wants none. */
function tell(type: MessageType<unknown>, rate: Rate, phases = AT_WORK): RequestRule {
  return { type, kind: 'message', phases, ...rate };
}

/** Any child's log, from its first moment on; what is too much of it is lost. */
const OF_ALL: readonly RequestRule[] = [
  { ...tell(LOG, LINES, PHASES), excess: 'dropped' },
  { ...tell(TRACED, TRACES, PHASES), excess: 'dropped' },
];

export const REQUESTS: RequestTable = {
  control: [
    ...OF_ALL,
    query(NEED, PER_JOB),
    // with one of them for each that was answered, its rate is that of NEED
    tell(RELEASE, PER_JOB),
    query(WHY, PER_JOB),
    query(MAKE, PER_COMMAND),
    query(PARENT_KEYS, PER_COMMAND),
    query(PARENT_CHANGE_KEYS, PER_COMMAND),
    query(PARENT_RELOAD, PER_COMMAND),
    query(PARENT_LOG, PER_COMMAND),
    // when a client comes, and when it leaves
    query(PARENT_TRACE, LOOKED_AT),
    query(PARENT_PAUSE, PER_COMMAND),
    query(PARENT_RESUME, PER_COMMAND),
    query(PARENT_STOP, PER_COMMAND),
    query(PARENT_STATUS, LOOKED_AT),
  ],
  scanner: [...OF_ALL, tell(CHANGED, WATCHED), tell(WATCHING, WATCHED)],
  // after each push, removal and check
  chunker: [...OF_ALL, query(REMEMBER, PER_JOB)],
  crypto: OF_ALL,
  storage: OF_ALL,
  keys: OF_ALL,
};
