/**
 * A tree that the chunker sends ahead of our walk (TREE in messages/reader.ts):
 * a source of nodes that has the next one before it is asked for. Made by the
 * reader. Invariant: it is no more than an answer that came early; a node that
 * is not the next of the stream, or that could not be read ahead, is asked for
 * by itself, so what the walk sees is the same with and without it.
 */
import { Failure } from '../error.ts';
import { TREE_ITEM_HEAD_BYTES } from '../messages/reader.ts';
import {
  type AheadSource,
  CHUNK_MAX_BYTES,
  type ChunkKind,
  type ChunkSource,
  ID_BYTES,
} from '../snapshot/chunks.ts';

export interface TreeStreamEnds {
  /** so many bytes have been used */
  readonly used: (bytes: number) => void;
  readonly stop: () => void;
}

/** The item that is next. */
interface Item {
  readonly id: Buffer;
  readonly length: number;
}

export class TreeStream implements AheadSource {
  readonly #source: ChunkSource;
  readonly #ends: TreeStreamEnds;
  readonly #pieces: Buffer[] = [];
  /** where the next byte is in the first piece */
  #at = 0;
  /** bytes in all pieces, from there */
  #available = 0;
  #ended = false;
  #item: Item | undefined;
  #wake: (() => void) | undefined;

  constructor(source: ChunkSource, ends: TreeStreamEnds) {
    this.#source = source;
    this.#ends = ends;
  }

  /** Takes a piece; its memory is the stream's from now on. */
  push(piece: Buffer, last: boolean): void {
    if (piece.length > 0) this.#pieces.push(piece);
    this.#available += piece.length;
    this.#ended ||= last;
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  stop(): void {
    this.#ends.stop();
  }

  /** The node, from the stream where it is next there. */
  async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    this.#item ??= await this.#head();
    const item = this.#item;
    if (item === undefined || !item.id.equals(id)) return this.#source.get(kind, id, length);
    this.#item = undefined;
    const node = item.length === 0 ? undefined : await this.#take(item.length);
    // what could not be read ahead is asked for, for the reason
    if (node === undefined || node.length !== length) return this.#source.get(kind, id, length);
    return node;
  }

  /** The node, where it is next in the stream and all of it came; undefined otherwise. */
  now(id: Buffer, length: number): Buffer | undefined {
    if (this.#item === undefined) this.#item = this.#headOf(this.#takeNow(TREE_ITEM_HEAD_BYTES));
    const item = this.#item;
    if (item?.length !== length || !item.id.equals(id)) return undefined;
    const node = this.#takeNow(length);
    if (node !== undefined) this.#item = undefined;
    return node;
  }

  async #head(): Promise<Item | undefined> {
    return this.#headOf(await this.#take(TREE_ITEM_HEAD_BYTES));
  }

  #headOf(head: Buffer | undefined): Item | undefined {
    if (head === undefined) return undefined;
    const length = head.readUInt32LE(0);
    if (length > CHUNK_MAX_BYTES) throw new Failure('read tree', '', { cause: 'malformed item' });
    return { length, id: head.subarray(4, 4 + ID_BYTES) };
  }

  /** The next `bytes`, as soon as they came; undefined where the stream ends before. */
  async #take(bytes: number): Promise<Buffer | undefined> {
    while (this.#available < bytes && !this.#ended)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#takeNow(bytes);
  }

  /** The next `bytes`, if they came. */
  #takeNow(bytes: number): Buffer | undefined {
    if (this.#available < bytes) return undefined;
    this.#available -= bytes;
    let out: Buffer | undefined;
    for (let filled = 0; filled < bytes; ) {
      const piece = this.#pieces[0] as Buffer;
      const end = Math.min(piece.length, this.#at + bytes - filled);
      if (out === undefined && end - this.#at === bytes) out = piece.subarray(this.#at, end);
      else {
        out ??= Buffer.allocUnsafeSlow(bytes);
        piece.copy(out, filled, this.#at, end);
      }
      filled += end - this.#at;
      this.#at = end;
      if (end === piece.length) this.#usedPiece(piece);
    }
    return out;
  }

  #usedPiece(piece: Buffer): void {
    this.#pieces.shift();
    this.#at = 0;
    if (!this.#ended) this.#ends.used(piece.length);
  }
}
