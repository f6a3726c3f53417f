/**
 * crypto: the process that holds the sealing keys of one repository, one of n
 * workers. It compresses and seals the segments that the chunker lays in plain
 * slots into sealed slots for storage, opens them again on the way back, and
 * seals and opens small objects: headers for the chunker, indexes and footers
 * for storage, neither of which may ask for the other's. Before a sealed segment
 * leaves this process it is opened again and compared, if it holds metadata or
 * its turn has come: memory that is faulty shows itself, and the other segments
 * are sealed in three quarters of the time.
 */
import { randomBytes } from 'node:crypto';
import { Failure, toWire } from '../error.ts';
import type { Channel } from '../ipc/channel.ts';
import type { Received } from '../ipc/message.ts';
import { openRing, type Ring, SlotPool } from '../ipc/ring.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { Sealer } from '../keys/seal.ts';
import {
  FETCH_FAILED,
  FETCHED,
  LOOK,
  LOOKED,
  OBJECT,
  OBJECTS,
  OPEN_OBJECTS,
  SEAL,
  SEAL_OBJECT,
  SEALED,
  STORE,
  STORE_DONE,
  STORE_FAILED,
  UNSEAL,
  UNSEAL_DONE,
} from '../messages/data.ts';
import { CRYPTO_KEYS } from '../messages/keys.ts';
import { PARENT_DONE, RINGS } from '../messages/parent.ts';
import type { ChildContext } from '../privsep/child.ts';
import {
  SEGMENT_CHUNKS_MAX,
  SEGMENT_RAW_MAX_BYTES,
  SEGMENT_SEALED_MAX_BYTES,
} from '../repository/constants.ts';
import {
  associatedData,
  openPadded,
  SEALED_FOOTER,
  SEALED_INDEX,
  SEALED_LOG,
  SEALED_SEGMENT,
  SEALED_SNAPSHOT,
  type SealedKind,
  sealPadded,
} from '../repository/sealed.ts';
import {
  CLASS_METADATA,
  HEAD_BYTES,
  type SegmentClass,
  SegmentCodec,
  SegmentCompressor,
} from '../repository/segment.ts';
import { release } from '../sys/release.ts';
import { SEALED_READ_SLOTS, SEALED_WORKER_SLOTS, slotRange } from './rings.ts';

/** What the parent configures a worker with. */
export interface CryptoSettings {
  /** number of this worker, from 0 */
  readonly worker: number;
  /** zstd level; 0 stores as is */
  readonly level: number;
  /** segments that are compressed at once, each on a thread of the pool, which has as many */
  readonly compressors: number;
}

const ID_BYTES = 32;
/**
 * Segments that are under way for each thread that compresses: the one that it is at, and one that waits. A thread that
 * finds nothing to do sleeps, and when it is woken the kernel may have it queue where another is at work, and leave the
 * core that fell idle to itself for milliseconds.
 */
const SEGMENTS_A_THREAD = 2;
/** Of the segments of data, each so many-th is opened again. */
const VERIFIED_EACH = 16;

type Seal = PayloadOf<typeof SEAL.shape>;
type Unseal = PayloadOf<typeof UNSEAL.shape>;
/** What waits to be done: at most as much as there are slots. */
type Work = { readonly seal: Seal } | { readonly unseal: Unseal };

/** The purposes that sealing keys are for. */
type Purpose = 'segment' | 'index' | 'snapshot' | 'log';
type Sealers = Readonly<Record<Purpose, Sealer>>;

/** An object kind's purpose and what it is bound as, by who may ask. */
interface ObjectSealing {
  readonly purpose: Purpose;
  readonly kind: SealedKind;
}

/** The keys of all epochs; new data is sealed with the newest. */
class Epochs {
  readonly #sealers = new Map<number, Sealers>();
  newest = 0;

  /** Takes keys over, and wipes them; a rotation only adds to them. */
  add(epochs: PayloadOf<typeof CRYPTO_KEYS.shape>['epochs']): void {
    for (const { epoch, segment, index, snapshot, log } of epochs) {
      if (!this.#sealers.has(epoch))
        this.#sealers.set(epoch, {
          segment: new Sealer(segment, randomBytes),
          index: new Sealer(index, randomBytes),
          snapshot: new Sealer(snapshot, randomBytes),
          log: new Sealer(log, randomBytes),
        });
      this.newest = Math.max(this.newest, epoch);
      // the sealers hold what they derived; nothing needs the message's copy any more
      for (const key of [segment, index, snapshot, log]) key.fill(0);
    }
  }

  /** The epochs that there are keys of. */
  all(): Iterable<number> {
    return this.#sealers.keys();
  }

  of(epoch: number, purpose: Purpose): Sealer {
    const sealers = this.#sealers.get(epoch);
    if (sealers !== undefined) return sealers[purpose];
    throw new Failure('open sealed', '', {
      cause: `it is sealed under epoch ${epoch}, of which there is no key`,
      kind: 'damaged',
    });
  }
}

