/**
 * control: the process that clients talk to. It serves the control socket,
 * knows each client by the credentials that the kernel noted, decides by the
 * `permit` rules, asks the parent for the processes that a job needs, and hands
 * the job to the chunker of its repository. It opens no file and holds no key;
 * what clients read and write goes past it.
 */
import net from 'node:net';
import { Failure } from '../error.ts';
import { Channel } from '../ipc/channel.ts';
import { greet } from '../ipc/connect.ts';
import type { MessageType, Received } from '../ipc/message.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import {
  CHECK,
  CHECKED,
  CREATE,
  CREATED,
  DONE,
  INFO,
  INFO_IS,
  OPEN,
  OPENED,
  PROBLEM,
  PROGRESS,
  PUSH,
  PUSH_OPENED,
  PUSH_PATH,
  PUSHED,
  RELOAD,
  REMOVE,
  REMOVED,
  STATUS,
  STATUS_IS,
  STOP,
} from '../messages/client.ts';
import {
  CANCEL,
  CHECK_REPOSITORY,
  HOLDINGS,
  HOLDINGS_ARE,
  JOB_OVER,
  PUSH_CLIENT,
  PUSH_SOURCE,
  REMOVE_SNAPSHOTS,
  SESSION,
} from '../messages/jobs.ts';
import {
  CONTROL_SETTINGS,
  LISTEN,
  MADE,
  MAKE,
  NEED,
  PARENT_DONE,
  PARENT_RELOAD,
  PARENT_STATUS,
  PARENT_STATUS_IS,
  PARENT_STOP,
  READY_FOR,
} from '../messages/parent.ts';
import type { ChildContext } from '../privsep/child.ts';
import { peerGroups } from '../sys/server.ts';
import { closeAll, peerCredentials } from '../sys/socket.ts';
import { type Job, Jobs } from './control/jobs.ts';
import { type Caller, Permits } from './control/permits.ts';

type Settings = PayloadOf<typeof CONTROL_SETTINGS.shape>;

/** Clients at once: in all, and of one user who is not root. */
const CLIENTS_MAX = 256;
const CLIENTS_PER_USER_MAX = 64;

/** A connected client. */
interface Client {
  readonly caller: Caller;
  readonly channel: Channel;
}

class Control {
  readonly #context: ChildContext;
  readonly #clients = new Set<Client>();
  readonly #jobs = new Jobs();
  #settings: Settings | undefined;
  #permits: Permits | undefined;

