/**
 * The client's connection to the daemon's control process. Called by the
 * context, once a run. Owns what every request has in common: that a daemon
 * that is not there, or goes away, is said in one line with what to do, and
 * that progress and problems are printed as they come.
 */
import { closeSync } from 'node:fs';
import { Failure } from '../error.ts';
import { Channel } from '../ipc/channel.ts';
import { connect } from '../ipc/connect.ts';
import type { MessageType, Received } from '../ipc/message.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { pooledStream } from '../ipc/stream.ts';
import { OPEN, OPENED, PROBLEM, PROGRESS } from '../messages/client.ts';
import type { Output } from './output.ts';
import { PROBLEM_EVENT } from './problems.ts';
import type { Reader } from './reader.ts';

/** How long the daemon may take to accept and greet. */
const CONNECT_TIMEOUT_MS = 10_000;
const RING_DESCRIPTORS = 3;
/** What has so many messages that node:net is worth its loading: with it they cost a twentieth less in all. */
const BULK: ReadonlySet<ReaderOperation> = new Set(['pull', 'tarball']);

/** What a reader session is opened for; `permit` rules speak of it. */
export type ReaderOperation = PayloadOf<typeof OPEN.shape>['operation'];

/** A socket that may not be connected to is a matter of permission; connect() says the rest. */
function connectFailure(error: unknown): unknown {
  if (!(error instanceof Failure)) return error;
  for (let at: unknown = error; at instanceof Error; at = at.cause)
    if ('code' in at && (at.code === 'EACCES' || at.code === 'EPERM')) {
      const remedy = error.remedy === undefined ? {} : { remedy: error.remedy };
      return new Failure(error.operation, error.object, {
        cause: error.cause,
        kind: 'not-permitted',
        ...remedy,
      });
    }
  return error;
}

function connectionLost(): Failure {
  return new Failure('plakard ended the connection', '', { remedy: 'its log says why' });
}

export class Connection {
  /** What is being done, for the problems that the daemon reports meanwhile: `push home`. */
  about: string | undefined;
  readonly #channel: Channel;
  #lost: unknown;

  private constructor(channel: Channel, output: Output) {
    this.#channel = channel;
    channel.handler(PROGRESS, ({ payload }) => output.progress.show(payload));
    channel.handler(PROBLEM, ({ payload: { object, text, paths, more } }) =>
      output.emit(PROBLEM_EVENT, { about: this.about, object, text, paths, more }),
    );
    channel.dispatch().catch((error: unknown) => {
      this.#lost = error;
    });
  }

  /** Connects to the control socket at `path`. Rejects with a Failure that says what to do. */
  static open(path: string, output: Output): Connection {
    try {
      return new Connection(
        new Channel(connect(path, CONNECT_TIMEOUT_MS), { name: 'plakard', stream: pooledStream }),
        output,
      );
    } catch (error) {
      throw connectFailure(error);
    }
  }

  /** Registers what is done with what the daemon sends of its own accord. */
  on<T>(type: MessageType<T>, handle: (payload: T) => void): void {
    this.#channel.handler(type, ({ payload }) => handle(payload));
  }

  /** Sends one request and waits for its reply; the daemon's refusal rejects with its kind and text. */
  async request<T, R>(
    type: MessageType<T>,
    payload: T,
    reply: MessageType<R>,
    timeoutMs?: number,
    fds: readonly number[] = [],
  ): Promise<Received<R>> {
    try {
      return await this.#channel.query(
        type,
        payload,
        reply,
        timeoutMs === undefined ? { fds } : { timeoutMs, fds },
      );
    } catch (error) {
      if (!this.#channel.closed) throw error;
      // a channel that broke says why; its queries only say that it did
      throw this.#lost ?? connectionLost();
    }
  }

  /** Opens a reader session on `repository`, or on the first of the configuration. */
  async openReader(operation: ReaderOperation, repository: string | undefined): Promise<Reader> {
    const [{ payload, fds }, { Reader }] = await Promise.all([
      this.request(OPEN, { repository, operation }, OPENED),
      import('./reader.ts'),
    ]);
    const [stream, descriptors, ring] = fds;
    if (
      fds.length !== RING_DESCRIPTORS ||
      stream === undefined ||
      descriptors === undefined ||
      ring === undefined
    ) {
      for (const fd of fds) closeSync(fd);
      throw new Failure('open session', '', { cause: `${fds.length} descriptors came` });
    }
    const options = BULK.has(operation) ? {} : { stream: pooledStream };
    return new Reader(payload.repository, payload.ringBytes, { stream, descriptors, ring }, options);
  }

  close(): void {
    this.#channel.close();
  }
}
