/**
 * HMAC-SHA-256 (RFC 2104) of many short messages under one key, several at a
 * time: the lanes of sys/sha256.ts are kept busy, and a message that ends makes
 * room for the next. Used for chunk ids, which take more of a push's time than
 * anything but compressing. Invariant: what comes out is what createHmac would
 * say, whatever the lengths; a key's states stay in here.
 */
import { addressOf, pinned } from '../sys/foreign.ts';
import { BLOCK_BYTES, Lanes, STATE_WORDS } from '../sys/sha256.ts';

const DIGEST_BYTES = 32;
/** FIPS 180-4, 5.3.3 */
const INITIAL = Int32Array.of(
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19,
);
/** A message that fits with its padding is copied, which makes one run of three. */
const SHORT_BYTES = 2048;
/** Where a lane's outer block is in its scratch. */
const OUTER = SHORT_BYTES;
const SCRATCH_BYTES = SHORT_BYTES + BLOCK_BYTES;
/** 0x80 and the length, which follow a message. */
const PADDING_BYTES = 9;

/** Lengths are told apart by their first three bits, as what they are for is that lanes end at about the same time. */
const LENGTH_KEYS = 128;

function lengthKey(length: number): number {
  const bits = 31 - Math.clz32(length | 4);
  return (bits << 2) | ((length >>> (bits - 2)) & 3);
}

/** Where a lane is in its message. */
const HEAD = 0;
const BULK = 1;
const LAST = 2;
const FINAL = 3;

/** Pieces of one buffer: `lengths[i]` bytes from `starts[i]` on. */
export interface Pieces {
  readonly buffer: Buffer;
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  /** how many; the arrays may be longer */
  readonly count: number;
}

/** What one lane is at. */
class Lane {
  readonly scratch = pinned(SCRATCH_BYTES);
  readonly scratchAddress = addressOf(this.scratch);
  message = -1;
  stage = FINAL;
  /** where its next blocks are, and how many */
  address = 0;
  blocks = 0;

  constructor() {
    // the outer hash is of a block of the key and a digest, always
    this.pad(OUTER, DIGEST_BYTES, BLOCK_BYTES + DIGEST_BYTES);
  }

  /** Goes on with what is in the scratch. */
  take(stage: number, from: number, blocks: number): void {
    this.stage = stage;
    this.address = this.scratchAddress + from;
    this.blocks = blocks;
  }

  /** Pads a message of `totalBytes` whose last `length` bytes are at `from`; returns the blocks from there on. */
  pad(from: number, length: number, totalBytes: number): number {
    const blocks = Math.ceil((length + PADDING_BYTES) / BLOCK_BYTES);
    const end = from + blocks * BLOCK_BYTES;
    this.scratch[from + length] = 0x80;
    this.scratch.fill(0, from + length + 1, end - 4);
    // no message has 2^29 bytes
    this.scratch.writeUInt32BE(totalBytes * 8, end - 4);
    return blocks;
  }
}

export class LaneHmac {
  readonly #lanes: Lanes;
  /** The first `#busy` are at a message. */
  readonly #each: Lane[];
  #busy = 0;
  readonly #inner: Int32Array;
  readonly #outer: Int32Array;
  /** messages in the order in which they are begun */
  #order = new Uint32Array(0);
  /** by key, how many have a greater one: the places of those with this one */
  readonly #places = new Uint32Array(LENGTH_KEYS + 1);

  /** `key` has at most 64 bytes; `lanes` is one of those that sys/sha256.ts names. */
  constructor(key: Buffer, lanes: number) {
    this.#lanes = new Lanes(lanes);
    this.#each = Array.from({ length: lanes }, () => new Lane());
    this.#inner = this.#keyed(key, 0x36);
    this.#outer = this.#keyed(key, 0x5c);
  }

