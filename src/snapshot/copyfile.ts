/**
 * The contents of files on their way from one repository to another: what each
 * consists of is laid down in order by whoever walks the tree, and taken in the
 * same order by whoever builds the new one, with the chunks read ahead between
 * them. Called by translate.ts. Invariants: a chunk's bytes are copied out of
 * memory that the other side can write before anything is computed of them; and
 * whatever becomes of a file, all that was laid down for it is taken.
 */
import { Failure } from '../error.ts';
import { type BulkStore, CHUNK_DATA, CHUNK_MAX_BYTES, type ChunkSource, ID_BYTES } from './chunks.ts';
import {
  BlockReader,
  type ContentWriter,
  extents,
  INLINE_RECORDS_MAX,
  SPLITTER_FASTCDC1,
  SPLITTER_NONE,
} from './content.ts';
import type { IdMap } from './idmap.ts';
import { type OrderedSource, ReadAhead } from './inorder.ts';
import { Resplitter } from './resplit.ts';
import type { Splitter } from './splitter.ts';

/** A store that says what it has. */
export interface KnowingStore extends BulkStore {
  has(id: Buffer): boolean;
}

/** Part of a file: a chunk that is read ahead, one that we have under `known`, a hole, or why there is no more. */
type Part =
  | { readonly what: 'chunk'; readonly length: number; readonly id: Buffer }
  | { readonly what: 'known'; readonly length: number; readonly known: Buffer }
  | { readonly what: 'hole'; readonly length: number }
  | { readonly what: 'failed'; readonly failure: Failure }
  | { readonly what: 'end' };

/** A file whose contents are wanted. */
export interface FileToCopy {
  /** content block, of theirs */
  readonly theirs: Buffer;
  /** content block of the same contents in our repository, where that is known; then nothing is laid down */
  readonly ours: Buffer | undefined;
}

export interface CopyOptions {
  readonly theirs: OrderedSource;
  readonly ours: ChunkSource;
  readonly store: KnowingStore;
  readonly splitter: Splitter;
  readonly ids: IdMap;
  /** told of the plaintext that came */
  readonly onBytes: (bytes: number) => void;
}

const isDamage = (error: unknown): error is Failure => error instanceof Failure && error.kind === 'damaged';

/** Whether the block is one chunk that no splitter cut: its bytes are a chunk of ours as they are. */
function isSingle({ splitter, depth, count }: BlockReader): boolean {
  return splitter === SPLITTER_NONE && depth === 0 && count <= 1;
}

export class FileCopier {
  readonly #options: CopyOptions;
  readonly #ahead: ReadAhead;
  readonly #resplitter: Resplitter;
  readonly #parts: Part[] = [];
  /** of #parts that are taken */
  #taken = 0;
  /** one for each side, as both wait in the middle of a block */
  readonly #layBlock = new BlockReader();
  readonly #takeBlock = new BlockReader();
  readonly #id = Buffer.alloc(ID_BYTES);
  #scratch: Buffer | undefined;
  #laid: (() => void) | undefined;
  #error: { readonly error: unknown } | undefined;

  constructor(options: CopyOptions) {
    this.#options = options;
    this.#ahead = new ReadAhead(options.theirs);
    this.#resplitter = new Resplitter(options.store, options.splitter);
  }

  // ---- laying down

  /**
   * Lays down a file's contents. Before it waits for what was laid down to be
   * taken, it calls `flush`, so that somebody can.
   */
  async lay({ theirs, ours }: FileToCopy, flush: () => Promise<void>): Promise<void> {
    if (ours !== undefined) return;
    const block = this.#layBlock.load(theirs, 0, theirs.length, INLINE_RECORDS_MAX);
    const single = isSingle(block);
    if (block.depth === 0) {
      while (block.next()) {
        const waiting = this.#layPart(block.isHole ? undefined : block.id(), block.covered, single);
        if (waiting === undefined) continue;
        await flush();
        await waiting;
      }
    } else await this.#layLists(theirs, flush);
    this.#push({ what: 'end' });
  }

  async #layLists(block: Buffer, flush: () => Promise<void>): Promise<void> {
    try {
      for await (const { id, length } of extents(this.#options.theirs, block)) {
        const waiting = this.#layPart(id, length, false);
        if (waiting === undefined) continue;
        await flush();
        await waiting;
      }
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#push({ what: 'failed', failure: error });
    }
  }

