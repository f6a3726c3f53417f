/**
 * Snapshot headers: the object that makes a tree a snapshot. Called by the
 * chunker (writing), by every reader and by check. Owns the header's shape and
 * its size: of the errors as many are kept as fit.
 *
 * Object:    header (frame.ts) ‖ sealed (sealed.ts)
 * Plaintext: a msgpack map, its keys sorted
 */
import { Failure } from '../error.ts';
import { bytes, integer, list, optional, type PayloadOf, real, record, text } from '../ipc/shape.ts';
import { CHUNK_ID_BYTES } from '../keys/derive.ts';
import { checkHeader, encodeHeader, HEADER_BYTES, MAGIC } from '../keys/frame.ts';
import { decodeMsgpack, encodeMsgpack } from '../keys/msgpack.ts';
import { CHUNK_MAX_BYTES, SNAPSHOT_MAX_BYTES } from './constants.ts';

const PATHS_MAX = 64;
const PATH_MAX_BYTES = 64 << 10;
const TAGS_MAX = 32;
const NAME_MAX_CHARS = 256;
export const SNAPSHOT_ERRORS_MAX = 100;
const ERROR_MAX_CHARS = 1024;

const counts = record({
  /** bytes of chunks that were not in the repository before */
  addedBytes: integer(),
  bytes: integer(),
  changed: integer(),
  directories: integer(),
  files: integer(),
  inconsistent: integer(),
  new: integer(),
  /** links, fifos, sockets, devices */
  others: integer(),
  /** bytes that the repository grew by */
  storedBytes: integer(),
  unchanged: integer(),
  unreadable: integer(),
});

const shape = record({
  counts,
  /** ms since 1970 */
  end: real,
  errors: list(record({ path: bytes(PATH_MAX_BYTES), text: text(ERROR_MAX_CHARS) }), SNAPSHOT_ERRORS_MAX),
  host: text(NAME_MAX_CHARS),
  /** UUID */
  id: bytes(16, 16),
  parent: optional(bytes(16, 16)),
  paths: list(bytes(PATH_MAX_BYTES, 1), PATHS_MAX),
  program: text(NAME_MAX_CHARS),
  root: record({ id: bytes(CHUNK_ID_BYTES, CHUNK_ID_BYTES), length: integer(1, CHUNK_MAX_BYTES) }),
  /** of the configuration, or empty */
  source: text(NAME_MAX_CHARS),
  tags: list(text(NAME_MAX_CHARS), TAGS_MAX),
  /** ms since 1970, when it was begun */
  time: real,
  user: text(NAME_MAX_CHARS),
  version: integer(1, 1),
});
export type SnapshotHeader = PayloadOf<typeof shape>;

/** The plaintext of a header, at most SNAPSHOT_MAX_BYTES: errors that do not fit are left out, the last first. */
export function encodeSnapshot(header: SnapshotHeader): Buffer {
  let kept = Math.min(header.errors.length, SNAPSHOT_ERRORS_MAX);
  for (;;) {
    const plaintext = encodeMsgpack(sorted(header, kept));
    if (plaintext.length <= SNAPSHOT_MAX_BYTES) {
      decodeSnapshot(plaintext, snapshotName(header.id));
      return plaintext;
    }
    if (kept === 0)
      throw new Failure('encode snapshot', snapshotName(header.id), {
        cause: `header of ${plaintext.length} bytes, more than ${SNAPSHOT_MAX_BYTES}`,
        remedy: 'name fewer or shorter paths',
      });
    kept = kept >> 1;
  }
}

function sorted(header: SnapshotHeader, errors: number): object {
  const { counts, parent, root } = header;
  return {
    counts: {
      addedBytes: counts.addedBytes,
      bytes: counts.bytes,
      changed: counts.changed,
      directories: counts.directories,
      files: counts.files,
      inconsistent: counts.inconsistent,
      new: counts.new,
      others: counts.others,
      storedBytes: counts.storedBytes,
      unchanged: counts.unchanged,
      unreadable: counts.unreadable,
    },
    end: header.end,
    errors: header.errors.slice(0, errors).map(({ path, text }) => ({ path, text })),
    host: header.host,
    id: header.id,
    ...(parent === undefined ? {} : { parent }),
    paths: header.paths,
    program: header.program,
    root: { id: root.id, length: root.length },
    source: header.source,
    tags: header.tags,
    time: header.time,
    user: header.user,
    version: header.version,
  };
}

/** The header; throws a Failure of kind 'damaged', also if it is not the one of `name`, where that is known. */
export function decodeSnapshot(plaintext: Buffer, name?: string): SnapshotHeader {
  const object = name === undefined ? 'snapshot header' : `snapshots/${name}`;
  if (plaintext.length > SNAPSHOT_MAX_BYTES)
    throw new Failure('decode', object, { cause: `${plaintext.length} bytes are too many`, kind: 'damaged' });
  const header = decodeMsgpack(plaintext, shape, object);
  if (name !== undefined && snapshotName(header.id) !== name)
    throw new Failure('decode', object, { cause: `it is ${snapshotName(header.id)}`, kind: 'damaged' });
  return header;
}

/** The UUID's text, which is the object's name. */
export function snapshotName(id: Buffer): string {
  const hex = id.toString('hex');
  const cuts = [0, 8, 12, 16, 20, 32];
  return cuts
    .slice(1)
    .map((end, i) => hex.slice(cuts[i], end))
    .join('-');
}

/** The 16 bytes of a snapshot's name. */
export function snapshotId(name: string): Buffer {
  return Buffer.from(name.replaceAll('-', ''), 'hex');
}

/** The object that holds `sealed`, with a key of `epoch`. */
export function frameSnapshot(sealed: Buffer, epoch?: number): Buffer {
  return Buffer.concat([encodeHeader(MAGIC.snapshot, epoch), sealed]);
}

/** The sealed part of a snapshot object, a view. Throws a Failure of kind 'damaged'. */
export function unframeSnapshot(object: Buffer, name: string): Buffer {
  checkHeader(object, MAGIC.snapshot, `snapshots/${name}`);
  return object.subarray(HEADER_BYTES);
}
