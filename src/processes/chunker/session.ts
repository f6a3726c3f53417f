/**
 * A reader session: serves one client, on a channel and a ring of its own, with
 * the headers it may see and with verified chunks by id. See messages/reader.ts.
 * A client that breaks the rules loses its session, nobody else anything.
 */
import { closeSync, writeSync } from 'node:fs';
import { PLAIN_LINES, SNAPSHOT } from '../../client/headers.ts';
import { Failure, toWire } from '../../error.ts';
import { Channel, channelPair } from '../../ipc/channel.ts';
import type { Received } from '../../ipc/message.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { ChunkKind } from '../../keys/derive.ts';
import {
  HEADER,
  HEADERS,
  LINES,
  LINES_ARE,
  LIST,
  LOCATE,
  PAGE_MAX,
  PLACES,
  READ,
  READ_DONE,
  READ_ENTRY_BYTES,
  READER_RING_BYTES,
  READS_OPEN_MAX,
  RESOLVE,
  ROWS,
  ROWS_ARE,
  ROWS_MAX_BYTES,
  TREE,
  TREE_STOP,
  TREE_USED,
  TREES_OPEN_MAX,
} from '../../messages/reader.ts';
import { encodeRow } from '../../messages/rows.ts';
import { mapShared, memfdCreate, unmap } from '../../sys/memory.ts';
import { duplicate } from '../../sys/socket.ts';
import { TreeAhead } from './ahead.ts';
import type { Catalog, Snapshot } from './catalog.ts';
import { type LoadedSegment, missing, type SegmentFetcher, type Wanted } from './fetch.ts';
import { nearTo } from './near.ts';

const ID_BYTES = 32;
const NO_PATH = Buffer.alloc(0);
const ID_AT = 12;
/** Bytes of headers in one page. */
const PAGE_MAX_BYTES = 1 << 20;
/** Segments that one READ has on their way at once. */
const AHEAD = 4;

/** One chunk of a READ. */
interface Asked extends Wanted {
  readonly index: number;
  /** where it goes in the ring */
  readonly offset: number;
}

/** Chunks that are written to a session's ring; for more it is mapped. */
const WRITTEN_MAX = 64;

/** Snapshots that are made lines of at once. */
const LINES_MAX = 10_000;

/** Rows that were made once: headers never change. */
const rows = new WeakMap<Snapshot, Buffer>();
/** All rows of a list that fits one page. */
const pages = new WeakMap<readonly Snapshot[], Buffer>();

function rowOf(snapshot: Snapshot): Buffer {
  let row = rows.get(snapshot);
  if (row === undefined) {
    row = encodeRow(snapshot.header);
    rows.set(snapshot, row);
  }
  return row;
}

/** As many rows from `from` on as fit one page, and how many these are. */
function pageOf(all: readonly Snapshot[], from: number): { page: Buffer; count: number } {
  const known = from === 0 ? pages.get(all) : undefined;
  if (known !== undefined) return { page: known, count: all.length };
  const parts: Buffer[] = [];
  let bytes = 0;
  for (let i = from; i < all.length; i++) {
    const row = rowOf(all[i] as Snapshot);
    if (bytes + row.length > ROWS_MAX_BYTES) break;
    parts.push(row);
    bytes += row.length;
  }
  const page = Buffer.concat(parts, bytes);
  if (parts.length === all.length) pages.set(all, page);
  return { page, count: parts.length };
}

/** A list as it is printed, made once; undefined where that is too long, or not plain. */
const texts = new WeakMap<readonly Snapshot[], { text: Buffer | undefined }>();

function textOf(all: readonly Snapshot[]): Buffer | undefined {
  let known = texts.get(all);
  if (known === undefined) {
    known = { text: all.length > LINES_MAX ? undefined : linesOf(all) };
    texts.set(all, known);
  }
  return known.text;
}

function linesOf(all: readonly Snapshot[]): Buffer | undefined {
  const text = all.map((snapshot) => `${SNAPSHOT.text(snapshot)}\n`).join('');
  return text.length <= ROWS_MAX_BYTES && PLAIN_LINES.test(text) ? Buffer.from(text, 'latin1') : undefined;
}

type Failed = PayloadOf<typeof READ_DONE.shape>['failed'];

export class Session {
  readonly #channel: Channel;
  /** mapped for who reads much: a list needs none, and each makes the collector look at its 16 MiB */
  #ring: Buffer | undefined;
  #ringFd: number;
  readonly #catalog: Catalog;
  readonly #fetcher: SegmentFetcher;
  readonly #sources: ReadonlySet<string> | undefined;
  /** resolves when the client is gone and nothing is under way */
  readonly #idle = Promise.withResolvers<void>();
  readonly #trees = new Map<number, TreeAhead>();
  #first: Promise<readonly Snapshot[]> | undefined;
  #reads = 0;
  /** chunks that were written to the ring */
  #written = 0;

