/**
 * The contents of a file of a snapshot, in order. Called by cat, tarball and
 * checksum. Extents are asked for many at a time, so that reading goes ahead of
 * writing; holes become zeros.
 */
import { Failure } from '../error.ts';
import { CHUNK_DATA, ID_BYTES } from '../snapshot/chunks.ts';
import { extents } from '../snapshot/content.ts';
import { type EntryReader, FILE, FLAG_UNREADABLE } from '../snapshot/tree.ts';
import { TYPE_NAMES } from './entries.ts';
import type { Reader } from './reader.ts';

/** Extents asked for at once: more than the ring holds, so that it is always full. */
const EXTENTS_MAX = 256;
const ZEROS = Buffer.alloc(1 << 20);

/** Takes the next bytes of a file; they are valid until the promise it returns is resolved. */
export type Write = (bytes: Buffer) => Promise<void> | undefined;

/** What of the reader is needed here. */
export type ContentSource = Pick<Reader, 'get' | 'readInOrder'>;

/** Extents in a row, with the bytes of hole before each. */
class Run {
  readonly ids = Buffer.alloc(EXTENTS_MAX * ID_BYTES);
  readonly lengths = new Uint32Array(EXTENTS_MAX);
  readonly holes = new Float64Array(EXTENTS_MAX);
  count = 0;
  /** Bytes of hole after the last extent. */
  hole = 0;

  add(id: Buffer, length: number): void {
    id.copy(this.ids, this.count * ID_BYTES);
    this.lengths[this.count] = length;
    this.holes[this.count] = this.hole;
    this.hole = 0;
    this.count++;
  }
}

async function writeHole(length: number, write: Write): Promise<void> {
  for (let left = length; left > 0; left -= ZEROS.length)
    await write(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
}

async function writeRun(source: ContentSource, run: Run, write: Write): Promise<void> {
  const { ids, lengths, holes, count } = run;
  const fail = (_: number, failure: Failure): never => {
    throw failure;
  };
  const take = (index: number, bytes: Buffer): Promise<void> | undefined => {
    const hole = holes[index] as number;
    return hole === 0 ? write(bytes) : writeHole(hole, write).then(() => write(bytes));
  };
  await source.readInOrder({ kind: CHUNK_DATA, ids, lengths, count }, take, fail);
  run.count = 0;
}

/**
 * Writes the contents of the file that `entry` stands at. Rejects where it is
 * no file, could not be read when the snapshot was taken, or is damaged; what
 * comes before the damage has been written by then.
 */
export async function writeContents(source: ContentSource, entry: EntryReader, write: Write): Promise<void> {
  if (entry.type !== FILE)
    throw new Failure('read contents', '', { cause: `it is a ${TYPE_NAMES[entry.type]}` });
  if ((entry.flags & FLAG_UNREADABLE) !== 0)
    throw new Failure('read contents', '', {
      cause: 'they could not be read when the snapshot was taken',
      kind: 'partial',
    });
  const run = new Run();
  for await (const { id, length } of extents(source, entry.content())) {
    if (id === undefined) run.hole += length;
    else run.add(id, length);
    if (run.count === EXTENTS_MAX) await writeRun(source, run, write);
  }
  if (run.count > 0) await writeRun(source, run, write);
  await writeHole(run.hole, write);
}
