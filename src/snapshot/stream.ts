/**
 * The parent snapshot's tree on its way to the walker that compares with it: all
 * its nodes in pre-order, as one stream of bytes that is cut into messages
 * anywhere. The chunker sends (streamTree), the walker reads (NodeStream).
 * Invariant: neither side holds more than the window between them, one node,
 * and, in the chunker, the nodes on the path from the root.
 *
 * Item, little-endian:
 *
 *   offset size
 *        0    4  length n of the node; 0: it could not be read, and is the directory's last
 *        4    4  depth: 0 the root node, 1 the root directory, ...
 *        8    1  1 the directory's last leaf, else 0
 *        9    3  zero
 *       12    n  node: of entries (or the root node)
 *
 * A directory is its leaves in order, all of one depth. The directories that a
 * leaf names follow it, one deeper, each with all that is below it, before the
 * next leaf. A directory that is flagged as unreadable has no item.
 */
import { Failure } from '../error.ts';
import { CHUNK_MAX_BYTES, CHUNK_TREE, type ChunkRef, type ChunkSource } from './chunks.ts';
import { LeafCursor } from './directory.ts';
import { DIRECTORY, EntryReader } from './tree.ts';
import type { Visit } from './visits.ts';

export const ITEM_HEAD_BYTES = 12;
/** Deeper trees are refused; a path through the system calls could not be made. */
export const DEPTH_MAX = 1 << 20;

export interface OldNode {
  readonly depth: number;
  /** empty where it could not be read */
  readonly node: Buffer;
  readonly last: boolean;
}

/** The parent's tree as the walker takes it. */
export interface OldNodes {
  /** The next item, or undefined while it has not come. */
  next(): OldNode | undefined;
  /** Resolves when `next` may have one; rejects when there will be none. */
  wait(): Promise<void>;
}

export interface StreamTreeOptions {
  /**
   * Takes the next bytes of the stream, which stay as they are until it returns, or until the promise that it
   * returned is resolved.
   */
  readonly write: (bytes: Buffer) => Promise<void> | undefined;
  /** A directory could not be read: it counts as new. Without it, that rejects. */
  readonly onDamage?: (error: unknown) => void;
  /** The walk is over: the rest need not be sent. */
  readonly isOver?: () => boolean;
  /** Directories whose nodes are sent, beside the root node; all where missing. */
  readonly visits?: Visit | undefined;
}

/** A directory that a leaf names, and that follows it. */
interface Child extends ChunkRef {
  readonly visits: Visit | undefined;
}

/** One directory on the path to where the stream is. */
interface Open {
  readonly leaves: LeafCursor;
  readonly visits: Visit | undefined;
  /** of the current leaf, and how many of them have followed */
  children: readonly Child[];
  followed: number;
}

const NONE: readonly Child[] = [];

/** Streams the tree below root node `root`; resolves when all has been written. */
export async function streamTree(
  source: ChunkSource,
  root: ChunkRef,
  options: StreamTreeOptions,
): Promise<void> {
  const stream = new TreeStream(source, options);
  await stream.run(root);
}

class TreeStream {
  readonly #source: ChunkSource;
  readonly #options: StreamTreeOptions;
  readonly #head = Buffer.alloc(ITEM_HEAD_BYTES);
  readonly #entries = new EntryReader();
  readonly #stack: Open[] = [];

  constructor(source: ChunkSource, options: StreamTreeOptions) {
    this.#source = source;
    this.#options = options;
  }

