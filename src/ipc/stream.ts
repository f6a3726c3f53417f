/**
 * The stream of a channel: what a channel needs of it, and one that does
 * without node:net. Used by channel.ts, and by plakarctl.
 *
 * To load node:net takes a tenth of what a short command takes. A PooledStream
 * has a thread of the pool wait instead, which is nothing to a program that has
 * two or three streams, and too much for a daemon.
 *
 * Invariant: the descriptor is closed once, and not while a thread has it; and
 * nothing but 'close' is heard of a stream that was destroyed.
 */
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import { sendNow, setBlocking, shutdownBoth } from '../sys/socket.ts';

/** A stream socket, as net.Socket is one. */
export interface Stream {
  on(event: 'data', heard: (chunk: Buffer) => void): unknown;
  on(event: 'end' | 'close' | 'error', heard: () => void): unknown;
  once(event: 'close', heard: () => void): unknown;
  /** Calls `written` when the kernel has all of `bytes`. */
  write(bytes: Buffer, written?: () => void): unknown;
  /** What is written between these two may be written together. */
  cork(): void;
  uncork(): void;
  pause(): unknown;
  resume(): unknown;
  /** Drops what is not written, and closes; 'close' comes later. */
  destroy(): unknown;
}

/** One read's: what a socket holds, as each read takes a thread's waking. */
const READ_BYTES = 256 << 10;
/** What is shorter is copied, so that it does not hold all of that. */
const COPY_MAX_BYTES = 64 << 10;

interface Unwritten {
  readonly bytes: Buffer;
  readonly written: (() => void) | undefined;
}

class PooledStream extends EventEmitter implements Stream {
  readonly #fd: number;
  /** The first is being written. */
  readonly #unwritten: Unwritten[] = [];
  #room: Buffer | undefined;
  /** What came while nobody wanted it; no more is read until somebody does. */
  #held: Buffer | undefined;
  #isReading = false;
  /** 'data' is wanted. */
  #isFlowing = false;
  #isEnded = false;
  #isDestroyed = false;
  /** Threads that have the descriptor. */
  #threads = 0;

  /** Takes over `fd`, a connected stream socket. */
  constructor(fd: number) {
    super();
    this.#fd = fd;
    setBlocking(fd);
    this.on('newListener', (event) => {
      if (event === 'data') process.nextTick(() => this.resume());
    });
  }

  pause(): void {
    this.#isFlowing = false;
  }

  resume(): void {
    this.#isFlowing = true;
    const held = this.#held;
    this.#held = undefined;
    this.#read();
    if (held !== undefined) this.emit('data', held);
  }

  #read(): void {
    if (this.#isReading || this.#isEnded || this.#isDestroyed) return;
    const room = this.#room ?? Buffer.allocUnsafeSlow(READ_BYTES);
    this.#room = undefined;
    this.#isReading = true;
    this.#threads++;
    fs.read(this.#fd, room, 0, READ_BYTES, null, (error, count) => {
      this.#isReading = false;
      if (!this.#leave(error)) this.#came(room, count);
    });
  }

  #came(room: Buffer, count: number): void {
    this.#isEnded = count === 0;
    if (this.#isEnded) {
      this.emit('end');
      return;
    }
    const isShort = count <= COPY_MAX_BYTES;
    const chunk = isShort ? Buffer.from(room.subarray(0, count)) : room.subarray(0, count);
    if (isShort) this.#room = room;
    if (!this.#isFlowing) {
      this.#held = chunk;
      return;
    }
    // a thread reads on while this is looked at
    this.#read();
    this.emit('data', chunk);
  }

  write(bytes: Buffer, written?: () => void): void {
    if (this.#isDestroyed) return;
    this.#unwritten.push({ bytes, written });
    if (this.#unwritten.length === 1) this.#writeFirst(0);
  }

  /** Writes the first from `from` on: what the kernel takes at once, and the rest by a thread that waits. */
  #writeFirst(from: number): void {
    const [first] = this.#unwritten;
    if (first === undefined || this.#isDestroyed) return;
    const { bytes } = first;
    const done = from + sendNow(this.#fd, bytes.subarray(from));
    if (done === bytes.length) {
      process.nextTick(() => this.#written());
      return;
    }
    this.#threads++;
    fs.write(this.#fd, bytes, done, bytes.length - done, null, (error, count) => {
      if (this.#leave(error)) return;
      if (done + count === bytes.length) this.#written();
      else this.#writeFirst(done + count);
    });
  }

  #written(): void {
    if (this.#isDestroyed) return;
    const first = this.#unwritten.shift();
    this.#writeFirst(0);
    first?.written?.();
  }

  /** A thread has come back: whether that was the end of the stream. */
  #leave(error: Error | null): boolean {
    this.#threads--;
    if (this.#isDestroyed) this.#close();
    else if (error !== null) this.emit('error');
    return this.#isDestroyed || error !== null;
  }

  // each write is one call anyhow: what is short has been gathered by who writes
  cork(): void {}
  uncork(): void {}

  destroy(): void {
    if (this.#isDestroyed) return;
    this.#isDestroyed = true;
    // threads that wait come back
    shutdownBoth(this.#fd);
    this.#close();
  }

  #close(): void {
    if (this.#threads > 0) return;
    fs.closeSync(this.#fd);
    process.nextTick(() => this.emit('close'));
  }
}

/** For a channel's options. */
export function pooledStream(fd: number): EventEmitter & Stream {
  return new PooledStream(fd);
}
