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
  parseLogName,
} from './log.ts';
import type { Problem } from './problem.ts';
import { snapshotId } from './snapshot.ts';

const SNAPSHOTS = 'snapshots/';

/** How often an append makes way for another daemon on this host. */
const ATTEMPTS = 16;
/** How often the log is listed again because entries went meanwhile. */
const LOOKS = 8;
/** A chain with more entries gets a checkpoint, and entries before that go. */
const CHAIN_ENTRIES_MAX = 1024;

export interface JournalParts {
  list(kind: 'log' | 'snapshots'): Promise<string[]>;
  /** Opens entries, in order: the plaintext, or why not; neither for one that is not there. */
  open(
    names: readonly string[],
  ): Promise<readonly { readonly data?: Buffer | undefined; readonly why?: string | undefined }[]>;
  /** Seals an entry and stores it; false where there is one of that name. Space for it is found even on a full disk. */
  add(name: string, plaintext: Buffer): Promise<boolean>;
  /** Removes entries that a checkpoint has taken the place of. */
  remove(names: readonly string[]): Promise<void>;
  /** Remembers where chains end, beyond the life of this process; `accept`: and that this repository is the right one. */
  remember(heads: readonly LogHead[], accept: boolean): Promise<void>;
  readonly now: () => number;
  /** Entries of a chain before it gets a checkpoint; CHAIN_ENTRIES_MAX where missing. */
  readonly entriesMax?: number;
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
  /** what was found at the opening, and has not been accepted */
  #found: readonly Problem[] = [];

  constructor(chain: string, parts: JournalParts) {
    this.#chain = chain;
    this.#parts = parts;
  }

  /**
   * Takes over what was remembered: `heads` as it was when this host last
   * looked, and what is known to be wrong with the repository from that.
   */
  recall(heads: readonly LogHead[], found: readonly Problem[] = []): void {
    this.#found = found;
    for (const head of heads) this.#remembered.set(head.chain, head);
  }

  /** What to remember of this repository. */
  get heads(): LogHead[] {
    return [...this.#remembered.values()];
  }

  /** Reads entries that are new to `log`; again, where some went between listing and reading: a checkpoint has come. */
  async #refresh(log = this.#log): Promise<void> {
    for (let look = 0; look < LOOKS; look++) {
      const names = await this.#parts.list('log');
      log.retain(new Set(names));
      const wanted = names.filter((name) => !log.has(name));
      const opened = await this.#parts.open(wanted);
      let isWhole = true;
      opened.forEach(({ data, why }, i) => {
        const name = wanted[i] ?? '';
        if (data === undefined && why === undefined) isWhole = false;
        try {
          if (data !== undefined) log.add(name, data);
          else if (why !== undefined) log.addDamaged(name, why);
        } catch (error) {
          if (!(error instanceof Failure)) throw error;
          log.addDamaged(name, error.message);
        }
      });
      if (isWhole) return;
    }
  }

