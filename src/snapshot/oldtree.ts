/**
 * The walker's place in the parent snapshot's tree, which comes as a stream of
 * nodes in pre-order (stream.ts). Invariant: a directory gets its own nodes, as
 * those of directories that the walker did not enter are passed over.
 */
import { Failure } from '../error.ts';
import type { OldNode, OldNodes } from './stream.ts';
import { EntryReader } from './tree.ts';

/** One open directory's place in its old self. It is used again for the next directory of its depth. */
export class OldPlace {
  /** There is an old directory; else nothing below means anything. */
  exists = false;
  /** at the current old entry, if `isAt` */
  readonly entries = new EntryReader();
  isAt = false;
  /** number of the current leaf; -1 before the first */
  part = -1;
  /** the current leaf is the last */
  last = false;
  /** the next leaf is wanted, and has not come yet */
  isWaiting = false;
  /** some of it could not be read */
  damaged = false;
  /** directories of it that were not entered, or not to their end, and whose nodes are still to come */
  skips = 0;

  reset(exists: boolean): void {
    this.exists = exists;
    this.isAt = false;
    this.part = -1;
    this.last = !exists;
    this.isWaiting = exists;
    this.damaged = false;
    this.skips = 0;
  }

  /** Takes its next leaf. */
  take(item: OldNode): void {
    this.isWaiting = false;
    this.part++;
    this.last = item.last;
    if (item.node.length === 0) {
      this.damaged = true;
      this.isAt = false;
      return;
    }
    this.entries.load(item.node, item.depth === 0);
    this.isAt = this.entries.next();
  }

  /** Moves to the next old entry of the leaf. */
  advance(): void {
    this.isAt = this.entries.next();
  }
}

export class OldTree {
  readonly #nodes: OldNodes;
  #ahead: OldNode | undefined;

  constructor(nodes: OldNodes) {
    this.#nodes = nodes;
  }

  /**
   * The next item, if it is for depth `depth`, after those of the directories to be skipped. `holder` is the place at
   * `holderDepth` whose directories are skipped: the one that wants its next leaf, or the parent of one that is new
   * on the path. Undefined while it has not come.
   */
  seek(depth: number, holder: OldPlace, holderDepth: number): OldNode | undefined {
    for (;;) {
      const item = this.#ahead ?? this.#nodes.next();
      this.#ahead = item;
      if (item === undefined) return undefined;
      if (item.depth > holderDepth + 1) {
        this.#ahead = undefined;
      } else if (item.depth === holderDepth + 1 && holder.skips > 0) {
        if (item.last) holder.skips--;
        this.#ahead = undefined;
      } else if (item.depth === depth && holder.skips === 0) {
        this.#ahead = undefined;
        return item;
      } else {
        throw new Failure('read old tree', '', {
          cause: `a node of depth ${item.depth} in place of ${depth}`,
        });
      }
    }
  }

  wait(): Promise<void> {
    return this.#nodes.wait();
  }
}
