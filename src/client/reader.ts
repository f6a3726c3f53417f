/**
 * A reader session from the client's side: lists and names snapshots, and reads
 * verified chunks through the session's own ring. Opened by the connection;
 * used by every command that looks into snapshots, and by restore. The session
 * talks to the repository's chunker directly, so a slow client holds up nobody.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { Channel, type ChannelOptions } from '../ipc/channel.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import {
  HEADER,
  HEADERS,
  LINES,
  LINES_ARE,
  LIST,
  LOCATE,
  LOCATE_MAX,
  NEAR_PATH_MAX_BYTES,
  PLACES,
  READ,
  READ_DONE,
  RESOLVE,
  ROWS,
  ROWS_ARE,
  TREE,
  TREE_NODES,
  TREE_STOP,
  TREE_USED,
} from '../messages/reader.ts';
import { decodeRows, type Row } from '../messages/rows.ts';
import { decodeSnapshot, type SnapshotHeader, snapshotName } from '../repository/snapshot.ts';
import {
  type BulkSource,
  type ChunkKind,
  type ChunkRef,
  type ChunkRequests,
  ID_BYTES,
  type TreeSource,
} from '../snapshot/chunks.ts';
import { checkSealed, mapShared, unmap } from '../sys/memory.ts';
import { type OnChunk, type OnFailed, ReadQueue } from './reads.ts';
import { TreeStream } from './treestream.ts';

/** Snapshots that are listed at most; their headers are held in memory. */
const SNAPSHOTS_LISTED_MAX = 1_000_000;
/** No ring of a session is larger, whatever the daemon says. */
const RING_MAX_BYTES = 256 << 20;
const PLACE_BYTES = 8;
const NOTHING = Buffer.alloc(0);

/** A snapshot, with its name as text. */
export interface Snapshot {
  /** UUID */
  readonly name: string;
  readonly header: SnapshotHeader;
}

/** What a repository's list of snapshots came to. */
export interface SnapshotList {
  /** Oldest first. */
  readonly snapshots: readonly Snapshot[];
  /** Those whose header could not be read, and why. */
  readonly damaged: readonly { readonly name: string; readonly text: string }[];
}

/** What came with OPENED: ends of the channel, and the ring's memory file. */
export interface SessionDescriptors {
  readonly stream: number;
  readonly descriptors: number;
  readonly ring: number;
}

function decodeHeader(plaintext: Buffer): Snapshot {
  const header = decodeSnapshot(plaintext);
  return { name: snapshotName(header.id), header };
}

export class Reader implements BulkSource, TreeSource {
  /** The repository that the session is on. */
  readonly repository: string;
  readonly #channel: Channel;
  readonly #ring: Buffer;
  readonly #queue: ReadQueue;
  readonly #trees = new Map<number, TreeStream>();
  #lastTree = 0;
  /** chunks that came with the last header, by id in hexadecimal */
  #near: ReadonlyMap<string, Buffer> = new Map();

