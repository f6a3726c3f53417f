/**
 * The three depths of a check, over interfaces: everything exists (fast),
 * snapshots are read and verified, the whole repository is. Called where
 * `plakarctl check` ends up, and by tests. Owns the rule that a check goes on
 * behind every problem, names each once, and takes a failing backend for a
 * failure and not for damage.
 */
import type { Backend } from '../backends/objects.ts';
import { Failure } from '../error.ts';
import { CHUNK_DATA, CHUNK_ID_BYTES, CHUNK_LIST, CHUNK_TREE, type ChunkKind } from '../keys/derive.ts';
import type { ChunkHasher } from '../keys/ids.ts';
import { SEGMENT_RAW_MAX_BYTES } from './constants.ts';
import { INDEX_ID_BYTES, type PackRecord } from './index.ts';
import type { SegmentRecord } from './listing.ts';
import { type FooterOpener, readFooter } from './pack.ts';
import { isUnreadable, type Problem, problemOf } from './problem.ts';
import { CLASS_DATA, SegmentReader, type Unpacked } from './segment.ts';
import type { Store } from './store.ts';
import { type IdTable, PendingTable } from './table.ts';

/** What cannot be read is a problem; anything else that fails ends the check. */
function problemOrThrow(object: string, error: unknown): Problem {
  if (isUnreadable(error)) return problemOf(object, error);
  throw error;
}

/** Every pack of the index exists and has its size; and what opening the store has found. */
export async function checkListing(store: Store): Promise<Problem[]> {
  const problems: Problem[] = [...store.problems];
  const present = new Set(await store.backend.list('packs'));
  for (const pack of [...store.segments.packNumbers()]) {
    const name = store.segments.packName(pack);
    const expected = store.segments.packBytes(pack);
    if (expected === 0) continue; // still on its way
    const sizeBytes = present.has(name) ? await store.backend.stat('packs', name) : undefined;
    if (sizeBytes === undefined) problems.push({ object: `packs/${name}`, text: 'pack is missing' });
    else if (sizeBytes !== expected)
      problems.push({ object: `packs/${name}`, text: `it has ${sizeBytes} bytes, not ${expected}` });
  }
  return problems;
}

/** A reference to a chunk. */
export interface ChunkReference {
  readonly kind: ChunkKind;
  readonly id: Buffer;
  readonly length: number;
}

export interface ReferenceOptions {
  /** Whether the chunk is in the index. */
  has(id: Buffer): boolean;
  /** The verified chunk; throws a Failure of kind 'damaged' if it is missing or wrong. */
  read(reference: ChunkReference): Promise<Buffer>;
  /** Tells of every chunk that this one names; throws a Failure of kind 'damaged'. Ids may be views. */
  references(
    kind: ChunkKind,
    chunk: Buffer,
    visit: (kind: ChunkKind, id: Buffer, length: number) => void,
  ): void;
  /** Read file contents too, rather than see that they exist. */
  readonly contents: boolean;
}

/** What a walk along references has seen. */
export interface ReferenceReport {
  chunks: number;
  bytes: number;
  readonly problems: Problem[];
  /** Ids of chunks that are missing or damaged, in hexadecimal, to name the paths they touch. */
  readonly damaged: Set<string>;
}

/** Follows snapshots down to their chunks, each chunk once however many refer to it. */
export class ReferenceChecker {
  readonly report: ReferenceReport = { chunks: 0, bytes: 0, problems: [], damaged: new Set() };
  /** Every chunk that was reached, with its length in bytes. */
  readonly seen = new PendingTable();
  readonly #options: ReferenceOptions;

  constructor(options: ReferenceOptions) {
    this.#options = options;
  }

  /** Checks everything below `root`. Memory: the references of the nodes on one path, and 16 bytes per chunk seen. */
  async check(root: ChunkReference): Promise<void> {
    const waiting: ChunkReference[] = [root];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (!this.seen.add(next.id, 0, next.length)) continue;
      await this.#checkOne(next, waiting);
    }
  }

  async #checkOne(reference: ChunkReference, waiting: ChunkReference[]): Promise<void> {
    const { kind, id, length } = reference;
    const { report } = this;
    report.chunks++;
    report.bytes += length;
    try {
      if (!this.#options.has(id))
        throw new Failure('find', 'chunk', { cause: 'not in the index', kind: 'damaged' });
      if (kind === CHUNK_DATA && !this.#options.contents) return;
      const chunk = await this.#options.read(reference);
      if (kind === CHUNK_DATA) return;
      this.#options.references(kind, chunk, (childKind, childId, childLength) => {
        if (!this.seen.has(childId))
          waiting.push({ kind: childKind, id: Buffer.from(childId), length: childLength });
      });
    } catch (error) {
      const hex = id.toString('hex');
      report.damaged.add(hex);
      report.problems.push(problemOrThrow(`chunk ${hex}`, error));
    }
  }
}

