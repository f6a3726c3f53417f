/**
 * control: the process that clients talk to. It serves the control socket,
 * knows each client by the credentials that the kernel noted, decides by the
 * `permit` rules, asks the parent for the processes that a job needs, and hands
 * the job to the chunker of its repository. It opens no file and holds no key;
 * what clients read and write goes past it.
 */
import { describe, Failure, kindOf } from '../error.ts';
import type { Channel } from '../ipc/channel.ts';
import type { MessageType, Received } from '../ipc/message.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import type { Log } from '../log.ts';
import {
  CHECK,
  CHECKED,
  CLEANED_UP,
  CLEANUP,
  CREATE,
  CREATED,
  INFO,
  INFO_IS,
  KEEP,
  KEPT,
  OPEN,
  OPENED,
  PROBLEM,
  PROGRESS,
  PUSH,
  PUSH_OPENED,
  PUSH_PATH,
  PUSHED,
  REMOVE,
  REMOVED,
  REPAIR,
  REPAIRED,
} from '../messages/client.ts';
import {
  CANCEL,
  CHECK_REPOSITORY,
  CLEAN_REPOSITORY,
  HOLDINGS,
  HOLDINGS_ARE,
  JOB_OVER,
  KEEP_SNAPSHOTS,
  PUSH_CLIENT,
  PUSH_SOURCE,
  REMOVE_SNAPSHOTS,
  REPAIR_REPOSITORY,
  SESSION,
} from '../messages/jobs.ts';
import { CHANGE_KEYS, KEYS } from '../messages/keys.ts';
import {
  CONTROL_SETTINGS,
  LISTEN,
  MADE,
  MAKE,
  NEED,
  PARENT_DONE,
  READY_FOR,
  RELEASE,
  RUN_TASK,
  TASK_RUN,
  WHY,
  WHY_IS,
} from '../messages/parent.ts';
import { SYNC } from '../messages/sync.ts';
import type { ChildContext } from '../privsep/child.ts';
import { answer, type Client, Clients } from './control/clients.ts';
import { DaemonRequests } from './control/daemon.ts';
import { type Job, Jobs, type Request } from './control/jobs.ts';
import { changeKeys, type KeyTools, listKeys } from './control/keys.ts';
import { Monitor } from './control/monitor.ts';
import { Permits } from './control/permits.ts';
import { Syncs } from './control/syncs.ts';
import { type Asked, type Result, runTask } from './control/tasks.ts';
import { childLog } from './logging.ts';
import type { ControlStart } from './parent/control.ts';

const EVENT_TEXT_MAX_CHARS = 4096;
/** Between two lines of the log about clients that did wrong. */
const COMPLAIN_MS = 1000;

type Settings = PayloadOf<typeof CONTROL_SETTINGS.shape>;
type Summary = PayloadOf<typeof PUSHED.shape>;

class Control {
  readonly #context: ChildContext;
  readonly #clients: Clients;
  readonly #jobs: Jobs;
  readonly #monitor: Monitor;
  readonly #syncs: Syncs;
  readonly #daemon: DaemonRequests;
  readonly #log: Log;
  #settings: Settings | undefined;
  /** when a client's misdeed may be logged again, and those that were not */
  #complainMs = 0;
  #unsaid = 0;
  #permits: Permits | undefined;

