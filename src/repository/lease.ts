/**
 * What writers and cleanups tell each other, as plain objects of the kind
 * `leases`. Called by writer.ts, marks.ts and cleanup.ts. Owns their formats,
 * and the names that follow from others.
 *
 *   lease    a writer is at work on the snapshot whose id is its name, since
 *            it knows of the marks in `seen`; `beat` grows while it lives
 *   mark     these packs will be removed, if nothing refers to them when all
 *            writers know of the mark; in quarantine, they are damaged, and stay
 *            marked until nothing in use is in them alone
 *   verdict  of the packs of a mark, these are removed and the others stay:
 *            its name follows from the mark's, so that there is only one
 *   void     in the place of a snapshot: its writer was given up, and cannot
 *            commit any more
 *
 * They are in the clear: they say nothing that whoever keeps the repository
 * does not know.
 */
import { hash } from 'node:crypto';
import { boolean, bytes, integer, list, optional, record } from '../ipc/shape.ts';
import { decodePlain, encodePlain, HEADER_BYTES, MAGIC } from '../keys/frame.ts';
import { decodeMsgpack, encodeMsgpack } from '../keys/msgpack.ts';
import { snapshotName } from './snapshot.ts';

const NAME_BYTES = 16;
const DIGEST_BYTES = 32;
/** Marks that a repository has at once; a cleanup makes no more while there are so many. */
export const MARKS_MAX = 256;
/** Packs in one mark: it has to fit in what is reserved for a full disk. */
export const MARK_PACKS_MAX = 16_384;
/** The largest of these objects. */
export const LEASE_MAX_BYTES = 512 << 10;

const name = bytes(NAME_BYTES, NAME_BYTES);
const leaseShape = record({ beat: integer(), seen: list(name, MARKS_MAX), version: integer(1, 1) });
const markShape = record({
  packs: list(name, MARK_PACKS_MAX),
  quarantine: optional(boolean),
  version: integer(1, 1),
});
const verdictShape = record({ mark: name, remove: list(name, MARK_PACKS_MAX), version: integer(1, 1) });

export interface Lease {
  /** counts the signs of life of its writer */
  readonly beat: number;
  /** names of the marks that it heeds */
  readonly seen: readonly string[];
}

export interface Mark {
  /** names */
  readonly packs: readonly string[];
  /** they are damaged: see above */
  readonly quarantine: boolean;
}

export interface Verdict {
  readonly mark: string;
  /** names of the packs that go */
  readonly remove: readonly string[];
}

const toBytes = (names: readonly string[]): Buffer[] => names.map((each) => Buffer.from(each, 'hex'));
const toNames = (names: readonly Buffer[]): string[] => names.map((each) => each.toString('hex'));

export function encodeLease({ beat, seen }: Lease): Buffer {
  return encodePlain(MAGIC.lease, encodeMsgpack({ beat, seen: toBytes(seen), version: 1 }));
}

/** Throws a Failure of kind 'damaged'. */
export function decodeLease(object: Buffer, leaseName: string): Lease {
  const content = decodePlain(object, MAGIC.lease, `leases/${leaseName}`, LEASE_MAX_BYTES);
  const { beat, seen } = decodeMsgpack(content, leaseShape, `leases/${leaseName}`);
  return { beat, seen: toNames(seen) };
}

export function encodeMark(packs: readonly string[], quarantine = false): Buffer {
  const value = { packs: toBytes(packs), ...(quarantine ? { quarantine } : {}), version: 1 };
  return encodePlain(MAGIC.mark, encodeMsgpack(value));
}

/** Throws a Failure of kind 'damaged'. */
export function decodeMark(object: Buffer, markName: string): Mark {
  const content = decodePlain(object, MAGIC.mark, `leases/${markName}`, LEASE_MAX_BYTES);
  const { packs, quarantine } = decodeMsgpack(content, markShape, `leases/${markName}`);
  return { packs: toNames(packs), quarantine: quarantine === true };
}

export function encodeVerdict({ mark, remove }: Verdict): Buffer {
  const value = { mark: Buffer.from(mark, 'hex'), remove: toBytes(remove), version: 1 };
  return encodePlain(MAGIC.verdict, encodeMsgpack(value));
}

/** Throws a Failure of kind 'damaged'. */
export function decodeVerdict(object: Buffer, verdict: string): Verdict {
  const content = decodePlain(object, MAGIC.verdict, `leases/${verdict}`, LEASE_MAX_BYTES);
  const { mark, remove } = decodeMsgpack(content, verdictShape, `leases/${verdict}`);
  return { mark: mark.toString('hex'), remove: toNames(remove) };
}

/** The name of the verdict on a mark. */
export function verdictName(mark: string): string {
  return hash('sha256', `plakard 1 verdict ${mark}`, 'hex').slice(0, 2 * NAME_BYTES);
}

/** Which of them an object of the kind `leases` is; what is none of them counts as a lease: somebody may be at work. */
export function kindOfLease(object: Buffer): 'lease' | 'mark' | 'verdict' {
  const magic = object.toString('latin1', 0, MAGIC.mark.length);
  if (magic === MAGIC.mark) return 'mark';
  return magic === MAGIC.verdict ? 'verdict' : 'lease';
}

/** The snapshot that a lease is for. */
export function leasedSnapshot(lease: string): string {
  return snapshotName(Buffer.from(lease, 'hex'));
}

/** What stands in the place of a snapshot whose writer was given up. */
export const VOID_SNAPSHOT = encodePlain(MAGIC.void, Buffer.alloc(0));

/** Whether an object of the kind `snapshots` only keeps one from coming to be. Throws a Failure where that is damaged. */
export function isVoid(object: Buffer, snapshot: string): boolean {
  if (object.length !== HEADER_BYTES + DIGEST_BYTES) return false;
  if (object.toString('latin1', 0, MAGIC.void.length) !== MAGIC.void) return false;
  decodePlain(object, MAGIC.void, `snapshots/${snapshot}`, object.length);
  return true;
}
