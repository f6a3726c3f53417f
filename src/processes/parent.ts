/**
 * parent: the root process. It reads the configuration and the key files,
 * makes the control socket, declares and starts the children, gives each what
 * it may have, and answers the few questions that control may ask. It is
 * outside the data path, and serves nobody else.
 */
import { accessSync, closeSync, constants, mkdirSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import {
  type Configuration,
  checkFiles,
  diskFiles,
  formatError,
  parseFile,
  resolveGroup,
  resolveUser,
} from '../config/config.ts';
import { describe, Failure } from '../error.ts';
import type { Channel } from '../ipc/channel.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import type { Log } from '../log.ts';
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
import { child } from '../privsep/declare.ts';
import { Supervisor } from '../privsep/supervise.ts';
import { listenUnix } from '../sys/server.ts';
import { connectUnix } from '../sys/socket.ts';
import { VERSION } from '../version.ts';
import { type GroupTools, RepositoryGroup } from './parent/group.ts';
import { scannerSettings } from './parent/scanner.ts';

export const EMPTY_DIRECTORY = '/var/empty';
const CONNECT_TIMEOUT_MS = 1000;

/** What the parent runs on. */
export interface ParentOptions {
  readonly configurationPath: string;
  readonly macros: Readonly<Record<string, string>>;
  /** absolute path of src/plakard.ts: what children run */
  readonly main: string;
  readonly log: Log;
  readonly now: () => number;
  readonly random: (bytes: number) => Buffer;
}

/** Reads and checks a configuration; throws a Failure whose text has one line for each error. */
export function readConfiguration(path: string, macros: Readonly<Record<string, string>>): Configuration {
  const files = diskFiles(process.getuid?.() ?? 0);
  const { configuration, errors } = parseFile(path, {
    files,
    macros,
    host: hostname(),
    system: process.platform,
  });
  const all = errors.length > 0 || configuration === undefined ? errors : checkFiles(configuration, files);
  if (configuration === undefined || all.length > 0)
    throw new ConfigurationRefused(path, all.map(formatError));
  return configuration;
}

/** A configuration with errors: a line for each, as `file:line:column: message`. */
export class ConfigurationRefused extends Failure {
  readonly lines: readonly string[];

  constructor(path: string, lines: readonly string[]) {
    const more = lines.length > 1 ? ` (and ${lines.length - 1} more)` : '';
    super('read configuration', path, { cause: `${lines[0] ?? 'nothing in it'}${more}` });
    this.lines = lines;
  }
}

export class Parent {
  readonly #options: ParentOptions;
  readonly #supervisor: Supervisor;
  readonly #groups = new Map<string, RepositoryGroup>();
  readonly #startedMs: number;
  #configuration: Configuration;
  #stopping = false;

  constructor(options: ParentOptions, configuration: Configuration) {
    this.#options = options;
    this.#configuration = configuration;
    this.#startedMs = options.now();
    const { log } = options;
    this.#supervisor = new Supervisor({
      main: options.main,
      execArguments: process.execArgv,
      output: (name, line) => log.warn(line, { process: name }),
    });
    this.#supervisor.on('death', (exit) => {
      log.error(describe(exit.failure), { process: exit.name });
      this.#failed ??= exit.failure;
      void this.stop();
    });
    this.#supervisor.on('complaint', (name, peer, failure) =>
      log.error(`${peer.role} ${peer.instance} broke the rules: ${describe(failure)}`, { process: name }),
    );
  }

  #failed: Failure | undefined;

  /** Starts everything; resolves when clients can connect. */
  async start(): Promise<void> {
    const { socket } = this.#configuration;
    refuseSecond(socket.path);
    makeEmptyDirectory();
    this.#declareControl();
    this.#declareScanners();
    for (const repository of this.#configuration.repositories)
      this.#groups.set(repository.name, new RepositoryGroup(repository, this.#tools()));
    await this.#supervisor.start(['control']);
    const control = this.#supervisor.channel('control');
    await control.query(CONTROL_SETTINGS, this.#controlSettings(), PARENT_DONE);
    const gid = socket.group === undefined ? 0 : resolveGroup(socket.group, readAccounts('/etc/group'));
    const fd = listenUnix(socket.path, { gid, mode: socket.mode });
    this.#supervisor.atEnd(() => unlinkSync(socket.path));
    try {
      await control.query(LISTEN, {}, PARENT_DONE, { fds: [fd] });
    } finally {
      closeSync(fd);
    }
    this.#options.log.info(`ready on ${socket.path}`, { process: 'parent' });
  }

  /** Stops everything in order. */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    await this.#supervisor.shutdown();
  }

  /** Resolves when everything has stopped; rejects if it was a child's death that stopped it. */
  async finished(): Promise<void> {
    const failure = (await this.#supervisor.finished) ?? this.#failed;
    if (failure !== undefined) throw failure;
  }

  /** Reads the configuration again and applies what can be applied while running. */
  async reload(): Promise<void> {
    const { configurationPath, macros, log } = this.#options;
    const next = readConfiguration(configurationPath, macros);
    const before = this.#configuration;
    if (next.socket.path !== before.socket.path)
      throw new Failure('reload', configurationPath, {
        cause: 'the socket changed',
        remedy: 'restart plakard',
      });
    this.#configuration = next;
    await this.#retireChanged(before, next);
    this.#declareScanners();
    const control = this.#supervisor.channel('control');
    await control.query(CONTROL_SETTINGS, this.#controlSettings(), PARENT_DONE);
    log.info(`reloaded ${configurationPath}`, { process: 'parent' });
  }

  /** Stops the children of what is gone or has changed; they come back when they are needed. */
  async #retireChanged(before: Configuration, next: Configuration): Promise<void> {
    for (const source of before.sources) {
      const same = next.sources.find(({ name }) => name === source.name);
      if (same !== undefined && sameStatement(same, source)) continue;
      await this.#supervisor.stop([`scanner ${source.name}`]);
      this.#supervisor.forget(`scanner ${source.name}`);
    }
    for (const repository of before.repositories) {
      const same = next.repositories.find(({ name }) => name === repository.name);
      if (same !== undefined && sameStatement(same, repository)) continue;
      await this.#groups.get(repository.name)?.retire();
      this.#groups.delete(repository.name);
    }
    for (const repository of next.repositories)
      if (!this.#groups.has(repository.name))
        this.#groups.set(repository.name, new RepositoryGroup(repository, this.#tools()));
  }

  // ---- declarations

  #user(role: keyof Configuration['users']) {
    return resolveUser(this.#configuration.users[role], readAccounts('/etc/passwd'), role);
  }

  #tools(): GroupTools {
    const { now, random } = this.#options;
    return {
      supervisor: this.#supervisor,
      now,
      random,
      cpus: this.#configuration.cpu,
      chunkerUser: this.#user('chunker'),
      cryptoUser: this.#user('crypto'),
      storageUser: this.#user('storage'),
    };
  }

  #declareControl(): void {
    this.#supervisor.declare(
      child('control')
        .user(this.#user('control'))
        .chroot(EMPTY_DIRECTORY)
        .profile('control')
        .limit('nofile', 2048)
        .mayTalkTo('chunker')
        .servedBy((channel) => this.#serveControl(channel)),
    );
  }

  /** A scanner runs in its source's own path; several paths share the root directory above them. */
  #declareScanners(): void {
    for (const source of this.#configuration.sources) {
      const name = `scanner ${source.name}`;
      if (this.#supervisor.running.includes(name)) continue;
      const { root, settings } = scannerSettings(source);
      this.#supervisor.declare(
        child('scanner')
          .instance(source.name)
          .user(this.#user('scanner'))
          .chroot(root)
          .profile('scanner')
          .capabilities('CAP_DAC_READ_SEARCH')
          .limit('nofile', 4096)
          .mayTalkTo('chunker')
          .settings(settings),
      );
    }
  }

  #controlSettings(): PayloadOf<typeof CONTROL_SETTINGS.shape> {
    const { repositories, sources, permits } = this.#configuration;
    const passwd = readAccounts('/etc/passwd');
    const group = readAccounts('/etc/group');
    return {
      host: hostname(),
      repositories: repositories.map(({ name, location, compression }) => ({
        name,
        location: location.path,
        compression: compression.kind === 'none' ? 'none' : `zstd ${compression.level}`,
      })),
      sources: sources.map(({ name, paths }) => ({ name, paths: [...paths] })),
      permits: permits.map(({ subject, name, operations, source, repository }) => ({
        uid: subject === 'user' ? resolveUser(name, passwd, 'control').uid : undefined,
        gid: subject === 'group' ? resolveGroup(name, group) : undefined,
        operations: [...operations],
        source,
        repository,
      })),
    };
  }

  // ---- what control may ask

  #serveControl(channel: Channel): void {
    channel.handler(NEED, async (message) => {
      const { repository, source } = message.payload;
      const group = this.#group(repository);
      const config = await group.ready();
      await this.#supervisor.connect('control', group.chunker);
      if (source !== undefined) await this.#needScanner(source, group.chunker);
      channel.reply(message, READY_FOR, config);
    });
    channel.handler(MAKE, async (message) => {
      const group = this.#group(message.payload.repository);
      channel.reply(message, MADE, { id: await group.create() });
    });
    channel.handler(PARENT_RELOAD, async (message) => {
      await this.reload();
      channel.reply(message, PARENT_DONE, {});
    });
    channel.handler(PARENT_STOP, async (message) => {
      channel.reply(message, PARENT_DONE, {});
      // the client hears that it is done before control goes
      setImmediate(() => void this.stop());
    });
    channel.handler(PARENT_STATUS, (message) => channel.reply(message, PARENT_STATUS_IS, this.#status()));
  }

  #group(repository: string): RepositoryGroup {
    const group = this.#groups.get(repository);
    if (group === undefined)
      throw new Failure('use repository', repository, {
        cause: 'it is not in the configuration',
        kind: 'no-repository',
      });
    return group;
  }

  async #needScanner(source: string, chunker: string): Promise<void> {
    const name = `scanner ${source}`;
    const declared = this.#configuration.sources.find((candidate) => candidate.name === source);
    if (declared === undefined)
      throw new Failure('scan', source, { cause: 'it is not in the configuration' });
    for (const path of declared.paths) {
      try {
        statSync(path);
        accessSync(path, constants.R_OK);
      } catch (cause) {
        throw new Failure('read source', path, { cause });
      }
    }
    await this.#supervisor.start([name]);
    await this.#supervisor.connect(name, chunker);
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
      configuration: this.#options.configurationPath,
      repositories: repositories.map(({ name, location }) => ({
        name,
        location: location.path,
        state: this.#groups.get(name)?.state ?? 'unknown',
      })),
      sources: sources.map(({ name, paths }) => ({ name, paths: [...paths] })),
      processes: [{ role: 'parent', instance: '', pid: process.pid, state: 'running' }, ...processes],
      jobs: [],
    };
  }
}