  constructor(context: ChildContext) {
    this.#context = context;
    context.parent.handler(CONTROL_SETTINGS, (message) => {
      this.#settings = message.payload;
      this.#permits = new Permits(message.payload.permits);
      context.parent.reply(message, PARENT_DONE, {});
    });
    context.parent.handler(LISTEN, (message) => {
      this.#listen(message.fds[0] ?? -1);
      context.parent.reply(message, PARENT_DONE, {});
    });
    context.onPeer('chunker', (channel) => this.#serveChunker(channel));
  }

  // ---- clients come and go

  #listen(fd: number): void {
    const server = net.createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket));
    server.on('error', (error) => {
      throw new Failure('listen', '', { cause: error });
    });
    server.listen({ fd });
    this.#context.onStop(() => {
      server.close();
    });
  }

  /** A new connection is given its channel and closed: the channel is what the client talks on. */
  #accept(socket: net.Socket): void {
    socket.on('error', () => socket.destroy());
    const fd = descriptorOf(socket);
    try {
      const { pid, uid, gid } = peerCredentials(fd);
      const ofUser = [...this.#clients].filter((client) => client.caller.uid === uid).length;
      if (this.#clients.size >= CLIENTS_MAX || (uid !== 0 && ofUser >= CLIENTS_PER_USER_MAX)) return;
      const caller = { pid, uid, groups: [gid, ...peerGroups(fd)] };
      this.#serve({ caller, channel: new Channel(greet(fd), { name: `client ${pid} of user ${uid}` }) });
    } catch {
      // it hung up before it was greeted: its loss alone
    } finally {
      socket.destroy();
    }
  }

  #serve(client: Client): void {
    this.#clients.add(client);
    const { channel } = client;
    channel.handler(STATUS, (message) => this.#status(client, message));
    channel.handler(CREATE, (message) => this.#create(client, message));
    channel.handler(OPEN, (message) => this.#open(client, message));
    channel.handler(PUSH, (message) => this.#push(client, message));
    channel.handler(PUSH_PATH, (message) => this.#pushPath(client, message));
    channel.handler(CHECK, (message) => this.#check(client, message));
    channel.handler(REMOVE, (message) => this.#remove(client, message));
    channel.handler(INFO, (message) => this.#info(client, message));
    channel.handler(RELOAD, (message) => this.#toParent(client, message, 'reload', PARENT_RELOAD));
    channel.handler(STOP, (message) => this.#toParent(client, message, 'stop', PARENT_STOP));
    channel.dispatch().then(
      () => this.#gone(client),
      // a client that breaks the rules pays alone
      () => this.#gone(client),
    );
  }

  /** What a client that went away had asked for is given up. */
  #gone(client: Client): void {
    this.#clients.delete(client);
    client.channel.close();
    for (const job of this.#jobs.of(client))
      this.#chunker(job.repository)?.message(CANCEL, { job: job.number });
  }

  // ---- jobs

  #chunker(repository: string): Channel | undefined {
    return this.#context.peer('chunker', repository);
  }

  #serveChunker(channel: Channel): void {
    channel.handler(PROGRESS, ({ payload }) => this.#jobs.progress(payload));
    channel.handler(PROBLEM, ({ payload }) => this.#jobs.problem(payload));
    channel.handler(JOB_OVER, ({ payload }) => this.#jobs.end(payload.job));
  }

  #configured(): Settings {
    if (this.#settings === undefined)
      throw new Failure('serve', '', { cause: 'not configured yet', kind: 'busy' });
    return this.#settings;
  }

  /** The repository that is meant; without a name, the first of the configuration. */
  #repository(operation: string, wanted: string | undefined): Settings['repositories'][number] {
    const { repositories } = this.#configured();
    const found = wanted === undefined ? repositories[0] : repositories.find(({ name }) => name === wanted);
    if (found !== undefined) return found;
    const known = repositories.map(({ name }) => name).join(', ');
    throw new Failure(operation, wanted ?? '', {
      cause:
        wanted === undefined
          ? 'the configuration has no repository'
          : 'no such repository in the configuration',
      kind: 'no-repository',
      ...(known === '' ? {} : { remedy: `there are: ${known}` }),
    });
  }

  /** Throws unless a rule permits it; returns the sources it is permitted for, undefined for all. */
  #permit({ caller }: Client, operation: string, repository?: string, source?: string): string[] | undefined {
    if (this.#permits === undefined)
      throw new Failure(operation, '', { cause: 'not configured yet', kind: 'busy' });
    return this.#permits.check(caller, operation, repository, source);
  }

  /** Brings up what a job needs, and returns the chunker that does it. */
  async #ready(repository: string, source?: string): Promise<Channel> {
    await this.#context.parent.query(NEED, { repository, source }, READY_FOR);
    const chunker = this.#chunker(repository);
    if (chunker === undefined)
      throw new Failure('use repository', repository, { cause: 'it is not running' });
    return chunker;
  }

  #job(client: Client, operation: string, repository: string, source?: string): Job {
    const { channel } = client;
    return this.#jobs.begin(client, {
      operation,
      repository,
      source,
      user: String(client.caller.uid),
      channel,
    });
  }

  /** Runs a job that ends with the chunker's reply, which is the client's too; the client says which job failed. */
  async #relay<A, B, T, R>(
    client: Client,
    message: Received<A>,
    job: Job,
    ask: { type: MessageType<T>; payload: T; reply: MessageType<R>; answer: MessageType<B>; source?: string },
  ): Promise<void> {
    try {
      const chunker = await this.#ready(job.repository, ask.source);
      const { payload } = await chunker.query(ask.type, ask.payload, ask.reply);
      client.channel.reply(message, ask.answer, payload as unknown as B);
    } finally {
      this.#jobs.end(job.number);
    }
  }

  // ---- requests

  async #status(client: Client, message: Received<unknown>): Promise<void> {
    this.#permit(client, 'status');
    const { payload } = await this.#context.parent.query(PARENT_STATUS, {}, PARENT_STATUS_IS);
    client.channel.reply(message, STATUS_IS, { ...payload, jobs: this.#jobs.list() });
  }

  async #create(client: Client, message: Received<PayloadOf<typeof CREATE.shape>>): Promise<void> {
    const { name, location } = this.#repository('create', message.payload.repository);
    this.#permit(client, 'create', name);
    const { payload } = await this.#context.parent.query(MAKE, { repository: name }, MADE);
    client.channel.reply(message, CREATED, { repository: name, id: payload.id, location });
  }

  async #open(client: Client, message: Received<PayloadOf<typeof OPEN.shape>>): Promise<void> {
    const { operation } = message.payload;
    const { name } = this.#repository(operation, message.payload.repository);
    const sources = this.#permit(client, operation, name);
    const chunker = await this.#ready(name);
    const job = this.#job(client, operation, name);
    try {
      const opened = await chunker.query(SESSION, { job: job.number, sources }, OPENED);
      try {
        client.channel.reply(message, OPENED, opened.payload, opened.fds);
      } finally {
        closeAll(opened.fds);
      }
    } catch (error) {
      this.#jobs.end(job.number);
      throw error;
    }
  }

  async #push(client: Client, message: Received<PayloadOf<typeof PUSH.shape>>): Promise<void> {
    const { source, tags } = message.payload;
    const { host, sources } = this.#configured();
    const { name } = this.#repository('push', message.payload.repository);
    const configured = sources.find((candidate) => candidate.name === source);
    if (configured === undefined)
      throw new Failure('push', source, {
        cause: 'no such source in the configuration',
        remedy: `there are: ${sources.map((each) => each.name).join(', ') || 'none'}; a path has a slash in it`,
      });
    this.#permit(client, 'push', name, source);
    const job = this.#job(client, 'push', name, source);
    const paths = configured.paths.map((path) => Buffer.from(path));
    const payload = { job: job.number, host, user: job.user, paths, tags, source };
    await this.#relay(client, message, job, {
      type: PUSH_SOURCE,
      payload,
      reply: PUSHED,
      answer: PUSHED,
      source,
    });
  }

  async #pushPath(client: Client, message: Received<PayloadOf<typeof PUSH_PATH.shape>>): Promise<void> {
    const { paths, tags } = message.payload;
    const { host } = this.#configured();
    const { name } = this.#repository('push', message.payload.repository);
    this.#permit(client, 'push', name);
    const chunker = await this.#ready(name);
    const job = this.#job(client, 'push', name);
    try {
      const payload = { job: job.number, host, user: job.user, paths, tags };
      const opened = await chunker.query(PUSH_CLIENT, payload, PUSH_OPENED);
      try {
        client.channel.reply(message, PUSH_OPENED, opened.payload, opened.fds);
      } finally {
        closeAll(opened.fds);
      }
    } catch (error) {
      this.#jobs.end(job.number);
      throw error;
    }
  }

  async #check(client: Client, message: Received<PayloadOf<typeof CHECK.shape>>): Promise<void> {
    const { depth, snapshots } = message.payload;
    const { name } = this.#repository('check', message.payload.repository);
    if (this.#permit(client, 'check', name) !== undefined)
      throw new Failure('check', name, { cause: 'a check reads all sources', kind: 'not-permitted' });
    const job = this.#job(client, 'check', name);
    const payload = { job: job.number, depth, snapshots };
    await this.#relay(client, message, job, {
      type: CHECK_REPOSITORY,
      payload,
      reply: CHECKED,
      answer: CHECKED,
    });
  }

  async #remove(client: Client, message: Received<PayloadOf<typeof REMOVE.shape>>): Promise<void> {
    const { name } = this.#repository('rm', message.payload.repository);
    const sources = this.#permit(client, 'rm', name);
    const job = this.#job(client, 'rm', name);
    const payload = { job: job.number, snapshots: message.payload.snapshots, sources };
    await this.#relay(client, message, job, {
      type: REMOVE_SNAPSHOTS,
      payload,
      reply: REMOVED,
      answer: REMOVED,
    });
  }

  async #info(client: Client, message: Received<PayloadOf<typeof INFO.shape>>): Promise<void> {
    const { name, location, compression } = this.#repository('info', message.payload.repository);
    this.#permit(client, 'info', name);
    const { payload: ready } = await this.#context.parent.query(
      NEED,
      { repository: name, source: undefined },
      READY_FOR,
    );
    const chunker = await this.#ready(name);
    const { payload } = await chunker.query(HOLDINGS, {}, HOLDINGS_ARE);
    const { id, format, created, encryption } = ready;
    client.channel.reply(message, INFO_IS, {
      name,
      id,
      location,
      format,
      created,
      encryption,
      compression,
      ...payload,
    });
  }

  async #toParent(
    client: Client,
    message: Received<unknown>,
    operation: string,
    type: typeof PARENT_RELOAD,
  ): Promise<void> {
    this.#permit(client, operation);
    await this.#context.parent.query(type, {}, PARENT_DONE);
    client.channel.reply(message, DONE, {});
  }
}

/** The descriptor of an accepted socket, which node:net keeps to itself. */
function descriptorOf(socket: net.Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  if (typeof fd !== 'number') throw new Failure('accept client', '', { cause: 'no descriptor' });
  return fd;
}

export function control(context: ChildContext): void {
  new Control(context);
}
