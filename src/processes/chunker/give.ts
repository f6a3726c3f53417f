/**
 * The giving side of a sync: opens reader sessions for the chunkers of other
 * repositories. Used by the chunker. Invariant: what is given needs two words:
 * control's, which job may take what into which repository, and the parent's,
 * which made the channel that the taker asks on; neither alone is enough.
 */
import { closeSync } from 'node:fs';
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import { OPENED } from '../../messages/client.ts';
import { READER_RING_BYTES } from '../../messages/reader.ts';
import { GIVE } from '../../messages/sync.ts';
import type { Catalog } from './catalog.ts';
import type { SegmentFetcher } from './fetch.ts';
import { Session } from './session.ts';

/** Jobs that may take at once. */
const ALLOWED_MAX = 64;

interface Allowed {
  readonly to: string;
  readonly sources: readonly string[] | undefined;
  close: (() => void) | undefined;
}

export class Giver {
  readonly #repository: string;
  readonly #catalog: Catalog;
  readonly #fetcher: SegmentFetcher;
  readonly #allowed = new Map<number, Allowed>();

  constructor(repository: string, catalog: Catalog, fetcher: SegmentFetcher) {
    this.#repository = repository;
    this.#catalog = catalog;
    this.#fetcher = fetcher;
  }

  /** Control: the repository `to` may take what is of these sources, for this job. */
  allow(job: number, to: string, sources: readonly string[] | undefined): void {
    if (this.#allowed.size >= ALLOWED_MAX)
      throw new Failure('give snapshots', to, { cause: `${ALLOWED_MAX} syncs are at work`, kind: 'busy' });
    this.#allowed.set(job, { to, sources, close: undefined });
  }

  /** The job is over. */
  forbid(job: number): void {
    this.#allowed.get(job)?.close?.();
    this.#allowed.delete(job);
  }

  /** Control is gone, and with it whoever waited. */
  forbidAll(): void {
    for (const job of [...this.#allowed.keys()]) this.forbid(job);
  }

  /** Registers what the chunker of the repository `to` may ask. */
  serve(taker: Channel, to: string): void {
    taker.handler(GIVE, (message) => {
      const allowed = this.#allowed.get(message.payload.job);
      if (allowed?.to !== to || allowed.close !== undefined)
        throw new Failure('give snapshots', to, { cause: 'nobody has allowed it', kind: 'not-permitted' });
      const { fds, over, close } = Session.open(this.#catalog, this.#fetcher, allowed.sources);
      allowed.close = close;
      // a taker that broke the rules has lost its session; that is all there is to it
      over.catch(() => undefined);
      try {
        taker.reply(message, OPENED, { repository: this.#repository, ringBytes: READER_RING_BYTES }, fds);
      } finally {
        for (const fd of fds) closeSync(fd);
      }
    });
  }
}