  /** The state after the key's block. */
  #keyed(key: Buffer, pad: number): Int32Array {
    const block = pinned(BLOCK_BYTES).fill(pad);
    for (let i = 0; i < key.length; i++) block[i] = (key[i] as number) ^ pad;
    this.#each.forEach((_, lane) => {
      this.#lanes.feed(lane, 0, 0);
    });
    this.#lanes.set(0, INITIAL);
    this.#lanes.feed(0, addressOf(block), 1);
    this.#lanes.run();
    block.fill(0);
    return Int32Array.from({ length: STATE_WORDS }, (_, i) => this.#lanes.word(0, i));
  }

  /**
   * Writes the digest of `prefix`, a byte, and piece `i` to 32 bytes of `out` at `outOffset` + 32 i. The pieces' buffer
   * is one that does not move, as a Buffer's memory does not.
   */
  digest(prefix: number, pieces: Pieces, out: Buffer, outOffset = 0): void {
    const base = addressOf(pieces.buffer);
    const lanes = this.#lanes;
    this.#sort(pieces);
    const order = this.#order;
    let next = Math.min(pieces.count, lanes.count);
    this.#busy = next;
    for (let i = 0; i < next; i++) this.#begin(i, order[i] as number, prefix, pieces);
    while (this.#busy > 0) {
      const blocks = this.#feed();
      lanes.run();
      // backwards, as one that is done changes places with the last
      for (let i = this.#busy - 1; i >= 0; i--) {
        const lane = this.#each[i] as Lane;
        lane.address += blocks * BLOCK_BYTES;
        lane.blocks -= blocks;
        if (lane.blocks > 0 || !this.#step(i, base, pieces, out, outOffset)) continue;
        if (next < pieces.count) this.#begin(i, order[next++] as number, prefix, pieces);
        else this.#retire(i);
      }
    }
  }

  /** The longest first: what is begun last is in a lane alone when the others have ended. */
  #sort({ lengths, count }: Pieces): void {
    if (this.#order.length < count) this.#order = new Uint32Array(count);
    const places = this.#places.fill(0);
    for (let i = 0; i < count; i++) {
      const at = LENGTH_KEYS - lengthKey(lengths[i] as number);
      places[at] = (places[at] as number) + 1;
    }
    for (let at = 1; at < places.length; at++)
      places[at] = (places[at] as number) + (places[at - 1] as number);
    for (let i = 0; i < count; i++) {
      const before = LENGTH_KEYS - lengthKey(lengths[i] as number) - 1;
      const place = places[before] as number;
      this.#order[place] = i;
      places[before] = place + 1;
    }
  }

  /** Lets the busy lanes stay together. */
  #retire(index: number): void {
    const last = --this.#busy;
    if (index === last) return;
    const each = this.#each;
    const lane = each[index] as Lane;
    each[index] = each[last] as Lane;
    each[last] = lane;
    this.#lanes.move(last, index);
  }

  /** Feeds each busy lane as many blocks as the one with least has; returns how many. */
  #feed(): number {
    const each = this.#each;
    const busy = this.#busy;
    let blocks = (each[0] as Lane).blocks;
    for (let i = 1; i < busy; i++) blocks = Math.min(blocks, (each[i] as Lane).blocks);
    for (let i = 0; i < each.length; i++)
      this.#lanes.feed(i, (each[i] as Lane).address, i < busy ? blocks : 0);
    return blocks;
  }

  #begin(index: number, message: number, prefix: number, { buffer, starts, lengths }: Pieces): void {
    const lane = this.#each[index] as Lane;
    const { scratch } = lane;
    const start = starts[message] as number;
    const length = lengths[message] as number;
    lane.message = message;
    this.#lanes.set(index, this.#inner);
    scratch[0] = prefix;
    if (1 + length + PADDING_BYTES <= SHORT_BYTES) {
      buffer.copy(scratch, 1, start, start + length);
      lane.take(LAST, 0, lane.pad(0, 1 + length, BLOCK_BYTES + 1 + length));
    } else {
      buffer.copy(scratch, 1, start, start + BLOCK_BYTES - 1);
      lane.take(HEAD, 0, 1);
    }
  }

  /** The lane's blocks are used up: what comes next of its message; true where that was all. */
  #step(
    index: number,
    base: number,
    { buffer, starts, lengths }: Pieces,
    out: Buffer,
    outOffset: number,
  ): boolean {
    const lane = this.#each[index] as Lane;
    const start = starts[lane.message] as number;
    const length = lengths[lane.message] as number;
    const bulk = Math.floor((1 + length - BLOCK_BYTES) / BLOCK_BYTES);
    switch (lane.stage) {
      case HEAD:
        lane.stage = BULK;
        lane.address = base + start + BLOCK_BYTES - 1;
        lane.blocks = bulk;
        return false;
      case BULK: {
        const from = start + (1 + bulk) * BLOCK_BYTES - 1;
        const rest = start + length - from;
        buffer.copy(lane.scratch, 0, from, from + rest);
        lane.take(LAST, 0, lane.pad(0, rest, BLOCK_BYTES + 1 + length));
        return false;
      }
      case LAST:
        this.#write(index, lane.scratch, OUTER);
        this.#lanes.set(index, this.#outer);
        lane.take(FINAL, OUTER, 1);
        return false;
      default:
        this.#write(index, out, outOffset + lane.message * DIGEST_BYTES);
        return true;
    }
  }

  /** Writes a lane's state as a digest. */
  #write(lane: number, out: Buffer, offset: number): void {
    for (let i = 0; i < STATE_WORDS; i++) out.writeInt32BE(this.#lanes.word(lane, i), offset + 4 * i);
  }
}
