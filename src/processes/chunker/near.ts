/**
 * What a client asks for next once it has a snapshot's header: the nodes on the
 * way to a path, and what a short file there holds. It comes with the header, and
 * spares a client that starts for one file a round trip for each of them. Used by
 * sessions. Invariant: no more is read than NEAR_MAX chunks of NEAR_MAX_BYTES, and
 * what cannot be read is left to the client, which asks for it and is told.
 */
import { Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { type HEADER, NEAR_ALL_MAX_BYTES, NEAR_MAX, NEAR_MAX_BYTES } from '../../messages/reader.ts';
import {
  CHUNK_DATA,
  CHUNK_TREE,
  type ChunkKind,
  type ChunkRef,
  type ChunkSource,
} from '../../snapshot/chunks.ts';
import { extents } from '../../snapshot/content.ts';
import { findEntry, readRoot } from '../../snapshot/directory.ts';
import { DIRECTORY, type EntryReader, FILE } from '../../snapshot/tree.ts';

const SLASH = '/';

export type Near = NonNullable<PayloadOf<typeof HEADER.shape>['near']>;

/** Keeps what is read, and ends the walk where that is enough. */
class Kept implements ChunkSource {
  readonly near: Near = [];
  readonly #source: ChunkSource;
  #bytes = 0;

  constructor(source: ChunkSource) {
    this.#source = source;
  }

  async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    this.#bytes += length;
    if (this.near.length === NEAR_MAX || length > NEAR_MAX_BYTES || this.#bytes > NEAR_ALL_MAX_BYTES)
      throw new Failure('read ahead', '', { cause: 'enough' });
    const node = await this.#source.get(kind, id, length);
    this.near.push({ id: Buffer.from(id), node });
    return node;
  }
}

/** Names of a path that goes down only; others are the client's to understand. */
function namesOf(path: Buffer): Buffer[] {
  const names = path.toString('latin1').split(SLASH, 2 * NEAR_MAX);
  return names.filter((name) => name !== '' && name !== '.').map((name) => Buffer.from(name, 'latin1'));
}

async function walk(source: ChunkSource, root: ChunkRef, path: Buffer): Promise<void> {
  let entry: EntryReader = await readRoot(source, root);
  for (const name of namesOf(path)) {
    const directory = entry.type === DIRECTORY ? entry.directory() : undefined;
    const found = directory && (await findEntry(source, directory, name));
    if (found === undefined) return;
    entry = found;
  }
  if (entry.type === FILE)
    for await (const { id, length } of extents(source, entry.content()))
      if (id !== undefined) await source.get(CHUNK_DATA, id, length);
  const directory = entry.type === DIRECTORY ? entry.directory() : undefined;
  if (directory !== undefined) await source.get(CHUNK_TREE, directory.id, directory.length);
}

/** What lies on the way from `root` to `path`. */
export async function nearTo(source: ChunkSource, root: ChunkRef, path: Buffer): Promise<Near> {
  const kept = new Kept(source);
  try {
    await walk(kept, root, path);
  } catch (error) {
    // not lost: see above
    if (!(error instanceof Failure)) throw error;
  }
  return kept.near;
}
