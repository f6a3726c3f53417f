/**
 * The queue of chunks that a client wants from its reader session. Chunks are
 * asked for in READs of many, several under way at once, each with a range of
 * the session's ring. Single chunks (tree nodes, that somebody waits for) go
 * before bulk reads, and those asked for in the same turn of the event loop
 * share a READ. Called by the reader. Owns the invariants that a range is given
 * back only when everybody who was shown bytes of it is done with them, and
 * that memory is bounded by the ring, whatever is asked for.
 */
import { Failure, fromWire } from '../error.ts';
import { READ_ENTRY_BYTES, READ_MAX, READS_OPEN_MAX } from '../messages/reader.ts';
import { CHUNK_MAX_BYTES, type ChunkKind, type ChunkRequests, ID_BYTES } from '../snapshot/chunks.ts';
import { RingSpace } from './space.ts';

/** Plaintext in one READ; a single chunk may be longer. READS_OPEN_MAX of them would not fit the ring. */
const READ_TARGET_BYTES = 2 << 20;
const CHUNK_KIND_MAX = 3;
/** Hexadecimal digits of an id in an error text. */
const ID_SHOWN_CHARS = 16;

/** Takes a chunk; see BulkSource.readMany and ReadQueue.readInOrder for how long `data` is valid. */
export type OnChunk = (index: number, data: Buffer) => void | Promise<void>;
/** A chunk cannot be had; the rest goes on. */
export type OnFailed = (index: number, failure: Failure) => void;

/** How a READ travels; the reader's channel, or a test. */
export interface ReadTransport {
  readonly ring: Buffer;
  /** Resolves with the entries that failed, when all others are in the ring. */
  read(entries: Buffer): Promise<readonly { index: number; kind: string; text: string }[]>;
}

interface Job {
  readonly requests: ChunkRequests;
  readonly onChunk: OnChunk;
  readonly onFailed: OnFailed;
  readonly ordered: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  /** The next request to ask for. */
  next: number;
  /** Requests not yet delivered. */
  left: number;
  over: boolean;
  /** Ends when the last READ so far with chunks of this job was delivered. */
  delivered: Promise<void>;
}

/** Chunks of one job, asked for in a row, in one READ. */
interface Part {
  readonly job: Job;
  readonly first: number;
  readonly count: number;
  /** Index in the READ of the first of them. */
  readonly at: number;
  /** Where the first of them is, relative to the READ's range. */
  readonly offset: number;
}

interface Batch {
  readonly parts: Part[];
  count: number;
  bytes: number;
}

/** The name of a chunk in an error text. */
export function shownId(id: Buffer): string {
  return id.toString('hex').slice(0, ID_SHOWN_CHARS);
}

function idAt(requests: ChunkRequests, index: number): Buffer {
  return requests.ids.subarray(index * ID_BYTES, (index + 1) * ID_BYTES);
}

/** Lengths come from trees, and are checked there; an assertion of the caller's arrays all the same. */
function checkRequests({ kind, ids, lengths, count }: ChunkRequests): void {
  const fits = ids.length >= count * ID_BYTES && lengths.length >= count;
  if (!fits || kind < 1 || kind > CHUNK_KIND_MAX)
    throw new Failure('read chunks', '', { cause: 'malformed request' });
  for (let i = 0; i < count; i++) {
    const length = lengths[i] as number;
    if (length >= 1 && length <= CHUNK_MAX_BYTES) continue;
    const id = shownId(ids.subarray(i * ID_BYTES));
    throw new Failure('read chunk', id, { cause: `${length} bytes`, kind: 'damaged' });
  }
}

export class ReadQueue {
  readonly #transport: ReadTransport;
  readonly #space: RingSpace;
  readonly #single: Job[] = [];
  readonly #bulk: Job[] = [];
  /** Every job that is not over. */
  readonly #jobs = new Set<Job>();
  /** Put together, and waiting for room in the ring. */
  #waiting: Batch | undefined;
  #open = 0;
  #scheduled = false;
  #broken: unknown;

  constructor(transport: ReadTransport) {
    this.#transport = transport;
    this.#space = new RingSpace(transport.ring.length);
  }

  /** A private copy of one chunk. Rejects with a Failure that names the chunk. */
  async get(kind: ChunkKind, id: Buffer, length: number): Promise<Buffer> {
    let copy: Buffer | undefined;
    let failure: Failure | undefined;
    const onChunk = (_: number, data: Buffer) => {
      copy = Buffer.from(data);
    };
    const onFailed = (_: number, why: Failure) => {
      failure = why;
    };
    // the caller may reuse the memory of the id
    const requests = { kind, ids: Buffer.from(id), lengths: Uint32Array.of(length), count: 1 };
    await this.#add(this.#single, requests, onChunk, onFailed, false);
    if (copy === undefined) throw failure ?? new Failure('read chunk', shownId(id), { cause: 'no answer' });
    return copy;
  }

  /** Reads all, in any order; `data` is valid until the promise that was returned is resolved. See BulkSource. */
  async readMany(requests: ChunkRequests, onChunk: OnChunk, onFailed: OnFailed): Promise<void> {
    if (requests.count > 0) await this.#add(this.#bulk, requests, onChunk, onFailed, false);
  }

  /**
   * Reads all, and delivers in the order of the requests, each when the promise
   * that the call before returned is resolved; `data` is valid until then. The
   * ring is not reused meanwhile: do not wait for another chunk in `onChunk`.
   */
  async readInOrder(requests: ChunkRequests, onChunk: OnChunk, onFailed: OnFailed): Promise<void> {
    if (requests.count > 0) await this.#add(this.#bulk, requests, onChunk, onFailed, true);
  }

