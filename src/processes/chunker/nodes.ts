/**
 * The parent's tree on its way to the walker that compares with it: nodes go
 * into a ring that the walker reads (snapshot/nodering.ts), and messages say how
 * far. Made by a push for its walk. Invariants: nothing is written over that the
 * walker has not used; and the walker hears of what is there as soon as this
 * process has nothing else to do at once, or of every TURN_BYTES, as it would
 * wait for us otherwise.
 */
import { closeSync } from 'node:fs';
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import { createRing, openRing, type Ring } from '../../ipc/ring.ts';
import { NODES, NODES_RING_BYTES } from '../../messages/scan.ts';

/** Written at most before other events are served, and the walker hears of it. */
const TURN_BYTES = 64 << 10;

export class ParentNodes {
  readonly #walker: Channel;
  readonly #job: number;
  readonly #ring: Ring;
  readonly #memory: Buffer;
  #fd: number;
  /** where the next byte goes */
  #at = 0;
  /** bytes that may be written */
  #room = NODES_RING_BYTES;
  /** bytes that the walker has not heard of */
  #unsaid = 0;
  #wake: (() => void) | undefined;
  #isOver = false;

  constructor(walker: Channel, job: number) {
    this.#walker = walker;
    this.#job = job;
    this.#fd = createRing('plakard nodes', 1, NODES_RING_BYTES);
    try {
      this.#ring = openRing(this.#fd, 1, NODES_RING_BYTES, 'write');
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
    this.#memory = this.#ring.slot(0);
  }

  /** The ring's descriptor, once: it is the caller's. */
  takeDescriptor(): number {
    const fd = this.#fd;
    this.#fd = -1;
    return fd;
  }

  /** Takes the next bytes of the stream; a promise where they have to wait. After the end it does nothing. */
  write(bytes: Buffer): Promise<void> | undefined {
    if (bytes.length > this.#fits || this.#isOver) return this.#writeLater(bytes);
    this.#copy(bytes, 0, bytes.length);
    return undefined;
  }

  get #fits(): number {
    return Math.min(this.#room, TURN_BYTES - this.#unsaid);
  }

  async #writeLater(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#isOver; ) {
      const end = Math.min(bytes.length, at + this.#fits);
      if (end > at) this.#copy(bytes, at, end);
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      at = end;
    }
  }

  #copy(bytes: Buffer, from: number, to: number): void {
    if (this.#unsaid === 0) setImmediate(() => this.#say(false));
    for (let at = from; at < to; ) {
      const piece = bytes.copy(this.#memory, this.#at, at, to);
      this.#at = (this.#at + piece) % NODES_RING_BYTES;
      at += piece;
    }
    this.#room -= to - from;
    this.#unsaid += to - from;
  }

  #say(last: boolean): void {
    // of a walker that is gone, the push hears by itself
    if (this.#isOver || this.#walker.closed || (this.#unsaid === 0 && !last)) return;
    this.#walker.message(NODES, { job: this.#job, bytes: this.#unsaid, last });
    this.#unsaid = 0;
    this.#woken();
  }

  #woken(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** All has been written. */
  end(): void {
    this.#say(true);
  }

  /** The walker has used so much; throws where it cannot have. */
  used(bytes: number): void {
    if (this.#isOver) return;
    if (bytes > NODES_RING_BYTES - this.#room - this.#unsaid)
      throw new Failure('send old tree', '', { cause: `${bytes} bytes were used that were not sent` });
    this.#room += bytes;
    this.#woken();
  }

  /** The walk is over, or the push: nothing is written any more. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#fd >= 0) closeSync(this.takeDescriptor());
    this.#ring.close();
    this.#woken();
  }
}
