/**
 * The contents of one regular file into chunks: read, split, stored, listed.
 * Called by the push for every file that is new or has changed, so its short
 * path, for a file of one chunk, reads straight into the open segment and
 * allocates nothing. Invariant: what was listed is what was read; whether the
 * file held still meanwhile is for the push to judge.
 */
import { CHUNK_DATA } from '../../keys/derive.ts';
import { type ContentWriter, SPLITTER_FASTCDC1 } from '../../snapshot/content.ts';
import type { Splitter } from '../../snapshot/splitter.ts';
import { check, ENXIO } from '../../sys/errno.ts';
import { seekData, seekHole } from '../../sys/files.ts';
import { LongFiles } from './long.ts';
import { NO_ROOM, SMALL_MAX_BYTES, SmallFiles, TOO_LONG, UNSIZED_BYTES } from './small.ts';
import type { SegmentStore } from './store.ts';

export class FileReader {
  readonly #store: SegmentStore;
  readonly #wholeMaxBytes: number;
  readonly #small: SmallFiles;
  readonly #long: LongFiles;

  constructor(store: SegmentStore, splitter: Splitter) {
    this.#store = store;
    this.#wholeMaxBytes = splitter.sizes.min;
    this.#small = new SmallFiles(store, splitter);
    this.#long = new LongFiles(store, splitter);
  }

  /** The files of these descriptors come next, in this order, with the sizes that the walker saw. */
  expect(fds: readonly number[], sizes: Float64Array): void {
    this.#small.expect(fds, sizes);
  }

  /**
   * Reads a file of `sizeBytes` (and beyond, if it grew) from its beginning into
   * `content`, which has begun. A promise only where it had to wait. A system
   * call that fails throws.
   */
  read(fd: number, sizeBytes: number, sparse: boolean, content: ContentWriter): undefined | Promise<void> {
    if (sizeBytes > SMALL_MAX_BYTES || sparse) return this.#readLong(fd, sizeBytes, sparse, content);
    const small = this.#small;
    const outcome = small.read(fd, sizeBytes);
    if (outcome === NO_ROOM) return this.#wait(fd, sizeBytes, content);
    const { length } = small;
    if (outcome === TOO_LONG || (sizeBytes === 0 && length === UNSIZED_BYTES))
      return this.#readLong(fd, sizeBytes, false, content);
    if (length === 0) return undefined;
    if (length > this.#wholeMaxBytes) content.begin(SPLITTER_FASTCDC1);
    return small.keep(content);
  }

  async #wait(fd: number, sizeBytes: number, content: ContentWriter): Promise<void> {
    await this.#store.makeRoom(CHUNK_DATA, Math.max(sizeBytes, UNSIZED_BYTES));
    await this.read(fd, sizeBytes, false, content);
  }

  async #readLong(fd: number, sizeBytes: number, sparse: boolean, content: ContentWriter): Promise<void> {
    content.begin(SPLITTER_FASTCDC1);
    if (sparse) await this.#readSparse(fd, sizeBytes, content);
    else await this.#long.read(fd, 0, Number.MAX_SAFE_INTEGER, content);
  }

  /** Data between the holes; the last hole ends where the file did when it was looked at. */
  async #readSparse(fd: number, sizeBytes: number, content: ContentWriter): Promise<void> {
    for (let at = 0; at < sizeBytes; ) {
      const data = seekData(fd, at);
      if (data === -ENXIO) {
        content.hole(sizeBytes - at);
        return;
      }
      check(data, 'lseek', '');
      if (data > at) content.hole(data - at);
      const hole = check(seekHole(fd, data), 'lseek', '');
      await this.#long.read(fd, data, hole, content);
      // it was cut off meanwhile: what there is has been listed
      if (content.size < hole) return;
      at = hole;
    }
  }
}