class Worker {
  readonly #repository: Buffer;
  readonly #codec: SegmentCodec;
  readonly #level: number;
  readonly #epochs: Epochs;
  readonly #plain: Ring;
  readonly #sealed: Ring;
  readonly #slots: SlotPool;
  readonly #chunker: Channel;
  readonly #storage: Channel;
  readonly #work: Work[] = [];
  /** Those that are not at work. They work on threads of the pool, while what is done is sealed here. */
  readonly #compressors: SegmentCompressor[];
  #scheduled = false;
  /** segments of data that were sealed */
  #sealedData = 0;

  constructor(
    repository: Buffer,
    epochs: Epochs,
    settings: CryptoSettings,
    rings: { plain: Ring; sealed: Ring },
    peers: { chunker: Channel; storage: Channel },
  ) {
    this.#repository = repository;
    this.#level = settings.level;
    this.#compressors = Array.from(
      { length: settings.compressors * SEGMENTS_A_THREAD },
      () => new SegmentCompressor(),
    );
    this.#epochs = epochs;
    this.#codec = new SegmentCodec(
      epochs.of(epochs.newest, 'segment'),
      associatedData(repository, SEALED_SEGMENT),
    );
    this.#plain = rings.plain;
    this.#sealed = rings.sealed;
    const first = SEALED_READ_SLOTS + settings.worker * SEALED_WORKER_SLOTS;
    this.#slots = new SlotPool(slotRange(first, SEALED_WORKER_SLOTS));
    this.#chunker = peers.chunker;
    this.#storage = peers.storage;
    this.#serve(peers.storage, {
      packs: { purpose: 'index', kind: SEALED_FOOTER },
      index: { purpose: 'index', kind: SEALED_INDEX },
    });
    this.#serve(peers.chunker, {
      snapshots: { purpose: 'snapshot', kind: SEALED_SNAPSHOT },
      log: { purpose: 'log', kind: SEALED_LOG },
    });
    peers.chunker.handler(SEAL, ({ payload }) => this.#queue({ seal: payload }));
    peers.storage.handler(UNSEAL, ({ payload }) => this.#queue({ unseal: payload }));
    peers.storage.handler(LOOK, (message) =>
      peers.storage.reply(message, LOOKED, { heads: this.#look(message.payload.heads) }),
    );
    peers.storage.handler(STORE_DONE, ({ payload }) => {
      if (!this.#slots.isTaken(payload.slot)) throw new Failure('release slot', String(payload.slot));
      this.#slots.release(payload.slot);
    });
  }

  /** Answers SEAL_OBJECT and OPEN_OBJECTS for the kinds that this peer may ask about. */
  #serve(peer: Channel, kinds: Readonly<Record<string, ObjectSealing>>): void {
    const sealingOf = (kind: string): ObjectSealing => {
      const found = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
      if (found === undefined) throw new Failure('seal object', kind, { kind: 'not-permitted' });
      return found;
    };
    peer.handler(SEAL_OBJECT, (message) => {
      const { kind, name, data, epoch = this.#epochs.newest } = message.payload;
      const { purpose, kind: bound } = sealingOf(kind);
      const sealer = this.#epochs.of(epoch, purpose);
      const sealed = sealPadded(sealer, data, associatedData(this.#repository, bound, name));
      peer.reply(message, OBJECT, { data: sealed, epoch });
      release(sealed);
      release(data);
    });
    peer.handler(OPEN_OBJECTS, (message: Received<PayloadOf<typeof OPEN_OBJECTS.shape>>) => {
      const { kind, objects } = message.payload;
      const { purpose, kind: bound } = sealingOf(kind);
      const opened = objects.map(({ name, data, epoch }) => {
        try {
          const sealer = this.#epochs.of(epoch, purpose);
          return {
            data: openPadded(sealer, data, associatedData(this.#repository, bound, name)),
            why: undefined,
          };
        } catch (error) {
          return { data: undefined, why: toWire(error).text.slice(0, 1024) };
        }
      });
      peer.reply(message, OBJECTS, { objects: opened });
    });
  }

  /** What headers of segments these may be, under any of the keys. */
  #look(heads: Buffer): PayloadOf<typeof LOOKED.shape>['heads'] {
    const found: PayloadOf<typeof LOOKED.shape>['heads'] = [];
    for (let at = 0; at + HEAD_BYTES <= heads.length; at += HEAD_BYTES) {
      const head = heads.subarray(at, at + HEAD_BYTES);
      let seen: (typeof found)[number] = { length: 0, kind: 1, epoch: this.#epochs.newest };
      for (const epoch of this.#epochs.all()) {
        this.#codec.sealer = this.#epochs.of(epoch, 'segment');
        const looked = this.#codec.look(head);
        if (looked === undefined) continue;
        seen = { ...looked, epoch };
        break;
      }
      found.push(seen);
    }
    return found;
  }

  #queue(work: Work): void {
    this.#work.push(work);
    this.#schedule();
  }

  /** One piece of work a turn of the loop, so that what is done leaves at once. */
  #schedule(): void {
    // what cannot begin is looked at again when a compressor is given back
    if (this.#scheduled || this.#startable() < 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#next();
      this.#schedule();
    });
  }

  /** Which work can begin now; -1 for none. Reading goes first: somebody waits for it. */
  #startable(): number {
    const reading = this.#work.findIndex((work) => 'unseal' in work);
    return reading >= 0 || this.#compressors.length === 0 || this.#work.length === 0 ? reading : 0;
  }

  #next(): void {
    const at = this.#startable();
    const [work] = at < 0 ? [] : this.#work.splice(at, 1);
    if (work === undefined) return;
    if ('unseal' in work) this.#unseal(work.unseal);
    else this.#seal(work.seal);
  }

  /** Compresses on the pool and seals here; whatever goes wrong is told, so nobody has to wait for it. */
  async #seal(seal: Seal): Promise<void> {
    const { slot, length, count } = seal;
    const compressor = this.#compressors.pop();
    if (compressor === undefined) throw new Error('no compressor');
    let target: number | undefined;
    try {
      if (length > SEGMENT_RAW_MAX_BYTES || count > SEGMENT_CHUNKS_MAX)
        throw new Failure('seal segment', '', { cause: 'lengths are out of range' });
      const raw = this.#plain.slot(slot).subarray(0, length);
      const body = await compressor.compressOnPool(raw, this.#level);
      // not before: those that storage has need not be idle for as long as others are compressed
      target = await this.#slots.wait();
      this.#compressed(seal, target, raw, body);
    } catch (error) {
      if (target !== undefined) this.#slots.release(target);
      this.#chunker.message(SEALED, { slot, sealedBytes: 0 });
      this.#chunker.message(STORE_FAILED, toWire(error));
    }
    this.#compressors.push(compressor);
    this.#schedule();
  }

  #compressed({ sequence, slot, count, kind }: Seal, target: number, raw: Buffer, body: Buffer): void {
    const out = this.#sealed.slot(target);
    const epoch = this.#epochs.newest;
    this.#codec.sealer = this.#epochs.of(epoch, 'segment');
    const sealedBytes = this.#codec.seal(raw, body, kind as SegmentClass, out);
    if (kind === CLASS_METADATA || this.#sealedData++ % VERIFIED_EACH === 0)
      this.#codec.verify(out.subarray(0, sealedBytes), raw, kind as SegmentClass);
    this.#plain
      .slot(slot)
      .copy(out, SEGMENT_SEALED_MAX_BYTES, SEGMENT_RAW_MAX_BYTES, SEGMENT_RAW_MAX_BYTES + count * ID_BYTES);
    this.#storage.message(STORE, {
      sequence,
      slot: target,
      length: sealedBytes,
      count,
      kind,
      epoch,
    });
    this.#chunker.message(SEALED, { slot, sealedBytes });
  }

  #unseal({ request, sealed, length, slot, epoch }: Unseal): void {
    try {
      if (length > SEGMENT_SEALED_MAX_BYTES)
        throw new Failure('open segment', '', { cause: 'length out of range' });
      this.#codec.sealer = this.#epochs.of(epoch, 'segment');
      const { rawLength } = this.#codec.unpack(
        this.#sealed.slot(sealed).subarray(0, length),
        this.#plain.slot(slot),
      );
      this.#chunker.message(FETCHED, { request, length: rawLength });
    } catch (error) {
      this.#chunker.message(FETCH_FAILED, { request, ...toWire(error) });
    }
    this.#storage.message(UNSEAL_DONE, { sealed });
  }
}

