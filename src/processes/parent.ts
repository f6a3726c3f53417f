/**
 * parent: the root process. It reads the configuration and the key files,
 * makes the control socket, declares and starts the children, gives each what
 * it may have, answers the few questions that control may ask, and brings back
 * what dies. It is outside the data path, and serves nobody else.
 */
import { closeSync } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { type Configuration, print, type Source } from '../config/config.ts';
import { describe, Failure } from '../error.ts';
import { Breach } from '../ipc/message.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import type { OpenLog } from '../log.ts';
import { RELOADED } from '../messages/client.ts';
import { KEYS_CHANGED, KEYS_LISTED, PARENT_CHANGE_KEYS, PARENT_KEYS } from '../messages/keys.ts';
import { REMEMBER } from '../messages/memory.ts';
import {
  LOG,
  MADE,
  MAKE,
  NEED,
  PARENT_DONE,
  PARENT_LOG,
  PARENT_PAUSE,
  PARENT_RELOAD,
  PARENT_RESUME,
  PARENT_STATUS,
  PARENT_STATUS_IS,
  PARENT_STOP,
  PARENT_TRACE,
  READY_FOR,
  RELEASE,
  RENDER,
  RENDERED,
  RUN_TASK,
  TASK_RUN,
  WHY,
  WHY_IS,
} from '../messages/parent.ts';
import type { Broker } from '../privsep/broker.ts';
import { keepMemory } from '../privsep/confine.ts';
import { child } from '../privsep/declare.ts';
import { TRACED } from '../privsep/messages.ts';
import type { Exit } from '../privsep/start.ts';
import { Supervisor, type SupervisorOptions } from '../privsep/supervise.ts';
import { ownSocket, type SocketOwner } from '../sys/server.ts';
import { closeAll } from '../sys/socket.ts';
import { VERSION } from '../version.ts';
import {
  type ConfigurationPlace,
  ConfigurationRefused,
  controlSettings,
  filesOf,
  readConfiguration,
  sameStatement,
  socketGroup,
  userOf,
} from './parent/configuration.ts';
import { ControlProcess, refuseSecond } from './parent/control.ts';
import { makeEmptyDirectory } from './parent/empty.ts';
import { Falls } from './parent/falls.ts';
import { type GroupTools, RepositoryGroup } from './parent/group.ts';
import { Jobs } from './parent/jobs.ts';
import { meansOf, warnShort } from './parent/means.ts';
import { RepositoryMemory } from './parent/memory.ts';
import { MetricsFile } from './parent/metricsfile.ts';
import type { ServiceManager } from './parent/notify.ts';
import { scannerSettings } from './parent/scanner.ts';
import { Scheduler } from './parent/schedule.ts';
import { holdState } from './parent/state.ts';
import { tasksOf } from './parent/tasks.ts';
import { Traces } from './parent/traces.ts';
import { ConfigurationWatch } from './parent/watch.ts';
import { Watching } from './parent/watching.ts';
import { REQUESTS } from './requests.ts';

/** Errors of a configuration that are told; parsing finds no more. */
const ERRORS_MAX = 100;

/** How long things may take, in ms. */
export interface Timeouts
  extends Pick<SupervisorOptions, 'stallTimeoutMs' | 'stopTimeoutMs' | 'termTimeoutMs'> {
  readonly hookTimeoutMs?: number;
  /** before a repository's processes that keep dying are started again */
  readonly longestPauseMs?: number;
}

/** What the parent runs on. */
export interface ParentOptions extends ConfigurationPlace {
  /** absolute path of src/plakard.ts: what children run */
  readonly main: string;
  readonly log: OpenLog;
  readonly now: () => number;
  /** of a monotonic clock */
  readonly nowMs: () => number;
  readonly random: (bytes: number) => Buffer;
  /** hears of reloads, whoever asked for them */
  readonly manager?: Pick<ServiceManager, 'reloading' | 'ready'>;
  /** how long children may take; the supervisor's own where missing */
  readonly timeouts?: Timeouts;
}