  private constructor(
    channel: Channel,
    ringFd: number,
    catalog: Catalog,
    fetcher: SegmentFetcher,
    sources: readonly string[] | undefined,
  ) {
    this.#channel = channel;
    this.#ringFd = ringFd;
    this.#catalog = catalog;
    this.#fetcher = fetcher;
    this.#sources = sources === undefined ? undefined : new Set(sources);
    this.#first = catalog.list();
    // who asks for it hears of it
    this.#first.catch(() => undefined);
    channel.handler(LIST, (message) => this.#list(message));
    channel.handler(ROWS, (message) => this.#rows(message));
    channel.handler(LINES, (message) => this.#lines(message));
    channel.handler(RESOLVE, (message) => this.#resolve(message));
    channel.handler(LOCATE, (message) => this.#locate(message));
    channel.handler(READ, (message) => this.#read(message));
    channel.handler(TREE, ({ payload }) => this.#tree(payload));
    channel.handler(TREE_USED, ({ payload }) => this.#trees.get(payload.stream)?.used(payload.bytes));
    channel.handler(TREE_STOP, ({ payload }) => this.#trees.get(payload.stream)?.stop());
  }

  /**
   * Opens a session. `fds` are the client's: stream and descriptor end of its
   * channel, and its ring; the caller sends and closes them. `over` resolves
   * when the client is gone.
   */
  static open(
    catalog: Catalog,
    fetcher: SegmentFetcher,
    sources: readonly string[] | undefined,
  ): { fds: number[]; over: Promise<void>; close: () => void } {
    const [ours, theirs] = channelPair();
    const ringFd = memfdCreate('plakard reader', READER_RING_BYTES, { seal: true });
    const channel = new Channel(ours, { name: 'reader' });
    const session = new Session(channel, duplicate(ringFd), catalog, fetcher, sources);
    return {
      fds: [theirs.stream, theirs.descriptors, ringFd],
      over: session.#serve(),
      close: () => channel.close(),
    };
  }

  async #serve(): Promise<void> {
    try {
      await this.#channel.dispatch();
    } finally {
      this.#channel.close();
      for (const tree of this.#trees.values()) tree.stop();
      // reads that are under way still write to the ring
      if (this.#reads > 0) await this.#idle.promise;
      if (this.#ring !== undefined) unmap(this.#ring);
      if (this.#ringFd >= 0) closeSync(this.#ringFd);
    }
  }

  /** Puts a chunk where the client wants it in its ring. */
  #put(data: Buffer, offset: number): void {
    if (this.#ring === undefined && this.#written < WRITTEN_MAX) {
      this.#written++;
      for (let at = 0; at < data.length; )
        at += writeSync(this.#ringFd, data, at, data.length - at, offset + at);
      return;
    }
    if (this.#ring === undefined) {
      this.#ring = mapShared(this.#ringFd, READER_RING_BYTES, 'write');
      closeSync(this.#ringFd);
      this.#ringFd = -1;
    }
    data.copy(this.#ring, offset);
  }

  /** Reads ahead of a walk; a client that has enough of these gets none, and asks node by node. */
  #tree({ stream, id, length }: PayloadOf<typeof TREE.shape>): void {
    if (this.#trees.has(stream) || this.#trees.size >= TREES_OPEN_MAX)
      throw new Failure('stream tree', String(stream), { cause: 'too many at once' });
    const tree = new TreeAhead(this.#channel, this.#fetcher, stream);
    this.#trees.set(stream, tree);
    tree.run({ id, length }).finally(() => this.#trees.delete(stream));
  }

  /** All snapshots that the client may see. */
  async #visible(): Promise<readonly Snapshot[]> {
    const all = await this.#current();
    return this.#sources === undefined ? all : all.filter((snapshot) => this.#allowed(snapshot));
  }

  /** The first list is that of the session's opening: it has been under way since then. */
  #current(): Promise<readonly Snapshot[]> {
    const first = this.#first;
    this.#first = undefined;
    return first ?? this.#catalog.list();
  }

  #allowed(snapshot: Snapshot): boolean {
    return this.#sources === undefined || this.#sources.has(snapshot.header.source);
  }

  async #list(message: Received<PayloadOf<typeof LIST.shape>>): Promise<void> {
    const all = await this.#visible();
    const headers: Buffer[] = [];
    let bytes = 0;
    for (let i = message.payload.from; i < all.length && headers.length < PAGE_MAX; i++) {
      const encoded = all[i]?.encoded;
      if (encoded === undefined || bytes + encoded.length > PAGE_MAX_BYTES) break;
      headers.push(encoded);
      bytes += encoded.length;
    }
    this.#channel.reply(message, HEADERS, { headers, total: all.length, damaged: this.#damaged() });
  }

  async #rows(message: Received<PayloadOf<typeof ROWS.shape>>): Promise<void> {
    const all = await this.#visible();
    const { page, count } = pageOf(all, message.payload.from);
    const damaged = this.#damaged();
    this.#channel.reply(message, ROWS_ARE, { rows: page, count, total: all.length, damaged });
  }

  async #lines(message: Received<PayloadOf<typeof LINES.shape>>): Promise<void> {
    const text = textOf(await this.#visible());
    this.#channel.reply(message, LINES_ARE, { text, damaged: this.#damaged() });
  }

  /** Who may see some sources only is not told of headers that nobody can open: they may be of others. */
  #damaged(): { name: string; text: string }[] {
    if (this.#sources !== undefined) return [];
    const damaged = [...this.#catalog.damaged].slice(0, PAGE_MAX);
    return damaged.map(([name, why]) => ({ name, text: why.slice(0, 1024) }));
  }

  async #resolve(message: Received<PayloadOf<typeof RESOLVE.shape>>): Promise<void> {
    const { snapshot, source, path } = message.payload;
    const found = await this.#catalog.resolve(
      snapshot,
      (candidate) => this.#allowed(candidate) && (source === undefined || candidate.header.source === source),
      this.#current(),
    );
    const near = await nearTo(this.#fetcher, found.header.root, path ?? NO_PATH);
    if (!this.#channel.closed) this.#channel.reply(message, HEADER, { header: found.encoded, near });
  }

  #locate(message: Received<PayloadOf<typeof LOCATE.shape>>): void {
    const { ids } = message.payload;
    if (ids.length % ID_BYTES !== 0) throw new Failure('locate chunks', '', { cause: 'malformed ids' });
    const count = ids.length / ID_BYTES;
    const places = Buffer.alloc(count * 8);
    for (let i = 0; i < count; i++) places.writeDoubleLE(this.#fetcher.locate(ids, i * ID_BYTES), i * 8);
    this.#channel.reply(message, PLACES, { places });
  }

  async #read(message: Received<PayloadOf<typeof READ.shape>>): Promise<void> {
    const { chunks } = message.payload;
    if (chunks.length % READ_ENTRY_BYTES !== 0)
      throw new Failure('read chunks', '', { cause: 'malformed list' });
    if (this.#reads >= READS_OPEN_MAX)
      throw new Failure('read chunks', '', { cause: `more than ${READS_OPEN_MAX} at once` });
    this.#reads++;
    try {
      const failed: Failed = [];
      const bySegment = this.#group(chunks, failed);
      const segments = [...bySegment];
      let next = 0;
      const work = async () => {
        for (let at = next++; at < segments.length; at = next++) {
          const [ordinal, asked] = segments[at] ?? [0, []];
          await this.#readSegment(chunks, ordinal, asked, failed);
        }
      };
      await Promise.all(Array.from({ length: Math.min(AHEAD, segments.length) }, work));
      if (!this.#channel.closed) this.#channel.reply(message, READ_DONE, { failed });
    } finally {
      this.#reads--;
      if (this.#reads === 0 && this.#channel.closed) this.#idle.resolve();
    }
  }

  /** The chunks of a READ by the segment they are in; those that are missing are failed at once. */
  #group(chunks: Buffer, failed: Failed): Map<number, Asked[]> {
    const bySegment = new Map<number, Asked[]>();
    for (let at = 0, index = 0; at < chunks.length; at += READ_ENTRY_BYTES, index++) {
      const length = chunks.readUInt32LE(at + 4);
      const offset = chunks.readUInt32LE(at + 8);
      const kind = chunks[at] ?? 0;
      if (kind < 1 || kind > 3 || length < 1 || offset + length > READER_RING_BYTES)
        throw new Failure('read chunks', '', { cause: 'kind, length or place out of range' });
      const idOffset = at + ID_AT;
      const ordinal = this.#fetcher.locate(chunks, idOffset);
      if (ordinal < 0) {
        fail(failed, index, missing(chunks, idOffset, 'it is not in the repository'));
        continue;
      }
      const asked = { index, offset, kind: kind as ChunkKind, idOffset, length };
      const same = bySegment.get(ordinal);
      if (same === undefined) bySegment.set(ordinal, [asked]);
      else same.push(asked);
    }
    return bySegment;
  }

  async #readSegment(
    chunks: Buffer,
    ordinal: number,
    asked: readonly Asked[],
    failed: Failed,
  ): Promise<void> {
    let segment: LoadedSegment;
    try {
      segment = await this.#fetcher.segment(ordinal);
    } catch (error) {
      for (const { index } of asked) fail(failed, index, error);
      return;
    }
    try {
      const found = this.#fetcher.extractAll(segment, asked, chunks);
      for (const [i, { index, offset }] of asked.entries()) {
        const data = found[i] as Buffer | Failure;
        try {
          if (data instanceof Failure) throw data;
          this.#put(data, offset);
        } catch (error) {
          fail(failed, index, error);
        }
      }
    } finally {
      this.#fetcher.release(segment);
    }
  }
}

function fail(failed: Failed, index: number, error: unknown): void {
  const { kind, text } = toWire(error);
  failed.push({ index, kind, text: text.slice(0, 1024) });
}