  /** Ends the queue: everything asked for, and everything asked for later, fails with `error`. */
  fail(error: unknown): void {
    this.#broken ??= error;
    this.#waiting = undefined;
    for (const job of this.#jobs) this.#end(job, error);
  }

  #add(
    queue: Job[],
    requests: ChunkRequests,
    onChunk: OnChunk,
    onFailed: OnFailed,
    ordered: boolean,
  ): Promise<void> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    checkRequests(requests);
    return new Promise((resolve, reject) => {
      const state = { next: 0, left: requests.count, over: false, delivered: Promise.resolve() };
      const job: Job = { requests, onChunk, onFailed, ordered, resolve, reject, ...state };
      queue.push(job);
      this.#jobs.add(job);
      this.#schedule();
    });
  }

  #end(job: Job, error?: unknown): void {
    if (job.over) return;
    job.over = true;
    this.#jobs.delete(job);
    if (error === undefined) job.resolve();
    else job.reject(error);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#broken === undefined && this.#open < READS_OPEN_MAX) {
      this.#waiting ??= this.#collect();
      if (this.#waiting === undefined) return;
      const start = this.#space.take(this.#waiting.bytes);
      if (start === undefined) return;
      const batch = this.#waiting;
      this.#waiting = undefined;
      this.#open++;
      this.#send(batch, start).catch((error: unknown) => this.fail(error));
    }
  }

  #collect(): Batch | undefined {
    const batch: Batch = { parts: [], count: 0, bytes: 0 };
    for (const queue of [this.#single, this.#bulk]) {
      for (let job = queue[0]; job !== undefined; job = queue[0]) {
        if (!job.over) this.#collectFrom(job, batch);
        if (!job.over && job.next < job.requests.count) break;
        queue.shift();
      }
    }
    return batch.count === 0 ? undefined : batch;
  }

  #collectFrom(job: Job, batch: Batch): void {
    const part = { job, first: job.next, count: 0, at: batch.count, offset: batch.bytes };
    const max = Math.min(this.#space.sizeBytes, READ_TARGET_BYTES);
    for (let at = job.next; at < job.requests.count && batch.count < READ_MAX; at++) {
      const length = job.requests.lengths[at] as number;
      if (batch.count > 0 && batch.bytes + length > max) break;
      batch.bytes += length;
      batch.count++;
      part.count++;
    }
    job.next += part.count;
    if (part.count > 0) batch.parts.push(part);
  }

  async #send(batch: Batch, start: number): Promise<void> {
    const before = batch.parts.map((part) => part.job.delivered);
    const answer = this.#transport.read(encodeEntries(batch, start));
    const done = this.#deliver(batch, start, answer, before);
    // a failure ends every job, so nobody needs to hear of it through this promise
    const quiet = done.catch(() => undefined);
    for (const part of batch.parts) part.job.delivered = quiet;
    try {
      await done;
    } finally {
      this.#space.release(start);
      this.#open--;
      this.#schedule();
    }
  }

  async #deliver(
    batch: Batch,
    start: number,
    answer: ReturnType<ReadTransport['read']>,
    before: readonly Promise<void>[],
  ): Promise<void> {
    const failures = new Map<number, Failure>();
    for (const { index, kind, text } of await answer) {
      if (index >= batch.count)
        throw new Failure('read chunks', '', { cause: 'answer to what was not asked' });
      failures.set(index, fromWire({ kind, text }));
    }
    // singles stand first, and never wait for an ordered job
    for (const [at, part] of batch.parts.entries()) {
      if (part.job.ordered) await before[at];
      await this.#deliverPart(part, start, failures);
    }
  }

  async #deliverPart(part: Part, start: number, failures: ReadonlyMap<number, Failure>): Promise<void> {
    const { job } = part;
    const pending: Promise<void>[] = [];
    let offset = start + part.offset;
    try {
      for (let i = 0; i < part.count && !job.over; i++) {
        const index = part.first + i;
        const length = job.requests.lengths[index] as number;
        const failure = failures.get(part.at + i);
        if (failure !== undefined) {
          const id = shownId(idAt(job.requests, index));
          job.onFailed(index, new Failure('read chunk', id, { cause: failure }));
        } else {
          const busy = job.onChunk(index, this.#transport.ring.subarray(offset, offset + length));
          if (busy !== undefined && job.ordered) await busy;
          else if (busy !== undefined) pending.push(busy);
        }
        offset += length;
      }
      if (pending.length > 0) await Promise.all(pending);
    } catch (error) {
      // what others were shown of the range must be done with before it is given back
      await Promise.allSettled(pending);
      this.#end(job, error);
    }
    job.left -= part.count;
    if (job.left === 0) this.#end(job);
  }
}

/** A batch as the entries of a READ; the layout is drawn in messages/reader.ts. */
function encodeEntries(batch: Batch, start: number): Buffer {
  const entries = Buffer.alloc(batch.count * READ_ENTRY_BYTES);
  let at = 0;
  let offset = start;
  for (const { job, first, count } of batch.parts) {
    for (let i = first; i < first + count; i++) {
      const { kind, ids, lengths } = job.requests;
      const length = lengths[i] as number;
      entries[at] = kind;
      entries.writeUInt32LE(length, at + 4);
      entries.writeUInt32LE(offset, at + 8);
      ids.copy(entries, at + 12, i * ID_BYTES, (i + 1) * ID_BYTES);
      offset += length;
      at += READ_ENTRY_BYTES;
    }
  }
  return entries;
}
