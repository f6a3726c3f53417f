/**
 * A tree sent ahead of a client that walks it, so that its walk waits for no
 * round trips: see TREE in messages/reader.ts. Used by sessions. Invariant: no
 * more is under way than the window, whatever the client does.
 */
import type { Channel } from '../../ipc/channel.ts';
import {
  TREE_ITEM_HEAD_BYTES,
  TREE_NODES,
  TREE_PIECE_BYTES,
  TREE_WINDOW_BYTES,
} from '../../messages/reader.ts';
import type { ChunkKind, ChunkRef, ChunkSource } from '../../snapshot/chunks.ts';
import { readPreorder } from '../../snapshot/preorder.ts';

const ID_BYTES = 32;

export class TreeAhead implements ChunkSource {
  readonly #channel: Channel;
  readonly #source: ChunkSource;
  readonly #stream: number;
  #piece = Buffer.allocUnsafeSlow(TREE_PIECE_BYTES);
  #filled = 0;
  #window = TREE_WINDOW_BYTES;
  #opened: (() => void) | undefined;
  #isOver = false;

  constructor(channel: Channel, source: ChunkSource, stream: number) {
    this.#channel = channel;
    this.#source = source;
    this.#stream = stream;
  }

  /** Sends all there is below `directory`. Never rejects: the client asks by itself for what did not come. */
  async run(directory: ChunkRef): Promise<void> {
    try {
      await readPreorder(this, directory, () => this.#isOver);
    } catch {
      // not lost: the stream ends here, and the client asks for the next node by itself and is told
    }
    if (!this.#isOver) await this.#flush(true);
  }

  used(bytes: number): void {
    this.#window = Math.min(TREE_WINDOW_BYTES, this.#window + bytes);
    this.#wake();
  }

  stop(): void {
    this.#isOver = true;
    this.#wake();
  }

  #wake(): void {
    const opened = this.#opened;
    this.#opened = undefined;
    opened?.();
  }

  /** Reads a node for the walk, and sends it on its way. */
  async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    const head = Buffer.alloc(TREE_ITEM_HEAD_BYTES);
    id.copy(head, 4, 0, ID_BYTES);
    try {
      const node = await this.#source.get(kind, id, length);
      head.writeUInt32LE(node.length, 0);
      await this.#append(head);
      await this.#append(node);
      return node;
    } catch (error) {
      await this.#append(head);
      throw error;
    }
  }

  async #append(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; ) {
      const copied = data.copy(this.#piece, this.#filled, at);
      this.#filled += copied;
      at += copied;
      if (this.#filled === this.#piece.length) await this.#flush(false);
    }
  }

  async #flush(last: boolean): Promise<void> {
    while (this.#window < this.#filled && !this.#isOver)
      await new Promise<void>((resolve) => {
        this.#opened = resolve;
      });
    if (this.#isOver) return;
    this.#window -= this.#filled;
    const data = this.#piece.subarray(0, this.#filled);
    this.#piece = Buffer.allocUnsafeSlow(TREE_PIECE_BYTES);
    this.#filled = 0;
    this.#channel.message(TREE_NODES, { stream: this.#stream, data, last });
  }
}
