/**
 * Rings: slots of equal size in memory that two or more processes share, and
 * who may use which slot. Contents travel in slots, their numbers in messages.
 * Used by chunker, crypto, storage and plakarctl.
 *
 * Invariant: a view that `slot` returns lies within the mapping, which can
 * never shrink. What is in it may change at any time: whoever reads it copies
 * lengths before checking them, and judges contents by the bytes that it used.
 */
import { assert } from '../builtin.ts';
import { Failure } from '../error.ts';
import { checkSealed, mapShared, memfdCreate, unmap } from '../sys/memory.ts';

/** Most slots of a ring, and bytes of a slot. */
export const SLOTS_MAX = 65_536;
export const SLOT_MAX_BYTES = 64 << 20;

/** A mapped ring. */
export class Ring {
  readonly slots: number;
  readonly slotBytes: number;
  /** All slots, one behind the other. */
  readonly memory: Buffer;
  /** Made once: a view costs more than a message. */
  readonly #views: Buffer[] = [];

  constructor(memory: Buffer, slots: number, slotBytes: number) {
    assert(memory.length === slots * slotBytes);
    this.slots = slots;
    this.slotBytes = slotBytes;
    this.memory = memory;
    for (let i = 0; i < slots; i++) this.#views.push(memory.subarray(i * slotBytes, (i + 1) * slotBytes));
  }

  /** Slot `number`'s bytes, in place; throws if there is no such slot. */
  slot(number: number): Buffer {
    const view = this.#views[number];
    if (view === undefined)
      throw new Failure('use slot', String(number), { cause: `there are ${this.slots}` });
    return view;
  }

  /** Ends the mapping: all views are empty from then on. */
  close(): void {
    unmap(this.memory);
  }
}

function checkSize(slots: number, slotBytes: number): number {
  const fits = (value: number, max: number): boolean => Number.isInteger(value) && value > 0 && value <= max;
  if (!fits(slots, SLOTS_MAX) || !fits(slotBytes, SLOT_MAX_BYTES))
    throw new Failure('make ring', '', { cause: `${slots} slots of ${slotBytes} bytes` });
  return slots * slotBytes;
}

/** The descriptor of a new ring, to be sent to those who map it with `openRing`; the caller closes it. */
export function createRing(name: string, slots: number, slotBytes: number): number {
  return memfdCreate(name, checkSize(slots, slotBytes));
}

/**
 * Maps a ring that a peer made: throws unless it is sealed and large enough.
 * The descriptor stays the caller's, who may close it.
 */
export function openRing(fd: number, slots: number, slotBytes: number, access: 'read' | 'write'): Ring {
  const sizeBytes = checkSize(slots, slotBytes);
  checkSealed(fd, sizeBytes);
  return new Ring(mapShared(fd, sizeBytes, access), slots, slotBytes);
}

interface Waiter {
  resolve(slot: number): void;
  reject(error: unknown): void;
}

/**
 * The slots that this process may give out: a ring's, or its share of them.
 * Whoever waits gets one in the order of asking.
 */
export class SlotPool {
  readonly #free: number[] = [];
  readonly #taken = new Set<number>();
  readonly #waiters: Waiter[] = [];
  readonly #size: number;
  #closed: unknown;

  constructor(slots: Iterable<number>) {
    for (const slot of slots) this.#free.push(slot);
    assert(new Set(this.#free).size === this.#free.length, 'a slot is named twice');
    this.#size = this.#free.length;
    // the lowest first: fewer pages are touched while little is under way
    this.#free.reverse();
  }

  /** How many are free. */
  get free(): number {
    return this.#free.length;
  }

  /** How many are waited for. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /** How many there are, free or not. */
  get size(): number {
    return this.#size;
  }

  /** Whether `slot` is given out, for checks of what a peer says. */
  isTaken(slot: number): boolean {
    return this.#taken.has(slot);
  }

  /** A free slot, or undefined; throws the error of `close` after it. */
  take(): number | undefined {
    if (this.#closed !== undefined) throw this.#closed;
    const slot = this.#free.pop();
    if (slot !== undefined) this.#taken.add(slot);
    return slot;
  }

  /** A free slot, as soon as there is one. Rejects with the error of `close`. */
  async wait(): Promise<number> {
    const slot = this.take();
    if (slot !== undefined) return slot;
    return await new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  /** Takes a slot back. Whether a peer may name it is to be checked before, by `isTaken`. */
  release(slot: number): void {
    assert(this.#taken.has(slot), `slot ${slot} is not taken`);
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.resolve(slot);
      return;
    }
    this.#taken.delete(slot);
    this.#free.push(slot);
  }

  /** Ends the pool: whoever waits, or asks, gets `error`. Slots can still be released. */
  close(error: unknown): void {
    this.#closed = error;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }
}
