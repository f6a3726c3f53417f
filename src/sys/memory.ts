/**
 * Shared memory: sealed memfds and their mappings. Called by src/ipc/ring.ts
 * and for the index that storage shares.
 *
 * Invariant: what is mapped from a peer's descriptor cannot be truncated under
 * us (which would be SIGBUS): `checkSealed` comes before `mapShared`.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { check, errnoError } from './errno.ts';
import { addressOf, memoryAt, pinned, syscall } from './foreign.ts';
import { NUMBERS } from './numbers.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;

/** Longest name of a memfd, of memfd_create(2). */
const NAME_MAX_BYTES = 249;
/** Largest mapping: a JavaScript buffer holds no more on any platform we run on. */
const MAPPING_MAX_BYTES = 2 ** 37;
/** How many addresses are tried before a mapping is given up; see `mapShared`. */
const ADDRESSES_MAX = 16;

/**
 * A new memory file of `sizeBytes` zero bytes; `name` shows in /proc alone.
 * Sealed, its size can never change again.
 */
export function memfdCreate(name: string, sizeBytes: number, { seal = true } = {}): number {
  const text = pinned(NAME_MAX_BYTES + 1);
  text.write(name, 0, NAME_MAX_BYTES, 'utf8');
  const fd = check(
    syscall(NUMBERS.memfd_create, addressOf(text), MFD_CLOEXEC | MFD_ALLOW_SEALING),
    'memfd_create',
    name,
  );
  try {
    check(syscall(NUMBERS.ftruncate, fd, sizeBytes), 'ftruncate', name);
    const seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
    if (seal) check(syscall(NUMBERS.fcntl, fd, F_ADD_SEALS, seals), 'fcntl', name);
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
  return fd;
}

/** The size of a peer's memory file in bytes; throws unless it can never be below `minBytes`. */
export function checkSealed(fd: number, minBytes: number): number {
  const seals = syscall(NUMBERS.fcntl, fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) === 0)
    throw new Failure('map', `descriptor ${fd}`, { cause: 'not a memory file sealed against shrinking' });
  const { size } = fs.fstatSync(fd);
  if (size < minBytes)
    throw new Failure('map', `descriptor ${fd}`, { cause: `${size} bytes where ${minBytes} were declared` });
  return size;
}

/** Of a WebAssembly.Memory. */
const PAGE_BYTES = 64 << 10;
const PAGES_MAX = 65_536;

/** The part of WebAssembly that is used here, which the runtime's types leave to those of browsers. */
interface PagedMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
interface Assembly {
  readonly Memory: new (pages: { initial: number; maximum: number }) => PagedMemory;
}
const { Memory } = (globalThis as unknown as { WebAssembly: Assembly }).WebAssembly;

interface Mapping {
  readonly address: number;
  /** whose pages it took the place of; none where it is on its own */
  readonly memory?: PagedMemory;
}

/** What is mapped, by the buffer that `mapShared` returned. */
const mappings = new WeakMap<Buffer, Mapping>();

/**
 * The first `lengthBytes` of `fd` as a Buffer that is the same memory in every
 * process that maps it. Writing to a Buffer mapped for 'read' kills the process.
 * The descriptor may be closed afterwards.
 *
 * It takes the place of pages of a WebAssembly.Memory, which is the one kind of
 * memory that V8 takes from the kernel by the page, counts as what it is, and
 * detaches when it is asked to. A pointer that ref-napi wraps counts as 1 GiB or
 * more, which V8 answers with a collection of everything: a push of 100,000
 * files, in which the table of chunks grows nine times, had seventeen.
 */
export function mapShared(fd: number, lengthBytes: number, access: 'read' | 'write'): Buffer {
  if (!Number.isSafeInteger(lengthBytes) || lengthBytes < 1 || lengthBytes > MAPPING_MAX_BYTES)
    throw new Failure('map', `descriptor ${fd}`, { cause: `a length of ${lengthBytes} bytes` });
  const protection = access === 'write' ? PROT_READ | PROT_WRITE : PROT_READ;
  const pages = Math.ceil(lengthBytes / PAGE_BYTES);
  return pages > PAGES_MAX
    ? mapAnywhere(fd, lengthBytes, protection)
    : mapInPlace(fd, lengthBytes, protection, pages);
}

