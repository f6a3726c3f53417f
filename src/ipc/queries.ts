/**
 * Our queries that the peer has not answered. Called by channel.ts.
 *
 * Invariant: every query ends exactly once, by its reply, its timeout or the
 * channel's end; and a reply is accepted only once, from the type that its
 * query named, or ERROR.
 */
import { Failure, fromWire, type WireFailure } from '../error.ts';
import { ERROR, type MessageType, type Received } from './message.ts';

/** Most queries that wait for a reply. */
export const PENDING_MAX = 65_536;
/** Most queries that timed out and whose reply may still come. A peer that owes more is stuck. */
export const LATE_MAX = 1024;

interface Pending {
  readonly name: string;
  readonly reply: MessageType<unknown>;
  resolve(received: Received<unknown>): void;
  reject(error: unknown): void;
  timer: NodeJS.Timeout | undefined;
}

export class Queries {
  readonly #peer: string;
  readonly #pending = new Map<number, Pending>();
  /** Reply types of queries that timed out: their replies are expected, and dropped. */
  readonly #late = new Map<number, MessageType<unknown>>();
  readonly #onStuck: (error: Failure) => void;
  #lastId = 0;

  constructor(peer: string, onStuck: (error: Failure) => void) {
    this.#peer = peer;
    this.#onStuck = onStuck;
  }

  /** An id that no query has. */
  nextId(name: string): number {
    if (this.#pending.size >= PENDING_MAX)
      throw new Failure('query', name, {
        cause: `${PENDING_MAX} are unanswered by ${this.#peer}`,
        kind: 'busy',
      });
    do this.#lastId = this.#lastId === 0xffffffff ? 1 : this.#lastId + 1;
    while (this.#pending.has(this.#lastId) || this.#late.has(this.#lastId));
    return this.#lastId;
  }

  /** Waits for the reply to query `id`, which has been sent. */
  wait<R>(id: number, name: string, reply: MessageType<R>, timeoutMs?: number): Promise<Received<R>> {
    return new Promise((resolve, reject) => {
      const pending: Pending = {
        name,
        reply,
        // #take hands over only what reply.shape has checked
        resolve: resolve as (received: Received<unknown>) => void,
        reject,
        timer: timeoutMs === undefined ? undefined : setTimeout(() => this.#expire(id, timeoutMs), timeoutMs),
      };
      this.#pending.set(id, pending);
    });
  }

  #expire(id: number, timeoutMs: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    this.#late.set(id, pending.reply);
    pending.reject(this.#failure(pending, `no answer within ${timeoutMs} ms`));
    if (this.#late.size > LATE_MAX)
      this.#onStuck(
        new Failure('query', this.#peer, { cause: `${LATE_MAX} queries were not answered in time` }),
      );
  }

  #failure(pending: Pending, cause: unknown): Failure {
    return new Failure(`query ${pending.name} of`, this.#peer, { cause });
  }

  /** The type that a reply to `id` must have, or undefined where no such query is open: it is unknown, or a duplicate. */
  expected(id: number): MessageType<unknown> | undefined {
    return this.#pending.get(id)?.reply ?? this.#late.get(id);
  }

  /** Ends query `id` with its reply; false if it came too late and is to be dropped. */
  settle(id: number, received: Received<unknown>): boolean {
    this.#late.delete(id);
    const pending = this.#pending.get(id);
    if (pending === undefined) return false;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if (received.type === ERROR) pending.reject(fromWire(received.payload as WireFailure));
    else pending.resolve(received);
    return true;
  }

  /** Ends all queries: the channel is closed, for `cause`. */
  abandon(cause: unknown): void {
    const all = [...this.#pending.values()];
    this.#pending.clear();
    this.#late.clear();
    for (const pending of all) {
      clearTimeout(pending.timer);
      pending.reject(this.#failure(pending, cause));
    }
  }
}
