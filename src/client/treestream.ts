/**
 * A tree that the chunker sends ahead of our walk (TREE in messages/reader.ts):
 * a source of nodes that has the next one before it is asked for. Made by the
 * reader. Invariants: it is no more than an answer that came early; a node that
 * is not the next of the stream, or that could not be read ahead, is asked for
 * by itself, so what the walk sees is the same with and without it. And whatever
 * the chunker sends, no more is held than the window and one node.
 */
import { Failure } from '../error.ts';
import { TREE_ITEM_HEAD_BYTES, TREE_WINDOW_BYTES } from '../messages/reader.ts';
import {
  type AheadSource,
  CHUNK_MAX_BYTES,
  type ChunkKind,
  type ChunkSource,
  ID_BYTES,
} from '../snapshot/chunks.ts';

/** Pieces that wait to be used. A chunker sends some ten at most: each but the last is of 16 KiB or more. */
const PIECES_MAX = 128;

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
  /** bytes of all pieces: what the chunker has not been told is used */
  #held = 0;
  #ended = false;
  #item: Item | undefined;
  #wake: (() => void) | undefined;

  constructor(source: ChunkSource, ends: TreeStreamEnds) {
    this.#source = source;
    this.#ends = ends;
  }

  /** Takes a piece; its memory is the stream's from now on. Throws where it is more than may be under way. */
  push(piece: Buffer, last: boolean): void {
    if (piece.length > 0) this.#hold(piece);
    this.#ended ||= last;
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #hold(piece: Buffer): void {
    this.#held += piece.length;
    if (this.#held > TREE_WINDOW_BYTES || this.#pieces.length === PIECES_MAX)
      throw new Failure('read tree', '', { cause: 'more came than there is room for' });
    this.#available += piece.length;
    this.#pieces.push(piece);
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
    if (this.#available >= bytes) return this.#takeNow(bytes);
    // piece by piece: a node may be longer than the window, and the rest of it comes once these are used
    const out = Buffer.allocUnsafeSlow(bytes);
    for (let filled = 0; ; ) {
      filled = this.#fill(out, filled);
      if (filled === bytes) return out;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The next `bytes`, if they came. */
  #takeNow(bytes: number): Buffer | undefined {
    if (this.#available < bytes) return undefined;
    const piece = this.#pieces[0] as Buffer;
    const end = this.#at + bytes;
    const out = end <= piece.length ? piece.subarray(this.#at, end) : Buffer.allocUnsafeSlow(bytes);
    if (end <= piece.length) this.#usedTo(piece, end);
    else this.#fill(out, 0);
    return out;
  }

  /** Fills `out` from `filled` on with what came; returns how far that went. */
  #fill(out: Buffer, filled: number): number {
    let to = filled;
    while (to < out.length && this.#available > 0) {
      const piece = this.#pieces[0] as Buffer;
      const end = Math.min(piece.length, this.#at + out.length - to);
      to += piece.copy(out, to, this.#at, end);
      this.#usedTo(piece, end);
    }
    return to;
  }

  /** The first piece has been used up to `end`. */
  #usedTo(piece: Buffer, end: number): void {
    this.#available -= end - this.#at;
    this.#at = end;
    if (end < piece.length) return;
    this.#pieces.shift();
    this.#at = 0;
    this.#held -= piece.length;
    if (!this.#ended) this.#ends.used(piece.length);
  }
}
