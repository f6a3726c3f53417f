/**
 * A writer's lease: what lets one snapshot come to be beside cleanups and other
 * writers. Called by the storage process for each push, and by simulations.
 * Owns the order that makes it safe:
 *
 *   1. the lease is durable, under the id that the snapshot will have;
 *   2. the store learns of all marks, and refers to no marked pack from then on;
 *   3. the lease says which marks those were;
 *   4. chunks, packs, index;
 *   5. the snapshot is put where there is nothing yet: whoever gave this writer
 *      up has put something there, and that is the end of it;
 *   6. the lease goes.
 *
 * A mark is carried out only when all leases name it (cleanup.ts), so what a
 * writer found before step 2 stays as long as its lease. No clock decides.
 */
import { Failure } from '../error.ts';
import { encodeLease, leasedSnapshot } from './lease.ts';
import { snapshotId } from './snapshot.ts';
import type { Store } from './store.ts';

/** How often a lease gives a sign of life. */
export const LEASE_BEAT_MS = 2500;

export class WriterLease {
  /** The id of the snapshot, in the form of an object's name. */
  readonly snapshot: string;
  readonly #store: Store;
  #seen: readonly string[] = [];
  #beat = 0;
  #over = false;
  #committing = false;

  private constructor(store: Store, id: Buffer) {
    this.#store = store;
    // RFC 9562 section 5.4: version 4, variant 10
    id[6] = ((id[6] ?? 0) & 0x0f) | 0x40;
    id[8] = ((id[8] ?? 0) & 0x3f) | 0x80;
    this.snapshot = leasedSnapshot(id.toString('hex'));
  }

  /** Takes a lease; when it resolves, what the store's table holds may be referred to. */
  static async begin(store: Store, random: (bytes: number) => Buffer): Promise<WriterLease> {
    const lease = new WriterLease(store, random(16));
    await lease.#put();
    try {
      lease.#seen = await store.refresh();
      if (lease.#seen.length > 0) await lease.#put();
    } catch (error) {
      await lease.end();
      throw error;
    }
    return lease;
  }

  /** The lease's name. */
  get name(): string {
    return snapshotId(this.snapshot).toString('hex');
  }

  async #put(): Promise<void> {
    const object = encodeLease({ beat: this.#beat, seen: this.#seen });
    await this.#store.backend.put('leases', this.name, [object]);
  }

  /** Gives a sign of life. A lease that was taken away stays so. */
  async renew(): Promise<void> {
    if (this.#over || (await this.#store.backend.stat('leases', this.name)) === undefined) return;
    this.#beat++;
    await this.#put();
    // it may have ended meanwhile
    if (this.#over) await this.#remove();
  }

  /** Makes the snapshot of its sealed header, once everything that it refers to is durable. */
  async commit(header: Buffer): Promise<void> {
    this.#committing = true;
    const made = await this.#store.backend.put('snapshots', this.snapshot, [header], { ifAbsent: true });
    this.#committing = false;
    if (made) return;
    throw new Failure('commit', `snapshots/${this.snapshot}`, {
      cause: 'this writer gave no sign of life, and a cleanup has taken its lease',
      remedy: 'push again: what is left of it is used',
    });
  }

  /** Gives the lease up. Where nobody knows what came of a commit, it is left for a cleanup to find out. */
  async end(): Promise<void> {
    this.#over = true;
    if (!this.#committing) await this.#remove();
  }

  async #remove(): Promise<void> {
    await this.#store.backend.delete('leases', this.name);
  }
}