/** Whether two statements say the same, wherever they stand. */
function sameStatement(a: object, b: object): boolean {
  const withoutPlace = (key: string, value: unknown) => (key === 'at' ? undefined : value);
  return JSON.stringify(a, withoutPlace) === JSON.stringify(b, withoutPlace);
}

function readAccounts(path: string): (maxBytes: number) => Buffer {
  return (maxBytes) => readFileSync(path).subarray(0, maxBytes);
}

/** The root directory of those that need none: made where the system has no such directory, never writable. */
function makeEmptyDirectory(): void {
  mkdirSync(EMPTY_DIRECTORY, { recursive: true, mode: 0o755 });
  const stat = statSync(EMPTY_DIRECTORY);
  if (stat.uid !== 0 || (stat.mode & 0o022) !== 0)
    throw new Failure('use', EMPTY_DIRECTORY, {
      cause: 'others than root may write to it',
      remedy: `chown root ${EMPTY_DIRECTORY}; chmod 755 ${EMPTY_DIRECTORY}`,
    });
}

/** Throws if somebody serves the socket already; one that a dead daemon left is no obstacle. */
function refuseSecond(path: string): void {
  let fd: number;
  try {
    fd = connectUnix(path, CONNECT_TIMEOUT_MS);
  } catch {
    return;
  }
  closeSync(fd);
  throw new Failure('listen on', path, {
    cause: 'another plakard serves it',
    kind: 'busy',
    remedy: `plakarctl -s ${path} stop`,
  });
}
