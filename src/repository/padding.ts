/**
 * Padmé (https://lbarman.ch/blog/padme/, PURBs, section 4): lengths are rounded
 * up so that they tell O(log log n) bits, at a cost below 12 % for small
 * objects and 3.2 % for a segment. Called wherever something is sealed.
 */

/** `bytes` rounded up; idempotent and monotonic. */
export function padme(bytes: number): number {
  if (bytes < 2) return bytes;
  const exponent = Math.floor(Math.log2(bytes));
  const mantissaBits = Math.floor(Math.log2(exponent)) + 1;
  const unit = 2 ** Math.max(0, exponent - mantissaBits);
  return Math.ceil(bytes / unit) * unit;
}

const ZEROS = Buffer.alloc(256 << 10);

/** `bytes` of zeros, a view that must not be written to; at most what Padmé adds to 8 MiB. */
export function zeros(bytes: number): Buffer {
  return ZEROS.subarray(0, bytes);
}

/** Whether all of `bytes` is zero. */
export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const piece = bytes.subarray(at, at + ZEROS.length);
    if (piece.compare(ZEROS, 0, piece.length) !== 0) return false;
  }
  return true;
}
