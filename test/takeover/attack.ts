/**
 * What a child does once it is taken over: seeded, so that a round can be run
 * again. Used by taken.ts, inside the confined process, with all that a role
 * holds: its channels, their descriptors, and the role's own code, whose
 * messages it can bend.
 */
import fs from 'node:fs';
import { Channel } from '../../src/ipc/channel.ts';
import { writeHeader } from '../../src/ipc/frame.ts';
import { HEADER_BYTES, type MessageType } from '../../src/ipc/message.ts';
import { encode } from '../../src/ipc/payload.ts';
import * as clientMessages from '../../src/messages/client.ts';
import * as dataMessages from '../../src/messages/data.ts';
import * as jobMessages from '../../src/messages/jobs.ts';
import * as keyMessages from '../../src/messages/keys.ts';
import * as memoryMessages from '../../src/messages/memory.ts';
import * as parentMessages from '../../src/messages/parent.ts';
import * as readerMessages from '../../src/messages/reader.ts';
import * as scanMessages from '../../src/messages/scan.ts';
import type { ChildContext } from '../../src/privsep/child.ts';
import * as ownMessages from '../../src/privsep/messages.ts';
import { memfdCreate } from '../../src/sys/memory.ts';
import { sendDescriptors, socketpair } from '../../src/sys/socket.ts';

type Anything = MessageType<unknown>;

/** xorshift32: the same from the same seed, everywhere. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761) >>> 0 || 1;
  }

  /** From 0 to `below` - 1. */
  under(below: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state % below;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.under(from.length)] as T;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.under(256)));
  }
}

function isType(value: unknown): value is Anything {
  return typeof value === 'object' && value !== null && 'number' in value && 'shape' in value;
}

const MODULES: readonly object[] = [
  clientMessages,
  dataMessages,
  jobMessages,
  keyMessages,
  memoryMessages,
  parentMessages,
  readerMessages,
  scanMessages,
  ownMessages,
];
/** What a role may say by declaration, and is a power that it has: to stop the daemon, or its schedule. */
const POWERS = ['stop', 'pause'];
const TYPES: readonly Anything[] = MODULES.flatMap((module) => Object.values(module).filter(isType)).filter(
  ({ name }) => !POWERS.includes(name),
);
/** With which a sender's own checks are passed by. */
const FORGED = { maxBytes: 4 << 20, maxDescriptors: 16 } as const;

const WORDS: readonly unknown[] = [
  ...['local', 'home', '', '..', '../../../etc/shadow', '/etc/shadow', '/proc/self/mem', 'local/../..'],
  ...['__proto__', 'constructor', 'x'.repeat(5000), 'a\0b', '\n\r\x1b[2J', '😀', 'latest', 'all', 'config'],
  ...[0, -1, 1, 7, 2 ** 31, 2 ** 32, 2 ** 53, 1e300, Number.NaN, Number.POSITIVE_INFINITY, -0.5],
  ...[true, false, null, undefined, [], {}, [[[[[]]]]], { type: 'Buffer', data: [1] }, Buffer.alloc(32)],
];
/** Names of fields that any message has. */
const FIELDS = [
  ...['job', 'repository', 'source', 'snapshot', 'sinceMs', 'verbose', 'level', 'text', 'kind', 'role'],
  ...['instance', 'failure', 'heads', 'turns', 'accept', 'name', 'data', 'slots', 'slot', 'config', 'keys'],
  ...['errors', 'id', 'paths', 'bytes', 'rings', 'sequence', 'length', 'count', 'tags', 'payload', 'path'],
] as const;

export class Attack {
  readonly #random: Random;
  readonly #context: ChildContext;
  /** descriptors of every kind, to be sent along */
  readonly #descriptors: readonly number[];

