/**
 * The way out of a channel: frames in their order, descriptors before the frame
 * that counts them, everything of one tick in one write, or at once. Called by channel.ts.
 *
 * Invariants: what is queued never exceeds its limit (one frame alone may); a
 * frame is written only after its descriptors were sent; descriptors that were
 * given to us are closed, whatever happens; of a secret frame nothing is left
 * here once it is written, nor of one that has memory of its own.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { release } from '../sys/release.ts';
import { closeAll, duplicate } from '../sys/socket.ts';
import { sendBatch } from './batch.ts';
import type { MessageType } from './message.ts';
import type { Stream } from './stream.ts';

/** Frames up to this are copied together; a longer one is written from where it is. */
const COPY_MAX_BYTES = 4096;
/** Most descriptors that wait for the peer to read. */
const WAITING_DESCRIPTORS_MAX = 1024;
/** How often a full descriptor socket is tried again; nothing in Node reports that it has room. */
const RETRY_MIN_MS = 1;
const RETRY_MAX_MS = 32;

/** A frame whose descriptors, or those of one before it, could not be sent yet. */
interface Waiting {
  readonly frame: Buffer;
  readonly sequence: number;
  /** Our own duplicates. */
  readonly fds: readonly number[];
}

const NONE: readonly number[] = [];

/** What a frame's type says of its way. */
type Way = Pick<MessageType<unknown>, 'secret' | 'prompt'>;
const PLAIN: Way = { secret: false, prompt: false };

/** Joins runs of short frames; keeps the order. */
function gather(frames: readonly Buffer[]): Buffer[] {
  const out: Buffer[] = [];
  let from = 0;
  let runBytes = 0;
  const flushRun = (to: number): void => {
    if (to - from === 1) out.push(frames[from] as Buffer);
    else if (to > from) out.push(Buffer.concat(frames.slice(from, to), runBytes));
    from = to;
    runBytes = 0;
  };
  frames.forEach((frame, i) => {
    if (frame.length <= COPY_MAX_BYTES) runBytes += frame.length;
    else {
      flushRun(i);
      out.push(frame);
      from = i + 1;
    }
  });
  flushRun(frames.length);
  return out;
}

export class Outgoing {
  readonly #socket: Stream;
  readonly #descriptors: number;
  readonly #queueMaxBytes: number;
  readonly #onError: (error: unknown) => void;
  /** Frames that the next flush writes. */
  #ready: Buffer[] = [];
  /** Those among what is ready or waiting that are overwritten once they are written. */
  readonly #secret = new Set<Buffer>();
  /** Those whose memory is given back then. */
  readonly #own = new Set<Buffer>();
  readonly #waiting: Waiting[] = [];
  #waitingDescriptors = 0;
  #retry: NodeJS.Timeout | undefined;
  #retryMs = RETRY_MIN_MS;
  /** Bytes of frames that are ready, waiting or being written. */
  #queuedBytes = 0;
  /** Writes that the stream has not confirmed. */
  #writing = 0;
  #flushing = false;
  #sequence = 0;
  #drains: (() => void)[] = [];
  #idled: (() => void) | undefined;
  #closed = false;

  constructor(socket: Stream, descriptors: number, queueMaxBytes: number, onError: (error: unknown) => void) {
    this.#socket = socket;
    this.#descriptors = descriptors;
    this.#queueMaxBytes = queueMaxBytes;
    this.#onError = onError;
  }

  /** Whether at most half of the queue is used. */
  get writable(): boolean {
    return (
      this.#queuedBytes * 2 <= this.#queueMaxBytes && this.#waitingDescriptors * 2 <= WAITING_DESCRIPTORS_MAX
    );
  }

  /** Whether everything has been handed to the kernel. */
  get idle(): boolean {
    return this.#queuedBytes === 0;
  }

  /** Calls `done` once everything has been handed to the kernel. */
  onIdle(done: () => void): void {
    this.#idled = done;
  }

