/**
 * Message types: what may be sent over a channel. Declared in src/messages and
 * src/privsep, and used by both ends of a channel.
 */
import { assert } from '../builtin.ts';
import { Failure, type WireFailure } from '../error.ts';
import { DESCRIPTORS_MAX } from '../sys/constants.ts';
import { record, type Shape, text } from './shape.ts';

/** The longest frame, header included; the limit of a type is usually far lower. */
export const FRAME_MAX_BYTES = 8 << 20;
/** Bytes of a frame's header; see frame.ts. */
export const HEADER_BYTES = 16;

const BYTES_MAX_DEFAULT = 64 << 10;

export interface MessageType<T> {
  /** What the frame says: 1 to 65535, unique among the types of a channel. */
  readonly number: number;
  /** For errors. */
  readonly name: string;
  readonly shape: Shape<T>;
  /** The longest payload, encoded. */
  readonly maxBytes: number;
  readonly maxDescriptors: number;
  /** A trace on its way: tracing it would never end. */
  readonly untraced: boolean;
  /** It holds keys: its sender overwrites the frame once the kernel has it; its receiver, what came. */
  readonly secret: boolean;
  /** It is written at once: its sender may work on for long before the loop has its turn, and its receiver has to begin. */
  readonly prompt: boolean;
}

/** A message as its handler gets it. The handler owns `fds`: it closes them, whatever it does. */
export interface Received<T> {
  readonly type: MessageType<T>;
  /** Ties a reply to its query; 0 for a plain message. */
  readonly id: number;
  readonly payload: T;
  readonly fds: readonly number[];
}

/** What a handler throws where the sender broke a rule: it is never an answer, but the end of the channel. */
export class Breach extends Failure {}

export interface MessageLimits {
  /** The longest payload, encoded, in bytes; default 64 KiB. */
  readonly maxBytes?: number;
  /** Most descriptors with one message; default none. */
  readonly maxDescriptors?: number;
  readonly untraced?: true;
  readonly secret?: true;
  readonly prompt?: true;
}

function declare<T>(number: number, name: string, shape: Shape<T>, limits: MessageLimits): MessageType<T> {
  const { maxBytes = BYTES_MAX_DEFAULT, maxDescriptors = 0 } = limits;
  const { untraced = false, secret = false, prompt = false } = limits;
  assert(maxBytes > 0 && maxBytes <= FRAME_MAX_BYTES - HEADER_BYTES, `${name}: ${maxBytes} bytes`);
  assert(maxDescriptors >= 0 && maxDescriptors <= DESCRIPTORS_MAX, `${name}: ${maxDescriptors} descriptors`);
  return { number, name, shape, maxBytes, maxDescriptors, untraced, secret, prompt };
}

/** Declares a message type. */
export function message<T>(
  number: number,
  name: string,
  shape: Shape<T>,
  limits: MessageLimits = {},
): MessageType<T> {
  assert(Number.isInteger(number) && number > 0 && number <= 0xffff, `${name}: number ${number}`);
  return declare(number, name, shape, limits);
}

/** A failure's text as it is sent is bounded by toWire(); in UTF-8 each character may be 3 bytes. */
const ERROR_TEXT_MAX_CHARS = 4096;

/** The reply that any query may get instead of its own: it failed. */
export const ERROR: MessageType<WireFailure> = declare(
  0,
  'error',
  record({ kind: text(32), text: text(ERROR_TEXT_MAX_CHARS) }),
  { maxBytes: 3 * ERROR_TEXT_MAX_CHARS + 256 },
);
