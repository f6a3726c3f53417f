/**
 * The clients of the control socket: accepted, known by the credentials that
 * the kernel noted, given a channel each, and counted. Called by control.ts.
 *
 * Invariant: what a client does not read, does not finish or asks too much of
 * is bounded here, and paid by that client; others find room, root always.
 */
import net from 'node:net';
import { Failure } from '../../error.ts';
import { Channel } from '../../ipc/channel.ts';
import { greet, refuse } from '../../ipc/connect.ts';
import type { MessageType, Received } from '../../ipc/message.ts';
import { peerGroups } from '../../sys/server.ts';
import { peerCredentials } from '../../sys/socket.ts';
import type { Caller } from './permits.ts';

const ROOT = 0;
/** Clients at once: in all, of all users but root, and of one of those. */
const CLIENTS_MAX = 256;
const USER_CLIENTS_MAX = 192;
const CLIENTS_PER_USER_MAX = 64;
/** What is queued for one client that does not read. */
const QUEUE_MAX_BYTES = 1 << 20;
/** Requests of one client that are not answered. */
const REQUESTS_MAX = 32;

/** A connected client. */
export interface Client {
  readonly caller: Caller;
  readonly channel: Channel;
  requests: number;
}

type Answer<T> = (client: Client, message: Received<T>) => void | Promise<void>;

/** Registers what a client may ask; more than REQUESTS_MAX at once are refused. */
export function answer<T>(client: Client, type: MessageType<T>, respond: Answer<T>): void {
  client.channel.handler(type, async (message) => {
    if (client.requests >= REQUESTS_MAX)
      throw new Failure('ask', type.name, { cause: `${REQUESTS_MAX} requests are open`, kind: 'busy' });
    client.requests++;
    try {
      await respond(client, message);
    } finally {
      client.requests--;
    }
  });
}

export interface ClientsOptions {
  /** registers what a new client may ask */
  readonly serve: (client: Client) => void;
  readonly gone: (client: Client, error: unknown) => void;
  readonly refused: (uid: number) => void;
}

export class Clients {
  readonly #options: ClientsOptions;
  /** with the end of each */
  readonly #clients = new Map<Client, Promise<void>>();

  constructor(options: ClientsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#clients.size;
  }

  /** Accepts on a listening socket. */
  listen(fd: number): net.Server {
    const server = net.createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket));
    server.on('error', (error) => {
      throw new Failure('listen', '', { cause: error });
    });
    server.listen({ fd });
    return server;
  }

  /** Closes all, after what has been answered by now has been sent. */
  async close(): Promise<void> {
    // an answer that came with the order to stop is still to be passed on
    await new Promise((resolve) => setImmediate(resolve));
    const ends = [...this.#clients.values()];
    for (const { channel } of this.#clients.keys()) channel.close();
    await Promise.all(ends);
  }

  /** A new connection is given its channel and closed: the channel is what the client talks on. */
  #accept(socket: net.Socket): void {
    socket.on('error', () => socket.destroy());
    try {
      const fd = descriptorOf(socket);
      const { pid, uid, gid } = peerCredentials(fd);
      if (this.#isFull(uid)) {
        this.#options.refused(uid);
        refuse(fd);
        return;
      }
      const caller = { pid, uid, groups: [gid, ...peerGroups(fd)] };
      const name = `client ${pid} of user ${uid}`;
      this.#serve({
        caller,
        channel: new Channel(greet(fd), { name, queueMaxBytes: QUEUE_MAX_BYTES }),
        requests: 0,
      });
    } catch {
      // it hung up before it was greeted: its loss alone
    } finally {
      socket.destroy();
    }
  }

  #isFull(uid: number): boolean {
    if (this.#clients.size >= CLIENTS_MAX) return true;
    if (uid === ROOT) return false;
    let ofUser = 0;
    let ofUsers = 0;
    for (const { caller } of this.#clients.keys()) {
      if (caller.uid === uid) ofUser++;
      if (caller.uid !== ROOT) ofUsers++;
    }
    return ofUser >= CLIENTS_PER_USER_MAX || ofUsers >= USER_CLIENTS_MAX;
  }

  #serve(client: Client): void {
    this.#options.serve(client);
    const ended = client.channel.dispatch().then(
      () => this.#gone(client, undefined),
      // a client that breaks the rules pays alone
      (error: unknown) => this.#gone(client, error),
    );
    this.#clients.set(client, ended);
  }

  #gone(client: Client, error: unknown): void {
    this.#clients.delete(client);
    client.channel.close();
    this.#options.gone(client, error);
  }
}

/** The descriptor of an accepted socket, which node:net keeps to itself. */
function descriptorOf(socket: net.Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  if (typeof fd !== 'number') throw new Failure('accept client', '', { cause: 'no descriptor' });
  return fd;
}
