/**
 * The clients of `trace`: who wants to see what, and the way of each trace to
 * them. Called by control.ts. A client that does not read misses traces, and is
 * told how many; when the last has left, nothing is traced.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { TRACE_IS } from '../../messages/client.ts';
import { type PARENT_TRACE, type PARENT_TRACED, TRACERS_MAX } from '../../messages/parent.ts';

type Wanted = PayloadOf<typeof PARENT_TRACE.shape>['wanted'];
type Traced = PayloadOf<typeof PARENT_TRACED.shape>;

interface Tracer {
  readonly wanted: Wanted[number];
  /** answers its request */
  readonly end: () => void;
  missed: number;
}

export class Tracers {
  readonly #tracers = new Map<Channel, Tracer>();
  readonly #tell: (wanted: Wanted) => Promise<void>;

  /** `tell` has the parent trace that, and nothing else. */
  constructor(tell: (wanted: Wanted) => Promise<void>) {
    this.#tell = tell;
  }

  get size(): number {
    return this.#tracers.size;
  }

  /** A client traces from now on. Rejects if there is nothing of that name. */
  async add(channel: Channel, wanted: Wanted[number], end: () => void): Promise<void> {
    if (this.#tracers.has(channel)) throw new Failure('trace', '', { cause: 'once is enough', kind: 'busy' });
    if (this.#tracers.size >= TRACERS_MAX)
      throw new Failure('trace', '', { cause: `${TRACERS_MAX} clients do already`, kind: 'busy' });
    this.#tracers.set(channel, { wanted, end, missed: 0 });
    try {
      await this.#update();
    } catch (error) {
      this.leave(channel);
      throw error;
    }
  }

  leave(channel: Channel): void {
    // the parent may be stopping us, and then hears nothing more
    if (this.#tracers.delete(channel)) this.#update().catch(() => undefined);
  }

  /** Tells all that nothing more comes. */
  close(): void {
    for (const [channel, { end }] of this.#tracers) if (!channel.closed) end();
    this.#tracers.clear();
  }

  traced({ process, topic, text, timeMs, missed }: Traced): void {
    const role = process.replace(/ .*$/, '');
    for (const [channel, tracer] of this.#tracers) {
      const { wanted } = tracer;
      tracer.missed += missed;
      const isMeant = wanted.process === undefined || wanted.process === process || wanted.process === role;
      if (!isMeant || !wanted.topics.includes(topic) || channel.closed) continue;
      if (!channel.writable) {
        tracer.missed++;
        continue;
      }
      channel.message(TRACE_IS, { process, topic, text, timeMs, missed: tracer.missed });
      tracer.missed = 0;
    }
  }

  #update(): Promise<void> {
    return this.#tell([...this.#tracers.values()].map(({ wanted }) => wanted));
  }
}
