/** What tests of src/repository share: keys, a codec in the same process, sealed segments with known chunks. */
import { createHash, randomBytes } from 'node:crypto';
import type { Backend } from '../../src/backends/objects.ts';
import { Failure } from '../../src/error.ts';
import { CHUNK_DATA, CHUNK_TREE } from '../../src/keys/derive.ts';
import { ChunkHasher } from '../../src/keys/ids.ts';
import { Sealer } from '../../src/keys/seal.ts';
import { SEGMENT_RAW_MAX_BYTES, SEGMENT_SEALED_MAX_BYTES } from '../../src/repository/constants.ts';
import type { IndexCodec } from '../../src/repository/indexes.ts';
import {
  associatedData,
  openPadded,
  SEALED_FOOTER,
  SEALED_INDEX,
  SEALED_SEGMENT,
  sealPadded,
} from '../../src/repository/sealed.ts';
import {
  CLASS_DATA,
  type SegmentClass,
  SegmentCodec,
  SegmentReader,
  SegmentWriter,
} from '../../src/repository/segment.ts';
import { Store, type StoreOptions } from '../../src/repository/store.ts';

export const repositoryId = Buffer.alloc(16, 1);
/** Epochs that there are keys of. */
const EPOCHS = 4;
const sealers = new Map<number, Sealer>();
function sealerOf(epoch: number): Sealer {
  if (epoch > EPOCHS) throw new Failure('open sealed', '', { cause: `epoch ${epoch}`, kind: 'damaged' });
  const sealer = sealers.get(epoch) ?? new Sealer(Buffer.alloc(32, 1 + epoch), randomBytes);
  sealers.set(epoch, sealer);
  return sealer;
}
const sealer = sealerOf(1);
export const hasher = new ChunkHasher(Buffer.alloc(32, 3));
export const segmentCodec = new SegmentCodec(sealer, associatedData(repositoryId, SEALED_SEGMENT));

/** Seals and opens in this process. */
export const codec: IndexCodec = {
  async openIndex(kind, name, sealed, epoch) {
    return openPadded(
      sealerOf(epoch),
      sealed,
      associatedData(repositoryId, kind === 'footer' ? SEALED_FOOTER : SEALED_INDEX, name),
    );
  },
  async sealIndex(kind, name, plaintext, epoch) {
    return sealPadded(
      sealerOf(epoch),
      plaintext,
      associatedData(repositoryId, kind === 'footer' ? SEALED_FOOTER : SEALED_INDEX, name),
    );
  },
};

/** Randomness from a seed, so that a run can be repeated. */
export function seeded(seed: string): (bytes: number) => Buffer {
  let counter = 0;
  return (bytes) => createHash('shake128', { outputLength: bytes }).update(`${seed} ${counter++}`).digest();
}

export function openStore(backend: Backend, options: Partial<StoreOptions> = {}): Promise<Store> {
  return Store.open({
    backend,
    codec,
    random: randomBytes,
    allocate: (bytes) => Buffer.alloc(bytes),
    ...options,
  });
}

export interface Segment {
  readonly kind: SegmentClass;
  readonly sealed: Buffer;
  readonly ids: Buffer;
  readonly chunks: readonly Buffer[];
}

const slot = Buffer.alloc(SEGMENT_RAW_MAX_BYTES);
const out = Buffer.alloc(SEGMENT_SEALED_MAX_BYTES);

/** A sealed segment of these chunks. */
export function sealSegment(chunks: readonly Buffer[], kind: SegmentClass = CLASS_DATA, level = 0): Segment {
  const writer = new SegmentWriter(slot, kind);
  const id = Buffer.alloc(32);
  for (const chunk of chunks) {
    hasher.id(kind === CLASS_DATA ? CHUNK_DATA : CHUNK_TREE, chunk, id, 0);
    chunk.copy(slot, writer.offset);
    writer.append(id, chunk.length);
  }
  const sealedLength = segmentCodec.pack(slot.subarray(0, writer.finish()), kind, level, out);
  return { kind, sealed: Buffer.from(out.subarray(0, sealedLength)), ids: Buffer.from(writer.ids), chunks };
}

/** The chunk with the id at `idOffset` as the store gives it, or undefined where its table does not know it. */
export async function readChunk(store: Store, ids: Buffer, idOffset: number): Promise<Buffer | undefined> {
  const ordinal = store.table.lookup(ids, idOffset);
  if (ordinal < 0) return undefined;
  const sealed = Buffer.alloc(SEGMENT_SEALED_MAX_BYTES);
  const { length: sealedLength } = await store.readSealed(ordinal, sealed);
  const raw = Buffer.alloc(SEGMENT_RAW_MAX_BYTES);
  const { rawLength } = segmentCodec.unpack(sealed.subarray(0, sealedLength), raw);
  const reader = new SegmentReader();
  reader.load(raw.subarray(0, rawLength));
  const index = reader.find(ids, idOffset);
  return index < 0
    ? undefined
    : raw.subarray(reader.offset(index), reader.offset(index) + reader.length(index));
}
