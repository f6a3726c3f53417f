/**
 * Rows: what a list of snapshots shows of each, packed, for ROWS in reader.ts.
 * A thousand headers take a starting program longer to decode than all else
 * that it does; most snapshots share what is not a number here, so that a
 * client decodes that once. Encoded by a session, decoded by its client.
 *
 *   offset size
 *        0   16  the snapshot's id
 *       16    8  when it was begun, ms since 1970: a double, little-endian
 *       24    8  bytes of file contents: a double
 *       32    4  length of what follows
 *       36       a msgpack map: paths, source, tags
 */
import { Failure } from '../error.ts';
import { bytes, list, type PayloadOf, record, text } from '../ipc/shape.ts';
import { decodeMsgpack, encodeMsgpack } from '../keys/msgpack.ts';

const ID_BYTES = 16;
const TIME_AT = 16;
const BYTES_AT = 24;
const LENGTH_AT = 32;
const HEAD_BYTES = 36;

const labels = record({
  paths: list(bytes(64 << 10), 64),
  source: text(256),
  tags: list(text(256), 32),
});

/** What many snapshots have in common. */
export type Labels = PayloadOf<typeof labels>;

/** One row. */
export interface Row {
  /** UUID */
  readonly name: string;
  readonly timeMs: number;
  readonly bytes: number;
  /** The same object for all rows of one message that have the same. */
  readonly labels: Labels;
}

/** Of a snapshot's header, what a row holds. */
export interface Listed extends Labels {
  readonly id: Buffer;
  readonly time: number;
  readonly counts: { readonly bytes: number };
}

export function encodeRow({ id, time, counts, paths, source, tags }: Listed): Buffer {
  const rest = encodeMsgpack({ paths, source, tags });
  const row = Buffer.alloc(HEAD_BYTES + rest.length);
  id.copy(row, 0, 0, ID_BYTES);
  row.writeDoubleLE(time, TIME_AT);
  row.writeDoubleLE(counts.bytes, BYTES_AT);
  row.writeUInt32LE(rest.length, LENGTH_AT);
  rest.copy(row, HEAD_BYTES);
  return row;
}

function malformed(cause: string): Failure {
  return new Failure('list snapshots', '', { cause });
}

/** Rows, one after another; calls `take` with each. Throws a Failure where they are malformed. */
export function decodeRows(rows: Buffer, take: (row: Row) => void): void {
  const known = new Map<string, Labels>();
  const view = new DataView(rows.buffer, rows.byteOffset, rows.length);
  // of all at once: a call for each row would take as long as the rest of it
  const hex = rows.toString('hex');
  for (let at = 0; at < rows.length; ) {
    if (rows.length - at < HEAD_BYTES) throw malformed('a row is cut short');
    const start = at + HEAD_BYTES;
    const end = start + view.getUint32(at + LENGTH_AT, true);
    const timeMs = view.getFloat64(at + TIME_AT, true);
    const bytes = view.getFloat64(at + BYTES_AT, true);
    if (end > rows.length || !Number.isFinite(timeMs) || !Number.isFinite(bytes))
      throw malformed('a row is malformed');
    const key = rows.toString('latin1', start, end);
    let found = known.get(key);
    if (found === undefined) {
      found = decodeMsgpack(rows.subarray(start, end), labels, 'row');
      known.set(key, found);
    }
    take({ name: nameAt(hex, 2 * at), timeMs, bytes, labels: found });
    at = end;
  }
}

/** A UUID's text, from its 32 digits. */
function nameAt(hex: string, at: number): string {
  const a = at + 8;
  const b = at + 12;
  const c = at + 16;
  const d = at + 20;
  return `${hex.slice(at, a)}-${hex.slice(a, b)}-${hex.slice(b, c)}-${hex.slice(c, d)}-${hex.slice(d, at + 32)}`;
}
