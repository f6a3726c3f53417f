/**
 * Syncs and clones, as far as they are control's: who may, which two
 * repositories, and what the giver is told that it may give. Called by
 * control.ts. Invariant: a giver that was told so is told again when the job is
 * over, however it ended.
 */
import { Failure, kindOf } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { Received } from '../../ipc/message.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { OK } from '../../messages/data.ts';
import type { RUN_TASK } from '../../messages/parent.ts';
import { ALLOW, FORBID, type SYNC, SYNCED, TAKE } from '../../messages/sync.ts';
import type { Client } from './clients.ts';
import type { Job, Request } from './jobs.ts';

type Asked = PayloadOf<typeof SYNC.shape>;
type Task = Pick<PayloadOf<typeof RUN_TASK.shape>, 'repository' | 'other' | 'direction'>;
type Synced = PayloadOf<typeof SYNCED.shape>;

/** What a sync takes of control. */
export interface SyncTools {
  /** the name of a repository of the configuration; throws where there is none */
  readonly repository: (operation: string, wanted: string) => string;
  /** the sources that the client is confined to; throws where it may not */
  readonly permit: (client: Client, operation: string, repository: string) => string[] | undefined;
  readonly begin: (owner: object, request: Request) => Job;
  readonly work: <T>(job: Job, work: (chunker: Channel) => Promise<T>) => Promise<T>;
  readonly end: (job: Job) => void;
  readonly chunker: (repository: string) => Channel | undefined;
  /** makes a repository */
  readonly make: (repository: string) => Promise<void>;
}

/** Whose sync it is. */
interface For {
  readonly owner: object;
  readonly user: string;
  readonly channel: Channel | undefined;
  readonly sources: string[] | undefined;
  /** throws unless a repository may be made */
  readonly mayCreate: (repository: string) => void;
}

export class Syncs {
  readonly #tools: SyncTools;

  constructor(tools: SyncTools) {
    this.#tools = tools;
  }

  /** A client's request, and its answer. */
  async sync(client: Client, message: Received<Asked>): Promise<void> {
    const { operation, from, to } = message.payload;
    const { permit } = this.#tools;
    const of = (repository: string) =>
      permit(client, operation, this.#tools.repository(operation, repository));
    const sources = both(of(from), of(to));
    if (operation === 'clone' && sources !== undefined)
      throw new Failure('clone', from, { cause: 'a clone is of all sources', kind: 'not-permitted' });
    const synced = await this.#sync(message.payload, {
      owner: client,
      user: String(client.caller.uid),
      channel: client.channel,
      sources,
      mayCreate: (repository) => permit(client, 'create', repository),
    });
    client.channel.reply(message, SYNCED, synced);
  }

  /** What the schedule says: nobody waits for it but the parent. Resolves with what it came to. */
  async run({ repository, other = '', direction = 'to' }: Task): Promise<string> {
    const ways = direction === 'from' ? [[other, repository]] : [[repository, other]];
    if (direction === 'with') ways.push([other, repository]);
    const results: string[] = [];
    for (const [from = '', to = ''] of ways) results.push(await this.#runOne(from, to));
    return results.join('; ');
  }

  async #runOne(from: string, to: string): Promise<string> {
    const everything = { snapshots: [], tags: [], source: undefined, sinceMs: undefined };
    const { snapshots, held, storedBytes, failure } = await this.#sync(
      { operation: 'sync', from, to, dryRun: false, selection: everything, lenient: false },
      { owner: this, user: 'schedule', channel: undefined, sources: undefined, mayCreate: () => undefined },
    );
    const count = (wanted: string) => snapshots.filter(({ outcome }) => outcome === wanted).length;
    if (failure !== undefined)
      throw new Failure('sync', `${from} to ${to}`, {
        cause: `${count('failed')} snapshots were not copied`,
        kind: failure === 'damaged' ? 'damaged' : 'failed',
        remedy: `plakarctl sync ${from} to ${to} says why`,
      });
    return `${count('moved')} snapshots moved from ${from} to ${to}, ${held} held already, ${storedBytes} bytes stored`;
  }

  async #sync(asked: Asked, whose: For): Promise<Synced> {
    const { operation, from, to } = asked;
    if (from === to)
      throw new Failure(operation, `${from} to ${to}`, { cause: 'they are the same', kind: 'usage' });
    this.#tools.repository(operation, from);
    this.#tools.repository(operation, to);
    try {
      return await this.#take(asked, whose);
    } catch (error) {
      if (operation !== 'clone' || kindOf(error) !== 'no-repository') throw error;
    }
    // that the one to be read is there comes first: none is made for nothing
    const would = await this.#survey(asked, whose);
    if (asked.dryRun) return { ...would, to };
    whose.mayCreate(to);
    await this.#tools.make(to);
    return { ...(await this.#take(asked, whose)), created: true };
  }

  #begin({ operation, to, from }: Asked, { owner, user, channel }: For): Job {
    const request = { operation, repository: to, other: from, source: undefined, user, channel };
    return this.#tools.begin(owner, request);
  }

  async #take(asked: Asked, whose: For): Promise<Synced> {
    const { from, to, ...rest } = asked;
    const job = this.#begin(asked, whose);
    const synced = await this.#tools.work(job, async (taker) => {
      const giver = this.#tools.chunker(from);
      if (giver === undefined) throw new Failure('use repository', from, { cause: 'it is not running' });
      await giver.query(ALLOW, { job: job.number, to, sources: whose.sources }, OK);
      try {
        return (await taker.query(TAKE, { job: job.number, from, ...rest }, SYNCED)).payload;
      } finally {
        if (!giver.closed) giver.message(FORBID, { job: job.number });
      }
    });
    this.#tools.end(job);
    return synced;
  }

  /** What a clone would move, as the one to be read says by itself. */
  async #survey(asked: Asked, whose: For): Promise<Synced> {
    const { from, to: _, ...rest } = asked;
    const job = this.#tools.begin(whose.owner, {
      operation: asked.operation,
      repository: from,
      source: undefined,
      user: whose.user,
      channel: whose.channel,
    });
    const synced = await this.#tools.work(
      job,
      async (chunker) => (await chunker.query(TAKE, { job: job.number, from, ...rest }, SYNCED)).payload,
    );
    this.#tools.end(job);
    return synced;
  }
}

/** Sources that both allow; undefined where both allow all. */
function both(a: string[] | undefined, b: string[] | undefined): string[] | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a.filter((source) => b.includes(source));
}
