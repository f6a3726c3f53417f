/**
 * Calls into libc. Everything else in src/sys is built on `syscall` and `call`.
 *
 * There is one prepared call: seven 64-bit arguments and a 64-bit result, which
 * by the calling conventions of x86-64 and arm64 fits every function that takes
 * integers and pointers. It is made once, here, so that a call costs 0.5 µs,
 * and nothing is looked up, loaded or allocated after import: it works in a
 * chroot, under seccomp.
 *
 * Invariant: every address that libc or libffi sees is that of a buffer which
 * module scope, or the caller for the length of the call, keeps alive. Each one
 * has an ArrayBuffer of its own, as small typed arrays may otherwise be moved.
 */
import { Failure } from '../error.ts';
import { bindings, ref } from './natives.ts';

const WORD_BYTES = 8;
const ARGUMENTS = 7;
const TWO_32 = 0x1_0000_0000;
const EINTR = 4;

/** A buffer whose address never changes. */
export function pinned(sizeBytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(sizeBytes));
}

/** The address of `buffer`'s first byte. It holds for as long as the caller keeps the buffer. */
export function addressOf(buffer: Buffer): number {
  return ref.address(buffer);
}

/** Remembers an address, as finding out takes a third of a call: for a buffer that is likely the one of the last call. */
export class LastAddress {
  #buffer: Buffer | undefined;
  #address = 0;

  /** The address of `buffer`, whose memory is its own. */
  of(buffer: Buffer): number {
    if (buffer !== this.#buffer) {
      this.#address = addressOf(buffer);
      this.#buffer = buffer;
    }
    return this.#address;
  }
}

/** Writes an address, or any whole number up to 2^53, as a 64-bit word. */
export function writeWord(target: Buffer, value: number, offset: number): void {
  target.writeUInt32LE(value % TWO_32, offset);
  target.writeUInt32LE(Math.floor(value / TWO_32), offset + 4);
}

const types = pinned(ARGUMENTS * WORD_BYTES);
const words = new Int32Array(new ArrayBuffer(ARGUMENTS * WORD_BYTES));
const argv = pinned(ARGUMENTS * WORD_BYTES);
const result = pinned(WORD_BYTES);
const resultWords = new Int32Array(result.buffer);
const cif = pinned(bindings.FFI_CIF_SIZE);

function prepare(): void {
  const wordsAddress = addressOf(Buffer.from(words.buffer));
  const int64 = addressOf(bindings.FFI_TYPES.int64);
  for (let i = 0; i < ARGUMENTS; i++) {
    writeWord(types, int64, i * WORD_BYTES);
    writeWord(argv, wordsAddress + i * WORD_BYTES, i * WORD_BYTES);
  }
  const status = bindings.ffi_prep_cif(
    cif,
    ARGUMENTS,
    bindings.FFI_TYPES.int64,
    types,
    bindings.FFI_DEFAULT_ABI,
  );
  if (status !== bindings.FFI_OK) throw new Failure('prepare libffi', '', { cause: `status ${status}` });
}
prepare();

function setArgument(index: number, value: number): void {
  // the store takes the value modulo 2^32, the division the rest with its sign
  words[2 * index] = value;
  words[2 * index + 1] = Math.floor(value / TWO_32);
}

/** `lengthBytes` of this process's memory at `address` as a Buffer; used for mappings alone. */
export function memoryAt(address: number, lengthBytes: number): Buffer {
  writeWord(result, address, 0);
  return ref.readPointer(result, 0, lengthBytes);
}

/** A function of libc. */
export interface Entry {
  readonly name: string;
  readonly pointer: Buffer;
}

/** Pointers that are wrapped; what lies up to 1 GiB behind one needs no wrapping of its own. */
const wrapped = [bindings.FFI_TYPES.int64, ...Object.values(bindings.StaticFunctions)];
/** How far before a function a new one is wrapped, for its neighbours in the same library. */
const NEIGHBOURS_BYTES = 1 << 28;
const PAGE_BYTES = 4096;

/**
 * A buffer at `address`. ref-napi declares 1 GiB for each pointer that it wraps,
 * which V8 answers with a collection of several milliseconds; so a pointer that
 * is wrapped already serves for all within its reach, as it does for libc.
 */
function pointerTo(address: number): Buffer {
  for (const known of wrapped) {
    const ahead = address - addressOf(known);
    if (ahead >= 0 && known.byteOffset + ahead < known.buffer.byteLength)
      return Buffer.from(known.buffer, known.byteOffset + ahead, 1);
  }
  const base = Math.max(PAGE_BYTES, address - NEIGHBOURS_BYTES);
  const window = memoryAt(base, 1);
  wrapped.push(window);
  return Buffer.from(window.buffer, window.byteOffset + address - base, 1);
}

/** Looks up a function of libc, or of what the runtime exports, at import time. */
export function entry(name: string): Entry {
  const found = entryIfAny(name);
  if (found === undefined) throw new Failure('look up', name, { cause: 'not in libc' });
  return found;
}

