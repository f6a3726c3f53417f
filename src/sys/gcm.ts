/**
 * AES-256-GCM from memory to memory: the runtime's own OpenSSL, whose functions
 * it exports. node:crypto returns what it has encrypted in new buffers, which
 * costs page faults and a copy: more time than the encryption itself. Called by
 * the sealer alone (keys/seal.ts).
 *
 * Invariant: OpenSSL reads and writes within the buffers that it is given; how
 * much room there must be is checked here.
 */
import { Failure } from '../error.ts';
import { addressOf, callInt, callNumber, type Entry, entry, pinned } from './foreign.ts';

const GCM_KEY_BYTES = 32;
const GCM_IV_BYTES = 12;
const GCM_TAG_BYTES = 16;

// openssl/evp.h
const GET_TAG = 0x10;
const SET_TAG = 0x11;

const makeContext = entry('EVP_CIPHER_CTX_new');
const aes256Gcm = entry('EVP_aes_256_gcm');
const control = entry('EVP_CIPHER_CTX_ctrl');
const clearErrors = entry('ERR_clear_error');
const encryptInit = entry('EVP_EncryptInit_ex');
const encryptUpdate = entry('EVP_EncryptUpdate');
const encryptFinal = entry('EVP_EncryptFinal_ex');
const decryptInit = entry('EVP_DecryptInit_ex');
const decryptUpdate = entry('EVP_DecryptUpdate');
const decryptFinal = entry('EVP_DecryptFinal_ex');

// One for all, as no message outlives its call; what OpenSSL makes of a key stays there until the next. Addresses are
// taken anew each time: the buffers themselves must be named where they are used, or nothing keeps them.
const context = callNumber(makeContext);
const cipher = callNumber(aes256Gcm);
const keyCopy = pinned(GCM_KEY_BYTES);
const ivCopy = pinned(GCM_IV_BYTES);
const tagCopy = pinned(GCM_TAG_BYTES);
/** how much a call wrote, which is what it was given */
const written = pinned(8);

/** What a message is encrypted under: 32 and 12 bytes, never twice the same. */
export interface GcmKey {
  readonly key: Buffer;
  readonly iv: Buffer;
}

/**
 * Encrypts the concatenation of `pieces` to `out` at `outOffset`, and puts the tag behind it. `out` must not overlap
 * them.
 */
export function gcmSeal(
  under: GcmKey,
  aad: Buffer,
  pieces: readonly Buffer[],
  out: Buffer,
  outOffset: number,
): void {
  let at = outOffset;
  for (const { length } of pieces) at += length;
  if (at + GCM_TAG_BYTES > out.length) throw new RangeError('output is too small');
  begin(encryptInit, under);
  update(encryptUpdate, 0, aad);
  let target = addressOf(out) + outOffset;
  for (const piece of pieces) {
    update(encryptUpdate, target, piece);
    target += piece.length;
  }
  expect(callInt(encryptFinal, context, addressOf(tagCopy), addressOf(written)), encryptFinal);
  expect(callInt(control, context, GET_TAG, GCM_TAG_BYTES, addressOf(tagCopy)), control);
  out.set(tagCopy, at);
}

/**
 * Decrypts `sealed`, whose last bytes are its tag, to `out` at `outOffset`. False where it is not authentic: what was
 * written must not be used then.
 */
export function gcmOpen(under: GcmKey, aad: Buffer, sealed: Buffer, out: Buffer, outOffset: number): boolean {
  const bytes = sealed.length - GCM_TAG_BYTES;
  if (bytes < 0 || outOffset + bytes > out.length) throw new RangeError('output is too small');
  begin(decryptInit, under);
  // copied, since a peer may write to shared memory while we look
  tagCopy.set(sealed.subarray(bytes));
  expect(callInt(control, context, SET_TAG, GCM_TAG_BYTES, addressOf(tagCopy)), control);
  update(decryptUpdate, 0, aad);
  update(decryptUpdate, addressOf(out) + outOffset, sealed.subarray(0, bytes));
  const isAuthentic = callInt(decryptFinal, context, addressOf(tagCopy), addressOf(written)) === 1;
  // node:crypto would take what is left on the thread's queue of errors for its own
  if (!isAuthentic) callInt(clearErrors);
  return isAuthentic;
}

function begin(init: Entry, { key, iv }: GcmKey): void {
  if (key.length !== GCM_KEY_BYTES || iv.length !== GCM_IV_BYTES)
    throw new RangeError(`key of ${key.length} bytes, initialization vector of ${iv.length}`);
  keyCopy.set(key);
  ivCopy.set(iv);
  const began = callInt(init, context, cipher, 0, addressOf(keyCopy), addressOf(ivCopy));
  keyCopy.fill(0);
  expect(began, init);
}

/** `target` 0 is for associated data. */
function update(how: Entry, target: number, from: Buffer): void {
  if (from.length === 0) return;
  expect(callInt(how, context, target, addressOf(written), addressOf(from), from.length), how);
}

function expect(result: number, { name }: Entry): void {
  if (result === 1) return;
  callInt(clearErrors);
  throw new Failure('encrypt', name, { cause: `OpenSSL returned ${result}` });
}
