/** A snapshot in memory for the tests of what looks into one: odd names, links, shards of contents, a hole. */

import type { Failure } from '../../src/error.ts';
import type { SnapshotHeader } from '../../src/repository/snapshot.ts';
import { Bytes } from '../../src/snapshot/bytes.ts';
import { type ChunkRequests, ID_BYTES, MemoryChunks } from '../../src/snapshot/chunks.ts';
import { ContentWriter, SPLITTER_FASTCDC1 } from '../../src/snapshot/content.ts';
import { FLAG_UNREADABLE } from '../../src/snapshot/tree.ts';
import { Node, putData } from '../restore/plant.ts';

export const ODD_NAME = Buffer.from('we\xffird\nname', 'latin1');

/** MemoryChunks with what a reader session has beside it. */
export class TestChunks extends MemoryChunks {
  async readInOrder(
    requests: ChunkRequests,
    onChunk: (index: number, data: Buffer) => void | Promise<void>,
    onFailed: (index: number, failure: Failure) => void,
  ): Promise<void> {
    for (let i = 0; i < requests.count; i++) {
      const id = requests.ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES);
      let data: Buffer;
      try {
        data = await this.get(requests.kind, id, requests.lengths[i] ?? 0);
      } catch (error) {
        onFailed(i, error as Failure);
        continue;
      }
      await onChunk(i, data);
    }
  }
}

/** A block of data, a hole, and a block again. */
export function largeFile(chunks: MemoryChunks): { content: Buffer; bytes: Buffer } {
  const first = Buffer.alloc(300_000, 'a');
  const last = Buffer.alloc(1000, 'z');
  const hole = 2_500_000;
  const out = new Bytes();
  const writer = new ContentWriter(chunks);
  writer.begin(SPLITTER_FASTCDC1);
  writer.data(first.length, putData(chunks, first));
  writer.hole(hole);
  writer.data(last.length, putData(chunks, last));
  writer.finish(out);
  const bytes = Buffer.concat([first, Buffer.alloc(hole), last]);
  return { content: Buffer.from(out.since(0)), bytes };
}

/** The tree of the tests, and what is in its large file. */
export function plantTree(chunks: MemoryChunks) {
  const deep = new Node(chunks).file('x', Buffer.from('deep\n'));
  const sub = new Node(chunks).file('b.txt', Buffer.from('bee\n')).directory('deep', deep.store());
  const large = largeFile(chunks);
  const linked = { ino: 7, nlink: 2 };
  const top = new Node(chunks)
    .file('a.txt', Buffer.from('hello\n'), { uid: 1000, gid: 100, mtimeSec: 1_637_971_924, mtimeNsec: 5 })
    .file('empty', Buffer.alloc(0))
    .file('hard1', Buffer.from('twice\n'), linked)
    .file('hard2', Buffer.from('twice\n'), linked)
    .symlink('link', 'a.txt')
    .file(ODD_NAME, Buffer.from('odd\n'))
    .add('large', { size: large.bytes.length }, (out) => out.bytes(large.content))
    .add('lost', { flags: FLAG_UNREADABLE, size: 5 }, (out) => {
      const writer = new ContentWriter(chunks);
      writer.begin(0);
      writer.finish(out);
    })
    .add('pipe', { mode: 0o010644 }, () => {})
    .add('null', { mode: 0o020666 }, (out) => {
      out.u32(1);
      out.u32(3);
    })
    .directory('sub', sub.store());
  return { root: top.root(), large: large.bytes };
}

/** A header that fits any tree. */
export function headerOf(
  root: SnapshotHeader['root'],
  changes: Partial<SnapshotHeader> = {},
): SnapshotHeader {
  const counts = {
    addedBytes: 1000,
    bytes: 11_234_567,
    changed: 1,
    directories: 2,
    files: 8,
    inconsistent: 0,
    new: 2,
    others: 3,
    storedBytes: 500,
    unchanged: 5,
    unreadable: 1,
  };
  return {
    counts,
    end: 1_637_971_930_000,
    errors: [{ path: Buffer.from('/lost'), text: 'permission denied' }],
    parent: undefined,
    host: 'alpha',
    id: Buffer.from('99e53a9c4f2a4b7c8d9e0f1a2b3c4d5e', 'hex'),
    paths: [Buffer.from('/bin')],
    program: 'plakard 0.1.0',
    root,
    source: 'home',
    tags: [],
    time: 1_637_971_924_000,
    user: 'root',
    version: 1,
    ...changes,
  };
}
