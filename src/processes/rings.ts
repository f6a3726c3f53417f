/**
 * The shared rings of a repository: how many slots of which size, and who may
 * allocate which. Used by the parent, which makes them, and by the processes
 * that map them. Invariant: every slot has one allocator; others are lent it.
 *
 * Plain slot:  raw segment (SEGMENT_RAW_MAX_BYTES), then its full ids
 * Sealed slot: sealed segment (SEGMENT_SEALED_MAX_BYTES), then its full ids
 */
import {
  SEGMENT_CHUNKS_MAX,
  SEGMENT_RAW_MAX_BYTES,
  SEGMENT_SEALED_MAX_BYTES,
} from '../repository/constants.ts';

const PAGE_BYTES = 4096;
const IDS_BYTES = SEGMENT_CHUNKS_MAX * 32;

function pages(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}

export const PLAIN_SLOT_BYTES = pages(SEGMENT_RAW_MAX_BYTES + IDS_BYTES);
export const SEALED_SLOT_BYTES = pages(SEGMENT_SEALED_MAX_BYTES + IDS_BYTES);

/** Sealed slots that storage reads into; the first of the ring. */
export const SEALED_READ_SLOTS = 4;
/** Sealed slots of each crypto worker. */
export const SEALED_WORKER_SLOTS = 3;

/**
 * Plain slots: the first `reads` are those that the chunker has segments read into, and `writes` are for what is being
 * filled or waits, besides two for each worker.
 */
export function plainSlots(workers: number, reads: number, writes: number): number {
  return reads + writes + 2 * workers;
}

export function sealedSlots(workers: number): number {
  return SEALED_READ_SLOTS + SEALED_WORKER_SLOTS * workers;
}

/** The numbers from `first` on, `count` of them. */
export function slotRange(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
