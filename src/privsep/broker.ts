/**
 * What a child may ask of the parent, when, and how often. Made by start.ts for
 * each start of a child, from the table that the program has for its role
 * (processes/requests.ts); the parent's handlers are registered here, and a
 * handler for what the table does not have is a mistake that asserts.
 *
 * Invariant: a request reaches its handler only in a phase that its rule names,
 * as what the rule says that it is, and no more often; anything else ends the
 * channel, which costs the child its life.
 */
import { assert } from '../builtin.ts';
import type { Channel, Handler } from '../ipc/channel.ts';
import { Breach, type MessageType, type Received } from '../ipc/message.ts';
import { closeAll } from '../sys/socket.ts';
import { Bucket, type Rate } from './bucket.ts';

/** Where a child is in its life: until all of its group are ready, until it is told to stop, until it is gone. */
export type Phase = 'starting' | 'working' | 'stopping';

/** All of them. */
export const PHASES: readonly Phase[] = ['starting', 'working', 'stopping'];

/** One thing that a role may ask. */
export interface RequestRule extends Rate {
  readonly type: MessageType<unknown>;
  /** a query wants an answer, and at most `atOnce` of them are unanswered; a message wants none */
  readonly kind: 'query' | 'message';
  readonly phases: readonly Phase[];
  /** what comes too often is fatal, or dropped; default fatal */
  readonly excess?: 'fatal' | 'dropped';
}

/** The rules of each role. */
export type RequestTable = Readonly<Record<string, readonly RequestRule[]>>;

/** Of anything, what is dropped included: far more than a child sends that waits as pace.ts does. */
const FLOOD: Rate = { atOnce: 200_000, perSecond: 20_000 };

export interface BrokerOptions {
  readonly rules: readonly RequestRule[];
  readonly phase: () => Phase;
  /** of a monotonic clock */
  readonly nowMs: () => number;
}

interface Judged {
  readonly rule: RequestRule;
  readonly bucket: Bucket;
  unanswered: number;
}

export class Broker {
  readonly #channel: Channel;
  readonly #options: BrokerOptions;
  readonly #rules = new Map<number, RequestRule>();
  readonly #flood: Bucket;

  constructor(channel: Channel, options: BrokerOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#flood = new Bucket(FLOOD, options.nowMs());
    for (const rule of options.rules) this.#rules.set(rule.type.number, rule);
  }

  /** What is done with a request; `handle` answers it over the channel, if it is a query. */
  answer<T>(
    type: MessageType<T>,
    handle: (message: Received<T>, channel: Channel) => ReturnType<Handler<T>>,
  ) {
    const rule = this.#rules.get(type.number);
    assert(rule !== undefined, `${type.name} is not declared for ${this.#channel.name}`);
    this.#rules.delete(type.number);
    const judged: Judged = { rule, bucket: new Bucket(rule, this.#options.nowMs()), unanswered: 0 };
    this.#channel.handler(type, (message) => {
      try {
        if (!this.#admits(judged, message)) return closeAll(message.fds);
      } catch (error) {
        closeAll(message.fds);
        throw error;
      }
      return this.#handle(judged, () => handle(message, this.#channel));
    });
  }

  /** Asserts that all that is declared has its handler. */
  complete(): void {
    const [rule] = this.#rules.values();
    assert(rule === undefined, `${rule?.type.name} of ${this.#channel.name} is declared, but has no handler`);
  }

  #handle(judged: Judged, handle: () => void | Promise<void>): void | Promise<void> {
    const returned = handle();
    if (!(returned instanceof Promise)) return;
    judged.unanswered++;
    return returned.finally(() => {
      judged.unanswered--;
    });
  }

  /** Whether the request is to be handled; throws a Breach for one that must not be. */
  #admits({ rule, bucket, unanswered }: Judged, message: Received<unknown>): boolean {
    const refuse = (cause: string): never => {
      throw new Breach('refuse', rule.type.name, { cause });
    };
    const nowMs = this.#options.nowMs();
    if (!this.#flood.take(nowMs)) refuse(`more than ${FLOOD.perSecond} messages a second`);
    if ((message.id !== 0) !== (rule.kind === 'query')) refuse(`it must be a ${rule.kind}`);
    const phase = this.#options.phase();
    if (!rule.phases.includes(phase)) refuse(`not while ${phase}`);
    if (unanswered >= rule.atOnce) refuse(`${unanswered} are unanswered`);
    if (bucket.take(nowMs)) return true;
    if (rule.excess !== 'dropped') refuse(`more than ${rule.perSecond} in a second`);
    return false;
  }
}