/** As `entry`, of a function that need not be there. */
export function entryIfAny(name: string): Entry | undefined {
  const symbol = pinned(name.length + 1);
  symbol.write(name, 'latin1');
  setArgument(0, 0); // RTLD_DEFAULT
  setArgument(1, addressOf(symbol));
  bindings.ffi_call(cif, bindings.StaticFunctions.dlsym, result, argv);
  const address = Number(result.readBigUInt64LE());
  return address === 0 ? undefined : { name, pointer: pointerTo(address) };
}

/**
 * Calls a function of libc that returns an int: what it returned, or -errno.
 * Arguments are whole numbers up to 2^53 and addresses.
 */
export function call(target: Entry, a = 0, b = 0, c = 0): number {
  setArgument(0, a);
  setArgument(1, b);
  setArgument(2, c);
  bindings.ffi_call(cif, target.pointer, result, argv);
  const value = resultWords[0] ?? -1;
  return value === -1 ? -(errno[0] ?? 0) : value;
}

/**
 * Calls any function of integers and addresses: its result as a signed number,
 * exact up to 2^53. Such a function has no errno that we look at.
 */
export function callNumber(target: Entry, a = 0, b = 0, c = 0, d = 0, e = 0): number {
  setArgument(0, a);
  setArgument(1, b);
  setArgument(2, c);
  setArgument(3, d);
  setArgument(4, e);
  bindings.ffi_call(cif, target.pointer, result, argv);
  return (resultWords[1] ?? 0) * TWO_32 + ((resultWords[0] ?? 0) >>> 0);
}

/** As `callNumber`, of a function that returns an int. */
export function callInt(target: Entry, a = 0, b = 0, c = 0, d = 0, e = 0): number {
  callNumber(target, a, b, c, d, e);
  return resultWords[0] ?? 0;
}

/**
 * errno of the thread that imports this, which alone calls. It is read where it
 * is: a call that asked for it could change it, as whatever the runtime does to
 * make one (compile, allocate) may fail at something and go on.
 */
function errnoWord(): Int32Array {
  const word = pointerTo(callNumber(entry('__errno_location')));
  return new Int32Array(word.buffer, word.byteOffset, 1);
}
const errno = errnoWord();

const systemCall = entry('syscall');

/**
 * One system call by number: its result, or -errno. A call that a signal
 * interrupted is made again. Arguments as for `call`.
 */
export function syscall(number: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): number {
  for (;;) {
    setArgument(0, number);
    setArgument(1, a);
    setArgument(2, b);
    setArgument(3, c);
    setArgument(4, d);
    setArgument(5, e);
    setArgument(6, f);
    bindings.ffi_call(cif, systemCall.pointer, result, argv);
    const low = resultWords[0] ?? 0;
    const high = resultWords[1] ?? 0;
    if (low !== -1 || high !== -1) return high * TWO_32 + (low >>> 0);
    const error = errno[0] ?? 0;
    if (error !== EINTR) return -error;
  }
}

/** Calls on the pool that have not returned: their buffers must not go, nor move. */
const onPool = new Set<readonly Buffer[]>();

/** Calls `pointer` on a thread of the pool, with up to seven arguments: the 64 bits that it returned. */
function callOnPool(pointer: Buffer, values: readonly number[], object: string): Promise<bigint> {
  const given = pinned(ARGUMENTS * WORD_BYTES);
  const pointers = pinned(ARGUMENTS * WORD_BYTES);
  const returned = pinned(WORD_BYTES);
  const address = addressOf(given);
  for (let i = 0; i < ARGUMENTS; i++) writeWord(pointers, address + i * WORD_BYTES, i * WORD_BYTES);
  values.forEach((value, i) => {
    writeWord(given, value, i * WORD_BYTES);
  });
  const buffers = [given, pointers, returned];
  onPool.add(buffers);
  return new Promise((resolve, reject) => {
    bindings.ffi_call_async(cif, pointer, returned, pointers, (error) => {
      onPool.delete(buffers);
      if (error === null || error === undefined) resolve(returned.readBigInt64LE());
      else reject(new Failure('call on pool', object, { cause: error }));
    });
  });
}

/** One system call on a thread of the pool: its result, or -1; which error it was is lost. */
export async function syscallOnPool(number: number, a = 0, b = 0): Promise<number> {
  return Number(await callOnPool(systemCall.pointer, [number, a, b], String(number)));
}

/** As `callNumber`, on a thread of the pool; whatever memory it is given must stay until then. */
export async function callNumberOnPool(target: Entry, ...values: readonly number[]): Promise<number> {
  return Number(await callOnPool(target.pointer, values, target.name));
}

const memcpy = entry('memcpy');

/** Copies memory that does not move to other such memory, which must not overlap. */
export function copyMemory(to: number, from: number, lengthBytes: number): void {
  callNumber(memcpy, to, from, lengthBytes);
}
