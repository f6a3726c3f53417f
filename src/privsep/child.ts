/**
 * A child's own start: from re-exec'ed root to a confined role. Called by the
 * main when its arguments name a role (-x ROLE -i INSTANCE).
 *
 * The order is that of the design, and matters: what is needed is loaded while
 * files can be reached; the root directory changes while that is permitted;
 * ids change before they are proved; the system call profile comes last, and
 * the role's own code runs only behind it.
 *
 * Invariant: a child lives only as long as its parent's channel.
 */
import type { EventEmitter } from 'node:events';
import fs from 'node:fs';
import { unpack } from 'msgpackr/pack';
import { keepCompiled } from '../builtin.ts';
import { describe, Failure, toWire } from '../error.ts';
import type { Channel } from '../ipc/channel.ts';
import type { Received } from '../ipc/message.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { closeAll } from '../sys/socket.ts';
import { type Topic, traceTo } from '../trace.ts';
import type { RequestTable } from './broker.ts';
import { close, enterRoot, limit } from './confine.ts';
import { childName } from './declare.ts';
import { closeUndeclared, PARENT_DESCRIPTORS, PARENT_STREAM, proveDeclared } from './descriptors.ts';
import { capabilityMask, giveUpRoot } from './drop.ts';
import { restrict } from './landlock.ts';
import {
  BEGIN,
  FAILED,
  PEER,
  PEER_FAILED,
  PEER_TAKEN,
  PING,
  PONG,
  READY,
  SETUP,
  STOP,
  TRACE,
  TRACE_MAX_CHARS,
  TRACED,
} from './messages.ts';
import { ParentChannel } from './pace.ts';
import { type PeerLoser, Peers, type PeerTaker } from './peers.ts';
import { Threads } from './threads.ts';

/** How long the parent may take to read a failure and to kill us for it. */
const FAILED_TIMEOUT_MS = 2000;

/** A role: sets itself up and returns; the child is ready when the promise resolves. */
export type RoleMain = (context: ChildContext) => void | Promise<void>;

/** The roles of a program, each loaded before the root directory changes. */
export type Roles = Readonly<Record<string, () => Promise<RoleMain>>>;

type Setup = PayloadOf<typeof SETUP.shape>;

/** What a role has to do with the world. */
export class ChildContext {
  readonly role: string;
  readonly instance: string;
  /** `storage local` */
  readonly name: string;
  /** as declared; judge them by a shape */
  readonly settings: unknown;
  readonly parent: ParentChannel;
  /** resolves when every child of the group is ready and connected: work may begin */
  readonly begun: Promise<void>;
  readonly #peers: Peers;
  readonly #stops: (() => void | Promise<void>)[] = [];
  #stopping = false;

  constructor(role: string, instance: string, settings: unknown, parent: ParentChannel) {
    this.role = role;
    this.instance = instance;
    this.name = childName(role, instance);
    this.settings = settings;
    this.parent = parent;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.begun = promise;
    this.#peers = new Peers((peerRole, peerInstance, error) => {
      parent.message(PEER_FAILED, { role: peerRole, instance: peerInstance, failure: toWire(error) });
    });
    parent.handler(BEGIN, () => resolve());
    parent.handler(PING, () => parent.message(PONG, {}));
    parent.handler(STOP, () => {
      this.stop().catch((error: unknown) => die(parent, error));
    });
    parent.handler(PEER, (received) => {
      const [stream, descriptors] = received.fds;
      if (stream === undefined || descriptors === undefined) {
        closeAll(received.fds);
        throw new Failure('take peer', received.payload.role, { cause: 'no channel came with it' });
      }
      this.#peers.take({ ...received.payload, stream, descriptors });
      parent.reply(received, PEER_TAKEN, {});
    });
  }

  /** Expects peers of `role`; `taker` registers the handlers on each new channel. Call it in the role's main. */
  onPeer(role: string, taker: PeerTaker): void {
    this.#peers.onTaken(role, taker);
  }

  /** Called when a peer of `role` is gone; after a restart it comes again through `onPeer`. */
  onPeerLost(role: string, loser: PeerLoser): void {
    this.#peers.onLost(role, loser);
  }

  /** The channel to a peer that is connected now; without `instance`, to the first of that role. */
  peer(role: string, instance?: string): Channel | undefined {
    return this.#peers.find(role, instance);
  }

  /** The channels to all connected peers of `role`, by instance. */
  peers(role: string): Map<string, Channel> {
    return this.#peers.all(role);
  }

  /** Called when the parent asks to stop; last registered, first called. The child exits after all are done. */
  onStop(stop: () => void | Promise<void>): void {
    this.#stops.push(stop);
  }

  /** Whether this child has been told to stop. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** Does what was registered with `onStop`, sends what is queued, and lets the process end with 0. */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    for (const stop of this.#stops.toReversed()) await stop();
    await this.#peers.close();
    this.parent.close(); // runChild ends with it
  }
}

