/**
 * XAES-256-GCM (https://c2sp.org/XAES-256-GCM): AES-256-GCM with a 192-bit
 * random nonce. Called by the crypto process for everything that is sealed but
 * key slots. Owns the invariant that a nonce is drawn anew for every message
 * and that nothing of a message that fails to open is left in `out`.
 *
 * A sealed message is nonce (24) ‖ ciphertext ‖ tag (16).
 */
import { type Cipheriv, createCipheriv, createDecipheriv } from 'node:crypto';
import { Failure } from '../error.ts';
import { gcmOpen, gcmSeal } from '../sys/gcm.ts';
import { NONCE_BYTES, SEAL_OVERHEAD_BYTES, TAG_BYTES } from './overhead.ts';

export const KEY_BYTES = 32;

const GCM = 'aes-256-gcm';
const GCM_OPTIONS = { authTagLength: TAG_BYTES } as const;
const BLOCK_BYTES = 16;

/** Seals and opens messages under one key; not re-entrant, no state but the key. */
export class Sealer {
  readonly #random: (bytes: number) => Buffer;
  /** AES-256 of single blocks: an ECB stream that is never finished */
  readonly #block: Cipheriv;
  /** the CMAC subkey K1 (NIST SP 800-38B section 6.1) */
  readonly #subkey: Buffer;
  /** M1 and M2 of the specification, exclusive or K1 */
  readonly #messages = Buffer.alloc(2 * BLOCK_BYTES);

  /** `key` is 32 bytes; `random` returns that many unpredictable bytes. */
  constructor(key: Buffer, random: (bytes: number) => Buffer) {
    if (key.length !== KEY_BYTES)
      throw new Failure('make sealer', '', { cause: `key has ${key.length} bytes, not ${KEY_BYTES}` });
    this.#random = random;
    this.#block = createCipheriv('aes-256-ecb', key, null);
    this.#block.setAutoPadding(false);
    this.#subkey = doubled(this.#block.update(Buffer.alloc(BLOCK_BYTES)));
  }

  /** Kx: the AES-256-GCM key that the first half of the nonce selects. */
  #derivedKey(nonce: Buffer): Buffer {
    const messages = this.#messages;
    for (let block = 0; block < 2; block++) {
      const at = block * BLOCK_BYTES;
      messages[at] = 0;
      messages[at + 1] = block + 1;
      messages[at + 2] = 0x58;
      messages[at + 3] = 0;
      nonce.copy(messages, at + 4, 0, 12);
      for (let i = 0; i < BLOCK_BYTES; i++)
        messages[at + i] = (messages[at + i] ?? 0) ^ (this.#subkey[i] ?? 0);
    }
    return this.#block.update(messages);
  }

  /** Seals `plaintext` into `out` at `outOffset`; returns the bytes written, SEAL_OVERHEAD_BYTES more. */
  sealInto(plaintext: Buffer, aad: Buffer, out: Buffer, outOffset: number): number {
    return this.sealPiecesInto([plaintext], aad, out, outOffset);
  }

  /** As sealInto, of the concatenation of `pieces`. `out` must not overlap them. */
  sealPiecesInto(pieces: readonly Buffer[], aad: Buffer, out: Buffer, outOffset: number): number {
    let plainBytes = 0;
    for (const piece of pieces) plainBytes += piece.length;
    if (outOffset + plainBytes + SEAL_OVERHEAD_BYTES > out.length)
      throw new Failure('seal', '', { cause: 'the output is too small' });
    const nonce = this.#random(NONCE_BYTES);
    if (nonce.length !== NONCE_BYTES) throw new Failure('seal', '', { cause: 'no randomness' });
    out.set(nonce, outOffset);
    const under = { key: this.#derivedKey(nonce), iv: nonce.subarray(12) };
    gcmSeal(under, aad, pieces, out, outOffset + NONCE_BYTES);
    return plainBytes + SEAL_OVERHEAD_BYTES;
  }

  /**
   * What the beginning of a sealed message says, of which `sealed` has the
   * nonce and more: not authenticated, and so no more than a guess.
   */
  peek(sealed: Buffer): Buffer {
    const nonce = Buffer.from(sealed.subarray(0, NONCE_BYTES));
    const decipher = createDecipheriv(GCM, this.#derivedKey(nonce), nonce.subarray(12), GCM_OPTIONS);
    return decipher.update(sealed.subarray(NONCE_BYTES));
  }

  /**
   * Opens a sealed message into `out` at `outOffset` and returns the bytes of
   * plaintext. Throws a Failure of kind 'damaged' if it was not sealed with
   * this key and `aad`; what was written to `out` is then wiped.
   */
  openInto(sealed: Buffer, aad: Buffer, out: Buffer, outOffset: number): number {
    const plainBytes = sealed.length - SEAL_OVERHEAD_BYTES;
    if (plainBytes < 0) throw new Failure('open sealed', '', { cause: 'truncated', kind: 'damaged' });
    if (outOffset + plainBytes > out.length)
      throw new Failure('open sealed', '', { cause: 'the output is too small' });
    // copied, since a peer may write to shared memory while we look
    const nonce = Buffer.from(sealed.subarray(0, NONCE_BYTES));
    const under = { key: this.#derivedKey(nonce), iv: nonce.subarray(12) };
    if (!gcmOpen(under, aad, sealed.subarray(NONCE_BYTES), out, outOffset)) {
      out.fill(0, outOffset, outOffset + plainBytes);
      throw new Failure('open sealed', '', { cause: 'not authentic', kind: 'damaged' });
    }
    return plainBytes;
  }
}

/** The block shifted left by one bit in GF(2^128), big-endian (NIST SP 800-38B section 6.1). */
function doubled(block: Buffer): Buffer {
  const result = Buffer.alloc(BLOCK_BYTES);
  for (let i = 0; i < BLOCK_BYTES; i++) result[i] = ((block[i] ?? 0) << 1) | ((block[i + 1] ?? 0) >> 7);
  if ((block[0] ?? 0) & 0x80) result[BLOCK_BYTES - 1] = (result[BLOCK_BYTES - 1] ?? 0) ^ 0x87;
  return result;
}
