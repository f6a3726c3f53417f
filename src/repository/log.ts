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
 *        1    1  what: 1 made, 2 removed, 3 checkpoint
 *        2    2  zero
 *        4    4  count of snapshots
 *        8    8  time, ms since 1970
 *       16   32  previous: SHA-256 of the plaintext of the entry before; zero in the first
 *       48  16n  ids of the snapshots
 *   48+16n  16m  of a checkpoint alone: ids of snapshots that were removed
 *
 * A checkpoint takes the place of all entries of its chain before it, which
 * need not be there any more: it names the snapshots that they say were made,
 * and that no chain says were removed; of those that they say were removed, all
 * that another chain says were made, and the last TOMBSTONES_MAX of the others,
 * so that none of them is copied here again (sync). So a log stays short, whatever
 * it lives through.
 *
 * A removal is written before the snapshot goes (the tombstone), a snapshot
 * before its entry: so whatever the log says was made, and does not say was
 * removed, has to be there.
 */
import { hash } from 'node:crypto';
import { Failure } from '../error.ts';
import { checkHeader, encodeHeader, HEADER_BYTES, MAGIC, UnknownVersion } from '../keys/frame.ts';
import type { Problem } from './problem.ts';
import { snapshotId, snapshotName } from './snapshot.ts';

export const LOG_SNAPSHOTS_MAX = 4096;
const VERSION = 1;
const FIXED_BYTES = 48;
const DIGEST_BYTES = 32;
const ID_BYTES = 16;
const CHAIN_CHARS = 32;
const WHAT = ['', 'made', 'removed', 'checkpoint'] as const;
/** Snapshots in one checkpoint, made and removed. */
export const CHECKPOINT_SNAPSHOTS_MAX = 65_536;
/** Removals that a checkpoint remembers, beyond those that the log itself needs: hourly ones of almost two years. */
const TOMBSTONES_MAX = 16_384;

