/**
 * What sealing adds to a plaintext, for everything that counts with it and
 * seals nothing itself: the sealer (seal.ts) brings OpenSSL, which takes
 * plakarctl's start milliseconds.
 */
export const NONCE_BYTES = 24;
export const TAG_BYTES = 16;
/** bytes */
export const SEAL_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES;
