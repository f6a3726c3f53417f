/**
 * The ring in which the parent's tree comes to its walker, from the walker's
 * side: the chunker writes, and says how far (NODES); what was read is said to
 * be used (NODES_USED). Made by scan.ts for each walk that has a parent.
 * Invariant: of what is shared, nothing is judged that was not copied before
 * (stream.ts does); and nothing is read once the mapping has ended.
 */
import { Failure } from '../error.ts';
import { openRing, type Ring } from '../ipc/ring.ts';
import { NODES_RING_BYTES } from '../messages/scan.ts';
import { NodeStream } from './stream.ts';

export class NodeRing {
  readonly stream: NodeStream;
  readonly #ring: Ring;
  readonly #memory: Buffer;
  #at = 0;
  /** bytes that are there, and not used yet */
  #held = 0;
  #closed = false;

  /** Maps the ring, whose descriptor stays the caller's; `onUsed` is told of bytes that can be written over. */
  constructor(fd: number, onUsed: (bytes: number) => void) {
    this.#ring = openRing(fd, 1, NODES_RING_BYTES, 'read');
    this.#memory = this.#ring.slot(0);
    this.stream = new NodeStream((bytes) => {
      this.#held -= bytes;
      onUsed(bytes);
    });
  }

  /** So many more bytes are there; `last`: and no others will be. Throws where the ring does not hold them. */
  filled(bytes: number, last: boolean): void {
    if (this.#closed) return;
    if (bytes > NODES_RING_BYTES - this.#held)
      throw new Failure('read old tree', '', { cause: `${bytes} bytes are more than there is room for` });
    this.#held += bytes;
    for (let left = bytes; left > 0; ) {
      const piece = Math.min(left, NODES_RING_BYTES - this.#at);
      this.stream.push(this.#memory.subarray(this.#at, this.#at + piece));
      this.#at = (this.#at + piece) % NODES_RING_BYTES;
      left -= piece;
    }
    if (last) this.stream.end();
  }

  /** The walk is over. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ring.close();
  }
}
