/**
 * Declarations: which children there are, as whom and where each runs, and who
 * may talk to whom. Written by the parent's main, read by supervise.ts.
 *
 *   child('storage').instance('local').user('_plakarq').chroot(path).profile('storage').talksTo('crypto')
 *
 * Invariant: a declaration that supervise.ts accepts is complete. There is no
 * default user, no default root directory and no default profile, so none can
 * be forgotten.
 */
import { Failure } from '../error.ts';
import type { Broker } from './broker.ts';
import type { Profile } from './seccomp.ts';
import { lookUpUser, type User } from './user.ts';

/** Limits of a declaration. */
export const ROLE_MAX_CHARS = 32;
export const INSTANCE_MAX_CHARS = 128;
const CHROOT_MAX_CHARS = 4096;
const PEERS_MAX = 64;

/** Capabilities that a child can keep, with their numbers (linux/capability.h). */
export const CAPABILITIES = { CAP_DAC_READ_SEARCH: 2 } as const;
export type CapabilityName = keyof typeof CAPABILITIES;

/** Resource limits that a child can be given, with their numbers (asm-generic/resource.h). */
export const LIMITS = { cpu: 0, fsize: 1, data: 2, core: 4, nproc: 6, nofile: 7, memlock: 8, as: 9 } as const;
export type LimitName = keyof typeof LIMITS;

/** Called in the parent for each new start of the child: registers what the parent answers it. */
export type Serve = (broker: Broker) => void;

/** A complete declaration. */
export interface Declared {
  readonly role: string;
  readonly instance: string;
  /** `storage local`: names the child in errors, titles and logs. */
  readonly name: string;
  readonly group: string;
  readonly user: User;
  readonly chroot: string;
  readonly profile: Profile;
  readonly peers: ReadonlySet<string>;
  readonly peersAnywhere: ReadonlySet<string>;
  readonly capabilities: readonly CapabilityName[];
  readonly limits: Readonly<Partial<Record<LimitName, number>>>;
  readonly settings: unknown;
  /** for a sign of life; the supervisor's own where undefined */
  readonly stallTimeoutMs: number | undefined;
  /** whether somebody waits for it to start */
  readonly isAwaited: boolean;
  /** threads of its pool; libuv's own number where undefined */
  readonly poolThreads: number | undefined;
  readonly serve: Serve | undefined;
}

/** `storage local`, or `control` for a role that has one child only. */
export function childName(role: string, instance = ''): string {
  return instance === '' ? role : `${role} ${instance}`;
}

/** Begins the declaration of a child in `role`. */
export function child(role: string): Declaration {
  return new Declaration(role);
}

/** A declaration in the making; every method returns the declaration itself. */
export class Declaration {
  readonly #role: string;
  #instance = '';
  #group: string | undefined;
  #user: string | number | User | undefined;
  #chroot: string | undefined;
  #profile: Profile | undefined;
  readonly #peers = new Set<string>();
  readonly #peersAnywhere = new Set<string>();
  readonly #capabilities = new Set<CapabilityName>();
  readonly #limits: Partial<Record<LimitName, number>> = { core: 0 };
  #settings: unknown;
  #stallTimeoutMs: number | undefined;
  #isAwaited = false;
  #poolThreads: number | undefined;
  #serve: Serve | undefined;

  constructor(role: string) {
    if (!/^[a-z][a-z0-9-]*$/.test(role) || role.length > ROLE_MAX_CHARS)
      throw new Failure('declare child', role, { cause: 'not a name of lower-case letters' });
    this.#role = role;
  }

