/**
 * Starting one child: this program again, with a channel on descriptors 3 and
 * 4, a clean environment and a session of its own. Called by supervise.ts.
 *
 * Invariant: every child that was started is either running or has `exited`
 * resolved, with the reason by name.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { pack } from 'msgpackr/pack';
import { Failure, fromWire } from '../error.ts';
import { Channel, channelPair, type Ends } from '../ipc/channel.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { openDirectory } from '../sys/path.ts';
import { closeAll } from '../sys/socket.ts';
import { Broker, PHASES, type RequestRule, type RequestTable } from './broker.ts';
import { refuseRings } from './confine.ts';
import type { Declared, LimitName } from './declare.ts';
import { Heartbeat } from './heartbeat.ts';
import { BEGIN, FAILED, PEER_FAILED, PING, PONG, READY, SETTINGS_MAX_BYTES, SETUP } from './messages.ts';

/** What children of one program have in common. */
export interface Program {
  /** absolute path of the main */
  readonly main: string;
  /** options of the runtime, before the main */
  readonly execArguments: readonly string[];
  /** variables beyond those of `INHERITED` */
  readonly environment: Readonly<Record<string, string>>;
  /** where children write what they cannot send: a descriptor, or a call for each line */
  readonly output: number | ((child: string, line: string) => void);
  /** for a sign of life of a child that is ready */
  readonly stallTimeoutMs: number;
  /** what children may ask, by role */
  readonly requests: RequestTable;
  /** of a monotonic clock */
  readonly nowMs: () => number;
}

/** What any child says for privsep's own sake; heartbeat.ts judges each PONG. */
const OWN_REQUESTS: readonly RequestRule[] = [
  { type: READY, kind: 'message', phases: ['starting'], atOnce: 1, perSecond: 0 },
  { type: FAILED, kind: 'message', phases: PHASES, atOnce: 1, perSecond: 0 },
  { type: PONG, kind: 'message', phases: PHASES, atOnce: 100, perSecond: 100 },
  { type: PEER_FAILED, kind: 'message', phases: PHASES, atOnce: 1024, perSecond: 100 },
];

/**
 * Options of the runtime that every child gets: no debugger by signal, one
 * thread for the collector and compiler, and a young generation that does not
 * grow beyond what batches of messages need.
 */
export const EXEC_ARGUMENTS = ['--disable-sigusr1', '--v8-pool-size=1', '--max-semi-space-size=4'] as const;
/**
 * Beyond these, for one whose start is awaited: the gigabytes that ref-napi declares when it is loaded, as bin/runtime
 * says, make it collect nothing meanwhile (67 ms of a push of nothing instead of 85). Nor does it do so later: beside
 * what is declared, hundreds of MiB that are really there weigh nothing. Who lives long looks to that itself
 * (src/collect.ts).
 */
const AWAITED_ARGUMENTS = [
  '--max-old-space-size=131072',
  '--external-memory-accounted-in-global-limit',
] as const;

/** Variables that children keep: what bin/daemon.cjs tells them, and what libuv and libc read. */
const INHERITED = [
  ...(['NODE_COMPILE_CACHE', 'PLAKARD_BUNDLES', 'PLAKARD_CACHE'] as const),
  ...(['UV_THREADPOOL_SIZE', 'TZ', 'LANG', 'LC_ALL'] as const),
] as const;
/** A longer line of output is cut. */
const LINE_MAX_CHARS = 8192;
/** A child whose channel is closed has this long to end by itself; one that ended, to be read to its end. */
const CLOSED_TIMEOUT_MS = 1000;

/** How a child ended. */
export interface Exit {
  /** `storage local` */
  readonly name: string;
  readonly role: string;
  readonly instance: string;
  readonly code: number | undefined;
  readonly signal: string | undefined;
  /** it was told to */
  readonly wanted: boolean;
  /** what happened, for a person: `storage local: killed by SIGKILL` */
  readonly failure: Failure;
}

/** A peer's misbehaviour, as another child reports it. */
export type Complaint = (peerRole: string, peerInstance: string, failure: Failure) => void;

