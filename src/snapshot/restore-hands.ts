/**
 * The hands of a restore: the threads that make its files. Called by restore.ts
 * and its windows; what a hand does is in restore-hand.ts. Each hand answers in
 * the order in which it was asked. Invariant: after `close` no hand touches a
 * descriptor or memory that it was given.
 */
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { Failure } from '../error.ts';
import type { Rights } from './restore-metadata.ts';

/** Jobs that may be out: no more than a session's ring has data for, nor so many that a hand is far behind. */
const JOBS_OUT_MAX = 4096;
/** With less to do than this, hands would come when all is done. */
const CHUNKS_FOR_HANDS = 1000;
const BYTES_FOR_HANDS = 64 << 20;
/** A thread begins with a file: one that is beside this one, or, where this is part of a bundle, beside that. */
const HAND =
  typeof __filename === 'undefined'
    ? path.join(import.meta.dirname, `restore-hand${path.extname(import.meta.filename)}`)
    : path.join(__dirname, 'hand.cjs');

interface Asked extends PromiseWithResolvers<Uint8Array> {
  readonly count: number;
}

class Hand {
  readonly worker: Worker;
  /** Resolves when it is there, or will never be. */
  readonly ready: Promise<void>;
  /** Resolves when it is gone. */
  readonly #gone: Promise<void>;
  readonly #asked: Asked[] = [];
  isThere = false;
  /** that it was asked for, and has not done */
  jobs = 0;

  constructor(rights: Rights) {
    // it closes what it opened, and by its number
    const options = { workerData: rights, name: 'hand', trackUnmanagedFds: false };
    this.worker = new Worker(HAND, options);
    const ready = Promise.withResolvers<void>();
    this.ready = ready.promise;
    this.worker.once('online', () => {
      this.isThere = true;
      ready.resolve();
    });
    this.#gone = new Promise((resolve) => this.worker.once('exit', () => resolve()));
    this.worker.on('message', (done: Uint8Array) => this.#answered(done));
    this.worker.once('error', (cause) => {
      // one that never came is not missed: its work is done without it
      ready.resolve();
      this.#lost(cause);
    });
  }

  ask(jobs: Uint8Array<ArrayBuffer>, count: number): Promise<Uint8Array> {
    const asked = { ...Promise.withResolvers<Uint8Array>(), count };
    this.#asked.push(asked);
    this.jobs += count;
    this.worker.postMessage(jobs, [jobs.buffer]);
    return asked.promise;
  }

  /**
   * Has it end when it has done what it was asked for, and resolves then. It is not terminated: libffi's binding aborts
   * the process if a thread ends within a call, and one that has just started makes calls, too.
   */
  async close(): Promise<void> {
    this.worker.postMessage(new Uint8Array(0));
    await this.#gone;
  }

  #answered(done: Uint8Array): void {
    const asked = this.#asked.shift();
    this.jobs -= asked?.count ?? 0;
    asked?.resolve(done);
  }

  #lost(cause: unknown): void {
    this.isThere = false;
    this.jobs = 0;
    for (const { reject } of this.#asked.splice(0)) reject(new Failure('restore', 'files', { cause }));
  }
}

export class Hands {
  readonly #count: number;
  readonly #rights: Rights;
  readonly #hands: Hand[] = [];
  #jobs = 0;
  #chunks = 0;
  #bytes = 0;

  /** @param count how many; none are started until it is worth it */
  constructor(count: number, rights: Rights) {
    this.#count = count;
    this.#rights = rights;
  }

  /** A chunk of so many bytes is going to be read: enough of them, and the hands are started. */
  expect(bytes: number): void {
    this.#chunks++;
    this.#bytes += bytes;
    if (this.#chunks < CHUNKS_FOR_HANDS && this.#bytes < BYTES_FOR_HANDS) return;
    while (this.#hands.length < this.#count) this.#hands.push(new Hand(this.#rights));
  }

  /** Resolves when those that were started are there. */
  async ready(): Promise<void> {
    await Promise.all(this.#hands.map(({ ready }) => ready));
  }

  /** How many more jobs may be asked for: none while no hand is there. */
  get room(): number {
    return this.#hands.some(({ isThere }) => isThere) ? JOBS_OUT_MAX - this.#jobs : 0;
  }

  /** Has the least busy hand do `count` jobs, which are taken over: for each 1 where it is done, or 0. */
  async ask(jobs: Uint8Array<ArrayBuffer>, count: number): Promise<Uint8Array> {
    const [first, ...others] = this.#hands.filter(({ isThere }) => isThere);
    if (first === undefined) return new Uint8Array(count);
    this.#jobs += count;
    try {
      return await others
        .reduce((least, each) => (each.jobs < least.jobs ? each : least), first)
        .ask(jobs, count);
    } finally {
      this.#jobs -= count;
    }
  }

  /** Resolves when everything asked for is done, and the hands are gone. */
  async close(): Promise<void> {
    await Promise.all(this.#hands.splice(0).map((hand) => hand.close()));
  }
}