  async run(root: ChunkRef): Promise<void> {
    const node = await this.#source.get(CHUNK_TREE, root.id, root.length);
    const entry = new EntryReader().load(node, true);
    entry.next();
    await this.#write(0, node, true);
    const directory = entry.directory();
    if (directory !== undefined) await this.#enter({ ...directory, visits: this.#options.visits });
    for (let open = this.#stack.at(-1); open !== undefined; open = this.#stack.at(-1)) {
      if (this.#options.isOver?.() === true) return;
      const child = open.children[open.followed++];
      if (child !== undefined) await this.#enter(child);
      else if (!open.leaves.last) await this.#leaf(open);
      else this.#stack.pop();
    }
  }

  async #enter({ visits, ...directory }: Child): Promise<void> {
    if (this.#stack.length >= DEPTH_MAX) throw new Failure('stream tree', '', { cause: 'too deep' });
    const open = { leaves: new LeafCursor(this.#source, directory), visits, children: NONE, followed: 0 };
    this.#stack.push(open);
    await this.#leaf(open);
  }

  /** Sends the next leaf of the innermost directory. */
  async #leaf(open: Open): Promise<void> {
    const depth = this.#stack.length;
    const leaf = await this.#read(open);
    if (leaf === undefined) this.#stack.pop();
    await this.#write(depth, leaf ?? NO_NODE, leaf === undefined || open.leaves.last);
  }

  /** The next leaf, with its entries checked and its directories noted; undefined where it is damaged. */
  async #read(open: Open): Promise<Buffer | undefined> {
    try {
      const leaf = await open.leaves.next();
      if (leaf === undefined) throw new Failure('stream tree', '', { cause: 'a directory without leaves' });
      open.children = childrenOf(this.#entries.load(leaf), open.visits);
      open.followed = 0;
      return leaf;
    } catch (error) {
      if (this.#options.onDamage === undefined) throw error;
      this.#options.onDamage(error);
      return undefined;
    }
  }

  async #write(depth: number, node: Buffer, last: boolean): Promise<void> {
    const head = this.#head;
    head.writeUInt32LE(node.length, 0);
    head.writeUInt32LE(depth, 4);
    head.writeUInt32LE(last ? 1 : 0, 8);
    for (const bytes of [head, node]) {
      const waiting = this.#options.write(bytes);
      if (waiting !== undefined) await waiting;
    }
  }
}

const NO_NODE = Buffer.alloc(0);

/** Reads all entries: those that are directories with a node, and are visited. */
function childrenOf(entries: EntryReader, visits: Visit | undefined): readonly Child[] {
  let children: Child[] | undefined;
  while (entries.next()) {
    if (entries.type !== DIRECTORY) continue;
    const visited = visits?.children.get(entries.name().toString('latin1'));
    if (visits !== undefined && visited === undefined) continue;
    const directory = entries.directory();
    if (directory === undefined) continue;
    children ??= [];
    children.push({ ...directory, visits: visited });
  }
  return children ?? NONE;
}

/** The receiving end: pieces in, items out. A piece may change as soon as it has been told to be used. */
export class NodeStream implements OldNodes {
  readonly #pieces: Buffer[] = [];
  readonly #onUsed: (bytes: number) => void;
  #at = 0;
  readonly #head = Buffer.alloc(ITEM_HEAD_BYTES);
  /** the node that is being filled, once its head is there */
  #node: Buffer | undefined;
  #filled = 0;
  #waiting: { resolve: () => void; reject: (error: unknown) => void } | undefined;
  #error: unknown;
  #ended = false;

  /** @param onUsed told how many bytes have been used, for the window */
  constructor(onUsed: (bytes: number) => void) {
    this.#onUsed = onUsed;
  }

  /** Takes a piece, which must stay until it is used. */
  push(piece: Buffer): void {
    if (piece.length === 0) return;
    this.#pieces.push(piece);
    this.#wake();
  }

  /** There are no more pieces. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** There will be no more pieces, as something failed. */
  fail(error: unknown): void {
    this.#error = error;
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) return;
    if (this.#error === undefined) waiting.resolve();
    else waiting.reject(this.#error);
  }

  wait(): Promise<void> {
    if (this.#error !== undefined) return Promise.reject(this.#error);
    if (this.#ended)
      return Promise.reject(new Failure('read old tree', '', { cause: 'the stream ended early' }));
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  next(): OldNode | undefined {
    const head = this.#head;
    if (this.#node === undefined) {
      if (!this.#fill(head)) return undefined;
      const length = head.readUInt32LE(0);
      if (length > CHUNK_MAX_BYTES || head.readUInt32LE(4) > DEPTH_MAX || head.readUInt32LE(8) > 1)
        throw new Failure('read old tree', '', { cause: 'malformed item' });
      this.#node = length === 0 ? NO_NODE : Buffer.allocUnsafe(length);
    }
    const node = this.#node;
    if (!this.#fill(node)) return undefined;
    this.#node = undefined;
    return { depth: head.readUInt32LE(4), node, last: head.readUInt32LE(8) === 1 };
  }

  /**
   * Fills `into` with the next bytes; false until they have all come. They are copied, so that each piece is free at
   * once, and a node may be longer than the window.
   */
  #fill(into: Buffer): boolean {
    while (this.#filled < into.length) {
      const piece = this.#pieces[0];
      if (piece === undefined) return false;
      const copied = piece.copy(into, this.#filled, this.#at);
      this.#filled += copied;
      this.#at += copied;
      if (this.#at < piece.length) continue;
      this.#pieces.shift();
      this.#at = 0;
      this.#onUsed(piece.length);
    }
    this.#filled = 0;
    return true;
  }
}
