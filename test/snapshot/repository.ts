/**
 * Two repositories in memory, with keys and boundaries of their own, for the
 * tests of copying between them: what a push makes of a plan, and a source that
 * delivers as a reader session does.
 */
import assert from 'node:assert/strict';
import type { Failure } from '../../src/error.ts';
import { gearTable } from '../../src/keys/derive.ts';
import { TreeBuilder } from '../../src/snapshot/builder.ts';
import { Bytes } from '../../src/snapshot/bytes.ts';
import {
  type AheadSource,
  CHUNK_DATA,
  type ChunkRef,
  type ChunkRequests,
  ID_BYTES,
  MemoryChunks,
} from '../../src/snapshot/chunks.ts';
import { type ContentWriter, SPLITTER_FASTCDC1 } from '../../src/snapshot/content.ts';
import type { OrderedSource } from '../../src/snapshot/inorder.ts';
import * as scan from '../../src/snapshot/scanlog.ts';
import { Splitter } from '../../src/snapshot/splitter.ts';
import { appendEnter, appendEntryRecord, statOf } from './plant.ts';

/** A file with holes: parts of contents, and lengths of what is none. */
export type Sparse = readonly (Buffer | number)[];
/** What a directory has: by name, directories, contents, or contents with holes. */
export interface Tree {
  readonly [name: string]: Tree | Buffer | Sparse;
}

const SIZES = { min: 64, normal: 256, max: 1024 };

/** Chunks that are delivered in order, one at a time, later. */
export class Source extends MemoryChunks implements OrderedSource {
  /** how many data chunks were delivered */
  delivered = 0;

  has(id: Buffer): boolean {
    return this.chunks.has(id.toString('hex'));
  }

  async readInOrder(
    requests: ChunkRequests,
    onChunk: (index: number, data: Buffer) => void | Promise<void>,
    onFailed: (index: number, failure: Failure) => void,
  ): Promise<void> {
    for (let i = 0; i < requests.count; i++) {
      const id = requests.ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES);
      const found = await this.get(requests.kind, id, requests.lengths[i] ?? 0).catch((error) => error);
      if (Buffer.isBuffer(found)) {
        this.delivered++;
        const shown = Buffer.from(found);
        await onChunk(i, shown);
        // the ring is used again
        shown.fill(0xee);
      } else onFailed(i, found);
    }
  }

  below(): AheadSource {
    return { get: (kind, id, length) => this.get(kind, id, length), stop: () => undefined };
  }
}

export class Repository {
  readonly chunks: Source;
  readonly splitter: Splitter;

  constructor(key: number) {
    this.chunks = new Source(Buffer.alloc(32, key));
    this.splitter = new Splitter(gearTable(Buffer.alloc(32, key)), SIZES);
  }

  /** What a push of the tree gives: its root node. */
  async push(tree: Tree): Promise<ChunkRef> {
    const out = new Bytes();
    const contents: (Buffer | Sparse)[] = [];
    appendTree(out, contents, '', tree);
    scan.appendEnd(out, false, scan.noCounts());
    const builder = new TreeBuilder({
      source: this.chunks,
      store: this.chunks,
      readFile: (fd, { content }) => this.#read(contents[fd] ?? [], content),
      discard: () => undefined,
      onEvent: () => undefined,
    });
    await builder.feed(
      out.since(0),
      contents.map((_, i) => i),
    );
    const root = builder.result?.root;
    assert.ok(root !== undefined);
    return root;
  }

  async #read(contents: Buffer | Sparse, content: ContentWriter): Promise<number> {
    const id = Buffer.alloc(ID_BYTES);
    const put = async (data: Buffer) => {
      this.chunks.put(CHUNK_DATA, data, id);
      await content.data(data.length, id);
    };
    const isWhole = Buffer.isBuffer(contents);
    if (isWhole && contents.length <= SIZES.min) {
      if (contents.length > 0) await put(contents);
      return 0;
    }
    content.begin(SPLITTER_FASTCDC1);
    for (const part of isWhole ? [contents] : contents) {
      if (typeof part === 'number') content.hole(part);
      else
        for (let at = 0; at < part.length; ) {
          const end = this.splitter.cut(part, at, part.length);
          await put(part.subarray(at, end));
          at = end;
        }
    }
    return 0;
  }
}

function sizeOf(contents: Buffer | Sparse): number {
  if (Buffer.isBuffer(contents)) return contents.length;
  return contents.reduce<number>((sum, part) => sum + (typeof part === 'number' ? part : part.length), 0);
}

function appendTree(out: Bytes, contents: (Buffer | Sparse)[], name: string, tree: Tree): void {
  appendEnter(out, name);
  for (const child of Object.keys(tree).sort((a, b) => (a < b ? -1 : 1))) {
    const what = tree[child];
    if (Buffer.isBuffer(what) || Array.isArray(what)) {
      contents.push(what);
      appendEntryRecord(out, scan.FILE_TO_READ, 1, statOf(0o100644, sizeOf(what)), child);
    } else appendTree(out, contents, child, (what ?? {}) as Tree);
  }
  appendEntryRecord(out, scan.LEAVE, 0, statOf(0o040755), name);
}
