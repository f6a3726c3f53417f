/**
 * Frames: how messages are told apart in a stream of bytes. Called by
 * channel.ts, for each of its reads.
 *
 *   offset  size  field
 *   0       u32   length of the frame, this header included
 *   4       u16   message type
 *   6       u8    0 message, 1 query, 2 reply
 *   7       u8    0
 *   8       u32   id of the query; 0 for a message
 *   12      u16   descriptors that came before, on the other socket
 *   14      u16   0
 *   16            payload, msgpack
 *
 * Little-endian. Invariant: nothing is allocated for a frame before its header
 * was found to be in order, by us and by the channel.
 */
import { Failure } from '../error.ts';
import { DESCRIPTORS_MAX } from '../sys/constants.ts';
import { FRAME_MAX_BYTES, HEADER_BYTES } from './message.ts';

export const PLAIN = 0;
export const QUERY = 1;
export const REPLY = 2;

/** What a header says. */
export interface Header {
  type: number;
  flags: number;
  id: number;
  descriptors: number;
  /** Bytes of the payload. */
  bodyBytes: number;
}

/** Fills the first 16 bytes of `frame`, whose payload is there already. */
export function writeHeader(
  frame: Buffer,
  type: number,
  flags: number,
  id: number,
  descriptors: number,
): void {
  frame.writeUInt32LE(frame.length, 0);
  frame.writeUInt16LE(type, 4);
  frame[6] = flags;
  frame[7] = 0;
  frame.writeUInt32LE(id, 8);
  frame.writeUInt16LE(descriptors, 12);
  frame.writeUInt16LE(0, 14);
}

function malformed(cause: string): Failure {
  return new Failure('malformed frame', '', { cause });
}

function readHeader(bytes: Buffer, at: number, into: Header): void {
  const length = bytes.readUInt32LE(at);
  if (length < HEADER_BYTES) throw malformed(`a length of ${length} bytes, shorter than its header`);
  if (length > FRAME_MAX_BYTES) throw malformed(`a length of ${length} bytes, over ${FRAME_MAX_BYTES}`);
  into.type = bytes.readUInt16LE(at + 4);
  into.flags = bytes.readUInt8(at + 6);
  into.id = bytes.readUInt32LE(at + 8);
  into.descriptors = bytes.readUInt16LE(at + 12);
  into.bodyBytes = length - HEADER_BYTES;
  if (into.flags > REPLY) throw malformed(`flags ${into.flags}`);
  if (bytes.readUInt8(at + 7) !== 0 || bytes.readUInt16LE(at + 14) !== 0)
    throw malformed('reserved bytes are set');
  if ((into.id === 0) !== (into.flags === PLAIN)) throw malformed(`id ${into.id} with flags ${into.flags}`);
  if (into.descriptors > DESCRIPTORS_MAX) throw malformed(`${into.descriptors} descriptors`);
}

/** What the reader tells its owner. Both may throw, which ends reading. */
export interface FrameSink {
  /** A header has come: throws if such a frame is not wanted. */
  admit(header: Header): void;
  /** The whole frame has come. `body` stays as it is; `header` is used again. False: read no further. */
  deliver(header: Header, body: Buffer): boolean;
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #header: Header = { type: 0, flags: 0, id: 0, descriptors: 0, bodyBytes: 0 };
  /** A header that is split between reads. */
  readonly #head = Buffer.alloc(HEADER_BYTES);
  #headFilled = 0;
  /** A payload that is split between reads. */
  #body: Buffer | undefined;
  #bodyFilled = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether a frame has begun and not ended. */
  get midway(): boolean {
    return this.#headFilled > 0 || this.#body !== undefined;
  }

  /** Takes the next bytes, which must never change afterwards. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#body === undefined) {
        at = this.#readHead(chunk, at);
        if (this.#headFilled > 0) return;
        const { bodyBytes } = this.#header;
        if (chunk.length - at >= bodyBytes) {
          const body = chunk.subarray(at, at + bodyBytes);
          at += bodyBytes;
          if (!this.#sink.deliver(this.#header, body)) return;
          continue;
        }
        this.#body = Buffer.allocUnsafeSlow(bodyBytes);
        this.#bodyFilled = 0;
      }
      const body = this.#body;
      const copied = chunk.copy(body, this.#bodyFilled, at);
      at += copied;
      this.#bodyFilled += copied;
      if (this.#bodyFilled < body.length) return;
      this.#body = undefined;
      if (!this.#sink.deliver(this.#header, body)) return;
    }
  }

  /** Reads the header that begins or goes on at `at`; returns where it ends. #headFilled says if it is short. */
  #readHead(chunk: Buffer, at: number): number {
    if (this.#headFilled === 0 && chunk.length - at >= HEADER_BYTES) {
      readHeader(chunk, at, this.#header);
      this.#sink.admit(this.#header);
      return at + HEADER_BYTES;
    }
    const end = Math.min(chunk.length, at + HEADER_BYTES - this.#headFilled);
    this.#headFilled += chunk.copy(this.#head, this.#headFilled, at, end);
    if (this.#headFilled === HEADER_BYTES) {
      this.#headFilled = 0;
      readHeader(this.#head, 0, this.#header);
      this.#sink.admit(this.#header);
    }
    return end;
  }
}
