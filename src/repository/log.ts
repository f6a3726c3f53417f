/**
 * The log: what was made and what was removed, as a chain of entries for each
 * host, so that a repository that lost a snapshot, or was put back to an older
 * state, does not pass for whole. Called by the chunker's journal and by
 * tests. Owns the format of an entry and what counts as a break.
 *
 * An entry is the object `log/CHAIN-SEQUENCE`; CHAIN is 32 digits that are the
 * host's, SEQUENCE 16 digits that count its entries from 1.
 *
 * Object:    header (frame.ts) ‖ sealed (sealed.ts)
 * Plaintext:
 *
 *   offset size
 *        0    1  version, 1
 *        1    1  what: 1 made, 2 removed
 *        2    2  zero
 *        4    4  count of snapshots
 *        8    8  time, ms since 1970
 *       16   32  previous: SHA-256 of the plaintext of the entry before; zero in the first
 *       48  16n  ids of the snapshots
 *
 * A removal is written before the snapshot goes (the tombstone), a snapshot
 * before its entry: so whatever the log says was made, and does not say was
 * removed, has to be there.
 */
import { hash } from 'node:crypto';
import { Failure } from '../error.ts';
import { checkHeader, encodeHeader, HEADER_BYTES, MAGIC } from '../keys/frame.ts';
import type { Problem } from './problem.ts';
import { snapshotName } from './snapshot.ts';

export const LOG_SNAPSHOTS_MAX = 4096;
const VERSION = 1;
const FIXED_BYTES = 48;
const DIGEST_BYTES = 32;
const ID_BYTES = 16;
const CHAIN_CHARS = 32;
const WHAT = ['', 'made', 'removed'] as const;

export interface LogEntry {
  readonly what: 'made' | 'removed';
  /** ms since 1970, by the clock of the host */
  readonly timeMs: number;
  /** logDigest of the entry before, or zeros */
  readonly previous: Buffer;
  /** 16 bytes each */
  readonly snapshots: readonly Buffer[];
}

/** Where a chain ended when somebody looked. */
export interface LogHead {
  /** 32 hexadecimal digits */
  readonly chain: string;
  readonly sequence: number;
  /** logDigest of that entry */
  readonly digest: Buffer;
}

/** What the first entry of a chain has for `previous`. */
export const LOG_BEGINNING = Buffer.alloc(DIGEST_BYTES);

/** The name of an entry's object. */
export function logName(chain: string, sequence: number): string {
  return `${chain}-${sequence.toString(16).padStart(16, '0')}`;
}

/** The chain and the number that an entry's name says. */
export function parseLogName(name: string): { chain: string; sequence: number } {
  return {
    chain: name.slice(0, CHAIN_CHARS),
    sequence: Number.parseInt(name.slice(CHAIN_CHARS + 1), 16),
  };
}

/** What the next entry has for `previous`. */
export function logDigest(plaintext: Buffer): Buffer {
  return hash('sha256', plaintext, 'buffer');
}

export function encodeLogEntry({ what, timeMs, previous, snapshots }: LogEntry): Buffer {
  if (snapshots.length < 1 || snapshots.length > LOG_SNAPSHOTS_MAX || previous.length !== DIGEST_BYTES)
    throw new Failure('encode log entry', '', { cause: `${snapshots.length} snapshots` });
  const plaintext = Buffer.alloc(FIXED_BYTES + snapshots.length * ID_BYTES);
  plaintext[0] = VERSION;
  plaintext[1] = WHAT.indexOf(what);
  plaintext.writeUInt32LE(snapshots.length, 4);
  plaintext.writeBigUInt64LE(BigInt(Math.max(0, Math.trunc(timeMs))), 8);
  previous.copy(plaintext, 16);
  for (const [i, id] of snapshots.entries()) id.copy(plaintext, FIXED_BYTES + i * ID_BYTES, 0, ID_BYTES);
  return plaintext;
}

/** The entry; throws a Failure of kind 'damaged'. */
export function decodeLogEntry(plaintext: Buffer, name: string): LogEntry {
  const fail = (cause: string) => new Failure('decode', `log/${name}`, { cause, kind: 'damaged' });
  if (plaintext.length < FIXED_BYTES + ID_BYTES) throw fail('truncated');
  const what = WHAT[plaintext[1] ?? 0];
  if (plaintext[0] !== VERSION || what === undefined || what === '' || plaintext.readUInt16LE(2) !== 0)
    throw fail('unknown version or content');
  const count = plaintext.readUInt32LE(4);
  if (count > LOG_SNAPSHOTS_MAX || plaintext.length !== FIXED_BYTES + count * ID_BYTES)
    throw fail(`${count} snapshots in ${plaintext.length} bytes`);
  const snapshots: Buffer[] = [];
  for (let at = FIXED_BYTES; at < plaintext.length; at += ID_BYTES)
    snapshots.push(plaintext.subarray(at, at + ID_BYTES));
  return {
    what,
    timeMs: Number(plaintext.readBigUInt64LE(8)),
    previous: plaintext.subarray(16, FIXED_BYTES),
    snapshots,
  };
}

