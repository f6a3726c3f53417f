/**
 * The parent's side of privilege separation: starts the declared children,
 * connects those that may talk, waits until all of a group are ready, reports
 * who died of what, and stops everything in order. Used by the parent process.
 *
 * Invariants: two children have a channel only if a declaration says so; when
 * `shutdown` has resolved, or this process has ended in any way, no child is
 * left running.
 */
import { EventEmitter } from 'node:events';
import { Failure } from '../error.ts';
import { type Channel, channelPair } from '../ipc/channel.ts';
import type { Broker } from './broker.ts';
import { childName, connectsAtStart, type Declaration, type Declared, mayConnect } from './declare.ts';
import { PEER, PEER_TAKEN, STOP } from './messages.ts';
import { type Exit, type Program, RunningChild } from './start.ts';

export interface SupervisorOptions extends Partial<Program> {
  /** absolute path of the main that calls `runChild` */
  readonly main: string;
  /** for a child to become ready, and for it to take a peer */
  readonly startTimeoutMs?: number;
  /** registers what is answered every child, whoever it is, at each start */
  readonly serve?: (name: string, broker: Broker, channel: Channel) => void;
  /** from STOP to SIGTERM */
  readonly stopTimeoutMs?: number;
  /** from SIGTERM to SIGKILL */
  readonly termTimeoutMs?: number;
}

/** A child's event loop is never held up this long by work of ours; see Declaration.mayComputeFor for the exception. */
const STALL_TIMEOUT_MS = 30_000;

/** Children that can be declared at once. */
const CHILDREN_MAX = 4096;
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
const TERM_TIMEOUT_MS = 2000;

interface Events {
  /** A child ended without having been told to, after its work had begun. Without a listener everything stops. */
  death: [exit: Exit];
  /** Any child ended. */
  exit: [exit: Exit];
  /** `child` closed its channel to `peer`, which broke the rules, and dies of it. */
  complaint: [child: string, peer: { readonly role: string; readonly instance: string }, failure: Failure];
}

/** What the parent does with a child's channel. */
export type ToChild = Pick<Channel, 'query' | 'message' | 'closed' | 'writable'>;

/** Rejects with `failure` unless `promise` settles within `timeoutMs`. */
async function within<T>(promise: Promise<T>, timeoutMs: number, failure: () => Failure): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(failure()), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the child ended within `timeoutMs`. */
async function endsWithin(child: RunningChild, timeoutMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  const ended = await Promise.race([child.exited.then(() => true), late]);
  clearTimeout(timer);
  return ended;
}

/** The name of a pair, whichever comes first. */
function pairName(a: string, b: string): string {
  return [a, b].sort().join('\0');
}

export class Supervisor extends EventEmitter<Events> {
  /** Resolves when everything has stopped: with the failure that caused it, or undefined when it was asked for. */
  readonly finished: Promise<Failure | undefined>;
  readonly #program: Program;
  readonly #startTimeoutMs: number;
  readonly #stopTimeoutMs: number;
  readonly #termTimeoutMs: number;
  readonly #serve: ((name: string, broker: Broker, channel: Channel) => void) | undefined;
  readonly #declared = new Map<string, Declared>();
  readonly #running = new Map<string, RunningChild>();
  /** channels that exist, or are being made, by pair */
  readonly #links = new Map<string, Promise<void>>();
  /** pairs that `connect` was asked for, to be connected again after a restart */
  readonly #asked = new Set<string>();
  readonly #cleanups: (() => void)[] = [];
  readonly #finish: (failure: Failure | undefined) => void;
  #reason: Failure | undefined;
  #ending: Promise<void> | undefined;
  readonly #atProcessExit = (): void => {
    for (const running of this.#running.values()) running.kill('SIGKILL');
    this.#cleanUp();
  };

  constructor(options: SupervisorOptions) {
    super();
    this.#program = {
      main: options.main,
      execArguments: options.execArguments ?? [],
      environment: options.environment ?? {},
      output: options.output ?? 2,
      stallTimeoutMs: options.stallTimeoutMs ?? STALL_TIMEOUT_MS,
      requests: options.requests ?? {},
      nowMs: options.nowMs ?? (() => performance.now()),
    };
    this.#startTimeoutMs = options.startTimeoutMs ?? START_TIMEOUT_MS;
    this.#stopTimeoutMs = options.stopTimeoutMs ?? STOP_TIMEOUT_MS;
    this.#termTimeoutMs = options.termTimeoutMs ?? TERM_TIMEOUT_MS;
    this.#serve = options.serve;
    const { promise, resolve } = Promise.withResolvers<Failure | undefined>();
    this.finished = promise;
    this.#finish = resolve;
    process.on('exit', this.#atProcessExit);
  }

