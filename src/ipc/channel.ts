/**
 * A channel: typed messages, queries and replies, with descriptors, between two
 * processes. Used by every process, and by plakarctl.
 *
 * A channel is two sockets: a stream of frames (frame.ts), read by Node, and
 * one for descriptors alone (batch.ts), as Node's reads would drop them.
 *
 * Invariant: whatever the peer sends, either a registered handler gets a message
 * of its declared shape, or the channel ends with a Failure that names the peer;
 * no descriptor that came is left open.
 */

import { assert, net } from '../builtin.ts';
import { Failure, toWire } from '../error.ts';
import { RELEASED_MIN_BYTES } from '../sys/release.ts';
import { closeAll, socketpair } from '../sys/socket.ts';
import { trace, tracing } from '../trace.ts';
import { receiveBatch, refuseUnclaimed } from './batch.ts';
import { FrameReader, type Header, PLAIN, QUERY, REPLY, writeHeader } from './frame.ts';
import { Breach, ERROR, HEADER_BYTES, type MessageType, type Received } from './message.ts';
import { Outgoing } from './outgoing.ts';
import { decode, encode, encodeLong } from './payload.ts';
import { PENDING_MAX, Queries } from './queries.ts';
import type { Stream } from './stream.ts';

const QUEUE_MAX_BYTES_DEFAULT = 8 << 20;
/** Most handlers of one channel that have not returned; reading stops meanwhile. */
const HANDLERS_MAX = 1024;
/** How long `close` waits for the peer to read what was sent. */
const CLOSE_LINGER_MS = 1000;

/** The two descriptors of one end of a channel. */
export interface Ends {
  readonly stream: number;
  readonly descriptors: number;
}

/** A new channel's two ends. They are close-on-exec; a Channel made of one owns it. */
export function channelPair(): [Ends, Ends] {
  const [a, b] = socketpair('stream');
  try {
    const [c, d] = socketpair('seqpacket');
    return [
      { stream: a, descriptors: c },
      { stream: b, descriptors: d },
    ];
  } catch (error) {
    closeAll([a, b]);
    throw error;
  }
}

export interface ChannelOptions {
  /** The peer's name, for errors: "storage local". */
  readonly name: string;
  /** What may be queued for the peer; default 8 MiB. */
  readonly queueMaxBytes?: number;
  /** Makes the stream, of a descriptor that it takes over; default a net.Socket. */
  readonly stream?: (fd: number) => Stream;
  /** Called once if the channel ends by a failure, before `dispatch` rejects. */
  readonly onFatal?: (error: Failure) => void;
}

export interface SendOptions {
  /** The channel closes the descriptors, also if sending fails. Otherwise the caller keeps them. */
  readonly given?: boolean;
}

export interface QueryOptions extends SendOptions {
  readonly fds?: readonly number[];
  /** Without it the query waits for as long as the channel lives. */
  readonly timeoutMs?: number;
}

export type Handler<T> = (message: Received<T>) => void | Promise<void>;

interface Registered {
  readonly type: MessageType<unknown>;
  readonly handle: Handler<unknown>;
}

const NONE: readonly number[] = [];

function socketOf(fd: number): Stream {
  return new (net().Socket)({ fd, readable: true, writable: true });
}

export class Channel {
  /** The peer's name. */
  readonly name: string;
  readonly #socket: Stream;
  readonly #descriptors: number;
  readonly #outgoing: Outgoing;
  readonly #reader: FrameReader;
  readonly #queries: Queries;
  readonly #handlers = new Map<number, Registered>();
  readonly #onFatal: ((error: Failure) => void) | undefined;
  /** Ids of the peer's queries that we have not answered. */
  readonly #unanswered = new Set<number>();
  /** Frames received, modulo 2^32. */
  #received = 0;
  /** Handlers that have not returned. */
  #running = 0;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #error: Failure | undefined;
  #ended: { resolve(): void; reject(error: Failure): void } | undefined;

