/**
 * Memory of long buffers, given back at once. Called by whoever has done with a
 * message or object of up to megabytes: V8 knows of such memory, but lets 64 MiB
 * of it gather, in each process, before it looks for what is not used any more.
 */

/**
 * What is shorter is left to the collector. It is also more than the daemon's
 * sockets are read by at once, so a message of this length that has come to one
 * of its processes has its memory for itself.
 */
export const RELEASED_MIN_BYTES = 128 << 10;
/** Of the memory of a buffer, what may lie beside it: a header, what was too much of a guess. */
const BESIDE_MAX_BYTES = 8 << 10;

/**
 * Gives back the memory that `buffer` lies in, if it is long and fills it. Every
 * view of that memory has length 0 from then on: the caller is the last who
 * uses any of it.
 */
export function release(buffer: Buffer): void {
  const memory = buffer.buffer;
  if (buffer.length < RELEASED_MIN_BYTES || memory.byteLength > buffer.length + BESIDE_MAX_BYTES) return;
  if (memory instanceof ArrayBuffer) memory.transfer(0);
}
