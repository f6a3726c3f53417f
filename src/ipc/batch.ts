/**
 * Descriptor batches: what goes over a channel's second socket, a seqpacket
 * pair. One batch is one message with all descriptors of one frame, sent before
 * the frame, so that the receiver never waits. Called by outgoing.ts and
 * channel.ts.
 *
 *   offset  size  field
 *   0       u32   number of the frame in its direction, from 0, modulo 2^32
 *   4       u16   descriptors
 *   6       u16   0
 *
 * Invariant: a frame gets exactly the descriptors that were sent for it, or
 * none and an error; what does not fit is closed.
 */
import { Failure } from '../error.ts';
import { closeAll, peekMessage, receiveDescriptors, sendDescriptors } from '../sys/socket.ts';

const BATCH_BYTES = 8;
const scratch = Buffer.alloc(BATCH_BYTES);

/** Sends the descriptors of frame `sequence`; false if the peer has to read first. */
export function sendBatch(socket: number, sequence: number, fds: readonly number[]): boolean {
  scratch.writeUInt32LE(sequence, 0);
  scratch.writeUInt16LE(fds.length, 4);
  scratch.writeUInt16LE(0, 6);
  return sendDescriptors(socket, fds, scratch);
}

function malformed(cause: string): Failure {
  return new Failure('malformed descriptors', '', { cause });
}

/** Receives the `count` descriptors of frame `sequence`. */
export function receiveBatch(socket: number, sequence: number, count: number): number[] {
  const reception = receiveDescriptors(socket, count, scratch);
  if (reception === undefined || reception.bytes === 0) throw malformed(`${count} are missing`);
  const { bytes, fds } = reception;
  let wrong: string | undefined;
  if (bytes !== BATCH_BYTES || scratch.readUInt16LE(6) !== 0) wrong = `a batch of ${bytes} bytes`;
  else if (scratch.readUInt32LE(0) !== sequence) wrong = 'they belong to another frame';
  else if (fds.length !== count || scratch.readUInt16LE(4) !== count) wrong = `${fds.length} of ${count}`;
  if (wrong === undefined) return fds;
  closeAll(fds);
  throw malformed(wrong);
}

/** Throws if the next batch belongs to a frame before `sequence`, which did not count it. */
export function refuseUnclaimed(socket: number, sequence: number): void {
  const head = peekMessage(socket, BATCH_BYTES);
  if (head === undefined || head.length === 0) return;
  // a batch of a frame that is still on its way is ahead of us
  if (head.length < BATCH_BYTES || ((head.readUInt32LE(0) - sequence) | 0) < 0)
    throw malformed('some came that no frame counts');
}