  /** Takes over both descriptors of `ends`. */
  constructor(ends: Ends, options: ChannelOptions) {
    this.name = options.name;
    this.#onFatal = options.onFatal;
    this.#descriptors = ends.descriptors;
    this.#socket = (options.stream ?? socketOf)(ends.stream);
    this.#socket.on('error', () => this.#end());
    this.#socket.on('close', () => this.#end());
    const queueMaxBytes = options.queueMaxBytes ?? QUEUE_MAX_BYTES_DEFAULT;
    this.#outgoing = new Outgoing(this.#socket, ends.descriptors, queueMaxBytes, (error) =>
      this.#fail(error),
    );
    this.#queries = new Queries(this.name, (error) => this.#fail(error));
    this.#reader = new FrameReader({
      admit: (header) => this.#admit(header),
      deliver: (header, body) => this.#deliver(header, body),
    });
  }

  /**
   * Names what is done with messages (and queries) of a type. What a handler
   * throws is the answer to a query, and the end of the channel for a message;
   * a Breach is the end always.
   */
  handler<T>(type: MessageType<T>, handle: Handler<T>): void {
    assert(!this.#handlers.has(type.number), `two handlers for ${type.name}`);
    // #deliver calls it with what type.shape has checked
    this.#handlers.set(type.number, { type, handle: handle as Handler<unknown> });
  }

  /**
   * Sends a message. Throws a Failure: of kind 'busy' if the queue is full
   * (await `drained` before), or if the channel is closed.
   */
  message<T>(
    type: MessageType<T>,
    payload: T,
    fds: readonly number[] = NONE,
    options: SendOptions = {},
  ): void {
    this.#send(type, PLAIN, 0, payload, fds, options.given ?? false);
  }

  /**
   * Sends a query; resolves with its reply, whose descriptors the caller then
   * owns. Rejects with the peer's own Failure, at the timeout, or when the
   * channel ends. `dispatch` must have been called.
   */
  async query<T, R>(
    type: MessageType<T>,
    payload: T,
    reply: MessageType<R>,
    options: QueryOptions = {},
  ): Promise<Received<R>> {
    const { fds = NONE, given = false, timeoutMs } = options;
    let id = 0;
    try {
      id = this.#queries.nextId(type.name);
    } catch (error) {
      if (given) closeAll(fds);
      throw error;
    }
    this.#send(type, QUERY, id, payload, fds, given);
    return await this.#queries.wait(id, type.name, reply, timeoutMs);
  }

  /**
   * Answers a query, once. Throws a Failure of kind 'busy' if the queue is full:
   * before large answers await `drained`. After the channel's end this does
   * nothing, as nobody is there to know.
   */
  reply<T>(
    to: Received<unknown>,
    type: MessageType<T>,
    payload: T,
    fds: readonly number[] = NONE,
    options: SendOptions = {},
  ): void {
    const given = options.given ?? false;
    if (this.#state !== 'open') {
      if (given) closeAll(fds);
      return;
    }
    assert(this.#unanswered.has(to.id), `${to.type.name} ${to.id} is no open query`);
    this.#send(type, REPLY, to.id, payload, fds, given);
    this.#unanswered.delete(to.id);
  }

  /** Answers a query by an error, which its sender gets as a rejection. */
  fail(to: Received<unknown>, error: unknown): void {
    this.reply(to, ERROR, toWire(error));
  }

  /**
   * Begins to read. Resolves when the peer closes, or `close` is called;
   * rejects with a Failure that names the peer if it sends what it must not.
   */
  dispatch(): Promise<void> {
    assert(this.#ended === undefined, `${this.name} is dispatched twice`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#ended = { resolve, reject };
    if (this.#state === 'closed') this.#settle();
    else {
      this.#socket.on('data', (chunk: Buffer) => this.#read(chunk));
      this.#socket.on('end', () => this.#peerEnded());
    }
    return promise;
  }

  /** Whether a producer may go on: at most half of the queue is used. */
  get writable(): boolean {
    return this.#outgoing.writable;
  }

  /** Resolves when `writable` holds; also when the channel ends, after which sending throws. */
  drained(): Promise<void> {
    return this.#outgoing.drained();
  }

  get closed(): boolean {
    return this.#state !== 'open';
  }

  /** Sends what is queued (for at most a second) and closes. Queries reject, `dispatch` resolves. */
  close(): void {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    this.#queries.abandon('the channel was closed');
    if (this.#outgoing.idle) {
      this.#end();
      return;
    }
    const timer = setTimeout(() => this.#end(), CLOSE_LINGER_MS);
    this.#socket.once('close', () => clearTimeout(timer));
    this.#outgoing.onIdle(() => this.#end());
  }

  #send<T>(
    type: MessageType<T>,
    flags: number,
    id: number,
    payload: T,
    fds: readonly number[],
    given: boolean,
  ): void {
    try {
      if (this.#state !== 'open') throw this.#error ?? new Failure('channel', '', { cause: 'closed' });
      assert(fds.length <= type.maxDescriptors, `${fds.length} descriptors with ${type.name}`);
      const long = type.maxBytes < RELEASED_MIN_BYTES ? undefined : encodeLong(payload, HEADER_BYTES);
      const frame = long ?? encode(payload, HEADER_BYTES);
      if (frame.length - HEADER_BYTES > type.maxBytes)
        throw new Failure('encode', '', { cause: `${frame.length} bytes, over ${type.maxBytes}` });
      writeHeader(frame, type.number, flags, id, fds.length);
      this.#outgoing.admit(frame.length, fds.length);
      this.#outgoing.send(frame, fds, type, long !== undefined);
      if (tracing.ipc) this.#trace('to', type, flags, id, frame.length, fds.length);
    } catch (cause) {
      throw new Failure(`send ${type.name} to`, this.name, { cause });
    } finally {
      if (given) closeAll(fds);
    }
  }

  #trace(
    way: 'to' | 'from',
    { name, untraced }: MessageType<unknown>,
    flags: number,
    id: number,
    bytes: number,
    descriptors: number,
  ): void {
    if (untraced) return;
    const kind = flags === QUERY ? ` query ${id}` : flags === REPLY ? ` reply ${id}` : '';
    const passed = descriptors === 0 ? '' : `, ${descriptors} descriptors`;
    trace('ipc', `${way} ${this.name}:${kind} ${name}, ${bytes} bytes${passed}`);
  }

  #read(chunk: Buffer): void {
    if (this.#state !== 'open') return;
    try {
      this.#reader.push(chunk);
      if (!this.closed) refuseUnclaimed(this.#descriptors, this.#received);
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (!this.closed) this.#outgoing.resume();
  }

  /** The declared type of a frame, by its header alone. */
  #typeOf(header: Header): MessageType<unknown> {
    if (header.flags === REPLY) {
      const expected = this.#queries.expected(header.id);
      if (expected === undefined)
        throw new Failure('unexpected reply', String(header.id), { cause: 'no such query is open' });
      if (header.type === ERROR.number) return ERROR;
      if (header.type === expected.number) return expected;
      throw new Failure('unexpected reply', expected.name, { cause: `it is of type ${header.type}` });
    }
    const type = this.#handlers.get(header.type)?.type;
    if (type === undefined) throw new Failure('unknown message', String(header.type));
    return type;
  }

  #admit(header: Header): void {
    const type = this.#typeOf(header);
    if (header.bodyBytes > type.maxBytes)
      throw new Failure('malformed', type.name, {
        cause: `${header.bodyBytes} bytes, over ${type.maxBytes}`,
      });
    if (header.descriptors > type.maxDescriptors)
      throw new Failure('malformed', type.name, {
        cause: `${header.descriptors} descriptors, over ${type.maxDescriptors}`,
      });
    if (header.flags !== QUERY) return;
    if (this.#unanswered.has(header.id) || this.#unanswered.size >= PENDING_MAX)
      throw new Failure('malformed', type.name, { cause: `query ${header.id} is open, or too many are` });
  }

  /** One whole frame; false once the channel has ended. */
  #deliver(header: Header, body: Buffer): boolean {
    // a handler may have closed the channel since the header came
    if (this.#state !== 'open') return false;
    const type = this.#typeOf(header);
    const sequence = this.#received;
    this.#received = (sequence + 1) >>> 0;
    const { flags, id, descriptors } = header;
    const fds = descriptors === 0 ? NONE : receiveBatch(this.#descriptors, sequence, descriptors);
    let received: Received<unknown>;
    try {
      if (tracing.ipc) this.#trace('from', type, flags, id, header.bodyBytes + HEADER_BYTES, descriptors);
      received = { type, id, payload: type.shape(decode(body), type.name), fds };
    } catch (error) {
      closeAll(fds);
      throw error;
    }
    if (flags === REPLY) {
      if (!this.#queries.settle(id, received)) closeAll(fds);
    } else this.#handle(received, flags === QUERY);
    return this.#state === 'open';
  }

  #handle(received: Received<unknown>, query: boolean): void {
    const handle = this.#handlers.get(received.type.number)?.handle;
    assert(handle !== undefined);
    if (query) this.#unanswered.add(received.id);
    try {
      const returned = handle(received);
      if (returned instanceof Promise) this.#follow(received, returned);
    } catch (error) {
      this.#refuse(received, error);
    }
  }

  #follow(received: Received<unknown>, returned: Promise<void>): void {
    this.#running++;
    if (this.#running === HANDLERS_MAX) this.#socket.pause();
    returned
      .catch((error: unknown) => this.#refuse(received, error))
      .finally(() => {
        this.#running--;
        if (this.#running === HANDLERS_MAX / 2 && this.#state === 'open') this.#socket.resume();
      });
  }

  /** A handler threw: that is the answer to a query, or else the end. */
  #refuse(received: Received<unknown>, error: unknown): void {
    if (this.#state !== 'open') return;
    try {
      if (error instanceof Breach) throw error;
      if (this.#unanswered.has(received.id)) this.fail(received, error);
      else throw new Failure('handle', received.type.name, { cause: error });
    } catch (cause) {
      this.#fail(cause);
    }
  }

  #peerEnded(): void {
    if (this.#state === 'open' && this.#reader.midway)
      this.#fail(new Failure('malformed frame', '', { cause: 'the stream ended in the middle of it' }));
    else this.#end();
  }

  #fail(cause: unknown): void {
    if (this.#state === 'closed') return;
    this.#error = new Failure('channel', this.name, { cause });
    this.#end();
  }

  /** The end, for whatever reason: everything that waits is told, everything that is open closed. */
  #end(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#outgoing.close();
    this.#socket.destroy();
    this.#unanswered.clear();
    this.#queries.abandon(this.#error ?? 'the channel was closed');
    if (this.#error !== undefined) this.#onFatal?.(this.#error);
    this.#settle();
  }

  #settle(): void {
    if (this.#error === undefined) this.#ended?.resolve();
    else this.#ended?.reject(this.#error);
  }
}