function environment(extra: Readonly<Record<string, string>>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const name of INHERITED) {
    const value = process.env[name];
    if (value !== undefined) kept[name] = value;
  }
  return { ...kept, ...extra };
}

function readLines(stream: Readable, line: (text: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const each of lines) line(each.slice(0, LINE_MAX_CHARS));
    if (rest.length > LINE_MAX_CHARS) {
      line(rest.slice(0, LINE_MAX_CHARS));
      rest = '';
    }
  });
  stream.on('end', () => {
    if (rest !== '') line(rest);
  });
}

function setupOf(declared: Declared): PayloadOf<typeof SETUP.shape> {
  const { user, profile, capabilities, limits, settings, name } = declared;
  const packed = settings === undefined ? undefined : pack(settings);
  if (packed !== undefined && packed.length > SETTINGS_MAX_BYTES)
    throw new Failure('start', name, { cause: `settings of ${packed.length} bytes are too large` });
  return {
    parent: process.pid,
    uid: user.uid,
    gid: user.gid,
    profile,
    capabilities: [...capabilities],
    limits: Object.entries(limits).map(([limit, value]) => ({ name: limit as LimitName, value })),
    settings: packed,
  };
}

/** The child's root directory, open; through no link that anybody but root could bend. */
function rootOf({ chroot }: Declared): number {
  try {
    return openDirectory(chroot);
  } catch (error) {
    const isMissing = !(error instanceof Failure) || error.remedy === undefined;
    const remedy = isMissing ? { remedy: `create the directory ${chroot}, owned by root` } : {};
    throw new Failure('enter root directory', chroot, { cause: error, ...remedy });
  }
}

/** A child from its start to its end. */
export class RunningChild {
  readonly declared: Declared;
  readonly channel: Channel;
  /** where what the child may ask is answered */
  readonly broker: Broker;
  readonly exited: Promise<Exit>;
  /** it was told to stop */
  wanted = false;
  isReady = false;
  isBegun = false;
  readonly #process: ChildProcess;
  readonly #isUp = Promise.withResolvers<void>();
  /** resolves when nothing more can come from the child */
  readonly #read: Promise<void>;
  readonly #heartbeat: Heartbeat;
  #reason: Failure | undefined;
  #gone = false;