  #layPart(id: Buffer | undefined, length: number, single: boolean): Promise<void> | undefined {
    if (id === undefined) {
      this.#push({ what: 'hole', length });
      return undefined;
    }
    const known = single ? this.#options.ids.get(id) : undefined;
    if (known !== undefined && this.#options.store.has(known)) {
      this.#push({ what: 'known', length, known: Buffer.from(known) });
      return undefined;
    }
    this.#push({ what: 'chunk', length, id: Buffer.from(id) });
    return this.#ahead.want(id, length);
  }

  #push(part: Part): void {
    this.#parts.push(part);
    const laid = this.#laid;
    this.#laid = undefined;
    laid?.();
  }

  /** Asks for what has been laid down so far. */
  hurry(): void {
    this.#ahead.hurry();
  }

  /** Ends it: whoever waits gets `error`. */
  end(error: unknown): void {
    this.#error ??= { error };
    this.#ahead.end(error);
    this.#laid?.();
  }

  // ---- taking

  async #next(): Promise<Part> {
    for (;;) {
      if (this.#error !== undefined) throw this.#error.error;
      const part = this.#parts[this.#taken];
      if (part !== undefined) {
        this.#taken++;
        if (this.#taken === this.#parts.length) {
          this.#parts.length = 0;
          this.#taken = 0;
        }
        return part;
      }
      await new Promise<void>((resolve) => {
        this.#laid = resolve;
      });
    }
  }

  /** Copies the next file's contents to `content`, which has begun. Rejects with a Failure of kind 'damaged' where they cannot be had. */
  async copy({ theirs, ours }: FileToCopy, content: ContentWriter): Promise<void> {
    if (ours !== undefined) return this.#relist(ours, content);
    const single = isSingle(this.#takeBlock.load(theirs, 0, theirs.length, INLINE_RECORDS_MAX));
    if (!single) content.begin(SPLITTER_FASTCDC1);
    const take = single ? this.#single : this.#split;
    let damage: Failure | undefined;
    for (let part = await this.#next(); part.what !== 'end'; part = await this.#next()) {
      try {
        if (part.what === 'failed') throw part.failure;
        else if (damage === undefined) await take.call(this, part, content);
        else if (part.what === 'chunk') await this.#ahead.take(() => undefined);
      } catch (error) {
        if (!isDamage(error)) throw error;
        damage ??= error;
      }
    }
    if (damage !== undefined) {
      this.#resplitter.drop();
      throw damage;
    }
    await this.#resplitter.end(content);
  }

  async #single(part: Part, content: ContentWriter): Promise<void> {
    if (part.what === 'hole') content.hole(part.length);
    else if (part.what === 'known') await content.data(part.length, part.known);
    else if (part.what === 'chunk') {
      this.#scratch ??= Buffer.allocUnsafeSlow(CHUNK_MAX_BYTES);
      const data = this.#scratch.subarray(0, part.length);
      await this.#into(data);
      const storing = this.#options.store.put(CHUNK_DATA, data, this.#id);
      if (storing !== undefined) await storing;
      this.#options.ids.set(part.id, this.#id);
      await content.data(part.length, this.#id);
    }
  }

  async #split(part: Part, content: ContentWriter): Promise<void> {
    if (part.what === 'hole') {
      await this.#resplitter.end(content);
      content.hole(part.length);
    } else if (part.what === 'chunk') {
      await this.#into(await this.#resplitter.room(part.length, content));
      this.#resplitter.added(part.length);
    }
  }

  async #into(out: Buffer): Promise<void> {
    await this.#ahead.take((data) => {
      if (data.length !== out.length)
        throw new Failure('read chunk', '', { cause: `${data.length} bytes, not ${out.length}` });
      data.copy(out);
    });
    this.#options.onBytes(out.length);
  }

  /** Lists the chunks of a file that our repository has anew. */
  async #relist(block: Buffer, content: ContentWriter): Promise<void> {
    content.begin(block[0] ?? SPLITTER_NONE);
    for await (const { id, length } of extents(this.#options.ours, block)) {
      if (id === undefined) content.hole(length);
      else await content.data(length, id);
    }
  }
}
