/**
 * The index objects of a repository: which there are, what each names, and how
 * they are read and written. Called by store.ts. Owns the rule that what an
 * index object names is named by a durable one all the time: new ones are
 * written before old ones go.
 */
import type { Backend } from '../backends/objects.ts';
import { headerEpoch } from '../keys/frame.ts';
import { release } from '../sys/release.ts';
import {
  decodeIndex,
  encodeIndex,
  frameIndex,
  groupForIndex,
  type PackRecord,
  unframeIndex,
} from './index.ts';
import { isUnreadable, type Problem, problemOf } from './problem.ts';

/** Index objects of fewer packs than SMALL_PACKS that are left alone. */
const SMALL_MAX = 16;
const SMALL_PACKS = 64;

/**
 * Opens and seals footers and index objects, where the keys are, under the key
 * of `epoch`. `name` is the pack's or the index object's.
 */
export interface IndexCodec {
  openIndex(kind: 'footer' | 'index', name: string, sealed: Buffer, epoch: number): Promise<Buffer>;
  sealIndex(kind: 'footer' | 'index', name: string, plaintext: Buffer, epoch: number): Promise<Buffer>;
}

export interface IndexesOptions {
  readonly backend: Backend;
  readonly codec: IndexCodec;
  readonly random: (bytes: number) => Buffer;
  /** the epoch of what is written */
  readonly epoch: () => number;
}

export class Indexes {
  readonly #options: IndexesOptions;
  /** those that were read or written, and the names of the packs in each */
  readonly #packs = new Map<string, readonly string[]>();
  /** the epochs of those that can be read */
  readonly epochs = new Map<string, number>();
  /** those that cannot be read */
  readonly damaged = new Set<string>();
  #writing: Promise<unknown> = Promise.resolve();

  constructor(options: IndexesOptions) {
    this.#options = options;
  }

  /** Adds to `fresh` what index objects say that are new since the last call; what is damaged goes to `problems`. */
  async readNew(fresh: PackRecord[], problems: Problem[]): Promise<void> {
    const names = new Set(await this.#options.backend.list('index'));
    for (const name of this.#packs.keys()) if (!names.has(name)) this.#forget(name);
    for (const name of names) {
      if (this.#packs.has(name)) continue;
      try {
        const packs = await this.#read(name);
        if (packs === undefined) continue;
        this.#note(name, packs);
        fresh.push(...packs);
      } catch (error) {
        if (!isUnreadable(error)) throw error;
        this.#noteDamaged(name, error, problems);
      }
    }
  }

  /** Reads all index objects again; what has become damaged goes to `problems`, and names no packs any more. */
  async readAgain(problems: Problem[]): Promise<void> {
    for (const name of [...this.#packs.keys()]) {
      if (this.damaged.has(name)) continue;
      try {
        await this.#read(name);
      } catch (error) {
        if (!isUnreadable(error)) throw error;
        this.#noteDamaged(name, error, problems);
      }
    }
  }

  #noteDamaged(name: string, error: unknown, problems: Problem[]): void {
    problems.push(problemOf(`index/${name}`, error));
    this.damaged.add(name);
    this.#packs.set(name, []);
  }

  #note(name: string, packs: readonly PackRecord[]): void {
    this.#packs.set(
      name,
      packs.map((pack) => pack.name),
    );
  }

  #forget(name: string): void {
    this.#packs.delete(name);
    this.epochs.delete(name);
    this.damaged.delete(name);
  }

  async #read(name: string): Promise<PackRecord[] | undefined> {
    const { backend, codec } = this.#options;
    const object = await backend.get('index', name);
    if (object === undefined) return undefined;
    const sealed = unframeIndex(object, name);
    const epoch = headerEpoch(object);
    const packs = decodeIndex(await codec.openIndex('index', name, sealed, epoch), name);
    this.epochs.set(name, epoch);
    return packs;
  }

  /** Everything that known index objects say, one object after another. */
  async *readAll(): AsyncGenerator<PackRecord> {
    for (const name of [...this.#packs.keys()])
      if (!this.damaged.has(name)) for (const record of (await this.#read(name)) ?? []) yield record;
  }

  /** The packs that index objects name which still exist. */
  async indexed(): Promise<Set<string>> {
    const names = new Set(await this.#options.backend.list('index'));
    const packs = new Set<string>();
    for (const [name, named] of this.#packs) if (names.has(name)) for (const pack of named) packs.add(pack);
    return packs;
  }

  /** Calls `write` when whoever came before is done: one changes the index at a time. */
  #inTurn(write: () => Promise<void>): Promise<void> {
    const written = this.#writing.then(write);
    this.#writing = written.catch(() => undefined);
    return written;
  }

  /** Writes index objects for the packs that `take` gives, when it is its turn; calls `done` with each group that is durable. */
  write(take: () => readonly PackRecord[], done: (packs: readonly PackRecord[]) => void): Promise<void> {
    return this.#inTurn(async () => {
      for (const group of groupForIndex(take())) {
        await this.#put(group);
        done(group);
      }
    });
  }

  async #put(packs: readonly PackRecord[]): Promise<void> {
    const { backend, codec, random } = this.#options;
    const name = random(16).toString('hex');
    const plaintext = encodeIndex(packs);
    decodeIndex(plaintext, name);
    const epoch = this.#options.epoch();
    const sealed = await codec.sealIndex('index', name, plaintext, epoch);
    await backend.put('index', name, frameIndex(sealed, epoch));
    release(sealed);
    release(plaintext);
    this.epochs.set(name, epoch);
    this.#note(name, packs);
  }

  /** Writes the objects that name packs which are `gone` anew, without them, and those of epochs before `since`, and merges small ones if there are many. */
  rewrite(gone: ReadonlySet<string>, since = 0): Promise<void> {
    return this.#inTurn(async () => {
      const old = this.#toRewrite(gone, since);
      const kept = new Map<string, PackRecord>();
      for (const name of old)
        for (const record of (await this.#read(name)) ?? [])
          if (!gone.has(record.name)) kept.set(record.name, record);
      for (const group of groupForIndex([...kept.values()])) await this.#put(group);
      for (const name of old) await this.#delete(name);
    });
  }

  #toRewrite(gone: ReadonlySet<string>, since: number): Set<string> {
    const usable = [...this.#packs].filter(([name]) => !this.damaged.has(name));
    const small = usable.filter(([, packs]) => packs.length < SMALL_PACKS);
    const old = new Set(small.length > SMALL_MAX ? small.map(([name]) => name) : []);
    for (const [name, packs] of usable)
      if ((this.epochs.get(name) ?? since) < since || packs.some((pack) => gone.has(pack))) old.add(name);
    return old;
  }

  /** Removes damaged objects, once what they named is named by others. */
  async removeDamaged(): Promise<void> {
    for (const name of [...this.damaged]) await this.#delete(name);
  }

  async #delete(name: string): Promise<void> {
    await this.#options.backend.delete('index', name);
    this.#forget(name);
  }
}
