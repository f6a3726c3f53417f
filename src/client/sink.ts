/**
 * Buffered writing to a descriptor that we were started with. Called by the
 * output alone. process.stdout would block the event loop on a pipe whose
 * reader is slow, and costs a few milliseconds to load; here each write is one
 * call on the thread pool, so an interrupt is heard while a reader sleeps.
 * Owns the invariants that bytes leave in order and all or with an error, and
 * that at most SINK_HIGH_BYTES and one write wait in memory for a producer that
 * awaits `drained`.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';

/** Text is gathered up to this before a write. */
const GATHER_BYTES = 256 << 10;
/** Room for a line that is written where it goes; a longer one is text. */
const LINE_BYTES = 8 << 10;
const NEWLINE = 0x0a;
/** Of one UTF-16 unit. */
const UTF8_MAX_BYTES = 3;
/** A producer waits above this. */
const SINK_HIGH_BYTES = 1 << 20;
/** How long to wait before trying again on a descriptor that somebody set to not block. */
const RETRY_MS = 5;

/** The reader of our output went away: no error to print, but not done either. */
export class ReaderGone extends Failure {
  constructor(cause: unknown) {
    super('write', 'standard output', { cause });
  }
}

/** The write call of node:fs, so that tests can put their own in its place. */
export type Write = (
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: null,
  callback: (error: NodeJS.ErrnoException | null, written: number) => void,
) => void;

export class Sink {
  readonly #fd: number;
  readonly #name: string;
  readonly #write: Write;
  /** Text is written here; undefined where there is none. */
  #gathering: Buffer | undefined;
  #gathered = 0;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #writing: Promise<void> | undefined;
  #failure: Failure | undefined;
  #scheduled = false;
  /** Rejects when the sink is given up; a write that blocks in the kernel cannot be. */
  readonly #given = Promise.withResolvers<never>();

  /** @param name for errors, as in `write standard output: no space left on device` */
  constructor(fd: number, name: string, write: Write = fs.write) {
    this.#fd = fd;
    this.#name = name;
    this.#write = write;
    // whoever waits hears of it; nobody may be waiting
    this.#given.promise.catch(() => undefined);
  }

  /** Takes the bytes over (a Buffer must not be changed afterwards); never waits. */
  write(data: string | Buffer): void {
    if (this.#failure !== undefined) return;
    if (typeof data === 'string') {
      this.#add(data);
    } else {
      this.#gather();
      this.#enqueue(data);
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#start();
    });
  }

  /**
   * A line that `make` writes to where it goes: it returns where that ends, or -1, in which case nothing is
   * written and this is false.
   */
  put<T>(make: (event: T, to: Buffer, at: number) => number, event: T): boolean {
    if (this.#failure !== undefined) return true;
    if (this.#gathered + LINE_BYTES > GATHER_BYTES) this.#gather();
    const gathering = this.#room();
    const end = make(event, gathering, this.#gathered);
    if (end < 0 || end === gathering.length) return false;
    gathering[end] = NEWLINE;
    this.#gathered = end + 1;
    this.#schedule();
    return true;
  }

  get full(): boolean {
    return this.#queuedBytes > SINK_HIGH_BYTES || this.#failure !== undefined;
  }

  /** Resolves when less than SINK_HIGH_BYTES wait; rejects with a Failure (ReaderGone for EPIPE). */
  async drained(): Promise<void> {
    while (this.#failure === undefined && this.#queuedBytes > SINK_HIGH_BYTES) {
      this.#start();
      await Promise.race([this.#writing, this.#given.promise]);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when everything is written; rejects like `drained`. */
  async flush(): Promise<void> {
    do {
      this.#gather();
      this.#start();
      await Promise.race([this.#writing, this.#given.promise]);
    } while (this.#failure === undefined && (this.#queue.length > 0 || this.#gathering !== undefined));
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Drops what is not written, and fails everybody who waits, now and later: the program was interrupted. */
  giveUp(reason: Failure): void {
    this.#fail(this.#failure ?? reason);
    this.#given.reject(reason);
  }

  #fail(failure: Failure): void {
    this.#failure = failure;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#gathering = undefined;
  }

  /** Each text by itself: a long one that was joined of many takes twice as long to make bytes of. */
  #add(text: string): void {
    const bytesMax = UTF8_MAX_BYTES * text.length;
    if (this.#gathering !== undefined && this.#gathered + bytesMax > GATHER_BYTES) this.#gather();
    if (bytesMax > GATHER_BYTES) {
      this.#enqueue(Buffer.from(text, 'utf8'));
      return;
    }
    const gathering = this.#room();
    this.#gathered += gathering.write(text, this.#gathered);
  }

  #room(): Buffer {
    if (this.#gathering === undefined) {
      this.#gathering = Buffer.allocUnsafeSlow(GATHER_BYTES);
      this.#gathered = 0;
    }
    return this.#gathering;
  }

  #gather(): void {
    const data = this.#gathering;
    if (data === undefined) return;
    this.#gathering = undefined;
    this.#enqueue(data.subarray(0, this.#gathered));
  }

  #enqueue(data: Buffer): void {
    if (data.length === 0) return;
    this.#queue.push(data);
    this.#queuedBytes += data.length;
  }

  #start(): void {
    this.#gather();
    if (this.#writing !== undefined || this.#queue.length === 0) return;
    this.#writing = this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  async #writeAll(): Promise<void> {
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        for (let done = 0; done < next.length; ) done += await this.#writeOnce(next, done);
        this.#queuedBytes -= next.length;
      }
    } catch (cause) {
      const gone = (cause as NodeJS.ErrnoException).code === 'EPIPE';
      this.#fail(gone ? new ReaderGone(cause) : new Failure('write', this.#name, { cause }));
    }
  }

  #writeOnce(data: Buffer, offset: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#write(this.#fd, data, offset, data.length - offset, null, (error, written) => {
        if (error === null) resolve(written);
        else if (error.code === 'EAGAIN') setTimeout(() => resolve(0), RETRY_MS);
        else reject(error);
      });
    });
  }
}