  /** Tells children of one role apart: a repository's or source's name, `local/2` for the second of several. */
  instance(name: string): this {
    if (name.length > INSTANCE_MAX_CHARS || /[\0-\x1f\x7f]/.test(name))
      throw new Failure('declare child', this.#role, { cause: 'unusable instance name' });
    this.#instance = name;
    return this;
  }

  /** Children of one group are connected when they start. Defaults to the instance up to its first slash. */
  group(name: string): this {
    this.#group = name;
    return this;
  }

  /** Runs as: a name of /etc/passwd, a number that is user and group, or both ids. Never root. */
  user(user: string | number | User): this {
    this.#user = user;
    return this;
  }

  /** Its root directory. */
  chroot(path: string): this {
    this.#chroot = path;
    return this;
  }

  /** The system calls that it may make. */
  profile(profile: Profile): this {
    this.#profile = profile;
    return this;
  }

  /** Has a channel to each child of these roles in its own group. One side's word is enough. */
  talksTo(...roles: readonly string[]): this {
    for (const role of roles) this.#peers.add(role);
    return this;
  }

  /** May be given a channel (`supervisor.connect`) to any child of these roles. One side's word is enough. */
  mayTalkTo(...roles: readonly string[]): this {
    for (const role of roles) this.#peersAnywhere.add(role);
    return this;
  }

  /** Keeps these capabilities, on its main thread and threads started by that later. */
  capabilities(...names: readonly CapabilityName[]): this {
    for (const name of names) this.#capabilities.add(name);
    return this;
  }

  /** At most `value` of a resource; a lower limit that is already there stays. Core dumps are always off. */
  limit(name: LimitName, value: number): this {
    this.#limits[name] = value;
    return this;
  }

  /** What the role itself needs to know: anything that msgpack carries. No secrets: send those by message. */
  settings(settings: unknown): this {
    this.#settings = settings;
    return this;
  }

  /** Computes for longer than others without looking up: it is killed as stalled only after `timeoutMs`. */
  mayComputeFor(timeoutMs: number): this {
    this.#stallTimeoutMs = timeoutMs;
    return this;
  }

  /** Somebody waits each time that it starts: it begins sooner, and has some megabytes more. */
  startsAtOnce(): this {
    this.#isAwaited = true;
    return this;
  }

  /** Has so many threads in its pool, each for one call at a time that is not made on the main thread. */
  poolThreads(count: number): this {
    this.#poolThreads = count;
    return this;
  }

  /** What the parent answers this child: `serve` registers the handlers, at each start. */
  servedBy(serve: Serve): this {
    this.#serve = serve;
    return this;
  }

  /** The declaration, checked. Throws a Failure that names what is missing. */
  complete(): Declared {
    const name = childName(this.#role, this.#instance);
    const missing = (what: string): Failure =>
      new Failure('declare child', name, { cause: `no ${what} given` });
    if (this.#user === undefined) throw missing('user');
    if (this.#chroot === undefined) throw missing('root directory');
    if (this.#profile === undefined) throw missing('system call profile');
    const path = this.#chroot;
    if (!path.startsWith('/') || path.includes('\0') || path.length > CHROOT_MAX_CHARS)
      throw new Failure('declare child', name, { cause: `root directory ${path} is no absolute path` });
    if (this.#peers.size + this.#peersAnywhere.size > PEERS_MAX)
      throw new Failure('declare child', name, { cause: `more than ${PEERS_MAX} peers` });
    return {
      role: this.#role,
      instance: this.#instance,
      name,
      group: this.#group ?? this.#instance.replace(/\/.*$/, ''),
      user: lookUpUser(this.#user, name),
      chroot: path,
      profile: this.#profile,
      peers: new Set(this.#peers),
      peersAnywhere: new Set(this.#peersAnywhere),
      capabilities: [...this.#capabilities],
      limits: { ...this.#limits },
      settings: this.#settings,
      stallTimeoutMs: this.#stallTimeoutMs,
      isAwaited: this.#isAwaited,
      poolThreads: this.#poolThreads,
      serve: this.#serve,
    };
  }
}

/** Whether the two may have a channel at all. */
export function mayConnect(a: Declared, b: Declared): boolean {
  const anywhere = a.peersAnywhere.has(b.role) || b.peersAnywhere.has(a.role);
  return anywhere || connectsAtStart(a, b);
}

/** Whether the two get a channel as soon as both run. */
export function connectsAtStart(a: Declared, b: Declared): boolean {
  return a.name !== b.name && a.group === b.group && (a.peers.has(b.role) || b.peers.has(a.role));
}