  constructor(context: ChildContext) {
    this.#context = context;
    const { parent } = context;
    this.#log = childLog(context);
    this.#monitor = new Monitor(this.#log, context.name, Date.now);
    this.#jobs = new Jobs({
      first: (context.settings as ControlStart).firstJob,
      now: Date.now,
      began: (job) => this.#monitor.began(job),
      over: (job, error) => {
        this.#monitor.over(job, error);
        // one that dies meanwhile is asked again after the next job
        if (error === undefined) this.#daemon.measure(job).catch(() => undefined);
        if (job.isHeld) parent.message(RELEASE, { job: job.number, snapshot: job.snapshot });
      },
    });
    this.#syncs = new Syncs({
      repository: (operation, wanted) => this.#repository(operation, wanted).name,
      permit: (client, operation, repository) => this.#permit(client, operation, repository),
      begin: (owner, request) => this.#jobs.begin(owner, request),
      work: (job, work) => this.#work(job, work),
      end: (job) => this.#jobs.end(job.number),
      chunker: (repository) => this.#chunker(repository),
      make: async (repository) => {
        await parent.query(MAKE, { repository }, MADE);
      },
    });
    this.#clients = new Clients({
      serve: (client) => this.#serve(client),
      gone: (client, error) => this.#gone(client, error),
      refused: (uid) => this.#complain(`a client of user ${uid} was refused: too many`),
    });
    this.#daemon = new DaemonRequests({
      parent,
      jobs: this.#jobs,
      monitor: this.#monitor,
      permit: (client, operation) => this.#permit(client, operation),
      clients: () => this.#clients.size,
      chunker: (repository) => this.#chunker(repository),
    });
    parent.handler(CONTROL_SETTINGS, (message) => {
      this.#settings = message.payload;
      this.#permits = new Permits(message.payload.permits);
      parent.reply(message, PARENT_DONE, {});
    });
    parent.handler(RUN_TASK, async (message) => {
      parent.reply(message, TASK_RUN, await this.#runTask(message.payload));
    });
    parent.handler(LISTEN, (message) => {
      const server = this.#clients.listen(message.fds[0] ?? -1);
      context.onStop(() => {
        server.close();
      });
      parent.reply(message, PARENT_DONE, {});
    });
    // the last of all: whoever asked for the stop hears that it is done
    context.onStop(() => this.#clients.close());
    context.onStop(() => this.#daemon.close());
    context.onPeer('chunker', (channel) => this.#serveChunker(channel));
    context.onPeerLost('chunker', (repository) => {
      const failure = new Failure('chunker', repository, { cause: 'it died' });
      // those that the chunker answers end with their query, which knows more
      for (const job of this.#jobs.on(repository)) if (job.isHanded) this.#jobs.end(job.number, failure);
    });
  }

  #serve(client: Client): void {
    const requests: <T>(type: MessageType<T>, respond: (message: Received<T>) => Promise<void>) => void = (
      type,
      respond,
    ) => answer(client, type, (_, message) => respond(message));
    this.#daemon.serve(client);
    requests(CREATE, (message) => this.#create(client, message));
    requests(OPEN, (message) => this.#open(client, message));
    requests(PUSH, (message) => this.#push(client, message));
    requests(PUSH_PATH, (message) => this.#pushPath(client, message));
    requests(CHECK, (message) => this.#check(client, message));
    requests(REMOVE, (message) => this.#remove(client, message));
    requests(KEEP, (message) => this.#keep(client, message));
    requests(SYNC, (message) => this.#syncs.sync(client, message));
    requests(REPAIR, (message) => this.#repair(client, message));
    requests(CLEANUP, (message) => this.#cleanup(client, message));
    requests(INFO, (message) => this.#info(client, message));
    requests(KEYS, (message) => listKeys(message, this.#keyTools(client)));
    requests(CHANGE_KEYS, (message) => changeKeys(message, this.#keyTools(client)));
  }

  /** What a client that went away had asked for is given up. */
  #gone(client: Client, error: unknown): void {
    this.#daemon.leave(client);
    if (error !== undefined) this.#complain(describe(error));
    for (const job of this.#jobs.of(client)) {
      job.isCancelled = true;
      const chunker = this.#chunker(job.repository);
      if (chunker?.closed === false) chunker.message(CANCEL, { job: job.number });
    }
  }

  /** Logs what a client did wrong; whoever does it over and over fills no log. */
  #complain(text: string): void {
    const nowMs = performance.now();
    if (nowMs < this.#complainMs) {
      this.#unsaid++;
      return;
    }
    const more = this.#unsaid === 0 ? '' : ` (and ${this.#unsaid} more of clients before)`;
    this.#log.warn(`${text}${more}`, { process: this.#context.name });
    this.#complainMs = nowMs + COMPLAIN_MS;
    this.#unsaid = 0;
  }

  // ---- jobs
  #chunker(repository: string): Channel | undefined {
    return this.#context.peer('chunker', repository);
  }

  #serveChunker(channel: Channel): void {
    channel.handler(PROGRESS, ({ payload }) => {
      const job = this.#jobs.progress(payload);
      if (job !== undefined) this.#monitor.progress(job);
    });
    channel.handler(PROBLEM, ({ payload }) => {
      const job = this.#jobs.problem(payload);
      const { object, text, paths = [] } = payload;
      const about = [object, ...paths.map(String)].filter((each) => each !== '').join(' ');
      if (job !== undefined) this.#monitor.problem(job, `${about}: ${text}`.slice(0, EVENT_TEXT_MAX_CHARS));
    });
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

  get #rules(): Permits {
    if (this.#permits === undefined)
      throw new Failure('permit', '', { cause: 'not configured yet', kind: 'busy' });
    return this.#permits;
  }

  /** Throws unless a rule permits it; returns the sources it is permitted for, undefined for all. */
  #permit({ caller }: Client, operation: string, repository?: string, source?: string): string[] | undefined {
    return this.#rules.check(caller, operation, repository, source);
  }

  /** As `#permit`, for what is of all sources. */
  #permitWhole({ caller }: Client, operation: string, why: string, repository: string): void {
    this.#rules.checkWhole(caller, operation, why, repository);
  }

  #job(client: Client, operation: string, repository: string, source?: string): Job {
    const request: Request = {
      operation,
      repository,
      source,
      user: String(client.caller.uid),
      channel: client.channel,
    };
    return this.#jobs.begin(client, request);
  }

  /** Brings up what the job needs, and returns the chunker that does it. It stays up until the job ends. */
  async #ready(job: Job): Promise<Channel> {
    const { number, repository, operation, source, other } = job;
    // a path that a client walks needs no scanner: only configured sources are named
    const need = { job: number, repository, source, other };
    const { payload } = await this.#context.parent.query(NEED, need, READY_FOR);
    job.ready = payload;
    job.isHeld = true;
    if (job.isCancelled) throw new Failure(operation, '', { cause: 'interrupted', kind: 'interrupted' });
    const chunker = this.#chunker(repository);
    if (chunker === undefined)
      throw new Failure('use repository', repository, { cause: 'it is not running' });
    return chunker;
  }

  /** Does a job's work; what fails says whose death it was, if it was one. */
  async #work<T>(job: Job, work: (chunker: Channel) => Promise<T>): Promise<T> {
    try {
      return await work(await this.#ready(job));
    } catch (error) {
      const death = kindOf(error) === 'failed' ? await this.#why(job) : undefined;
      const failure = death === undefined ? error : new Failure(death, '');
      this.#jobs.end(job.number, failure);
      throw failure;
    }
  }

  async #why({ repository, source, other, startedMs }: Job): Promise<string | undefined> {
    const { payload } = await this.#context.parent.query(
      WHY,
      { repository, source, other, sinceMs: startedMs },
      WHY_IS,
    );
    return payload.text;
  }

  /** Runs a job that ends with the chunker's reply, which is the client's too. */
  async #relay<A, B, T, R>(
    client: Client,
    message: Received<A>,
    job: Job,
    ask: { type: MessageType<T>; payload: T; reply: MessageType<R>; answer: MessageType<B> },
  ): Promise<void> {
    const payload = await this.#work(
      job,
      async (chunker) => (await chunker.query(ask.type, ask.payload, ask.reply)).payload,
    );
    this.#jobs.end(job.number);
    client.channel.reply(message, ask.answer, payload as unknown as B);
  }

  /** Begins a job that goes on between client and chunker, over what the chunker sends for it. */
  async #hand<A, T, R>(
    client: Client,
    message: Received<A>,
    job: Job,
    ask: { type: MessageType<T>; payload: T; reply: MessageType<R> },
  ): Promise<void> {
    await this.#work(job, async (chunker) => {
      const { payload, fds } = await chunker.query(ask.type, ask.payload, ask.reply);
      job.isHanded = true;
      client.channel.reply(message, ask.reply, payload, fds, { given: true });
    });
  }

  // ---- requests

  async #create(client: Client, message: Received<PayloadOf<typeof CREATE.shape>>): Promise<void> {
    const { name, location, encryption } = this.#repository('create', message.payload.repository);
    this.#permitWhole(client, 'create', 'a repository is for all sources', name);
    // the configuration decides; a word on the command line must not seem to
    if (message.payload.noEncryption === true && encryption)
      throw new Failure('create', name, {
        cause: 'the configuration encrypts it',
        kind: 'usage',
        remedy: `no encryption in repository ${name} { … } makes it without`,
      });
    const { payload } = await this.#context.parent.query(MAKE, { repository: name }, MADE);
    client.channel.reply(message, CREATED, { repository: name, id: payload.id, location });
  }

  async #open(client: Client, message: Received<PayloadOf<typeof OPEN.shape>>): Promise<void> {
    const { operation } = message.payload;
    const { name } = this.#repository(operation, message.payload.repository);
    const sources = this.#permit(client, operation, name);
    const job = this.#job(client, operation, name);
    await this.#hand(client, message, job, {
      type: SESSION,
      payload: { job: job.number, sources },
      reply: OPENED,
    });
  }

  #source(name: string): Settings['sources'][number] {
    const { sources } = this.#configured();
    const found = sources.find((candidate) => candidate.name === name);
    if (found !== undefined) return found;
    throw new Failure('push', name, {
      cause: 'no such source in the configuration',
      remedy: `there are: ${sources.map((each) => each.name).join(', ') || 'none'}; a path has a slash in it`,
    });
  }

  async #push(client: Client, message: Received<PayloadOf<typeof PUSH.shape>>): Promise<void> {
    const { source, tags } = message.payload;
    const { name } = this.#repository('push', message.payload.repository);
    this.#source(source);
    this.#permit(client, 'push', name, source);
    const summary = await this.#pushSource(this.#job(client, 'push', name, source), source, tags);
    client.channel.reply(message, PUSHED, summary);
  }

  /** What the schedule says: nobody waits for it but the parent. */
  async #runTask(asked: Asked): Promise<Result> {
    const { operation, source } = asked;
    if (operation === 'sync') return { snapshot: undefined, result: await this.#syncs.run(asked) };
    const { name, keep } = this.#repository(operation, asked.repository);
    const request = { operation, repository: name, source, user: 'schedule', channel: undefined };
    const begin = (): Job => this.#jobs.begin(this, request);
    if (source !== undefined) {
      this.#source(source);
      const { snapshot } = await this.#pushSource(begin(), source, []);
      return { snapshot, result: undefined };
    }
    const result = await runTask(asked, {
      begin,
      keep,
      work: (job, work) => this.#work(job, work),
      end: (job) => this.#jobs.end(job.number),
    });
    return { snapshot: undefined, result };
  }

  async #pushSource(job: Job, source: string, tags: string[]): Promise<Summary> {
    const { host } = this.#configured();
    const paths = this.#source(source).paths.map((path) => Buffer.from(path));
    const payload = { job: job.number, host, user: job.user, paths, tags, source };
    const summary = await this.#work(
      job,
      async (chunker) => (await chunker.query(PUSH_SOURCE, payload, PUSHED)).payload,
    );
    job.snapshot = summary.snapshot;
    this.#jobs.end(job.number);
    return summary;
  }

  async #pushPath(client: Client, message: Received<PayloadOf<typeof PUSH_PATH.shape>>): Promise<void> {
    const { paths, tags } = message.payload;
    const { host } = this.#configured();
    const { name } = this.#repository('push', message.payload.repository);
    this.#permitWhole(client, 'push', 'a path is none of the sources that are permitted', name);
    const job = this.#job(client, 'push', name);
    const payload = { job: job.number, host, user: job.user, paths, tags };
    await this.#hand(client, message, job, { type: PUSH_CLIENT, payload, reply: PUSH_OPENED });
  }

  async #check(client: Client, message: Received<PayloadOf<typeof CHECK.shape>>): Promise<void> {
    const { depth, snapshots, runs } = message.payload;
    const { name } = this.#repository('check', message.payload.repository);
    this.#permitWhole(client, 'check', 'a check reads all sources', name);
    const job = this.#job(client, 'check', name);
    const payload = { job: job.number, depth, snapshots, runs };
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

  async #keep(client: Client, message: Received<PayloadOf<typeof KEEP.shape>>): Promise<void> {
    const { repository, ...asked } = message.payload;
    const { name, keep } = this.#repository('keep', repository);
    const sources = this.#permit(client, 'keep', name);
    const policy = asked.policy ?? keep;
    if (policy === undefined)
      throw new Failure('keep', name, {
        cause: 'no policy is given, and the configuration has none',
        kind: 'usage',
        remedy: 'such as: 24 hourly, 7 daily, last 3',
      });
    const job = this.#job(client, 'keep', name);
    const payload = { ...asked, policy, job: job.number, sources };
    await this.#relay(client, message, job, { type: KEEP_SNAPSHOTS, payload, reply: KEPT, answer: KEPT });
  }

  async #repair(client: Client, message: Received<PayloadOf<typeof REPAIR.shape>>): Promise<void> {
    const { repository, ...asked } = message.payload;
    const { name } = this.#repository('repair', repository);
    this.#permitWhole(client, 'repair', 'a repair is of all sources', name);
    const job = this.#job(client, 'repair', name);
    const payload = { job: job.number, ...asked };
    await this.#relay(client, message, job, {
      type: REPAIR_REPOSITORY,
      payload,
      reply: REPAIRED,
      answer: REPAIRED,
    });
  }

  async #cleanup(client: Client, message: Received<PayloadOf<typeof CLEANUP.shape>>): Promise<void> {
    const { repository, ...asked } = message.payload;
    const { name } = this.#repository('cleanup', repository);
    this.#permitWhole(client, 'cleanup', 'a cleanup is of all sources', name);
    const job = this.#job(client, 'cleanup', name);
    await this.#relay(client, message, job, {
      type: CLEAN_REPOSITORY,
      payload: { ...asked, job: job.number },
      reply: CLEANED_UP,
      answer: CLEANED_UP,
    });
  }

  async #info(client: Client, message: Received<PayloadOf<typeof INFO.shape>>): Promise<void> {
    const { name, location, compression } = this.#repository('info', message.payload.repository);
    this.#permitWhole(client, 'info', 'it is of all sources', name);
    const job = this.#job(client, 'info', name);
    const { ready, payload } = await this.#work(job, async (chunker) => ({
      ready: job.ready,
      payload: (await chunker.query(HOLDINGS, {}, HOLDINGS_ARE)).payload,
    }));
    this.#jobs.end(job.number);
    if (ready === undefined) throw new Failure('info', name, { cause: 'it is not ready' });
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

  /** Keys are the parent's: what control does of it is in control/keys.ts. */
  #keyTools(client: Client): KeyTools {
    return {
      parent: this.#context.parent,
      begin: (wanted) => {
        const { name } = this.#repository('key', wanted);
        this.#permitWhole(client, 'key', 'keys are of all sources', name);
        return this.#job(client, 'key', name);
      },
      work: async (job, work) => {
        const done = await this.#work(job, work);
        this.#jobs.end(job.number);
        return done;
      },
      reply: (message, type, payload) => client.channel.reply(message, type, payload),
    };
  }
}

export function control(context: ChildContext): void {
  new Control(context);
}
