/**
 * A stage for simulations: actors whose every step at the backend waits for
 * its turn, and a director who gives turns by a seed. Whatever order of steps
 * two machines could have, some seed has it. Actors can be cut down between
 * any two steps, or be left standing while the others go on.
 */
import { MemoryBackend } from '../../src/backends/memory.ts';
import type { Backend, ByteRange, ObjectKind, PutOptions } from '../../src/backends/objects.ts';
import { pieceWriter } from '../../src/backends/pieces.ts';
import { Failure } from '../../src/error.ts';

/** One machine. */
export class Actor {
  readonly name: string;
  /** never gets a turn again */
  dead = false;
  /** gets no turn before this step, while others have something to do */
  asleepUntil = 0;

  constructor(name: string) {
    this.name = name;
  }
}

export class Stage {
  readonly objects = new MemoryBackend();
  readonly random: (bytes: number) => Buffer;
  readonly #waiting: { actor: Actor; go: () => void }[] = [];
  /** the share of steps that fail, of 256 */
  faults = 0;
  full = false;
  step = 0;
  /** Called after each object that is removed. */
  onDelete: (kind: ObjectKind, name: string) => void = () => undefined;

  constructor(random: (bytes: number) => Buffer) {
    this.random = random;
  }

  below(limit: number): number {
    return this.random(4).readUInt32LE(0) % limit;
  }

  /** Resolves when it is the actor's turn; for one who is dead, never. */
  turn(actor: Actor): Promise<void> {
    return new Promise((go) => {
      this.#waiting.push({ actor, go });
    });
  }

  /** Gives one turn; false where nobody waits for one. */
  async next(): Promise<boolean> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.step++;
    const ready = this.#waiting.filter(({ actor }) => !actor.dead);
    const awake = ready.filter(({ actor }) => actor.asleepUntil <= this.step);
    const from = awake.length > 0 ? awake : ready;
    const chosen = from[this.below(Math.max(1, from.length))];
    if (chosen === undefined) return false;
    this.#waiting.splice(this.#waiting.indexOf(chosen), 1);
    chosen.go();
    return true;
  }

  /** The backend as one actor sees it. */
  backendOf(actor: Actor): Backend {
    const { objects } = this;
    const act = async <T>(
      call: string,
      kind: ObjectKind,
      name: string,
      work: () => Promise<T>,
    ): Promise<T> => {
      await this.turn(actor);
      const dice = this.below(512);
      const fails = dice < this.faults;
      const after = fails && (dice & 1) === 1;
      if (fails && !after) throw new Failure(call, `${kind}/${name}`, { cause: 'it failed' });
      const result = await work();
      if (after) throw new Failure(call, `${kind}/${name}`, { cause: 'the answer was lost' });
      return result;
    };
    const put = (kind: ObjectKind, name: string, pieces: readonly Buffer[], options?: PutOptions) =>
      act('put', kind, name, async () => {
        if (this.full && options?.urgent !== true)
          throw new Failure('put', `${kind}/${name}`, { cause: 'no space left' });
        return objects.put(kind, name, pieces, options);
      });
    return {
      location: 'stage',
      get: (kind, name, range?: ByteRange) => act('get', kind, name, () => objects.get(kind, name, range)),
      getInto: (kind, name, offset, out) =>
        act('get', kind, name, () => objects.getInto(kind, name, offset, out)),
      put,
      create: (kind) =>
        pieceWriter((name, views) =>
          put(
            kind,
            name,
            views.map((view) => Buffer.from(view)),
          ),
        ),
      list: (kind) => act('list', kind, '', () => objects.list(kind)),
      stat: (kind, name) => act('stat', kind, name, () => objects.stat(kind, name)),
      delete: (kind, name) =>
        act('delete', kind, name, async () => {
          const was = await objects.delete(kind, name);
          this.onDelete(kind, name);
          return was;
        }),
      leftovers: async () => [],
      removeLeftover: async () => undefined,
      reserve: async () => true,
    };
  }
}