/** Chunks of the index that nothing refers to: no damage, but space. */
export function unreferenced(table: IdTable, seen: PendingTable): { chunks: number; segments: Set<number> } {
  let chunks = 0;
  const segments = new Set<number>();
  table.each((id, ordinal) => {
    if (seen.has(id)) return;
    chunks++;
    segments.add(ordinal);
  });
  return { chunks, segments };
}

/** What reading a pack takes. */
export interface PackTools extends FooterOpener {
  readonly backend: Backend;
  readonly hasher: ChunkHasher;
  /** Opens a sealed segment into `out` (SEGMENT_RAW_MAX_BYTES); throws a Failure of kind 'damaged'. */
  openSegment(sealed: Buffer, keyEpoch: number, out: Buffer): Promise<Unpacked>;
}

export interface PackReport {
  segments: number;
  chunks: number;
  /** of chunks */
  bytes: number;
  readonly problems: Problem[];
}

/**
 * Reads a pack completely: its footer, and the id of every chunk of every
 * segment recomputed. With `indexed` the index must say the same as the footer.
 */
export async function verifyPack(name: string, tools: PackTools, indexed?: PackRecord): Promise<PackReport> {
  const report: PackReport = { segments: 0, chunks: 0, bytes: 0, problems: [] };
  const object = `packs/${name}`;
  let footer: PackRecord | undefined;
  try {
    footer = await readFooter(tools.backend, tools, name);
    if (footer === undefined) report.problems.push({ object, text: 'pack is missing' });
    else if (indexed !== undefined && !agree(footer, indexed))
      report.problems.push({ object, text: 'its footer and the index disagree' });
  } catch (error) {
    report.problems.push(problemOrThrow(object, error));
  }
  // with a damaged footer, what the index knows of its segments can still be verified
  const segments = (footer ?? indexed)?.segments ?? [];
  const raw = Buffer.alloc(segments.length > 0 ? SEGMENT_RAW_MAX_BYTES : 0);
  for (const [i, segment] of segments.entries()) {
    try {
      await verifySegment(name, segment, tools, raw, report);
    } catch (error) {
      report.problems.push(problemOrThrow(`${object} segment ${i}`, error));
    }
  }
  return report;
}

function agree(footer: PackRecord, indexed: PackRecord): boolean {
  return (
    footer.packBytes === indexed.packBytes &&
    footer.segments.length === indexed.segments.length &&
    footer.segments.every((segment, i) => {
      const other = indexed.segments[i];
      return other !== undefined && sameSegment(segment, other);
    })
  );
}

function sameSegment(one: SegmentRecord, other: SegmentRecord): boolean {
  if (
    one.offset !== other.offset ||
    one.sealedLength !== other.sealedLength ||
    one.kind !== other.kind ||
    one.keyEpoch !== other.keyEpoch ||
    one.count !== other.count
  )
    return false;
  const [a, b] = [one.ids.length / one.count, other.ids.length / other.count];
  for (let i = 0; i < one.count; i++)
    if (one.ids.compare(other.ids, i * b, i * b + INDEX_ID_BYTES, i * a, i * a + INDEX_ID_BYTES) !== 0)
      return false;
  return true;
}

async function verifySegment(
  pack: string,
  segment: SegmentRecord,
  tools: PackTools,
  raw: Buffer,
  report: PackReport,
): Promise<void> {
  const { offset, sealedLength, ids, count } = segment;
  const sealed = await tools.backend.get('packs', pack, { offset, length: sealedLength });
  const fail = (cause: string) => new Failure('verify segment', '', { cause, kind: 'damaged' });
  if (sealed === undefined) throw fail('pack is missing');
  const { kind, rawLength } = await tools.openSegment(sealed, segment.keyEpoch, raw);
  const reader = new SegmentReader();
  reader.load(raw.subarray(0, rawLength));
  report.segments++;
  if (kind !== segment.kind || reader.count !== count)
    throw fail('it is not the segment that is listed here');
  const stride = ids.length / count;
  const id = Buffer.alloc(CHUNK_ID_BYTES);
  const kinds: readonly ChunkKind[] = kind === CLASS_DATA ? [CHUNK_DATA] : [CHUNK_TREE, CHUNK_LIST];
  for (let i = 0; i < count; i++) {
    const at = reader.offset(i);
    const chunk = raw.subarray(at, at + reader.length(i));
    const right = kinds.some((chunkKind) => {
      tools.hasher.id(chunkKind, chunk, id, 0);
      return id.compare(ids, i * stride, i * stride + stride, 0, stride) === 0 && reader.matches(i, id, 0);
    });
    if (!right) throw fail(`chunk ${i} does not have its id`);
    report.chunks++;
    report.bytes += chunk.length;
  }
}
