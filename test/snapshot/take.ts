/**
 * Takes snapshots in one process, for the tests of walk and builder: a walker, a
 * builder and chunks in memory, connected as the processes connect them, with
 * batches acknowledged one at a time.
 */
import fs from 'node:fs';
import { type BuiltTree, type FileToRead, TreeBuilder } from '../../src/snapshot/builder.ts';
import { CHUNK_DATA, type ChunkRef, ID_BYTES, MemoryChunks } from '../../src/snapshot/chunks.ts';
import { Excludes } from '../../src/snapshot/exclude.ts';
import type { FileCalls } from '../../src/snapshot/opener.ts';
import type { WalkRoot } from '../../src/snapshot/roots.ts';
import {
  COPY,
  END,
  ENTER,
  EVENT,
  FILE_TO_READ,
  LEAVE,
  ScanReader,
  SPECIAL,
} from '../../src/snapshot/scanlog.ts';
import { NodeStream, streamTree } from '../../src/snapshot/stream.ts';
import { decodeVisits, encodeVisits } from '../../src/snapshot/visits.ts';
import { Walker } from '../../src/snapshot/walk.ts';
import type { Watched, WatchedWalk } from '../../src/snapshot/watched.ts';

export interface TakeOptions {
  readonly chunks?: MemoryChunks;
  readonly old?: ChunkRef | undefined;
  readonly excludes?: readonly string[];
  readonly oneFilesystem?: boolean;
  readonly roots?: readonly string[];
  readonly files?: FileCalls;
  readonly trustBeforeSec?: number;
  readonly uid?: number;
  /** Told of directories of the parent that cannot be read; without it, those fail the walk. */
  readonly onDamage?: (error: unknown) => void;
  /** The builder's side gives up after so many batches. */
  readonly failAfterBatches?: number;
  /** of a watched source: what is visited is then streamed alone */
  readonly watch?: { readonly source: Watched; readonly walk: WatchedWalk };
  /** bytes of a piece of old nodes, at most */
  readonly pieceBytes?: number;
}

export interface Taken extends BuiltTree {
  readonly chunks: MemoryChunks;
  /** what the walker said, in order, as `ENTER name`, `COPY part from to`, ... */
  readonly log: string[];
  readonly events: string[];
  /** the most that were under way, unacknowledged */
  readonly mostDescriptors: number;
}

const NAMES: Readonly<Record<number, string>> = {
  [ENTER]: 'ENTER',
  [COPY]: 'COPY',
  [FILE_TO_READ]: 'FILE',
  [SPECIAL]: 'SPECIAL',
  [LEAVE]: 'LEAVE',
  [EVENT]: 'EVENT',
  [END]: 'END',
};

/** The records of a batch as text. */
export function describeBatch(batch: Buffer): string[] {
  const lines: string[] = [];
  for (const reader = new ScanReader().load(batch); reader.next(); ) {
    const { what, part, from, to, flags, entry } = reader;
    const name = NAMES[what] ?? '?';
    if (what === ENTER) lines.push(`${name} ${batch.toString('latin1', reader.nameStart, reader.nameEnd)}`);
    else if (what === COPY) lines.push(`${name} ${part} ${from} ${to}`);
    else if (what === EVENT) lines.push(`${name} ${reader.path.toString('latin1')} ${reader.text}`);
    else if (what === END) lines.push(`${name} ${flags}`);
    else lines.push(`${name} ${entry.name().toString('latin1')}`);
  }
  return lines;
}

/** Reads a whole file as one chunk; what the tests read is small. */
export function readWhole(chunks: MemoryChunks): (fd: number, file: FileToRead) => number {
  const id = Buffer.alloc(ID_BYTES);
  return (fd, file) => {
    const data = fs.readFileSync(fd);
    fs.closeSync(fd);
    if (data.length === 0) return 0;
    chunks.put(CHUNK_DATA, data, id);
    file.content.data(data.length, id);
    return 0;
  };
}

/** Takes a snapshot of `path`, of `roots` if given, beside `old`. */
export async function take(path: string, options: TakeOptions = {}): Promise<Taken> {
  const chunks = options.chunks ?? new MemoryChunks();
  const log: string[] = [];
  const events: string[] = [];
  const builder = new TreeBuilder({
    source: chunks,
    store: chunks,
    readFile: readWhole(chunks),
    discard: (fd) => fs.closeSync(fd),
    onEvent: (_event, at, text) => events.push(`${at.toString('latin1')}: ${text}`),
  });
  const old = options.old && startStream(chunks, options.old, options);
  let feeding = Promise.resolve();
  let batches = 0;
  let descriptors = 0;
  let mostDescriptors = 0;
  const use = async (records: Buffer, fds: readonly number[]): Promise<void> => {
    if (batches > (options.failAfterBatches ?? Number.POSITIVE_INFINITY)) {
      for (const fd of fds) fs.closeSync(fd);
      throw new Error('the builder gave up');
    }
    await builder.feed(records, fds);
    descriptors -= fds.length;
    walker.credit(records.length, fds.length);
  };
  const dirfd = fs.openSync('/', fs.constants.O_DIRECTORY);
  const root = (at: string): WalkRoot => ({ path: Buffer.from(at), dirfd, name: Buffer.from(at.slice(1)) });
  const walker = new Walker({
    roots: (options.roots ?? [path]).map(root),
    old,
    excludes: new Excludes(options.excludes ?? [], path),
    oneFilesystem: options.oneFilesystem ?? false,
    base: Buffer.from(path),
    uid: options.uid ?? process.geteuid?.() ?? 0,
    now: () => performance.now(),
    yield: () => new Promise((resolve) => setImmediate(resolve)),
    watch: options.watch,
    ...(options.files && { files: options.files }),
    ...(options.trustBeforeSec !== undefined && { trustBeforeSec: options.trustBeforeSec }),
    sink: {
      batch(records, fds) {
        batches++;
        log.push(...describeBatch(records));
        descriptors += fds.length;
        mostDescriptors = Math.max(mostDescriptors, descriptors);
        feeding = feeding.then(() => use(records, fds)).catch((error) => walker.cancel(error));
      },
    },
  });
  try {
    await walker.run();
  } finally {
    await feeding;
    fs.closeSync(dirfd);
  }
  const { result } = builder;
  if (result === undefined) throw new Error('the builder saw no end');
  return { ...result, chunks, log, events, mostDescriptors };
}

function startStream(chunks: MemoryChunks, root: ChunkRef, options: TakeOptions): NodeStream {
  let opened: (() => void) | undefined;
  let window = 256 << 10;
  const stream = new NodeStream((bytes) => {
    window += bytes;
    opened?.();
  });
  const visits = options.watch?.walk.visits;
  streamTree(chunks, root, {
    visits: visits && decodeVisits(encodeVisits(visits)),
    ...(options.onDamage && { onDamage: options.onDamage }),
    write(bytes) {
      window -= bytes.length;
      const piece = Buffer.from(bytes);
      const most = options.pieceBytes ?? 64 << 10;
      for (let at = 0; at < piece.length; at += most) stream.push(piece.subarray(at, at + most));
      if (window > 0) return undefined;
      return new Promise((resolve) => {
        opened = resolve;
      });
    },
  }).then(
    () => stream.end(),
    (error) => stream.fail(error),
  );
  return stream;
}