  /**
   * Takes the three descriptors over. Throws a Failure unless the ring is
   * `ringBytes` of memory that cannot shrink.
   */
  constructor(
    repository: string,
    ringBytes: number,
    fds: SessionDescriptors,
    options: Pick<ChannelOptions, 'stream'> = {},
  ) {
    this.repository = repository;
    this.#ring = mapRing(fds.ring, ringBytes);
    this.#channel = new Channel(
      { stream: fds.stream, descriptors: fds.descriptors },
      { ...options, name: `repository ${repository}` },
    );
    this.#queue = new ReadQueue({ ring: this.#ring, read: (entries) => this.#read(entries) });
    this.#channel.handler(TREE_NODES, ({ payload }) => {
      const tree = this.#trees.get(payload.stream);
      tree?.push(payload.data, payload.last);
      if (payload.last) this.#trees.delete(payload.stream);
    });
    const over = (error: unknown) => {
      this.#queue.fail(error);
      for (const tree of this.#trees.values()) tree.push(NOTHING, true);
    };
    this.#channel.dispatch().then(() => over(sessionLost(repository)), over);
  }

  async #read(entries: Buffer) {
    const { payload } = await this.#channel.query(READ, { chunks: entries }, READ_DONE);
    return payload.failed;
  }

  /** All snapshots that the session may see. */
  async list(): Promise<SnapshotList> {
    const snapshots: Snapshot[] = [];
    for (;;) {
      const from = snapshots.length;
      const { payload } = await this.#channel.query(LIST, { from }, HEADERS);
      for (const header of payload.headers) snapshots.push(decodeHeader(header));
      // every page tells of all that are damaged
      if (snapshots.length >= payload.total) return { snapshots, damaged: payload.damaged };
      if (snapshots.length === from || from > SNAPSHOTS_LISTED_MAX)
        throw new Failure('list snapshots', '', { cause: `${snapshots.length} of ${payload.total} came` });
    }
  }

  /** As `list`, of each snapshot only what a list shows; `take` is called with each. */
  async rows(take: (row: Row) => void): Promise<SnapshotList['damaged']> {
    for (let from = 0; ; ) {
      const { payload } = await this.#channel.query(ROWS, { from }, ROWS_ARE);
      decodeRows(payload.rows, take);
      from += payload.count;
      if (from >= payload.total) return payload.damaged;
      if (payload.count === 0 || from > SNAPSHOTS_LISTED_MAX)
        throw new Failure('list snapshots', '', { cause: `${from} of ${payload.total} came` });
    }
  }

  /** All of them as `ls` prints them; without text where `rows` is to be asked. The text is the chunker's word. */
  async lines(): Promise<PayloadOf<typeof LINES_ARE.shape>> {
    return (await this.#channel.query(LINES, {}, LINES_ARE)).payload;
  }

  /**
   * The snapshot that a UUID, an unambiguous prefix, or `latest` (of `source`,
   * where given) names. Rejects where there is none, or more than one. What is
   * on the way to `path` comes with it, so that it need not be asked for.
   */
  async resolve(name: string, source?: string, path?: Buffer): Promise<Snapshot> {
    const isShort = path !== undefined && path.length <= NEAR_PATH_MAX_BYTES;
    const asked = { snapshot: name, source, path: isShort ? path : undefined };
    const { payload } = await this.#channel.query(RESOLVE, asked, HEADER);
    this.#near = new Map(payload.near?.map(({ id, node }) => [id.toString('hex'), node]));
    return decodeHeader(payload.header);
  }

  /** What came with the last header; an id is of one kind only. */
  #nearOf(id: Buffer, length: number | undefined): Buffer | undefined {
    const near = this.#near.size === 0 ? undefined : this.#near.get(id.toString('hex'));
    return near?.length === length ? near : undefined;
  }

  /** A private copy of one chunk; calls made in the same turn of the event loop travel together. */
  get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    const near = this.#nearOf(id, length);
    return near === undefined ? this.#queue.get(kind, id, length) : Promise.resolve(near);
  }

  /** See TreeSource: the chunker sends what is below `directory` before it is asked for. */
  below(directory: ChunkRef): TreeStream {
    const stream = ++this.#lastTree;
    const tree = new TreeStream(this, {
      used: (bytes) => this.#channel.closed || this.#channel.message(TREE_USED, { stream, bytes }),
      stop: () => {
        if (this.#trees.delete(stream) && !this.#channel.closed) this.#channel.message(TREE_STOP, { stream });
      },
    });
    this.#trees.set(stream, tree);
    const { id, length } = directory;
    this.#channel.message(TREE, { stream, id: Buffer.from(id), length });
    return tree;
  }

  /** See BulkSource. */
  async locate(ids: Buffer): Promise<Float64Array> {
    const count = Math.floor(ids.length / ID_BYTES);
    const places = new Float64Array(count);
    for (let first = 0; first < count; first += LOCATE_MAX) {
      const last = Math.min(count, first + LOCATE_MAX);
      const asked = ids.subarray(first * ID_BYTES, last * ID_BYTES);
      const { payload } = await this.#channel.query(LOCATE, { ids: asked }, PLACES);
      if (payload.places.length !== (last - first) * PLACE_BYTES)
        throw new Failure('locate chunks', '', { cause: 'answer of another length' });
      for (let i = first; i < last; i++) places[i] = payload.places.readDoubleLE((i - first) * PLACE_BYTES);
    }
    return places;
  }

  /** See BulkSource. `data` is a view of the ring. */
  readMany(requests: ChunkRequests, onChunk: OnChunk, onFailed: OnFailed) {
    return this.#queue.readMany(requests, onChunk, onFailed);
  }

  /** Like readMany, but in order, and `data` is valid until the promise that `onChunk` returned is resolved. */
  async readInOrder(requests: ChunkRequests, onChunk: OnChunk, onFailed: OnFailed): Promise<void> {
    const { ids, lengths, count } = requests;
    const near = count === 1 ? this.#nearOf(ids.subarray(0, ID_BYTES), lengths[0]) : undefined;
    if (near === undefined) await this.#queue.readInOrder(requests, onChunk, onFailed);
    else await onChunk(0, near);
  }

  /**
   * Ends the session; what is still asked for rejects. The ring stays mapped
   * until the process ends: a write of its bytes to a pipe may be under way.
   */
  close(): void {
    this.#queue.fail(new Failure('read from', `repository ${this.repository}`, { cause: 'session closed' }));
    this.#channel.close();
  }

  /** As `close`, and gives the ring back: for a process that goes on, once nothing of the session is in use. */
  dispose(): void {
    this.close();
    unmap(this.#ring);
  }
}

function sessionLost(repository: string): Failure {
  return new Failure('read from', `repository ${repository}`, { cause: 'the daemon ended the session' });
}

function mapRing(fd: number, ringBytes: number): Buffer {
  try {
    if (ringBytes < 1 || ringBytes > RING_MAX_BYTES)
      throw new Failure('map ring', '', { cause: `a length of ${ringBytes} bytes` });
    checkSealed(fd, ringBytes);
    return mapShared(fd, ringBytes, 'read');
  } finally {
    fs.closeSync(fd);
  }
}
