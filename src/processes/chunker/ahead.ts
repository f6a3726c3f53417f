/**
 * A tree sent ahead of a client that walks it, so that its walk waits for no
 * round trips: see TREE in messages/reader.ts. Used by sessions. Invariant: no
 * more is under way than the window, whatever the client does.
 */
import { setImmediate } from 'node:timers/promises';
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import {
  TREE_ITEM_HEAD_BYTES,
  TREE_NODES,
  TREE_PIECE_BYTES,
  TREE_WINDOW_BYTES,
} from '../../messages/reader.ts';
import { CHUNK_TREE, type ChunkKind, type ChunkRef, type ChunkSource } from '../../snapshot/chunks.ts';
import { readPreorder, type WalkSource } from '../../snapshot/preorder.ts';

const ID_BYTES = 32;
/** The first piece, for the client to begin with; each after it is of twice the size, up to the greatest. */
const FIRST_BYTES = 16 << 10;

/** Where nodes come from. */
export interface NodeSource extends ChunkSource {
  /** See SegmentFetcher. */
  now?(kind: ChunkKind, id: Buffer, length: number): Buffer | undefined;
}

export class TreeAhead implements WalkSource {
  readonly #channel: Channel;
  readonly #source: NodeSource;
  readonly #stream: number;
  #piece = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #filled = 0;
  /** of an item */
  readonly #head = Buffer.alloc(TREE_ITEM_HEAD_BYTES);
  #window = TREE_WINDOW_BYTES;
  #opened: (() => void) | undefined;
  #isOver = false;

  constructor(channel: Channel, source: NodeSource, stream: number) {
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
    id.copy(this.#head, 4, 0, ID_BYTES);
    this.#head.writeUInt32LE(0, 0);
    try {
      const node = await this.#source.get(kind, id, length);
      this.#head.writeUInt32LE(node.length, 0);
      await this.#append(this.#head);
      await this.#append(node);
      return node;
    } catch (error) {
      await this.#append(this.#head);
      throw error;
    }
  }

  /** The same, for a node that can be had and fits into the piece that is being filled; undefined for others. */
  now(id: Buffer, length: number): Buffer | undefined {
    const start = this.#filled + TREE_ITEM_HEAD_BYTES;
    if (this.#isOver || start + length >= this.#piece.length) return undefined;
    const node = this.#had(id, length);
    if (node === undefined) return undefined;
    this.#piece.writeUInt32LE(length, this.#filled);
    id.copy(this.#piece, this.#filled + 4, 0, ID_BYTES);
    this.#filled = start + node.copy(this.#piece, start);
    return node;
  }

  /** What is damaged is read once more by `get`, which tells the client. */
  #had(id: Buffer, length: number): Buffer | undefined {
    try {
      return this.#source.now?.(CHUNK_TREE, id, length);
    } catch (error) {
      if (error instanceof Failure) return undefined;
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
    this.#channel.message(TREE_NODES, { stream: this.#stream, data, last });
    // which has copied it
    this.#filled = 0;
    if (this.#piece.length < TREE_PIECE_BYTES) this.#piece = Buffer.allocUnsafeSlow(2 * this.#piece.length);
    // nodes that are in memory are read without a turn of the loop, in which alone anything is sent
    await setImmediate();
  }
}