/** The process: waits for its rings, keys and peers, then serves until its parent stops it. */
export function crypto(context: ChildContext): void {
  const settings = context.settings as CryptoSettings;
  const rings = new Promise<{ plain: Ring; sealed: Ring }>((resolve) => {
    context.parent.handler(RINGS, (message) => {
      const [plain, sealed] = message.payload.rings.map(({ slots, slotBytes }, i) =>
        openRing(message.fds[i] ?? -1, slots, slotBytes, 'write'),
      );
      if (plain === undefined || sealed === undefined)
        throw new Failure('map rings', '', { cause: 'two are needed' });
      context.parent.reply(message, PARENT_DONE, {});
      resolve({ plain, sealed });
    });
  });
  const epochs = new Epochs();
  let isServing = false;
  context.parent.handler(CRYPTO_KEYS, async (message) => {
    const chunker = context.peer('chunker');
    const storage = context.peer('storage');
    if (chunker === undefined || storage === undefined)
      throw new Failure('take keys', '', { cause: 'chunker or storage is not connected' });
    const { repository } = message.payload;
    epochs.add(message.payload.epochs);
    if (!isServing) new Worker(repository, epochs, settings, await rings, { chunker, storage });
    isServing = true;
    context.parent.reply(message, PARENT_DONE, {});
  });
  // they speak only when the parent has told them that this worker has its keys
  context.onPeer('chunker', () => undefined);
  context.onPeer('storage', () => undefined);
}