/** The role and instance that arguments (without node and program) name, or undefined for a parent's. */
export function childArguments(argv: readonly string[]): { role: string; instance: string } | undefined {
  const [flag, role, instanceFlag, instance] = argv;
  if (flag !== '-x' || role === undefined) return undefined;
  return { role, instance: instanceFlag === '-i' ? (instance ?? '') : '' };
}

/** Reports to the parent why this child cannot go on, and dies. */
function die(parent: ParentChannel, error: unknown): void {
  try {
    parent.message(FAILED, toWire(error));
  } catch (unsent) {
    process.stderr.write(`${process.title}: ${describe(error)}; not reported: ${describe(unsent)}\n`);
    process.exit(1);
  }
  setTimeout(() => process.exit(1), FAILED_TIMEOUT_MS);
}

/** The parent is gone, at whatever moment: an exit would wait for the pool's threads, and these may wait for us. */
function vanish(): void {
  process.kill(process.pid, 'SIGKILL');
}

/** Sends a trace, unless the parent has more than enough of them. */
function say(parent: ParentChannel, topic: Topic, text: string): void {
  if (parent.closed || !parent.writable) return;
  const missed = parent.takeMissed(TRACED);
  parent.message(TRACED, { topic, text: text.slice(0, TRACE_MAX_CHARS), missed });
}

/** Loads all that can be needed later; nothing can be resolved or opened after chroot. */
async function load(roles: Roles, role: string): Promise<RoleMain> {
  const loader = Object.hasOwn(roles, role) ? roles[role] : undefined;
  if (loader === undefined) throw new Failure('load role', role, { cause: 'this program has none such' });
  const main = await loader();
  // the thread pool starts with its first task, and reads nothing later; so does the time zone
  await new Promise((resolve) => fs.stat('/', resolve));
  new Date().getTimezoneOffset();
  // bin/start.cjs keeps what was compiled of a bundle, and the runtime what it was of modules
  (process as EventEmitter).emit('plakard compiled', role);
  keepCompiled();
  return main;
}

async function confine(setup: Setup, root: number): Promise<void> {
  const threads = new Threads();
  enterRoot(root);
  giveUpRoot(setup, setup.capabilities);
  await restrict(setup.profile);
  limit(setup.limits);
  close(setup.profile, setup.parent);
  const capabilities = capabilityMask(setup.capabilities);
  threads.prove({ uid: setup.uid, gid: setup.gid, capabilities });
  threads.close();
}

/**
 * Runs this process as the child that `argv` names, which asks its parent no
 * more than `requests` says. Resolves when it is ready;
 * the process goes on until it is stopped, its parent dies, or the role fails.
 */
export async function runChild(
  roles: Roles,
  requests: RequestTable = {},
  argv: readonly string[] = process.argv.slice(2),
): Promise<void> {
  const named = childArguments(argv);
  if (named === undefined) throw new Failure('run child', '', { cause: 'no role given', kind: 'usage' });
  const { role, instance } = named;
  process.title = `plakard: ${childName(role, instance)}`;
  const parent = new ParentChannel(
    { stream: PARENT_STREAM, descriptors: PARENT_DESCRIPTORS },
    requests[role] ?? [],
    () => performance.now(),
    { name: 'parent' },
  );
  process.on('uncaughtException', (error) => die(parent, error));
  const setup = Promise.withResolvers<Received<Setup>>();
  let context: ChildContext | undefined;
  parent.handler(SETUP, (received) => setup.resolve(received));
  parent.handler(TRACE, ({ payload }) => traceTo(payload.topics, (topic, text) => say(parent, topic, text)));
  parent.dispatch().then(
    () => (context?.stopping === true ? process.exit(0) : vanish()),
    (error: unknown) => die(parent, error),
  );
  try {
    const { payload: given, fds } = await setup.promise;
    const [root] = fds;
    if (root === undefined) throw new Failure('enter root directory', '', { cause: 'none came' });
    closeUndeclared(root);
    const main = await load(roles, role);
    proveDeclared(root);
    await confine(given, root);
    const settings: unknown = given.settings === undefined ? undefined : unpack(given.settings);
    context = new ChildContext(role, instance, settings, parent);
    await main(context);
    parent.message(READY, {});
  } catch (error) {
    die(parent, error);
  }
}