  /** Declares children. One that is not running can be declared anew. */
  declare(...declarations: readonly Declaration[]): void {
    for (const each of declarations) {
      const declared = each.complete();
      if (this.#running.has(declared.name))
        throw new Failure('declare child', declared.name, { cause: 'it is running', kind: 'busy' });
      if (this.#declared.size >= CHILDREN_MAX)
        throw new Failure('declare child', declared.name, { cause: `more than ${CHILDREN_MAX}` });
      this.#declared.set(declared.name, declared);
    }
  }

  /** Takes a declaration back, of a child that is not running. */
  forget(name: string): void {
    if (this.#running.has(name))
      throw new Failure('forget child', name, { cause: 'it is running', kind: 'busy' });
    this.#declared.delete(name);
    for (const pair of this.#asked) if (pair.split('\0').includes(name)) this.#asked.delete(pair);
  }

  /** Names of the children that run, or are starting, in the order of their start. */
  get running(): string[] {
    return [...this.#running.keys()];
  }

  /** Whether the child is ready and at work. */
  isRunning(name: string): boolean {
    return this.#running.get(name)?.isBegun ?? false;
  }

  /** The channel to a running child. What the child asks is answered by its broker alone. */
  channel(name: string): ToChild {
    return this.#child(name).channel;
  }

  /** The process id of a running child. */
  pid(name: string): number | undefined {
    return this.#running.get(name)?.pid;
  }

  /**
   * Starts children (those that run already are left alone) and resolves when
   * each of them is ready and has its channels: the barrier. If one fails, the
   * others that this call started are killed, and it rejects with the reason.
   */
  async start(names: readonly string[]): Promise<void> {
    if (this.#ending !== undefined)
      throw new Failure('start', names.join(', '), { cause: 'stopping', kind: 'busy' });
    const fresh: RunningChild[] = [];
    try {
      const children = names.map((name) => this.#running.get(name) ?? this.#launch(name, fresh));
      await Promise.all(children.map((each) => this.#ready(each)));
      await Promise.all(children.flatMap((each) => this.#linksOf(each)));
      for (const each of children) each.begin();
    } catch (error) {
      for (const each of fresh) this.#abandon(each);
      await Promise.all(fresh.map((each) => each.exited));
      throw error;
    }
  }

  /** Gives two running children a channel, if they are declared to talk; again after each restart of one. */
  async connect(a: string, b: string): Promise<void> {
    const [first, second] = [this.#child(a), this.#child(b)];
    if (!mayConnect(first.declared, second.declared)) {
      const cause = 'neither is declared to talk to the other';
      throw new Failure('connect', `${a} and ${b}`, { cause, kind: 'not-permitted' });
    }
    await Promise.all([this.#ready(first), this.#ready(second)]);
    this.#asked.add(pairName(a, b));
    await this.#link(first, second);
  }

  /** Stops children in order, the last declared first; each may finish what it does. Resolves when they are gone. */
  async stop(names: readonly string[]): Promise<void> {
    const order = [...this.#declared.keys()].reverse().filter((name) => names.includes(name));
    for (const name of order) {
      const running = this.#running.get(name);
      if (running !== undefined) await this.#stop(running);
    }
  }

  /** Kills children at once, whatever they do; one that is dying of something else is reported with that. Resolves when they are gone. */
  async kill(names: readonly string[]): Promise<void> {
    // so that the end of each channel which has ended by now has been read
    for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
    const ends: Promise<unknown>[] = [];
    for (const name of names) {
      const running = this.#running.get(name);
      if (running === undefined) continue;
      // it has seconds at most: see start.ts
      if (!running.channel.closed) this.#abandon(running);
      ends.push(running.exited);
    }
    await Promise.all(ends);
  }

  /** Stops children and starts them again. */
  async restart(names: readonly string[]): Promise<void> {
    await this.stop(names);
    await this.start(names);
  }

  /** Registers what must be removed at the end (sockets, state). It runs once, after the last child is gone. */
  atEnd(cleanup: () => void): void {
    this.#cleanups.push(cleanup);
  }

  /** Stops everything in order, and cleans up. Resolves when nothing is left. */
  shutdown(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<void> {
    await this.stop(this.running);
    process.off('exit', this.#atProcessExit);
    this.#cleanUp();
    this.#finish(this.#reason);
  }

  #cleanUp(): void {
    for (const cleanup of this.#cleanups.splice(0).reverse()) cleanup();
  }

  #child(name: string): RunningChild {
    const running = this.#running.get(name);
    if (running === undefined) throw new Failure('find child', name, { cause: 'it is not running' });
    return running;
  }

  #launch(name: string, fresh: RunningChild[]): RunningChild {
    const declared = this.#declared.get(name);
    if (declared === undefined) throw new Failure('start', name, { cause: 'it is not declared' });
    const running = new RunningChild(declared, this.#program, (role, instance, failure) => {
      this.emit('complaint', name, { role, instance }, failure);
      this.#condemn(name, childName(role, instance), failure);
    });
    this.#serve?.(name, running.broker, running.channel);
    running.broker.complete();
    this.#running.set(name, running);
    fresh.push(running);
    running.exited.then((exit) => this.#gone(running, exit));
    return running;
  }

  /** What broke the rules towards a peer does not go on without its channel: it dies, and comes back as after any death. */
  #condemn(accuser: string, accused: string, failure: Failure): void {
    // of one that it has no channel to, nobody has anything to say
    if (this.#links.has(pairName(accuser, accused))) this.#running.get(accused)?.condemn(failure);
  }

  #abandon(running: RunningChild): void {
    running.wanted = true;
    running.kill('SIGKILL');
  }

  #ready(running: RunningChild): Promise<void> {
    return within(running.ready, this.#startTimeoutMs, () => {
      const cause = `not ready after ${this.#startTimeoutMs} ms`;
      return new Failure('start', running.declared.name, { cause });
    });
  }

  /** The channels that `running` must have, given who else is ready. */
  #linksOf(running: RunningChild): Promise<void>[] {
    const links: Promise<void>[] = [];
    for (const other of this.#running.values()) {
      if (other === running || !other.isReady || other.wanted) continue;
      const asked = this.#asked.has(pairName(running.declared.name, other.declared.name));
      if (asked || connectsAtStart(running.declared, other.declared)) links.push(this.#link(running, other));
    }
    return links;
  }

  #link(a: RunningChild, b: RunningChild): Promise<void> {
    const pair = pairName(a.declared.name, b.declared.name);
    let link = this.#links.get(pair);
    if (link === undefined) {
      link = this.#makeLink(a, b);
      this.#links.set(pair, link);
      link.catch(() => this.#links.delete(pair));
    }
    return link;
  }

  async #makeLink(a: RunningChild, b: RunningChild): Promise<void> {
    const [forA, forB] = channelPair();
    const timeoutMs = this.#startTimeoutMs;
    const send = (to: RunningChild, about: Declared, ends: typeof forA): Promise<unknown> => {
      const fds = [ends.stream, ends.descriptors];
      const payload = { role: about.role, instance: about.instance };
      return to.channel.query(PEER, payload, PEER_TAKEN, { fds, given: true, timeoutMs });
    };
    try {
      await Promise.all([send(a, b.declared, forA), send(b, a.declared, forB)]);
    } catch (error) {
      throw new Failure('connect', `${a.declared.name} and ${b.declared.name}`, { cause: error });
    }
  }

  async #stop(running: RunningChild): Promise<void> {
    // one that is dying by itself is reported with what it dies of
    running.wanted ||= !running.channel.closed;
    if (!running.isReady) running.kill('SIGKILL');
    else {
      try {
        running.channel.message(STOP, {});
      } catch {
        // its queue is full: it does not listen
        if (!running.channel.closed) running.kill('SIGTERM');
      }
    }
    if (!(await endsWithin(running, this.#stopTimeoutMs))) running.kill('SIGTERM');
    if (!(await endsWithin(running, this.#termTimeoutMs))) running.kill('SIGKILL');
    await running.exited;
  }

  #gone(running: RunningChild, exit: Exit): void {
    const { name } = running.declared;
    if (this.#running.get(name) === running) this.#running.delete(name);
    for (const pair of this.#links.keys()) if (pair.split('\0').includes(name)) this.#links.delete(pair);
    this.emit('exit', exit);
    if (exit.wanted || !running.isBegun || this.#ending !== undefined) return;
    if (this.emit('death', exit)) return;
    this.#reason = exit.failure;
    this.shutdown();
  }
}