/** The object that holds `sealed`. */
export function frameLogEntry(sealed: Buffer): Buffer {
  return Buffer.concat([encodeHeader(MAGIC.log), sealed]);
}

/** The sealed part of an entry's object, a view. Throws a Failure of kind 'damaged'. */
export function unframeLogEntry(object: Buffer, name: string): Buffer {
  checkHeader(object, MAGIC.log, `log/${name}`);
  return object.subarray(HEADER_BYTES);
}

interface Known {
  readonly entry: LogEntry;
  readonly digest: Buffer;
}

/** All entries of all chains, as far as they could be read. */
export class Log {
  readonly #chains = new Map<string, Map<number, Known>>();
  /** entries that could not be opened, by name, and why */
  readonly #damaged = new Map<string, string>();

  /** Whether `name` has been added; a damaged one is looked at again. */
  has(name: string): boolean {
    const { chain, sequence } = parseLogName(name);
    return this.#chains.get(chain)?.has(sequence) === true;
  }

  add(name: string, plaintext: Buffer): void {
    const { chain, sequence } = parseLogName(name);
    const entry = decodeLogEntry(plaintext, name);
    const entries = this.#chains.get(chain) ?? new Map<number, Known>();
    this.#chains.set(chain, entries);
    entries.set(sequence, { entry, digest: logDigest(plaintext) });
    this.#damaged.delete(name);
  }

  addDamaged(name: string, why: string): void {
    this.#damaged.set(name, why);
  }

  /** Forgets the entries that are not among `names` any more: the repository is what it is now. */
  retain(names: ReadonlySet<string>): void {
    for (const [chain, entries] of this.#chains)
      for (const sequence of entries.keys())
        if (!names.has(logName(chain, sequence))) entries.delete(sequence);
    for (const name of this.#damaged.keys()) if (!names.has(name)) this.#damaged.delete(name);
  }

  /** Where `chain` ends: its highest entry. */
  head(chain: string): LogHead | undefined {
    const entries = this.#chains.get(chain);
    if (entries === undefined || entries.size === 0) return undefined;
    let sequence = 0;
    for (const each of entries.keys()) if (each > sequence) sequence = each;
    return { chain, sequence, digest: entries.get(sequence)?.digest ?? LOG_BEGINNING };
  }

  /** The heads of all chains: what to remember. */
  heads(): LogHead[] {
    return [...this.#chains.keys()].flatMap((chain) => this.head(chain) ?? []);
  }

  /** The names of snapshots that an entry of any chain says this of. */
  snapshots(what: LogEntry['what']): Set<string> {
    const names = new Set<string>();
    for (const entries of this.#chains.values())
      for (const { entry } of entries.values())
        if (entry.what === what) for (const id of entry.snapshots) names.add(snapshotName(id));
    return names;
  }

  /** Snapshots that were made, were not removed, and are not among `present`. */
  vanished(present: ReadonlySet<string>): string[] {
    const removed = this.snapshots('removed');
    return [...this.snapshots('made')].filter((name) => !present.has(name) && !removed.has(name)).sort();
  }

  /** Entries that are damaged, missing, or do not follow from the one before; and what `remembered` contradicts. */
  verify(remembered: readonly LogHead[] = []): Problem[] {
    const problems: Problem[] = [...this.#damaged].map(([name, text]) => ({ object: `log/${name}`, text }));
    for (const [chain, entries] of this.#chains) this.#verifyChain(chain, entries, problems);
    for (const head of remembered) {
      const problem = this.#contradiction(head);
      if (problem !== undefined) problems.push(problem);
    }
    return problems;
  }

  #verifyChain(chain: string, entries: ReadonlyMap<number, Known>, problems: Problem[]): void {
    let sequence = 0;
    let previous: Buffer | undefined = LOG_BEGINNING;
    for (const next of [...entries.keys()].sort((a, b) => a - b)) {
      const missing = next - sequence - 1;
      const object = `log/${logName(chain, missing > 0 ? sequence + 1 : next)}`;
      const known = entries.get(next);
      if (missing > 0 && !this.#damaged.has(logName(chain, sequence + 1)))
        problems.push({
          object,
          text: missing === 1 ? 'entry is missing' : `${missing} entries are missing`,
        });
      else if (missing === 0 && known?.entry.previous.equals(previous ?? LOG_BEGINNING) === false)
        problems.push({ object, text: 'it does not follow from the entry before it' });
      sequence = next;
      previous = known?.digest;
    }
  }

  #contradiction({ chain, sequence, digest }: LogHead): Problem | undefined {
    const object = `log/${logName(chain, sequence)}`;
    if (this.#damaged.has(logName(chain, sequence))) return undefined;
    const now = this.head(chain);
    if (now === undefined)
      return { object, text: 'nothing of this log is left: this is another repository, or its beginning' };
    if (now.sequence < sequence)
      return {
        object,
        text: `the log ends at entry ${now.sequence}: this is an older state of the repository`,
      };
    const known = this.#chains.get(chain)?.get(sequence);
    if (known !== undefined && !known.digest.equals(digest))
      return { object, text: 'it is not the entry that was here: this is another state of the repository' };
    return undefined;
  }
}
