/**
 * Writes what a restore has in memory to open files, large data past the page
 * cache: copying into fresh pages of it costs the kernel more than anything
 * else of a restore. Called by restore-hand.ts, which may wait for the disk
 * while others work. Invariant: a file has the same contents either way; the
 * page cache does what the disk cannot do, or not fast enough.
 */
import { setDirect, writeMemory } from '../sys/files.ts';
import { addressOf, copyMemory, pinned } from '../sys/foreign.ts';

/** Less is copied in the time that waiting for the disk takes. */
export const DIRECT_MIN_BYTES = 64 << 10;
/** What the disk takes is at multiples of this, in the file and in memory: pages, and blocks of almost all file systems. */
const BLOCK_BYTES = 4096;
/** Data are copied to an aligned place, so much at a time. */
const STAGE_BYTES = 1 << 20;
/**
 * A disk that takes so long for most of so many writes gets what comes from the page cache: one whose head has to go
 * there does. Others take longer at times, for hundreds of milliseconds while a journal is written, or until a core is
 * free to return on; the mean would take them for slow.
 */
const SLOW_MS = 5;
const JUDGED_WRITES = 64;
const AT_POSITION = -1;

export class DataWriter {
  readonly #now: () => number;
  readonly #memory = pinned(STAGE_BYTES + BLOCK_BYTES);
  readonly #stage = Math.ceil(addressOf(this.#memory) / BLOCK_BYTES) * BLOCK_BYTES;
  #isDirect = true;
  #writes = 0;
  #slowWrites = 0;

  /** @param now milliseconds since any moment */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Writes all of a file that is new, and that nobody else has open: 0 or -errno. */
  whole(fd: number, address: number, lengthBytes: number): number {
    if (!this.#isDirect || lengthBytes < DIRECT_MIN_BYTES || setDirect(fd, true) < 0)
      return writeMemory(fd, address, lengthBytes, AT_POSITION);
    const done = this.#past(fd, address, lengthBytes, 0);
    const result = setDirect(fd, false);
    return result < 0 ? result : writeMemory(fd, address + done, lengthBytes - done, done);
  }

  /**
   * Writes a part of a file, at `offset`: 0 or -errno. `direct` is another descriptor of the file, opened with
   * O_DIRECT, or -1.
   */
  part(fd: number, direct: number, address: number, lengthBytes: number, offset: number): number {
    const begin = Math.ceil(offset / BLOCK_BYTES) * BLOCK_BYTES - offset;
    if (!this.#isDirect || direct < 0 || lengthBytes - begin < DIRECT_MIN_BYTES)
      return writeMemory(fd, address, lengthBytes, offset);
    const head = writeMemory(fd, address, begin, offset);
    if (head < 0) return head;
    const done = begin + this.#past(direct, address + begin, lengthBytes - begin, offset + begin);
    return writeMemory(fd, address + done, lengthBytes - done, offset + done);
  }

  /** Writes whole blocks past the page cache: how many bytes of the beginning are done. */
  #past(fd: number, address: number, lengthBytes: number, offset: number): number {
    const wanted = lengthBytes - (lengthBytes % BLOCK_BYTES);
    let done = 0;
    while (done < wanted) {
      const bytes = Math.min(STAGE_BYTES, wanted - done);
      copyMemory(this.#stage, address + done, bytes);
      const began = this.#now();
      if (writeMemory(fd, this.#stage, bytes, offset + done) < 0) {
        // the page cache takes it, or says why it cannot be written
        this.#isDirect = false;
        return done;
      }
      this.#judge(this.#now() - began);
      done += bytes;
    }
    return done;
  }

  #judge(ms: number): void {
    this.#writes++;
    if (ms > SLOW_MS) this.#slowWrites++;
    if (this.#writes < JUDGED_WRITES) return;
    if (this.#slowWrites > JUDGED_WRITES / 2) this.#isDirect = false;
    this.#writes = 0;
    this.#slowWrites = 0;
  }
}
