/**
 * Which jobs use which repository and source: taken when control says that it
 * needs them, given back when the job is over. Used by the parent, which changes
 * nothing under a job. Invariant: a job has one lease.
 */
import { Breach } from '../../ipc/message.ts';

/** Control has a lower limit on its jobs. */
const LEASES_MAX = 4096;

export interface Lease {
  readonly job: number;
  readonly repository: string;
  /** only where its scanner is used */
  readonly source: string | undefined;
  /** a repository that is read */
  readonly other?: string | undefined;
}

export class Leases {
  readonly #leases = new Map<number, Lease>();
  #waiting: { free: () => boolean; resolve: () => void }[] = [];

  take(lease: Lease): void {
    const { job } = lease;
    if (this.#leases.has(job) || this.#leases.size >= LEASES_MAX)
      throw new Breach('begin job', String(job), { cause: 'it has begun, or too many have' });
    this.#leases.set(job, lease);
  }

  has(job: number): boolean {
    return this.#leases.has(job);
  }

  /** The lease that was given back; undefined where there was none. */
  release(job: number): Lease | undefined {
    const lease = this.#leases.get(job);
    this.#leases.delete(job);
    this.#wake();
    return lease;
  }

  get all(): Lease[] {
    return [...this.#leases.values()];
  }

  count(what: 'repository' | 'source', name: string): number {
    let count = 0;
    for (const lease of this.#leases.values())
      if (lease[what] === name || (what === 'repository' && lease.other === name)) count++;
    return count;
  }

  /** Resolves when no job uses it. */
  idle(what: 'repository' | 'source', name: string): Promise<void> {
    const free = (): boolean => this.count(what, name) === 0;
    if (free()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push({ free, resolve });
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = waiting.filter(({ free }) => !free());
    for (const { free, resolve } of waiting) if (free()) resolve();
  }
}
