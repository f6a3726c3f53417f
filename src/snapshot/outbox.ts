/**
 * What a walker has to say, on its way out: records are gathered into batches,
 * and batches wait while too much is unacknowledged. Called by the walker.
 * Invariant: every descriptor that is handed in leaves with its record or is
 * closed; no batch holds more than BATCH_LONGEST_BYTES or BATCH_FULL_DESCRIPTORS.
 */
import { Bytes } from './bytes.ts';
import { BATCH_FULL_BYTES, BATCH_FULL_DESCRIPTORS } from './scanlog.ts';

/** What may be sent and not yet acknowledged; a batch that is larger goes alone. */
export const WINDOW_BYTES = 1 << 20;
export const WINDOW_DESCRIPTORS = 512;

/** Where batches go. */
export interface ScanSink {
  /** Takes a batch and its descriptors, both its own from now on. It is acknowledged later, by Walker.credit. */
  batch(records: Buffer, fds: readonly number[]): void;
}

interface Batch {
  readonly records: Buffer;
  readonly fds: readonly number[];
}

export class Outbox {
  /** Records are appended here; each is followed by `ended`. */
  readonly records = new Bytes(BATCH_FULL_BYTES * 2);
  readonly #sink: ScanSink;
  #fds: number[] = [];
  #queue: Batch[] = [];
  #underWayBytes = 0;
  #underWayDescriptors = 0;

  constructor(sink: ScanSink) {
    this.#sink = sink;
  }

  /** A record ends here, and `fd` goes with it. */
  ended(fd = -1): void {
    if (fd >= 0) this.#fds.push(fd);
    if (this.records.length >= BATCH_FULL_BYTES || this.#fds.length >= BATCH_FULL_DESCRIPTORS) this.#seal();
  }

  #seal(): void {
    this.#queue.push({ records: Buffer.from(this.records.since(0)), fds: this.#fds });
    this.records.truncate(0);
    this.#fds = [];
  }

  /** Whether batches have to wait for acknowledgement. */
  get isBlocked(): boolean {
    return this.#queue.length > 0;
  }

  /** Sends full batches as far as the window allows. */
  send(): void {
    for (let batch = this.#queue[0]; batch !== undefined && this.#fits(batch); batch = this.#queue[0]) {
      this.#queue.shift();
      this.#underWayBytes += batch.records.length;
      this.#underWayDescriptors += batch.fds.length;
      this.#sink.batch(batch.records, batch.fds);
    }
  }

  #fits(batch: Batch): boolean {
    if (this.#underWayBytes === 0) return true;
    return (
      this.#underWayBytes + batch.records.length <= WINDOW_BYTES &&
      this.#underWayDescriptors + batch.fds.length <= WINDOW_DESCRIPTORS
    );
  }

  /** Sends all there is, as far as the window allows. */
  flush(): void {
    if (this.records.length > 0) this.#seal();
    this.send();
  }

  /** So much has been acknowledged. */
  credit(bytes: number, descriptors: number): void {
    this.#underWayBytes = Math.max(0, this.#underWayBytes - bytes);
    this.#underWayDescriptors = Math.max(0, this.#underWayDescriptors - descriptors);
    this.send();
  }

  /** Drops what was not sent; `close` gets its descriptors. */
  abandon(close: (fd: number) => void): void {
    for (const { fds } of this.#queue) for (const fd of fds) close(fd);
    for (const fd of this.#fds) close(fd);
    this.#queue = [];
    this.#fds = [];
    this.records.truncate(0);
  }
}
