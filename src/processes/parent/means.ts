/**
 * What the processes of one repository may use of the machine, by `set cpu`,
 * `set memory` and `limit`: so many crypto workers, so many packs under way, so
 * many bytes a second. Used by the parent, which makes a group of processes by
 * it. Invariant: with any configuration there is what one push needs; where
 * that is more than `set memory` says, a line in the log tells how much is needed.
 */
import type { Configuration, RateLimit, Repository } from '../../config/config.ts';
import type { Log } from '../../log.ts';

const MIB = 1 << 20;
const WORKERS_MAX = 64;
/** Packs on their way to the disk, where nothing limits them. */
const PACKS_MAX = 3;
// Segments in memory. With more of them chunker and crypto sleep more seldom, and for longer: the kernel may take 10 ms
// until it gives a core that fell idle to who waits for the other.
/** Those that are read ahead, or kept: with memory to spare, and where it is limited. */
const READS_MAX = 6;
const READS_LIMITED = 4;
/** Those that are being filled, or wait to be compressed. */
const WRITES_MAX = 8;
const WRITES_LIMITED = 4;
/** Segments that the one worker compresses at once where nobody has said how much of the machine to use. */
const COMPRESSORS_MAX = 2;
// Proportional set sizes, measured after a push of what does not compress, which fills every slot.
/** Control and a scanner, which serve all repositories. */
const COMMON_BYTES = 78 * MIB;
/** Chunker and storage, with their halves of the rings, and a table of some million chunks. */
const REPOSITORY_BYTES = 116 * MIB;
/** A crypto worker, with its slots. */
const WORKER_BYTES = 72 * MIB;
/** A pack, which is kept until it is durable, so that it can be written again if its fsync fails. */
const PACK_BYTES = 34 * MIB;

export interface Means {
  readonly workers: number;
  /** segments that each compresses at once */
  readonly compressors: number;
  /** segments that are read ahead, or kept */
  readonly reads: number;
  /** segments that are being filled, or wait to be compressed */
  readonly writes: number;
  /** on their way to the disk at once */
  readonly packs: number;
  readonly read: readonly RateLimit[];
  readonly write: readonly RateLimit[];
}

type Given = Pick<Configuration, 'cpu' | 'memoryBytes' | 'limits' | 'repositories'>;

/** An even share of what all repositories together may do. */
function shareOf(limits: readonly RateLimit[], repositories: number): RateLimit[] {
  return limits.map((limit) => ({
    ...limit,
    bytesPerSecond: Math.max(1, Math.floor(limit.bytesPerSecond / repositories)),
  }));
}

function sharedBytes({ memoryBytes, repositories }: Given): number {
  if (memoryBytes === undefined) return Number.POSITIVE_INFINITY;
  return (memoryBytes - COMMON_BYTES) / Math.max(1, repositories.length) - REPOSITORY_BYTES;
}

/** What `repository` gets of a machine with so many processors. */
export function meansOf(given: Given, { limits }: Pick<Repository, 'limits'>, processors: number): Means {
  const count = Math.max(1, given.repositories.length);
  // the chunker is at work too
  const wanted = Math.min(WORKERS_MAX, Math.max(1, given.cpu ?? processors - 1));
  const bytes = sharedBytes(given);
  const workers = Math.max(1, Math.min(wanted, Math.floor((bytes - PACK_BYTES) / WORKER_BYTES)));
  const isLimited = given.memoryBytes !== undefined;
  const packs = Math.floor((bytes - workers * WORKER_BYTES) / PACK_BYTES);
  return {
    workers,
    compressors: compressorsOf(given, workers, processors),
    reads: isLimited ? READS_LIMITED : READS_MAX,
    writes: isLimited ? WRITES_LIMITED : WRITES_MAX,
    packs: Math.max(1, Math.min(PACKS_MAX, packs)),
    read: [...shareOf(given.limits.read, count), ...limits.read],
    write: [...shareOf(given.limits.write, count), ...limits.write],
  };
}

/** One thread leaves cores idle while segments wait; where there are more workers, or `set cpu` says so, each has one. */
function compressorsOf({ cpu }: Given, workers: number, processors: number): number {
  if (cpu !== undefined || workers > 1 || processors === 1) return 1;
  return COMPRESSORS_MAX;
}

/** Says where `set memory` is less than one push needs: that is no mistake, but cannot be kept to. */
export function warnShort({ memoryBytes, repositories }: Given, log: Pick<Log, 'warn'>): void {
  const count = Math.max(1, repositories.length);
  const least = COMMON_BYTES + count * (REPOSITORY_BYTES + WORKER_BYTES + PACK_BYTES);
  if (memoryBytes === undefined || memoryBytes >= least) return;
  log.warn(`set memory: with ${count} repositories a push needs ${Math.ceil(least / MIB)}M, and gets it`, {
    process: 'parent',
  });
}