  constructor(declared: Declared, program: Program, complaint: Complaint) {
    this.declared = declared;
    const setup = setupOf(declared);
    refuseRings();
    const [ours, theirs] = channelPair();
    let root = -1;
    try {
      root = rootOf(declared);
      this.#process = this.#spawn(program, theirs);
    } catch (error) {
      closeAll(root < 0 ? [ours.stream, ours.descriptors] : [ours.stream, ours.descriptors, root]);
      throw new Failure('start', declared.name, { cause: error });
    } finally {
      closeAll([theirs.stream, theirs.descriptors]);
    }
    this.channel = new Channel(ours, { name: declared.name });
    this.#heartbeat = this.#listen(declared.stallTimeoutMs ?? program.stallTimeoutMs);
    this.broker = new Broker(this.channel, {
      rules: [...OWN_REQUESTS, ...(program.requests[declared.role] ?? [])],
      phase: () => (this.wanted ? 'stopping' : this.isBegun ? 'working' : 'starting'),
      nowMs: program.nowMs,
    });
    this.#register(complaint);
    this.#read = this.channel.dispatch().then(
      () => this.#closed(),
      (error: unknown) => this.#broken(error),
    );
    this.exited = this.#watch();
    this.exited.then(({ failure }) => {
      this.#isUp.reject(new Failure('start', declared.name, { cause: failure.cause }));
    });
    // whoever starts a child awaits it; until then its failure is no one's
    this.#isUp.promise.catch(() => undefined);
    this.channel.message(SETUP, setup, [root], { given: true });
  }

  /** Resolves when the child is confined and set up; rejects with its own reason. */
  get ready(): Promise<void> {
    return this.#isUp.promise;
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Sends a signal, unless the child is gone. */
  kill(signal: NodeJS.Signals): void {
    if (!this.#gone) this.#process.kill(signal);
  }

  /** Kills it for what it did. */
  condemn(failure: Failure): void {
    this.#reason ??= failure;
    this.kill('SIGKILL');
  }

  /** Lets the child's work begin; once. */
  begin(): void {
    if (this.isBegun) return;
    this.isBegun = true;
    this.channel.message(BEGIN, {});
  }

  #spawn(program: Program, { stream, descriptors }: Ends): ChildProcess {
    const { role, instance, name, isAwaited, poolThreads } = this.declared;
    const { output, main } = program;
    const variables = { ...program.environment };
    if (poolThreads !== undefined) variables.UV_THREADPOOL_SIZE = String(poolThreads);
    const out = typeof output === 'number' ? output : 'pipe';
    const options: SpawnOptions = {
      argv0: `plakard: ${name}`,
      cwd: '/',
      // a session of its own: no terminal, and none of its signals
      detached: true,
      env: environment(variables),
      stdio: ['ignore', out, out, stream, descriptors],
    };
    const runtime = [...EXEC_ARGUMENTS, ...program.execArguments, ...(isAwaited ? AWAITED_ARGUMENTS : [])];
    const child = spawn(process.execPath, [...runtime, main, '-x', role, '-i', instance], options);
    if (typeof output === 'function')
      for (const each of [child.stdout, child.stderr])
        if (each !== null) readLines(each, (line) => output(name, line));
    return child;
  }

  #watch(): Promise<Exit> {
    const { promise, resolve } = Promise.withResolvers<Exit>();
    const end = (code: number | null, signal: string | null): void => {
      if (this.#gone) return;
      this.#gone = true;
      this.#heartbeat.stop();
      // what it sent last is still to be read; the end of the stream comes after that
      const timer = setTimeout(() => this.channel.close(), CLOSED_TIMEOUT_MS);
      this.#read.then(() => {
        clearTimeout(timer);
        resolve(this.#exit(code, signal));
      });
    };
    this.#process.on('error', (error) => {
      this.#reason ??= new Failure('execute', process.execPath, { cause: error });
      // an error without a process is the end; others (of kill) are not
      if (this.#process.pid === undefined) end(null, null);
    });
    this.#process.on('exit', end);
    return promise;
  }

  #exit(code: number | null, signal: string | null): Exit {
    const { name, role, instance } = this.declared;
    let how = code === null ? `killed by ${signal ?? 'nobody'}` : `exited with code ${code}`;
    if (signal === 'SIGSYS') how += ', for a system call that its profile forbids';
    const failure = new Failure(name, '', { cause: this.#reason ?? how });
    return {
      name,
      role,
      instance,
      code: code ?? undefined,
      signal: signal ?? undefined,
      wanted: this.wanted,
      failure,
    };
  }

  #register(complaint: Complaint): void {
    const { broker, declared } = this;
    broker.answer(READY, () => {
      this.isReady = true;
      this.#heartbeat.start();
      this.#isUp.resolve();
    });
    broker.answer(PONG, () => this.#heartbeat.beat());
    broker.answer(FAILED, ({ payload }) => {
      this.condemn(fromWire(payload));
    });
    broker.answer(PEER_FAILED, ({ payload }) =>
      complaint(payload.role, payload.instance, fromWire(payload.failure)),
    );
    declared.serve?.(broker);
  }

  #listen(timeoutMs: number): Heartbeat {
    return new Heartbeat({
      timeoutMs,
      ask: () => this.channel.message(PING, {}),
      stalled: () => {
        this.#reason ??= new Failure(`stalled: no sign of life for ${timeoutMs} ms, killed`, '');
        this.kill('SIGKILL');
      },
    });
  }

  /** It sent what it must not. */
  #broken(error: unknown): void {
    this.condemn(error instanceof Failure ? error : new Failure('channel', '', { cause: error }));
  }

  #closed(): void {
    if (this.#gone) return;
    const timer = setTimeout(() => {
      this.#reason ??= new Failure('closed its channel', '');
      this.kill('SIGKILL');
    }, CLOSED_TIMEOUT_MS);
    this.exited.then(() => clearTimeout(timer));
  }
}