export class Parent {
  readonly #options: ParentOptions;
  readonly #supervisor: Supervisor;
  readonly #groups = new Map<string, RepositoryGroup>();
  readonly #falls: Falls;
  readonly #memory: RepositoryMemory;
  readonly #startedMs: number;
  readonly #stopping = new AbortController();
  readonly #jobs: Jobs;
  readonly #control: ControlProcess;
  readonly #watch: ConfigurationWatch;
  readonly #schedule: Scheduler;
  readonly #watching: Watching;
  readonly #traces: Traces;
  readonly #metrics: MetricsFile;
  /** what was last logged of the files on disk */
  #onDisk = '';
  #configuration: Configuration;
  #reloading: Promise<void> | undefined;
  #reloadAgain: Promise<void> | undefined;

  constructor(options: ParentOptions, configuration: Configuration) {
    this.#options = options;
    this.#configuration = configuration;
    this.#startedMs = options.now();
    this.#falls = new Falls(options.now);
    this.#memory = new RepositoryMemory({ log: options.log, state: configuration.state });
    const { log, nowMs } = options;
    this.#supervisor = new Supervisor({
      ...options.timeouts,
      main: options.main,
      execArguments: process.execArgv,
      output: (name, line) => log.warn(line, { process: name }),
      requests: REQUESTS,
      nowMs,
      serve: (name, broker, channel) => {
        broker.answer(LOG, ({ payload }) => log[payload.level](payload.text, { process: name }));
        broker.answer(TRACED, ({ payload }) => this.#traces.traced(name, payload));
        this.#traces.started(name, channel);
        if (name.startsWith('chunker '))
          broker.answer(REMEMBER, async (message, channel) => {
            await this.#groups.get(name.slice('chunker '.length))?.remember(message.payload);
            channel.reply(message, PARENT_DONE, {});
          });
      },
    });
    this.#metrics = new MetricsFile({
      log,
      render: async () => (await this.#control.channel.query(RENDER, {}, RENDERED)).payload.text,
    });
    this.#traces = new Traces({
      running: () => this.#supervisor.running,
      channel: (name) => this.#supervisor.channel(name),
      control: () =>
        this.#supervisor.isRunning('control') ? this.#supervisor.channel('control') : undefined,
      now: options.now,
    });
    this.#supervisor.on('death', (exit) => this.#death(exit));
    this.#supervisor.on('complaint', (name, peer, failure) =>
      log.error(`${peer.role} ${peer.instance} broke the rules: ${describe(failure)}`, { process: name }),
    );
    this.#watch = new ConfigurationWatch(log, () => void this.#compare());
    this.#schedule = new Scheduler({
      log,
      host: hostname(),
      now: options.now,
      state: configuration.state,
      run: async ({ operation, repositories: [repository = '', other], source, depth, direction }) => {
        const asked = { operation, repository, other, source, depth, direction };
        return (await this.#control.channel.query(RUN_TASK, asked, TASK_RUN)).payload;
      },
    });
    this.#watching = new Watching(log, this.#schedule);
    this.#jobs = new Jobs({
      log,
      supervisor: this.#supervisor,
      schedule: this.#schedule,
      groups: this.#groups,
      configuration: () => this.#configuration,
      stopping: this.#stopping.signal,
      hookTimeoutMs: options.timeouts?.hookTimeoutMs,
    });
    this.#control = new ControlProcess(
      {
        supervisor: this.#supervisor,
        log,
        nowMs,
        user: userOf(configuration, 'control'),
        stopping: this.#stopping.signal,
        serve: (broker) => this.#serveControl(broker),
      },
      controlSettings(configuration),
    );
  }

  /** Starts everything; resolves when clients can connect. */
  async start(): Promise<void> {
    const { socket, sources, repositories, state } = this.#configuration;
    refuseSecond(socket.path);
    keepMemory();
    const held = holdState(state);
    this.#supervisor.atEnd(() => closeSync(held));
    makeEmptyDirectory();
    for (const source of sources) this.#declareScanner(source);
    for (const repository of repositories)
      this.#groups.set(repository.name, new RepositoryGroup(repository, this.#tools(this.#configuration)));
    await this.#control.start(socket.path, { gid: socketGroup(this.#configuration), mode: socket.mode });
    await this.#watch.set(filesOf(this.#options));
    this.#metrics.set(this.#configuration.metricsFile);
    this.#configureSchedule();
    warnShort(this.#configuration, this.#options.log);
    this.#options.log.info(`ready on ${socket.path}`, { process: 'parent' });
  }

  /** Aborted when it begins to stop, whoever asked for it. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Stops everything in order. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#schedule.stop();
    this.#metrics.close();
    await this.#watch.close();
    await this.#supervisor.shutdown();
  }

  /** Resolves when everything has stopped. */
  async finished(): Promise<void> {
    const failure = await this.#supervisor.finished;
    if (failure !== undefined) throw failure;
  }

  /** A child died unasked: whoever waits for it is told why, and it comes back. */
  #death(exit: Exit): void {
    const { role, instance } = exit;
    const text = exit.failure.cause;
    this.#options.log.error(`died: ${describe(text)}`, { process: exit.name });
    if (this.#stopping.signal.aborted) return;
    if (role === 'control') {
      this.#traces.set([]);
      this.#jobs.releaseAll();
      this.#control.fell(exit);
    } else if (role === 'scanner') {
      this.#falls.note(`source ${instance}`, exit);
      // what it had seen is lost with it
      this.#watching.ended(instance);
    } else {
      const repository = instance.replace(/\/.*$/, '');
      this.#falls.note(`repository ${repository}`, exit);
      this.#groups.get(repository)?.fell(exit);
    }
  }

  #configureSchedule(): void {
    const { sources } = this.#configuration;
    this.#schedule.configure(
      tasksOf(this.#configuration),
      sources.map(({ name }) => name),
    );
    this.#watching.configure(sources);
  }

  // ---- reload

  /**
   * Reads the configuration again. Nothing changes unless all of it is right;
   * then new jobs run under it, and what running jobs use changes when they are
   * over. Whoever asks meanwhile waits for one more reload, however many ask.
   */
  reload(): Promise<void> {
    if (this.#reloading === undefined) {
      this.#reloading = this.#reloadTold().finally(() => {
        this.#reloading = undefined;
      });
      return this.#reloading;
    }
    this.#reloadAgain ??= this.#reloading
      .catch(() => undefined)
      .then(() => {
        this.#reloadAgain = undefined;
        return this.reload();
      });
    return this.#reloadAgain;
  }

  /** Reloads; what is wrong with the configuration is the answer, anything else is thrown. */
  async #reloadErrors(): Promise<string[]> {
    try {
      await this.reload();
      return [];
    } catch (error) {
      if (error instanceof ConfigurationRefused) return error.lines.slice(0, ERRORS_MAX);
      throw error;
    }
  }

  /** The service manager waits for READY after each RELOADING. */
  async #reloadTold(): Promise<void> {
    const { manager } = this.#options;
    manager?.reloading();
    try {
      await this.#reload();
      manager?.ready('reloaded');
    } catch (error) {
      manager?.ready('not reloaded: the configuration has errors');
      throw error;
    }
  }

  async #reload(): Promise<void> {
    const { path, log } = this.#options;
    const before = this.#configuration;
    const { configuration: next, files } = readConfiguration(this.#options);
    this.#refuseFixed(before, next);
    const settings = controlSettings(next);
    const gid = socketGroup(next);
    const toolsChanged = !sameStatement(toolsOf(before), toolsOf(next));
    this.#tools(next);
    // from here on nothing is refused
    this.#configuration = next;
    this.#ownSocket(next.socket.path, { gid, mode: next.socket.mode });
    const rolesChanged = before.users.scanner !== next.users.scanner;
    for (const name of changed(before.sources, next.sources, rolesChanged))
      this.#jobs.change('source', name, () => this.#changeSource(name));
    for (const name of changed(before.repositories, next.repositories, toolsChanged))
      this.#jobs.change('repository', name, () => this.#changeRepository(name));
    await this.#control.configure(settings);
    this.#configureSchedule();
    await this.#watch.set(files);
    this.#metrics.set(next.metricsFile);
    this.#onDisk = '';
    log.form = next.log;
    warnShort(this.#configuration, this.#options.log);
    log.info(`reloaded ${path}`, { process: 'parent' });
  }

  /** A socket that somebody has removed is no reason to leave the rest as it was. */
  #ownSocket(path: string, owner: SocketOwner): void {
    try {
      ownSocket(path, owner);
    } catch (error) {
      const remedy = 'clients cannot connect; restart plakard';
      this.#options.log.error(describe(new Failure('reload', '', { cause: error, remedy })), {
        process: 'parent',
      });
    }
  }

  /** The files changed: says so where they mean something else than what runs, or applies them if it may. */
  async #compare(): Promise<void> {
    const { log, path } = this.#options;
    try {
      await this.#watch.set(filesOf(this.#options));
      const { configuration } = readConfiguration(this.#options);
      if (print(configuration) === print(this.#configuration))
        this.#say('info', `${path} is what runs again`);
      else if (this.#configuration.reload === 'automatic') await this.reload();
      else this.#say('warn', `${path} differs from what runs (plakarctl reload applies it)`);
    } catch (error) {
      const lines = error instanceof ConfigurationRefused ? error.lines : [describe(error)];
      for (const line of lines) log.error(line, { process: 'parent' });
      this.#say('warn', `${path} cannot be used as it is; what runs goes on`);
    }
  }

  /** Logs what the disk is like, once for each change of it. */
  #say(level: 'info' | 'warn', text: string): void {
    if (text === this.#onDisk || (level === 'info' && this.#onDisk === '')) return;
    this.#onDisk = text;
    this.#options.log[level](text, { process: 'parent' });
  }

  /** What cannot change while running. */
  #refuseFixed(before: Configuration, next: Configuration): void {
    const fixed: readonly (readonly [string, unknown, unknown])[] = [
      ['the socket', before.socket.path, next.socket.path],
      ['the state directory', before.state, next.state],
      ["control's user", before.users.control, next.users.control],
    ];
    for (const [what, was, is] of fixed)
      if (was !== is)
        throw new Failure('reload', this.#options.path, {
          cause: `${what} changed`,
          remedy: 'restart plakard',
        });
  }

  async #changeSource(name: string): Promise<void> {
    const scanner = `scanner ${name}`;
    await this.#supervisor.stop([scanner]);
    this.#supervisor.forget(scanner);
    const source = this.#configuration.sources.find((candidate) => candidate.name === name);
    if (source !== undefined) this.#declareScanner(source);
    this.#watching.ended(name);
  }

  async #changeRepository(name: string): Promise<void> {
    await this.#groups.get(name)?.retire();
    this.#groups.delete(name);
    const repository = this.#configuration.repositories.find((candidate) => candidate.name === name);
    if (repository !== undefined)
      this.#groups.set(name, new RepositoryGroup(repository, this.#tools(this.#configuration)));
  }

  // ---- declarations

  #tools(configuration: Configuration): GroupTools {
    const { now, nowMs, random, log } = this.#options;
    return {
      supervisor: this.#supervisor,
      log,
      memory: this.#memory,
      now,
      nowMs,
      random,
      stopping: this.#stopping.signal,
      longestPauseMs: this.#options.timeouts?.longestPauseMs,
      meansOf: (repository) => meansOf(configuration, repository, availableParallelism()),
      chunkerUser: userOf(configuration, 'chunker'),
      cryptoUser: userOf(configuration, 'crypto'),
      storageUser: userOf(configuration, 'storage'),
    };
  }

  /** A scanner runs in its source's own path; several paths share the root directory above them. */
  #declareScanner(source: Source): void {
    const { root, settings } = scannerSettings(source);
    this.#supervisor.declare(
      child('scanner')
        .instance(source.name)
        .user(userOf(this.#configuration, 'scanner'))
        .chroot(root)
        .profile('scanner')
        .capabilities('CAP_DAC_READ_SEARCH')
        .limit('nofile', 4096)
        .mayTalkTo('chunker')
        .settings(settings)
        .startsAtOnce()
        .servedBy((broker) => this.#watching.serve(source.name, broker)),
    );
  }

  // ---- what control may ask

  #serveControl(broker: Broker): void {
    broker.answer(NEED, async (message, channel) => {
      const { payload } = message;
      channel.reply(message, READY_FOR, await this.#jobs.need(payload));
    });
    broker.answer(RELEASE, ({ payload }) => {
      if (!this.#jobs.holds(payload.job))
        throw new Breach('release job', String(payload.job), { cause: 'it holds nothing' });
      void this.#jobs.release(payload.job, payload.snapshot);
    });
    broker.answer(WHY, async (message, channel) => {
      const { repository, source, other, sinceMs } = message.payload;
      const keys = source === undefined ? [] : [`source ${source}`];
      if (other !== undefined) keys.push(`repository ${other}`);
      const text = await this.#falls.since([`repository ${repository}`, ...keys], sinceMs);
      channel.reply(message, WHY_IS, { text });
    });
    broker.answer(MAKE, async (message, channel) => {
      const group = this.#jobs.group(message.payload.repository);
      channel.reply(message, MADE, { id: await group.create() });
    });
    broker.answer(PARENT_KEYS, async (message, channel) => {
      channel.reply(message, KEYS_LISTED, await this.#jobs.leased(message.payload).keys.list());
    });
    broker.answer(PARENT_CHANGE_KEYS, async (message, channel) => {
      try {
        const changed = await this.#jobs.leased(message.payload).keys.change(message.payload, message.fds);
        channel.reply(message, KEYS_CHANGED, changed);
      } finally {
        closeAll(message.fds);
      }
    });
    broker.answer(PARENT_RELOAD, async (message, channel) => {
      channel.reply(message, RELOADED, { errors: await this.#reloadErrors() });
    });
    broker.answer(PARENT_LOG, (message, channel) => {
      this.#options.log.verbose = message.payload.verbose;
      channel.reply(message, PARENT_DONE, {});
    });
    broker.answer(PARENT_PAUSE, (message, channel) => {
      this.#schedule.pause(message.payload.seconds);
      channel.reply(message, PARENT_DONE, {});
    });
    broker.answer(PARENT_RESUME, (message, channel) => {
      this.#schedule.resume();
      channel.reply(message, PARENT_DONE, {});
    });
    broker.answer(PARENT_TRACE, (message, channel) => {
      this.#traces.set(message.payload.wanted);
      channel.reply(message, PARENT_DONE, {});
    });
    broker.answer(PARENT_STOP, (message, channel) => {
      channel.reply(message, PARENT_DONE, {});
      // the client hears that it is done before control goes
      setImmediate(() => void this.stop());
    });
    broker.answer(PARENT_STATUS, (message, channel) =>
      channel.reply(message, PARENT_STATUS_IS, this.#status()),
    );
  }

  #status(): PayloadOf<typeof PARENT_STATUS_IS.shape> {
    const { repositories, sources } = this.#configuration;
    const processes = this.#supervisor.running.map((name) => {
      const space = name.indexOf(' ');
      const [role, instance] = space < 0 ? [name, ''] : [name.slice(0, space), name.slice(space + 1)];
      const state = this.#supervisor.isRunning(name) ? 'running' : 'starting';
      return { role, instance, pid: this.#supervisor.pid(name) ?? 0, state };
    });
    return {
      version: VERSION,
      pid: process.pid,
      startedMs: this.#startedMs,
      configuration: this.#options.path,
      repositories: repositories.map(({ name, location }) => ({
        name,
        location: location.path,
        state: this.#groups.get(name)?.state ?? 'unknown',
      })),
      sources: sources.map(({ name, paths }) => ({
        name,
        paths: [...paths],
        ...this.#schedule.lastGood(name),
        watch: this.#watching.text(name),
      })),
      processes: [{ role: 'parent', instance: '', pid: process.pid, state: 'running' }, ...processes],
      jobs: [],
      pushes: this.#schedule.pushes(),
      tasks: this.#schedule.tasks(),
      paused: this.#schedule.paused && { untilMs: undefined, ...this.#schedule.paused },
    };
  }
}

/** What the processes of every repository depend on. */
function toolsOf({ cpu, memoryBytes, limits, repositories, users }: Configuration): unknown {
  return [cpu, memoryBytes, limits, repositories.length, users.chunker, users.crypto, users.storage];
}

interface Named {
  readonly name: string;
}

/** The names of what is new, gone or different; of everything where `all`. */
function changed(before: readonly Named[], next: readonly Named[], all: boolean): string[] {
  const names = new Set([...before, ...next].map(({ name }) => name));
  return [...names].filter((name) => {
    const was = before.find((candidate) => candidate.name === name);
    const is = next.find((candidate) => candidate.name === name);
    return all || !sameStatement(was, is);
  });
}
