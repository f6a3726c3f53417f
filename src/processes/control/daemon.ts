/**
 * What clients ask of the daemon itself, and not of a repository: how it is, to
 * watch or trace it, to log, pause, reload and stop. Made by control.ts, which
 * lends what it takes. Most of it is the parent's to do, and needs a rule that
 * permits it; the parent's answer is then the client's.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { MessageType, Received } from '../../ipc/message.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import {
  DONE,
  METRICS,
  METRICS_ARE,
  MONITOR,
  PAUSE,
  RELOAD,
  RELOADED,
  RESUME,
  SET_LOG,
  STATUS,
  STATUS_IS,
  STOP,
  TRACE,
} from '../../messages/client.ts';
import { HOLDINGS, HOLDINGS_ARE } from '../../messages/jobs.ts';
import {
  PARENT_DONE,
  PARENT_LOG,
  PARENT_PAUSE,
  PARENT_RELOAD,
  PARENT_RESUME,
  PARENT_STATUS,
  PARENT_STATUS_IS,
  PARENT_STOP,
  PARENT_TRACE,
  PARENT_TRACED,
  RENDER,
  RENDERED,
} from '../../messages/parent.ts';
import { answer, type Client } from './clients.ts';
import type { Job, Jobs } from './jobs.ts';
import { openMetrics } from './metrics.ts';
import type { Monitor } from './monitor.ts';
import { Tracers } from './traces.ts';

/** Operations after which a repository holds something else. */
const CHANGING: ReadonlySet<string> = new Set(['push', 'rm', 'keep', 'cleanup', 'repair', 'sync', 'info']);

type Status = PayloadOf<typeof PARENT_STATUS_IS.shape>;

/** What control lends. */
export interface DaemonTools {
  readonly parent: Channel;
  readonly jobs: Jobs;
  readonly monitor: Monitor;
  /** throws unless a rule permits it; the sources it is permitted for, undefined for all */
  readonly permit: (client: Client, operation: string) => string[] | undefined;
  readonly clients: () => number;
  readonly chunker: (repository: string) => Channel | undefined;
}

export class DaemonRequests {
  readonly #tools: DaemonTools;
  readonly #tracers: Tracers;

  constructor(tools: DaemonTools) {
    this.#tools = tools;
    const { parent } = tools;
    this.#tracers = new Tracers(async (wanted) => {
      await parent.query(PARENT_TRACE, { wanted }, PARENT_DONE);
    });
    parent.handler(PARENT_TRACED, ({ payload }) => this.#tracers.traced(payload));
    parent.handler(RENDER, async (message) => {
      parent.reply(message, RENDERED, { text: await this.#render() });
    });
  }

  /** Registers what a client may ask. */
  serve(client: Client): void {
    answer(client, STATUS, (_, message) =>
      this.#reply(client, message, 'status', STATUS_IS, () => this.#status()),
    );
    answer(client, METRICS, (_, message) =>
      this.#reply(client, message, 'status', METRICS_ARE, async () => ({ text: await this.#render() })),
    );
    answer(client, MONITOR, (_, message) => this.#watch(client, message));
    answer(client, TRACE, (_, message) => this.#trace(client, message));
    this.#pass(client, SET_LOG, 'log', PARENT_LOG);
    this.#pass(client, PAUSE, 'pause', PARENT_PAUSE);
    this.#pass(client, RESUME, 'resume', PARENT_RESUME);
    this.#pass(client, STOP, 'stop', PARENT_STOP);
    answer(client, RELOAD, (_, message) =>
      this.#reply(client, message, 'reload', RELOADED, async () => {
        const { payload } = await this.#tools.parent.query(PARENT_RELOAD, {}, RELOADED);
        return payload;
      }),
    );
  }

  /** A client is gone, and hears and traces nothing more. */
  leave({ channel }: Client): void {
    this.#tools.monitor.leave(channel);
    this.#tracers.leave(channel);
  }

  /** Tells all who watch or trace that nothing more comes. */
  close(): void {
    this.#tools.monitor.close();
    this.#tracers.close();
  }

  /** After what changes it: what the repository holds now, for the metrics. */
  async measure({ repository, operation }: Job): Promise<void> {
    const chunker = CHANGING.has(operation) ? this.#tools.chunker(repository) : undefined;
    if (chunker === undefined || chunker.closed) return;
    const { payload } = await chunker.query(HOLDINGS, {}, HOLDINGS_ARE);
    this.#tools.monitor.tally.holdings.set(repository, payload);
  }

  async #reply<T>(
    client: Client,
    message: Received<unknown>,
    operation: string,
    type: MessageType<T>,
    make: () => Promise<T>,
  ): Promise<void> {
    this.#tools.permit(client, operation);
    client.channel.reply(message, type, await make());
  }

  /** What the parent does, and answers by no more than that it is done. */
  #pass<T>(client: Client, type: MessageType<T>, operation: string, order: MessageType<T>): void {
    answer(client, type, (_, message) =>
      this.#reply(client, message, operation, DONE, async () => {
        await this.#tools.parent.query(order, message.payload, PARENT_DONE);
        return {};
      }),
    );
  }

  async #status(): Promise<Status> {
    const { parent, jobs } = this.#tools;
    const { payload } = await parent.query(PARENT_STATUS, {}, PARENT_STATUS_IS);
    return { ...payload, jobs: jobs.list() };
  }

  async #render(): Promise<string> {
    const { monitor, clients, jobs } = this.#tools;
    return openMetrics(await this.#status(), {
      nowMs: Date.now(),
      clients: clients(),
      watchers: monitor.watchers,
      tracers: this.#tracers.size,
      waiting: jobs.waiting(),
      tally: monitor.tally,
    });
  }

  /** Answered at the end of the daemon; until then the client is sent what happens. */
  async #watch(client: Client, message: Received<unknown>): Promise<void> {
    const { permit, monitor } = this.#tools;
    permit(client, 'monitor');
    monitor.watch(client.channel, () => client.channel.reply(message, DONE, {}));
  }

  /** As long as it likes; what is traced may be of any source. */
  async #trace(client: Client, message: Received<PayloadOf<typeof TRACE.shape>>): Promise<void> {
    if (this.#tools.permit(client, 'trace') !== undefined)
      throw new Failure('trace', '', { cause: 'traces are of all sources', kind: 'not-permitted' });
    const { channel } = client;
    await this.#tracers.add(channel, message.payload, () => channel.reply(message, DONE, {}));
  }
}