  /** Appends to this host's chain: durable when it resolves. One after another. */
  append(what: 'made' | 'removed', snapshots: readonly Buffer[]): Promise<void> {
    return this.#inTurn(async () => {
      for (let at = 0; at < snapshots.length; at += LOG_SNAPSHOTS_MAX) {
        const some = snapshots.slice(at, at + LOG_SNAPSHOTS_MAX);
        await this.#append(this.#chain, () => ({ what, snapshots: some }));
      }
      if (this.#log.length(this.#chain) > this.#entriesMax) await this.#shorten(this.#sound([this.#chain]));
      await this.#remember();
    });
  }

  get #entriesMax(): number {
    return this.#parts.entriesMax ?? CHAIN_ENTRIES_MAX;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#appending.then(work);
    this.#appending = done.catch(() => undefined);
    return done;
  }

  /** Shortens the chains that have grown long, whoever wrote them; removes what shortening has left before. */
  compact(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#refresh();
      this.#advance();
      const long = this.#log.chains().filter((chain) => this.#log.length(chain) > this.#entriesMax / 4);
      await this.#shorten(this.#sound(long));
      await this.#remember();
    });
  }

  /** The chains that nothing is wrong with: what is, must not be lost in a checkpoint. */
  #sound(chains: readonly string[]): string[] {
    const broken = new Set(this.#log.verify(this.heads).map(chainOfProblem));
    return chains.filter((chain) => !broken.has(chain));
  }

  /** Writes a checkpoint to each of the chains; then entries before it go. A kill in between leaves some of those. */
  async #shorten(chains: readonly string[]): Promise<void> {
    for (const chain of chains)
      await this.#append(chain, () => {
        const said = this.#log.checkpoint(chain);
        return said && { what: 'checkpoint', ...said };
      });
    const superseded = this.#log.superseded();
    if (superseded.length === 0) return;
    await this.#parts.remove(superseded);
    await this.#refresh();
  }

  /** Appends what `make` says of the log as it is then; nothing where that is undefined. */
  async #append(chain: string, make: () => Omit<LogEntry, 'previous' | 'timeMs'> | undefined): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#refresh();
      this.#advance();
      const said = make();
      if (said === undefined) return;
      const head = this.#log.head(chain);
      // behind an entry that is damaged, nobody can tell what came before
      const last = this.#log.last(chain);
      const previous = head?.sequence === last ? head.digest : LOG_BEGINNING;
      const name = logName(chain, last + 1);
      const plaintext = encodeLogEntry({ ...said, timeMs: this.#parts.now(), previous });
      if (!(await this.#parts.add(name, plaintext))) continue;
      this.#log.add(name, plaintext);
      this.#advance();
      return;
    }
    throw new Failure('append to log', chain, {
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

  /** Names of the snapshots that the log says were removed. */
  async removed(): Promise<ReadonlySet<string>> {
    await this.#refresh();
    return this.#log.snapshots('removed');
  }

  async #remember(accept = false): Promise<void> {
    await this.#parts.remember(this.heads, accept);
  }

  /**
   * Takes the repository as it is now for right: what has vanished is noted as
   * removed, chains that are broken begin anew with a checkpoint, and what this
   * host remembered is forgotten. Returns what was wrong.
   */
  async accept(): Promise<Problem[]> {
    const problems = await this.verify(true);
    const vanished = problems
      .filter(({ object }) => object.startsWith(SNAPSHOTS))
      .map(({ object }) => snapshotId(object.slice(SNAPSHOTS.length)));
    if (vanished.length > 0) await this.append('removed', vanished);
    await this.#inTurn(async () => {
      this.#remembered.clear();
      this.#found = [];
      // an entry that was read before it was damaged is not lost in the checkpoint
      const now = new Log();
      for (const log of [now, this.#log]) await this.#refresh(log);
      await this.#shorten([...new Set([...this.#log.verify(), ...now.verify()].map(chainOfProblem))]);
      this.#advance();
      await this.#remember(true);
    });
    return problems;
  }

  /** What is wrong with the log, and which snapshots it misses; `again`: by entries that were read before, too. */
  async verify(again = false): Promise<Problem[]> {
    const log = again ? new Log() : this.#log;
    // snapshots first: one that is made meanwhile is there before its entry, one that is removed goes after its tombstone
    let present = new Set(await this.#parts.list('snapshots'));
    await this.#refresh(log);
    let vanished = log.vanished(present);
    if (vanished.length > 0) {
      present = new Set([...present, ...(await this.#parts.list('snapshots'))]);
      await this.#refresh(log);
      vanished = log.vanished(present).filter((name) => vanished.includes(name));
    }
    const problems = [...this.#found, ...log.verify(this.heads)];
    if (again) await this.#refresh();
    this.#advance();
    await this.#remember();
    const text = 'it has vanished: the log says that it was made, and not that it was removed';
    return [...problems, ...vanished.map((name) => ({ object: `${SNAPSHOTS}${name}`, text }))];
  }
}

/** The chain of the log that a problem is with. */
function chainOfProblem({ object }: Problem): string {
  return parseLogName(object.slice(object.indexOf('/') + 1)).chain;
}