function mapInPlace(fd: number, lengthBytes: number, protection: number, pages: number): Buffer {
  const memory = pagesOf(fd, pages);
  const buffer = Buffer.from(memory.buffer, 0, lengthBytes);
  const address = addressOf(buffer);
  check(
    syscall(NUMBERS.mmap, address, lengthBytes, protection, MAP_SHARED | MAP_FIXED, fd, 0),
    'mmap',
    `descriptor ${fd}`,
  );
  mappings.set(buffer, { address, memory });
  return buffer;
}

function pagesOf(fd: number, pages: number): PagedMemory {
  try {
    return new Memory({ initial: pages, maximum: pages });
  } catch (cause) {
    throw new Failure('map', `descriptor ${fd}`, { cause });
  }
}

/**
 * Where the next mapping of more than 4 GiB goes, if the kernel has nothing there: far from what it chooses by itself,
 * and onwards each time, so that no address is used again before the collector has forgotten what was there (see
 * bufferAt).
 */
const PLACES_FROM = 0x1000_0000_0000;
const PLACES_TO = 0x4000_0000_0000;
const PLACE_BYTES = 1 << 21;
let place = PLACES_FROM;

function nextPlace(lengthBytes: number): number {
  const from = place + lengthBytes > PLACES_TO ? PLACES_FROM : place;
  place = from + Math.ceil(lengthBytes / PLACE_BYTES) * PLACE_BYTES;
  return from;
}

/** What is longer than a WebAssembly.Memory. */
function mapAnywhere(fd: number, lengthBytes: number, protection: number): Buffer {
  const refused: number[] = [];
  try {
    while (refused.length < ADDRESSES_MAX) {
      const address = syscall(
        NUMBERS.mmap,
        nextPlace(lengthBytes),
        lengthBytes,
        protection,
        MAP_SHARED,
        fd,
        0,
      );
      check(address, 'mmap', `descriptor ${fd}`);
      const buffer = bufferAt(address, lengthBytes);
      if (buffer !== undefined) {
        mappings.set(buffer, { address });
        return buffer;
      }
      refused.push(address);
    }
  } finally {
    for (const address of refused) syscall(NUMBERS.munmap, address, lengthBytes);
  }
  throw new Failure('map', `descriptor ${fd}`, { cause: 'no address that is not remembered' });
}

/**
 * ref-napi remembers the ArrayBuffer of each address until it is collected; one
 * that `unmap` detached, or a shorter one, cannot be used again. Then the next
 * address is tried, while this one is held.
 */
function bufferAt(address: number, lengthBytes: number): Buffer | undefined {
  try {
    const buffer = memoryAt(address, lengthBytes);
    return buffer.length === lengthBytes ? buffer : undefined;
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Ends a mapping. Every view of it has length 0 from then on, so that none can reach freed addresses. */
export function unmap(buffer: Buffer): void {
  const mapping = mappings.get(buffer);
  if (mapping === undefined) throw new Failure('unmap', 'a buffer', { cause: 'it is not mapped' });
  const { address, memory } = mapping;
  const lengthBytes = buffer.length;
  mappings.delete(buffer);
  let result: number;
  if (memory === undefined) {
    if (buffer.buffer instanceof ArrayBuffer) buffer.buffer.transfer();
    result = syscall(NUMBERS.munmap, address, lengthBytes);
  } else {
    memory.grow(0); // which detaches
    // the addresses stay V8's until it collects the memory: nothing else may come to lie there before
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    result = syscall(NUMBERS.mmap, address, lengthBytes, PROT_NONE, flags, -1, 0);
  }
  if (result < 0) throw errnoError(result, 'unmap', `${lengthBytes} bytes`);
}