  constructor(random: Random, context: ChildContext) {
    this.#random = random;
    this.#context = context;
    const [a, b] = socketpair('stream');
    this.#descriptors = [
      a,
      b,
      ...socketpair('seqpacket'),
      memfdCreate('taken', 4096, { seal: false }),
      0,
      1,
      2,
    ];
  }

  #value(depth = 0): unknown {
    const random = this.#random;
    const kind = random.under(depth > 2 ? 8 : 12);
    if (kind < 8) return random.pick(WORDS);
    if (kind === 8) return random.bytes(random.under(100));
    if (kind === 9) return Array.from({ length: random.under(6) }, () => this.#value(depth + 1));
    return this.#record(depth + 1);
  }

  #record(depth = 0): Record<string, unknown> {
    const made: Record<string, unknown> = {};
    for (let i = this.#random.under(6); i > 0; i--) made[this.#random.pick(FIELDS)] = this.#value(depth);
    return made;
  }

  /** A payload that is almost right: one value somewhere is another. */
  bend(payload: unknown): unknown {
    if (typeof payload !== 'object' || payload === null || this.#random.under(10) === 0) return this.#value();
    if (payload instanceof Uint8Array) {
      const bytes = Buffer.from(payload);
      if (bytes.length > 0) bytes[this.#random.under(bytes.length)] = this.#random.under(256);
      return this.#random.under(4) === 0 ? bytes.subarray(0, this.#random.under(bytes.length + 1)) : bytes;
    }
    if (Array.isArray(payload))
      return payload.map((each) => (this.#random.under(payload.length) === 0 ? this.bend(each) : each));
    const keys = Object.keys(payload);
    const copy = { ...payload } as Record<string, unknown>;
    if (keys.length === 0) copy[this.#random.pick(FIELDS)] = this.#value();
    else {
      const key = this.#random.pick(keys);
      copy[key] = this.bend(copy[key]);
    }
    return copy;
  }

  /** What the role itself sends is bent, once in `oneIn`. */
  bendAll(oneIn: number): void {
    const random = this.#random;
    const isBent = (): boolean => random.under(oneIn) === 0;
    const bend = (payload: unknown): unknown => this.bend(payload);
    const { message, query, reply } = Channel.prototype;
    Channel.prototype.message = function (type, payload, ...rest) {
      message.call(this, { ...type, ...FORGED }, isBent() ? bend(payload) : payload, ...rest);
    };
    Channel.prototype.query = function (type, payload, answer, ...rest) {
      return query.call(this, type, isBent() ? bend(payload) : payload, answer, ...rest) as never;
    };
    Channel.prototype.reply = function (to, type, payload, ...rest) {
      reply.call(this, to, { ...type, ...FORGED }, isBent() ? bend(payload) : payload, ...rest);
    };
  }

  /** All that can be talked to, the parent as often as all others together. */
  #channel(): Channel {
    const { parent } = this.#context;
    const peers = ['control', 'scanner', 'chunker', 'crypto', 'storage'].flatMap((role) => [
      ...this.#context.peers(role).values(),
    ]);
    return peers.length === 0 || this.#random.under(2) === 0 ? parent : this.#random.pick(peers);
  }

  /** One message of some type, with something in it. */
  say(among: readonly Anything[] = TYPES, channel = this.#channel()): void {
    const random = this.#random;
    const type = { ...random.pick(among), ...FORGED };
    const payload = random.under(2) === 0 ? this.#record() : this.#value();
    const fds = random.under(6) === 0 ? [random.pick(this.#descriptors), random.pick(this.#descriptors)] : [];
    try {
      if (random.under(2) === 0) channel.message(type, payload, fds);
      else channel.query(type, payload, { ...random.pick(TYPES), ...FORGED }, { fds }).catch(() => undefined);
    } catch {
      // its channel is closed, or full
    }
  }

  /** Requests that the parent does answer this role, with names and numbers that are not its own. */
  ask(requests: readonly Anything[]): void {
    const allowed = requests.filter(({ name }) => !POWERS.includes(name));
    for (let i = 0; i < 30; i++) {
      const type = { ...this.#random.pick(allowed), ...FORGED };
      const names = { repository: this.#random.pick(WORDS), source: this.#random.pick(WORDS) };
      const payload = this.bend({ job: 1e6 + i, sinceMs: 0, level: 'info', text: 'taken', ...names });
      this.#context.parent
        .query(type, payload, { ...this.#random.pick(TYPES), ...FORGED })
        .catch(() => undefined);
    }
  }

  /** One of the ways that must end in death, to be seen by the caller; its name. */
  end(): string {
    const ways = Object.keys(this.#ends);
    const way = this.#random.pick(ways);
    this.#ends[way]?.();
    return way;
  }

  readonly #ends: Readonly<Record<string, () => void>> = {
    'unknown message': () => this.#frame(0xfffe, 0, 0, {}),
    'ready again': () => this.#forge(ownMessages.READY, {}),
    'answer to no question': () => this.#forge(ownMessages.PONG, {}),
    'reply to nothing': () => this.#frame(parentMessages.PARENT_DONE.number, 2, 123456, {}),
    'flags that are none': () => this.#frame(parentMessages.LOG.number, 77, 0, {}),
    'what the parent says': () => this.#forge(ownMessages.SETUP, {}),
    garbage: () => this.#write(this.#random.bytes(64)),
    'endless frame': () => this.#write(Buffer.from('ffffff7f00000000000000000000000000', 'hex')),
    'descriptors that are not counted': () => {
      sendDescriptors(4, this.#descriptors.slice(0, 3), Buffer.alloc(8, 1));
      this.#forge(parentMessages.LOG, { level: 'info', text: 'taken' });
    },
    'descriptors that are missing': () => this.#frame(parentMessages.LISTEN.number, 0, 0, {}, 3),
    'malformed log': () => this.#forge(parentMessages.LOG, { level: 'loud', text: 7 }),
    'log as a question': () => this.#frame(parentMessages.LOG.number, 1, 9, { level: 'info', text: 'taken' }),
    'half a frame': () => {
      this.#write(Buffer.from('40000000', 'hex'));
      fs.closeSync(3);
    },
    'failure of its own making': () =>
      this.#forge(ownMessages.FAILED, { kind: 'damaged', text: 'x'.repeat(4000) }),
    'too much': () => {
      const frame = this.#encoded(ownMessages.PONG.number, 0, 0, {});
      this.#write(Buffer.concat(Array.from({ length: 2000 }, () => frame)));
    },
  };

  #forge(type: MessageType<never> | Anything, payload: unknown): void {
    this.#frame(type.number, 0, 0, payload);
  }

  #encoded(type: number, flags: number, id: number, payload: unknown, descriptors = 0): Buffer {
    const frame = encode(payload, HEADER_BYTES);
    writeHeader(frame, type, flags, id, descriptors);
    return frame;
  }

  /** A frame around the channel, straight to the parent's descriptor. */
  #frame(type: number, flags: number, id: number, payload: unknown, descriptors = 0): void {
    this.#write(this.#encoded(type, flags, id, payload, descriptors));
  }

  #write(bytes: Buffer): void {
    try {
      fs.writeSync(3, bytes);
    } catch (error) {
      // the socket is full, or the parent has closed it
      if (!(error instanceof Error) || !('code' in error)) throw error;
    }
  }
}
