/**
 * The sizes and limits of repository format 1, as plakard-repository(7) gives
 * them. Everything that reads bytes of a repository bounds itself by these.
 */
import { SEAL_OVERHEAD_BYTES } from '../keys/overhead.ts';

const KIB = 1 << 10;
const MIB = 1 << 20;

/** Content-defined chunks of files: smallest, expected and largest, bytes. */
export const CHUNK_MIN_BYTES = 256 * KIB;
export const CHUNK_NORMAL_BYTES = MIB;
/** No chunk of any kind is larger. */
export const CHUNK_MAX_BYTES = 4 * MIB;

/**
 * A segment is closed when it has this much, bytes of chunks. Each one wakes several processes, which costs them what
 * they had in the caches: with half of it a first push takes 4 to 8 % longer, of long files 12 to 19 %, a full check 4 %.
 * Whoever wants one small file reads all of it, which takes a millisecond more than of half, and a bit that flips
 * costs all of it.
 */
export const SEGMENT_TARGET_BYTES = 6 * MIB;
/** And one of metadata: whoever walks a tree waits for the first of them, which at 3 MiB took `ls -R` a tenth longer. */
export const SEGMENT_METADATA_TARGET_BYTES = 2 * MIB;
/** Bytes of chunks that a segment holds at most: as much as zstd's window, and more than overhangs the target. */
export const SEGMENT_DATA_MAX_BYTES = 8 * MIB;
export const SEGMENT_CHUNKS_MAX = 8192;
/** One row of a segment's table: u32 length ‖ 8 bytes of the id. */
export const SEGMENT_ROW_BYTES = 12;
/** The largest raw segment: chunks, table, and the table's u32 count. */
export const SEGMENT_RAW_MAX_BYTES = SEGMENT_DATA_MAX_BYTES + SEGMENT_CHUNKS_MAX * SEGMENT_ROW_BYTES + 4;
/** compression, kind, zero, raw length, body length */
export const SEGMENT_HEADER_BYTES = 12;
/** The largest sealed segment: Padmé adds less than 3.2 % at this size. */
export const SEGMENT_SEALED_MAX_BYTES = 9 * MIB;
export const SEGMENT_SEALED_MIN_BYTES = SEAL_OVERHEAD_BYTES + SEGMENT_HEADER_BYTES + SEGMENT_ROW_BYTES + 5;

/** A pack is closed when its segments come to this, bytes. */
export const PACK_TARGET_BYTES = 32 * MIB;
export const PACK_MAX_BYTES = 80 * MIB;
export const PACK_SEGMENTS_MAX = 65_535;

/**
 * The largest plaintext of a pack footer or an index object. Both cross to the
 * crypto process in one message of 3.5 MiB; Padmé and sealing fit in between.
 */
export const LISTING_MAX_BYTES = 3 * MIB;
/** Packs in one index object. */
export const INDEX_PACKS_MAX = 65_535;

/** The configuration object, bytes. */
export const CONFIG_MAX_BYTES = 4 * KIB;
/** A snapshot header, bytes of plaintext. */
export const SNAPSHOT_MAX_BYTES = 62 * KIB;
