/**
 * The log as one host keeps it: reads what all hosts have written, appends to
 * its own chain, and tells what the repository should hold and does not.
 * Called by the chunker and by simulations. Owns what is remembered of a
 * repository that could not be learned from it: where its chains ended.
 */
import { hash } from 'node:crypto';
import { Failure } from '../error.ts';
import {
  encodeLogEntry,
  LOG_BEGINNING,
  LOG_SNAPSHOTS_MAX,
  Log,
  type LogEntry,
  type LogHead,
  logName,
} from './log.ts';
import type { Problem } from './problem.ts';

/** How often an append makes way for another daemon on this host. */
const ATTEMPTS = 16;

export interface JournalParts {
  list(kind: 'log' | 'snapshots'): Promise<string[]>;
  /** Opens entries, in order: the plaintext, or why not; neither for one that is not there. */
  open(
    names: readonly string[],
  ): Promise<readonly { readonly data?: Buffer | undefined; readonly why?: string | undefined }[]>;
  /** Seals an entry and stores it; false where there is one of that name. Space for it is found even on a full disk. */
  add(name: string, plaintext: Buffer): Promise<boolean>;
  readonly now: () => number;
}

/** The chain of a host, 32 digits: which host that is, only those who may read the repository know. */
export function chainOf(secret: Buffer, host: string): string {
  return hash(
    'sha256',
    Buffer.concat([Buffer.from('plakard 1 log chain'), secret, Buffer.from(host)]),
    'hex',
  ).slice(0, 32);
}

export class Journal {
  readonly #chain: string;
  readonly #parts: JournalParts;
  readonly #remembered = new Map<string, LogHead>();
  readonly #log = new Log();
  #appending: Promise<unknown> = Promise.resolve();

  /** `remembered` is what `heads` was when this host last looked. */
  constructor(chain: string, parts: JournalParts, remembered: readonly LogHead[] = []) {
    this.#chain = chain;
    this.#parts = parts;
    for (const head of remembered) this.#remembered.set(head.chain, head);
  }

  /** What to remember of this repository. */
  get heads(): LogHead[] {
    return [...this.#remembered.values()];
  }

  /** Reads entries that are new. */
  async #refresh(): Promise<void> {
    const names = await this.#parts.list('log');
    this.#log.retain(new Set(names));
    const wanted = names.filter((name) => !this.#log.has(name));
    const opened = await this.#parts.open(wanted);
    opened.forEach(({ data, why }, i) => {
      const name = wanted[i] ?? '';
      try {
        if (data !== undefined) this.#log.add(name, data);
        else if (why !== undefined) this.#log.addDamaged(name, why);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        this.#log.addDamaged(name, error.message);
      }
    });
  }

  /** Appends to this host's chain: durable when it resolves. One after another. */
  append(what: LogEntry['what'], snapshots: readonly Buffer[]): Promise<void> {
    const appended = this.#appending.then(async () => {
      for (let at = 0; at < snapshots.length; at += LOG_SNAPSHOTS_MAX)
        await this.#append(what, snapshots.slice(at, at + LOG_SNAPSHOTS_MAX));
    });
    this.#appending = appended.catch(() => undefined);
    return appended;
  }

  async #append(what: LogEntry['what'], snapshots: readonly Buffer[]): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#refresh();
      this.#advance();
      const head = this.#log.head(this.#chain);
      const name = logName(this.#chain, (head?.sequence ?? 0) + 1);
      const previous = head?.digest ?? LOG_BEGINNING;
      const plaintext = encodeLogEntry({ what, timeMs: this.#parts.now(), previous, snapshots });
      if (!(await this.#parts.add(name, plaintext))) continue;
      this.#log.add(name, plaintext);
      this.#advance();
      return;
    }
    throw new Failure('append to log', this.#chain, {
      cause: 'others on this host are too busy',
      kind: 'busy',
    });
  }

  /** Remembers where chains end now, as far as that follows from what was remembered. */
  #advance(): void {
    const contradicted = new Set(this.#log.verify(this.heads).map(({ object }) => object));
    for (const head of this.#log.heads()) {
      const before = this.#remembered.get(head.chain);
      if (before !== undefined && contradicted.has(`log/${logName(before.chain, before.sequence)}`)) continue;
      this.#remembered.set(head.chain, head);
    }
  }

  /** What is wrong with the log, and which snapshots it misses. */
  async verify(): Promise<Problem[]> {
    // snapshots first: one that is made meanwhile is there before its entry, one that is removed goes after its tombstone
    let present = new Set(await this.#parts.list('snapshots'));
    await this.#refresh();
    let vanished = this.#log.vanished(present);
    if (vanished.length > 0) {
      present = new Set([...present, ...(await this.#parts.list('snapshots'))]);
      await this.#refresh();
      vanished = this.#log.vanished(present).filter((name) => vanished.includes(name));
    }
    const problems = this.#log.verify(this.heads);
    this.#advance();
    const text = 'it has vanished: the log says that it was made, and not that it was removed';
    return [...problems, ...vanished.map((name) => ({ object: `snapshots/${name}`, text }))];
  }
}
