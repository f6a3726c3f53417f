/**
 * Chunks that are read ahead, in the order in which they will be used. Called
 * where snapshots are copied between repositories: one side says what it will
 * want, the other takes it. Invariant: no more than AHEAD_MAX_BYTES are under
 * way, or one chunk; half of a reader session's ring stays free, so that a tree
 * node can be read meanwhile, wherever the ring is cut.
 */
import type { Failure } from '../error.ts';
import { CHUNK_DATA, type ChunkRequests, ID_BYTES, type TreeSource } from './chunks.ts';

/** Plaintext that is on its way, or there and not taken. */
const AHEAD_MAX_BYTES = 8 << 20;
/** What is asked for together. */
const WINDOW_BYTES = 1 << 20;
const WINDOW_CHUNKS = 512;

/** A source that delivers in the order of the requests; see BulkSource for the rest. */
export interface OrderedSource extends TreeSource {
  /** `data` is valid until the promise that `onChunk` returned is resolved. */
  readInOrder(
    requests: ChunkRequests,
    onChunk: (index: number, data: Buffer) => void | Promise<void>,
    onFailed: (index: number, failure: Failure) => void,
  ): Promise<void>;
}

/** A chunk that has come, or why it has not. */
type Arrival = { readonly data: Buffer; readonly release: () => void } | { readonly failure: Failure };

/** Chunks that are asked for together. */
class Window {
  readonly ids = Buffer.allocUnsafe(WINDOW_CHUNKS * ID_BYTES);
  readonly lengths = new Uint32Array(WINDOW_CHUNKS);
  readonly arrivals: Arrival[] = [];
  count = 0;
  bytes = 0;
  taken = 0;
}

export class ReadAhead {
  readonly #source: OrderedSource;
  #next = new Window();
  readonly #started: Window[] = [];
  #underWayBytes = 0;
  #error: unknown;
  #isOver = false;
  #arrived: (() => void) | undefined;
  #used: (() => void) | undefined;

  constructor(source: OrderedSource) {
    this.#source = source;
  }

  /** Says that this data chunk will be taken next after those before; a promise where so much is under way that it must wait. */
  want(id: Buffer, length: number): Promise<void> | undefined {
    const window = this.#next;
    id.copy(window.ids, window.count * ID_BYTES, 0, ID_BYTES);
    window.lengths[window.count++] = length;
    window.bytes += length;
    if (window.bytes < WINDOW_BYTES && window.count < WINDOW_CHUNKS) {
      this.#wakeTaker();
      return undefined;
    }
    if (this.#hasRoom) {
      this.#start();
      return undefined;
    }
    this.#wakeTaker();
    const started = this.#startLater(window);
    // whoever wanted it may fail of something else before it looks at this
    started.catch(() => undefined);
    return started;
  }

  get #hasRoom(): boolean {
    return this.#started.length === 0 || this.#underWayBytes + this.#next.bytes <= AHEAD_MAX_BYTES;
  }

  async #startLater(window: Window): Promise<void> {
    while (!this.#hasRoom && this.#next === window && !this.#isOver)
      await new Promise<void>((resolve) => {
        this.#used = resolve;
      });
    if (this.#isOver) throw this.#error;
    // whoever takes may have started it already
    if (this.#next === window) this.#start();
  }

  /** Asks for what has been wanted so far, as far as there is room for it. */
  hurry(): void {
    if (this.#next.count > 0 && this.#hasRoom && !this.#isOver) this.#start();
  }

  #start(): void {
    const window = this.#next;
    this.#next = new Window();
    this.#started.push(window);
    this.#underWayBytes += window.bytes;
    const { ids, lengths, count } = window;
    const arrive = (arrival: Arrival): void => {
      window.arrivals.push(arrival);
      this.#wakeTaker();
    };
    this.#source
      .readInOrder(
        { kind: CHUNK_DATA, ids, lengths, count },
        (_, data) => {
          if (this.#isOver) return undefined;
          return new Promise<void>((release) => arrive({ data, release }));
        },
        (_, failure) => arrive({ failure }),
      )
      .catch((error: unknown) => this.end(error));
    this.#wakeTaker();
  }

  #wakeTaker(): void {
    const arrived = this.#arrived;
    this.#arrived = undefined;
    arrived?.();
  }

  /** Calls `use` with the next chunk that was wanted; what it is shown is valid during the call. Rejects where it cannot be had. */
  async take(use: (data: Buffer) => void): Promise<void> {
    const arrival = await this.#arrival();
    if ('failure' in arrival) throw arrival.failure;
    try {
      use(arrival.data);
    } finally {
      arrival.release();
    }
  }

  async #arrival(): Promise<Arrival> {
    for (;;) {
      if (this.#isOver) throw this.#error;
      const window = this.#started[0];
      const arrival = window?.arrivals.shift();
      if (window !== undefined && arrival !== undefined) {
        window.taken++;
        if (window.taken === window.count) this.#finish(window);
        return arrival;
      }
      if (window === undefined && this.#next.count > 0) this.#start();
      else
        await new Promise<void>((resolve) => {
          this.#arrived = resolve;
        });
    }
  }

  #finish(window: Window): void {
    this.#started.shift();
    this.#underWayBytes -= window.bytes;
    const used = this.#used;
    this.#used = undefined;
    used?.();
  }

  /** Ends it: whoever waits gets `error`, and what has come is let go. */
  end(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    for (const { arrivals } of this.#started)
      for (const arrival of arrivals) if ('release' in arrival) arrival.release();
    this.#wakeTaker();
    this.#used?.();
  }
}