export interface LogEntry {
  readonly what: 'made' | 'removed' | 'checkpoint';
  /** ms since 1970, by the clock of the host */
  readonly timeMs: number;
  /** logDigest of the entry before, or zeros */
  readonly previous: Buffer;
  /** 16 bytes each */
  readonly snapshots: readonly Buffer[];
  /** of a checkpoint: those that were removed, 16 bytes each */
  readonly removed?: readonly Buffer[];
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

export function encodeLogEntry({ what, timeMs, previous, snapshots, removed = [] }: LogEntry): Buffer {
  const ids = [...snapshots, ...removed];
  if (!isCount(what, snapshots.length, removed.length) || previous.length !== DIGEST_BYTES)
    throw new Failure('encode log entry', '', { cause: `${ids.length} snapshots` });
  const plaintext = Buffer.alloc(FIXED_BYTES + ids.length * ID_BYTES);
  plaintext[0] = VERSION;
  plaintext[1] = WHAT.indexOf(what);
  plaintext.writeUInt32LE(snapshots.length, 4);
  plaintext.writeBigUInt64LE(BigInt(Math.max(0, Math.trunc(timeMs))), 8);
  previous.copy(plaintext, 16);
  for (const [i, id] of ids.entries()) id.copy(plaintext, FIXED_BYTES + i * ID_BYTES, 0, ID_BYTES);
  return plaintext;
}

/** Whether an entry may name so many. */
function isCount(what: LogEntry['what'], snapshots: number, removed: number): boolean {
  if (what === 'checkpoint') return snapshots + removed <= CHECKPOINT_SNAPSHOTS_MAX;
  return snapshots >= 1 && snapshots <= LOG_SNAPSHOTS_MAX && removed === 0;
}

/** The entry; throws a Failure of kind 'damaged'. */
export function decodeLogEntry(plaintext: Buffer, name: string): LogEntry {
  const fail = (cause: string) => new Failure('decode', `log/${name}`, { cause, kind: 'damaged' });
  if (plaintext.length < FIXED_BYTES) throw fail('truncated');
  const version = plaintext[0] ?? 0;
  if (version > VERSION) throw new UnknownVersion(`log/${name}`, `version ${version}`);
  const what = WHAT[plaintext[1] ?? 0];
  if (version !== VERSION || what === undefined || what === '' || plaintext.readUInt16LE(2) !== 0)
    throw fail('unknown version or content');
  const count = plaintext.readUInt32LE(4);
  const removed = (plaintext.length - FIXED_BYTES) / ID_BYTES - count;
  if (!Number.isInteger(removed) || removed < 0 || !isCount(what, count, removed))
    throw fail(`${count} snapshots in ${plaintext.length} bytes`);
  const ids: Buffer[] = [];
  for (let at = FIXED_BYTES; at < plaintext.length; at += ID_BYTES)
    ids.push(plaintext.subarray(at, at + ID_BYTES));
  return {
    what,
    timeMs: Number(plaintext.readBigUInt64LE(8)),
    previous: plaintext.subarray(16, FIXED_BYTES),
    snapshots: ids.slice(0, count),
    ...(what === 'checkpoint' ? { removed: ids.slice(count) } : {}),
  };
}

/** The object that holds `sealed`, with a key of `epoch`. */
export function frameLogEntry(sealed: Buffer, epoch?: number): Buffer {
  return Buffer.concat([encodeHeader(MAGIC.log, epoch), sealed]);
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

  /** The highest number of an entry, be it damaged; 0 in an empty chain. */
  last(chain: string): number {
    let last = this.head(chain)?.sequence ?? 0;
    for (const name of this.#damaged.keys()) {
      const entry = parseLogName(name);
      if (entry.chain === chain && entry.sequence > last) last = entry.sequence;
    }
    return last;
  }

  /** The names of the chains that anything is known of. */
  chains(): string[] {
    const damaged = [...this.#damaged.keys()].map((name) => parseLogName(name).chain);
    return [...new Set([...this.#chains.keys(), ...damaged])];
  }

  /** How many entries of a chain there are. */
  length(chain: string): number {
    return this.#chains.get(chain)?.size ?? 0;
  }

  /** The number of a chain's last checkpoint, from where on it counts; 0 where it has none. */
  #start(chain: string): number {
    let start = 0;
    for (const [sequence, { entry }] of this.#chains.get(chain) ?? [])
      if (entry.what === 'checkpoint' && sequence > start) start = sequence;
    return start;
  }

  /** The names of entries that a checkpoint has taken the place of. */
  superseded(): string[] {
    return this.chains().flatMap((chain) => {
      const start = this.#start(chain);
      const known = [...(this.#chains.get(chain)?.keys() ?? [])];
      const damaged = [...this.#damaged.keys()]
        .map(parseLogName)
        .filter((name) => name.chain === chain)
        .map(({ sequence }) => sequence);
      return [...known, ...damaged]
        .filter((sequence) => sequence < start)
        .map((sequence) => logName(chain, sequence));
    });
  }

  /** What a checkpoint of a chain says, as of what is known; undefined where that is too much for one. */
  checkpoint(chain: string): Pick<LogEntry, 'snapshots' | 'removed'> | undefined {
    const removedByAny = this.snapshots('removed');
    const madeByOthers = this.#said('made', (each) => each !== chain);
    const made = [...this.#said('made', (each) => each === chain)];
    const removed = [...this.#said('removed', (each) => each === chain)];
    const snapshots = made.filter((name) => !removedByAny.has(name)).map(snapshotId);
    const last = new Set(removed.slice(-TOMBSTONES_MAX));
    const tombstones = removed.filter((name) => madeByOthers.has(name) || last.has(name)).map(snapshotId);
    return snapshots.length + tombstones.length > CHECKPOINT_SNAPSHOTS_MAX
      ? undefined
      : { snapshots, removed: tombstones };
  }

  /** The heads of all chains: what to remember. */
  heads(): LogHead[] {
    return [...this.#chains.keys()].flatMap((chain) => this.head(chain) ?? []);
  }

  /** The names of snapshots that an entry of any chain says this of. */
  snapshots(what: 'made' | 'removed'): Set<string> {
    return this.#said(what, () => true);
  }

  #said(what: 'made' | 'removed', ofChain: (chain: string) => boolean): Set<string> {
    const names = new Set<string>();
    for (const [chain, entries] of this.#chains) {
      if (!ofChain(chain)) continue;
      const start = this.#start(chain);
      const inOrder = [...entries].sort(([a], [b]) => a - b);
      for (const [sequence, { entry }] of inOrder)
        if (sequence >= start) for (const id of saidOf(entry, what)) names.add(snapshotName(id));
    }
    return names;
  }

  /** Snapshots that were made, were not removed, and are not among `present`. */
  vanished(present: ReadonlySet<string>): string[] {
    const removed = this.snapshots('removed');
    return [...this.snapshots('made')].filter((name) => !present.has(name) && !removed.has(name)).sort();
  }

  /** Entries that are damaged, missing, or do not follow from the one before; and what `remembered` contradicts. */
  verify(remembered: readonly LogHead[] = []): Problem[] {
    const superseded = new Set(this.superseded());
    const problems: Problem[] = [...this.#damaged]
      .filter(([name]) => !superseded.has(name))
      .map(([name, text]) => ({ object: `log/${name}`, text }));
    for (const [chain, entries] of this.#chains) this.#verifyChain(chain, entries, problems);
    for (const head of remembered) {
      const problem = this.#contradiction(head);
      if (problem !== undefined) problems.push(problem);
    }
    return problems;
  }

  #verifyChain(chain: string, entries: ReadonlyMap<number, Known>, problems: Problem[]): void {
    const start = this.#start(chain);
    let sequence = Math.max(0, start - 1);
    let previous: Buffer | undefined = start === 0 ? LOG_BEGINNING : entries.get(start)?.entry.previous;
    for (const next of [...entries.keys()].sort((a, b) => a - b)) {
      if (next < start) continue;
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

/** The snapshots that an entry says were made, or removed. */
function saidOf(entry: LogEntry, what: 'made' | 'removed'): readonly Buffer[] {
  if (entry.what === what) return entry.snapshots;
  if (entry.what !== 'checkpoint') return [];
  return what === 'made' ? entry.snapshots : (entry.removed ?? []);
}
