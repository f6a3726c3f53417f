/**
 * A child's channel to its parent: one that keeps to what broker.ts demands. A
 * query waits where it would come too soon; a message that the parent would
 * drop is not sent. Used by child.ts.
 *
 * Invariant: a child that is not taken over never breaks the rules by asking
 * too often, whatever its clients make it do.
 */
import { setTimeout as pause } from 'node:timers/promises';
import {
  Channel,
  type ChannelOptions,
  type Ends,
  type QueryOptions,
  type SendOptions,
} from '../ipc/channel.ts';
import type { MessageType, Received } from '../ipc/message.ts';
import type { RequestRule } from './broker.ts';
import { Bucket } from './bucket.ts';

/** Of what the parent allows: messages that were held up on their way come closer together than they were sent. */
const SHARE = 0.5;

interface Paced {
  readonly rule: RequestRule;
  readonly bucket: Bucket;
  /** resolves when the query before may be sent */
  last: Promise<void>;
  unanswered: number;
  readonly waiting: (() => void)[];
  /** messages that were not sent */
  missed: number;
}

export class ParentChannel extends Channel {
  readonly #paced = new Map<number, Paced>();
  readonly #nowMs: () => number;

  constructor(ends: Ends, rules: readonly RequestRule[], nowMs: () => number, options: ChannelOptions) {
    super(ends, options);
    this.#nowMs = nowMs;
    for (const rule of rules) {
      const rate = { atOnce: Math.max(1, rule.atOnce * SHARE), perSecond: rule.perSecond * SHARE };
      const bucket = new Bucket(rate, nowMs());
      this.#paced.set(rule.type.number, {
        rule,
        bucket,
        last: Promise.resolve(),
        unanswered: 0,
        waiting: [],
        missed: 0,
      });
    }
  }

  override message<T>(
    type: MessageType<T>,
    payload: T,
    fds?: readonly number[],
    options?: SendOptions,
  ): void {
    const paced = this.#paced.get(type.number);
    if (paced?.rule.excess === 'dropped' && !paced.bucket.take(this.#nowMs())) paced.missed++;
    else super.message(type, payload, fds, options);
  }

  /** How many messages of a type were not sent since this last said so; 0 as long as none can be. */
  takeMissed(type: MessageType<unknown>): number {
    const paced = this.#paced.get(type.number);
    if (paced === undefined || paced.bucket.waitMs(this.#nowMs()) > 0) return 0;
    const { missed } = paced;
    paced.missed = 0;
    return missed;
  }

  override async query<T, R>(
    type: MessageType<T>,
    payload: T,
    reply: MessageType<R>,
    options?: QueryOptions,
  ): Promise<Received<R>> {
    const paced = this.#paced.get(type.number);
    if (paced === undefined) return await super.query(type, payload, reply, options);
    const turn = paced.last.then(() => this.#turn(paced));
    paced.last = turn;
    await turn;
    try {
      return await super.query(type, payload, reply, options);
    } finally {
      paced.unanswered--;
      paced.waiting.shift()?.();
    }
  }

  /** Resolves when one more may be asked, and counts it. */
  async #turn(paced: Paced): Promise<void> {
    while (paced.unanswered >= Math.max(1, paced.rule.atOnce * SHARE))
      await new Promise<void>((resolve) => paced.waiting.push(resolve));
    paced.unanswered++;
    while (!paced.bucket.take(this.#nowMs())) await pause(Math.ceil(paced.bucket.waitMs(this.#nowMs())));
  }
}