  /** Resolves when `writable` holds, or the channel is closed. */
  drained(): Promise<void> {
    if (this.writable || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drains.push(resolve);
    });
  }

  /** Throws a Failure of kind 'busy' unless there is room for such a frame. */
  admit(frameBytes: number, descriptors: number): void {
    if (this.#queuedBytes > 0 && this.#queuedBytes + frameBytes > this.#queueMaxBytes)
      throw new Failure('queue', '', {
        cause: `${this.#queuedBytes} bytes are not read by the peer`,
        kind: 'busy',
      });
    if (this.#waitingDescriptors + descriptors > WAITING_DESCRIPTORS_MAX)
      throw new Failure('queue', '', { cause: 'descriptors are not read by the peer', kind: 'busy' });
  }

  /**
   * Sends a frame, after `admit`; `isOwn` where nothing else is in its memory. The caller keeps its `fds`; they are
   * sent, or duplicated, before this returns.
   */
  send(frame: Buffer, fds: readonly number[], { secret, prompt }: Way = PLAIN, isOwn = false): void {
    if (secret) this.#secret.add(frame);
    if (isOwn) this.#own.add(frame);
    const sequence = this.#sequence;
    if (this.#waiting.length > 0 || (fds.length > 0 && !sendBatch(this.#descriptors, sequence, fds)))
      this.#hold(frame, sequence, fds);
    else this.#push(frame);
    this.#queuedBytes += frame.length;
    this.#sequence = (sequence + 1) >>> 0;
    if (prompt) this.#write();
  }

  #hold(frame: Buffer, sequence: number, fds: readonly number[]): void {
    const held: number[] = [];
    try {
      for (const fd of fds) held.push(duplicate(fd));
    } catch (error) {
      closeAll(held);
      throw error;
    }
    this.#waiting.push({ frame, sequence, fds: held.length === 0 ? NONE : held });
    this.#waitingDescriptors += held.length;
    this.#schedule();
  }

  #push(frame: Buffer): void {
    this.#ready.push(frame);
    if (this.#flushing || this.#writing > 0) return;
    this.#flushing = true;
    process.nextTick(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    if (this.#writing === 0) this.#write();
  }

  /** Hands to the stream what is ready, whether or not it has confirmed what it has. */
  #write(): void {
    if (this.#closed || this.#ready.length === 0) return;
    const frames = this.#ready;
    this.#ready = [];
    let bytes = 0;
    for (const frame of frames) bytes += frame.length;
    const parts = frames.length === 1 ? frames : gather(frames);
    const secret = this.#secret.size > 0 && frames.filter((frame) => this.#secret.delete(frame)).length > 0;
    this.#writing++;
    const last = parts.length - 1;
    this.#socket.cork();
    parts.forEach((part, i) => {
      if (i < last) this.#socket.write(part);
      else
        this.#socket.write(part, () => {
          // short ones were copied together
          if (secret) for (const each of [...frames, ...parts]) each.fill(0);
          if (this.#own.size > 0) for (const frame of frames) if (this.#own.delete(frame)) release(frame);
          this.#written(bytes);
        });
    });
    this.#socket.uncork();
  }

  #written(bytes: number): void {
    this.#writing--;
    this.#queuedBytes -= bytes;
    if (this.#closed) return;
    this.#wake();
    this.#flush();
    if (this.idle) this.#idled?.();
  }

  #wake(): void {
    if (this.#drains.length === 0 || !(this.writable || this.#closed)) return;
    const drains = this.#drains;
    this.#drains = [];
    for (const drain of drains) drain();
  }

  #schedule(): void {
    if (this.#retry !== undefined || this.#closed) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
      this.resume();
    }, this.#retryMs);
  }

  /** Tries again to send what waits for the descriptor socket. */
  resume(): void {
    try {
      for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
        if (next.fds.length > 0 && !sendBatch(this.#descriptors, next.sequence, next.fds)) {
          this.#schedule();
          return;
        }
        this.#retryMs = RETRY_MIN_MS;
        this.#waiting.shift();
        this.#waitingDescriptors -= next.fds.length;
        closeAll(next.fds);
        this.#push(next.frame);
      }
      this.#wake();
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Drops what is queued, and closes the descriptor socket. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#retry);
    for (const { fds } of this.#waiting.splice(0)) closeAll(fds);
    this.#ready = [];
    for (const frame of this.#secret) frame.fill(0);
    this.#own.clear();
    fs.closeSync(this.#descriptors);
    this.#wake();
  }
}
