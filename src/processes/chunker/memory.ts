/**
 * What has to be remembered of the repository beyond the life of its processes,
 * kept by the parent (messages/memory.ts). Used by the chunker's journal and
 * its sampled checks. Invariant: what the parent has is written whole each
 * time, and only when something is new.
 */
import type { Channel } from '../../ipc/channel.ts';
import { HEADS_MAX, REMEMBER, TURNS_MAX } from '../../messages/memory.ts';
import { PARENT_DONE } from '../../messages/parent.ts';
import type { LogHead } from '../../repository/log.ts';

/** Of a rotation of so many runs, whose turn is next. */
export interface Turn {
  readonly runs: number;
  readonly next: number;
}

export class Memory {
  readonly #parent: Channel;
  #heads: readonly LogHead[] = [];
  /** the one that was used last is the last */
  #turns: readonly Turn[] = [];
  #told = '';

  constructor(parent: Channel) {
    this.#parent = parent;
  }

  recall(heads: readonly LogHead[], turns: readonly Turn[]): void {
    this.#heads = heads;
    this.#turns = turns;
    this.#told = this.#key();
  }

  async remember(heads: readonly LogHead[], accept: boolean): Promise<void> {
    this.#heads = heads.slice(0, HEADS_MAX);
    await this.#tell(accept);
  }

  /** Whose turn it is, of 0 to `runs` - 1. */
  turn(runs: number): number {
    return (this.#turns.find((turn) => turn.runs === runs)?.next ?? 0) % runs;
  }

  /** The turn that it was has been taken. */
  async turned(runs: number): Promise<void> {
    const next = (this.turn(runs) + 1) % runs;
    const others = this.#turns.filter((turn) => turn.runs !== runs);
    this.#turns = [...others, { runs, next }].slice(-TURNS_MAX);
    await this.#tell(false);
  }

  #key(): string {
    const heads = this.#heads.map(({ chain, sequence, digest }) => [chain, sequence, digest.toString('hex')]);
    return JSON.stringify([heads, this.#turns]);
  }

  async #tell(accept: boolean): Promise<void> {
    const key = this.#key();
    if (key === this.#told && !accept) return;
    const payload = { heads: [...this.#heads], turns: [...this.#turns], accept };
    await this.#parent.query(REMEMBER, payload, PARENT_DONE);
    this.#told = key;
  }
}
