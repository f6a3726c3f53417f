/**
 * What could not be had during a walk that goes on after it. Called by ls,
 * find, checksum, diff and tarball. Owns that each is said as it is met, and
 * that the command does not end with 0 after it.
 */
import { describe, Failure, kindOf } from '../error.ts';
import type { Context } from './context.ts';
import { safeName } from './escape.ts';
import { formatCount } from './format.ts';
import { PROBLEM_EVENT } from './problems.ts';

export class Tally {
  readonly #context: Context;
  readonly #operation: string;
  readonly #snapshot: string;
  #problems = 0;
  #damaged = false;

  /** @param snapshot the name of the snapshot that is walked */
  constructor(context: Context, operation: string, snapshot: string) {
    this.#context = context;
    this.#operation = operation;
    this.#snapshot = snapshot;
  }

  /** Says one problem with `path`. */
  add(path: Buffer, error: unknown): void {
    this.#problems++;
    if (kindOf(error) === 'damaged') this.#damaged = true;
    const where = Buffer.concat([Buffer.from(`${this.#snapshot}:`), path]);
    this.#context.output.emit(PROBLEM_EVENT, {
      about: this.#operation,
      object: safeName(where),
      text: describe(error),
    });
  }

  /** Does `work`; what is wrong with the snapshot itself is said, anything else is thrown on. */
  async guard(path: Buffer, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const kind = kindOf(error);
      if (kind !== 'damaged' && kind !== 'partial') throw error;
      this.add(path, error);
    }
  }

  /** Throws if there were problems: damage if any was, else that it is partial. */
  end(shown: string): void {
    if (this.#problems === 0) return;
    const cause = `${formatCount(this.#problems, 'problem')} met`;
    throw new Failure(this.#operation, shown, { cause, kind: this.#damaged ? 'damaged' : 'partial' });
  }
}
