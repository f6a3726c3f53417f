/**
 * How a client gets its channel: it connects to a Unix socket, and is sent two
 * descriptors, the ends of a new channel; then that connection is closed.
 * `greet` is called by control for each connection, `connect` by plakarctl.
 *
 *   offset  size  field
 *   0       4     "plkd"
 *   4       u32   version of the protocol; 0 where the client is refused, as there are too many
 *
 * Invariant: neither side waits for the other longer than its timeout, and a
 * connection that is refused leaves no descriptor open.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { errnoName } from '../sys/errno.ts';
import { closeAll, connectUnix, type Reception, receiveDescriptors, sendDescriptors } from '../sys/socket.ts';
import { channelPair, type Ends } from './channel.ts';

/** Changes whenever a client of another version would be misunderstood. */
const PROTOCOL_VERSION = 1;
const MAGIC = Buffer.from('plkd', 'latin1');
const HELLO_BYTES = 8;
/** No version: no channel comes with it. */
const REFUSED = 0;

/**
 * Makes a channel for whoever has connected to `connection`, a stream socket's
 * descriptor, and sends it its end; returns ours. Never waits. The caller
 * closes the connection.
 */
export function greet(connection: number): Ends {
  const [ours, theirs] = channelPair();
  const given = [theirs.stream, theirs.descriptors];
  try {
    const hello = Buffer.alloc(HELLO_BYTES);
    MAGIC.copy(hello);
    hello.writeUInt32LE(PROTOCOL_VERSION, 4);
    if (!sendDescriptors(connection, given, hello))
      throw new Failure('greet client', '', { cause: 'its connection is full' });
  } catch (error) {
    closeAll([ours.stream, ours.descriptors]);
    throw error;
  } finally {
    closeAll(given);
  }
  return ours;
}

/** Tells whoever has connected that there are too many clients. Never waits; the caller closes the connection. */
export function refuse(connection: number): void {
  const hello = Buffer.alloc(HELLO_BYTES);
  MAGIC.copy(hello);
  hello.writeUInt32LE(REFUSED, 4);
  sendDescriptors(connection, [], hello);
}

/** The remedy for a failed connection, by errno. */
const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'is plakard running?',
  ECONNREFUSED: 'is plakard running?',
  EACCES: 'who may connect is said by set socket in plakard.conf(5)',
};

function remedyOf(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause)
    if ('errno' in at && typeof at.errno === 'number') return REMEDIES[errnoName(at.errno)];
  return undefined;
}

/** The reason without the Failure around it, which says 'connect PATH' again. */
function reasonOf(error: unknown): unknown {
  return error instanceof Failure && error.operation === 'connect' ? error.cause : error;
}

function endsOf(reception: Reception, hello: Buffer): Ends {
  const [stream, descriptors] = reception.fds;
  let wrong: string | undefined;
  if (reception.bytes === 0) wrong = 'the connection was closed';
  else if (reception.bytes !== HELLO_BYTES || !hello.subarray(0, 4).equals(MAGIC))
    wrong = 'this is not plakard';
  else if (hello.readUInt32LE(4) === REFUSED) {
    closeAll(reception.fds);
    throw new Failure('greeting', '', { cause: 'too many clients are connected', kind: 'busy' });
  } else if (hello.readUInt32LE(4) !== PROTOCOL_VERSION)
    wrong = `protocol version mismatch: plakard has ${hello.readUInt32LE(4)}, this program ${PROTOCOL_VERSION}`;
  else if (stream === undefined || descriptors === undefined) wrong = 'no channel came';
  else return { stream, descriptors };
  closeAll(reception.fds);
  throw new Failure('greeting', '', { cause: wrong });
}

/** Connects to the daemon at `path`; blocks for at most about twice `timeoutMs`. */
export function connect(path: string, timeoutMs: number): Ends {
  try {
    const socket = connectUnix(path, timeoutMs);
    try {
      const hello = Buffer.alloc(HELLO_BYTES);
      const reception = receiveDescriptors(socket, 2, hello, { wait: true });
      if (reception === undefined)
        throw new Failure('greeting', '', { cause: `none came within ${timeoutMs} ms` });
      return endsOf(reception, hello);
    } finally {
      fs.closeSync(socket);
    }
  } catch (error) {
    const remedy = remedyOf(error);
    const cause = reasonOf(error);
    throw new Failure('connect', path, remedy === undefined ? { cause } : { cause, remedy });
  }
}
