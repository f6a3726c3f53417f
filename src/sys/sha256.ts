/**
 * SHA-256's block function over several messages at once, as OpenSSL has it for
 * TLS (crypto/sha/asm/sha256-mb-x86_64.pl) and the runtime exports it: each round
 * depends on the one before, so one message leaves half of the processor idle
 * where it has instructions for SHA-256, and seven eighths where it has but
 * AVX2. Called by keys/lanes.ts. Invariant: the function sees addresses in
 * memory that does not move, and no more blocks than the caller has there.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { addressOf, callNumber, type Entry, entryIfAny, pinned } from './foreign.ts';

/** Messages that are hashed at once with instructions for SHA-256, and without. */
export const LANES_SHA = 2;
export const LANES_AVX2 = 8;
export const BLOCK_BYTES = 64;
export const STATE_WORDS = 8;

/** Lanes of the function's state: words of 32 bits, each of all lanes. */
const STRIDE = 8;
const STATE_BYTES = STATE_WORDS * STRIDE * 4;
const ALIGNMENT = 64;
/** struct { const void *data; int blocks; }, in words of 32 bits */
const INPUT_WORDS = 4;
/** The function takes its lanes four at a time. */
const GROUP = 4;
const TWO_32 = 0x1_0000_0000;
/** The first processor's flags are well within that. */
const CPUINFO_BYTES = 8 << 10;

const multiBlock = entryIfAny('sha256_multi_block');

/** The first processor's flags; none where the system does not say. */
function flags(): readonly string[] {
  const text = Buffer.alloc(CPUINFO_BYTES);
  let fd: number;
  try {
    fd = openSync('/proc/cpuinfo', 'r');
  } catch {
    // no proc file system: one message at a time is right, too
    return [];
  }
  try {
    const length = readSync(fd, text, 0, CPUINFO_BYTES, 0);
    return /^flags\s*:(.*)$/m.exec(text.toString('latin1', 0, length))?.[1]?.split(' ') ?? [];
  } finally {
    closeSync(fd);
  }
}

function lanesOf(has: readonly string[]): number {
  if (multiBlock === undefined) return 0;
  if (has.includes('sha_ni')) return LANES_SHA;
  return has.includes('avx2') ? LANES_AVX2 : 0;
}

/** How many messages this processor is best given at once; 0 where there is no such function. */
export const lanesHere = lanesOf(flags());

/** The states of some messages, and the blocks that come next. */
export class Lanes {
  readonly count: number;
  readonly #function: Entry;
  readonly #memory: Buffer;
  readonly #state: Int32Array;
  readonly #stateAddress: number;
  readonly #inputs = new Int32Array(new ArrayBuffer(2 * GROUP * INPUT_WORDS * 4));
  readonly #inputsAddress: number;

  /** `count` is LANES_SHA or LANES_AVX2. Throws where the runtime has no such function. */
  constructor(count: number) {
    if (multiBlock === undefined) throw new Error('no sha256_multi_block');
    this.count = count;
    this.#function = multiBlock;
    this.#memory = pinned(STATE_BYTES + ALIGNMENT);
    const address = addressOf(this.#memory);
    this.#stateAddress = Math.ceil(address / ALIGNMENT) * ALIGNMENT;
    this.#state = new Int32Array(this.#memory.buffer, this.#stateAddress - address, STATE_WORDS * STRIDE);
    this.#inputsAddress = addressOf(Buffer.from(this.#inputs.buffer));
  }

  /** Sets a lane's state. */
  set(lane: number, words: Int32Array): void {
    const state = this.#state;
    for (let i = 0; i < STATE_WORDS; i++) state[i * STRIDE + lane] = words[i] as number;
  }

  /** Gives lane `to` the state of lane `from`. */
  move(from: number, to: number): void {
    const state = this.#state;
    for (let at = 0; at < STATE_WORDS * STRIDE; at += STRIDE) state[at + to] = state[at + from] as number;
  }

  /** One word of a lane's state. */
  word(lane: number, index: number): number {
    return this.#state[index * STRIDE + lane] as number;
  }

  /**
   * What comes next in a lane: `blocks` of 64 bytes from `address` on; none with 0, which only lanes may have that no
   * busy one follows: the function ends at the first pair of lanes that are idle.
   */
  feed(lane: number, address: number, blocks: number): void {
    const inputs = this.#inputs;
    const at = lane * INPUT_WORDS;
    // a store takes the value modulo 2^32
    inputs[at] = address;
    inputs[at + 1] = Math.floor(address / TWO_32);
    inputs[at + 2] = blocks;
  }

  /** Takes what each lane was fed. */
  run(): void {
    const groups = this.count > GROUP ? 2 : 1;
    callNumber(this.#function, this.#stateAddress, this.#inputsAddress, groups);
  }
}
