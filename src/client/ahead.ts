/**
 * Directory nodes that are asked for before they are needed, so that a walk
 * waits for a round trip per generation of directories and not per directory.
 * Called by the walk in browse.ts. Owns the bound on what is asked for ahead.
 */
import { CHUNK_TREE, type ChunkKind, type ChunkRef, type ChunkSource } from '../snapshot/chunks.ts';

/** Nodes asked for and not yet taken: bytes, and how many. */
const AHEAD_MAX_BYTES = 8 << 20;
const AHEAD_MAX_NODES = 4096;

export class Ahead implements ChunkSource {
  readonly #source: ChunkSource;
  readonly #nodes = new Map<string, { readonly node: Promise<Buffer>; readonly length: number }>();
  #bytes = 0;

  constructor(source: ChunkSource) {
    this.#source = source;
  }

  get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    const key = id.toString('latin1');
    const found = kind === CHUNK_TREE ? this.#nodes.get(key) : undefined;
    if (found === undefined || found.length !== length) return this.#source.get(kind, id, length);
    this.#nodes.delete(key);
    this.#bytes -= length;
    return found.node;
  }

  /**
   * Asks for a node unless that is too much. Outer directories leave half of
   * what is free to inner ones, whatever the depth.
   * @returns whether there may be room for another
   */
  ask({ id, length }: ChunkRef, limitBytes: number): boolean {
    if (this.#bytes + length > limitBytes || this.#nodes.size >= AHEAD_MAX_NODES) return false;
    const key = id.toString('latin1');
    if (this.#nodes.has(key)) return true;
    const node = this.#source.get(CHUNK_TREE, id, length);
    // whoever takes it hears of a failure; nobody may, where the walk ends before
    node.catch(() => undefined);
    this.#nodes.set(key, { node, length });
    this.#bytes += length;
    return true;
  }

  /** How far one directory may fill what may be asked for ahead, bytes in all. */
  get limitBytes(): number {
    return this.#bytes + (AHEAD_MAX_BYTES - this.#bytes) / 2;
  }
}
