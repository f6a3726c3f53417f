/**
 * The line of an entry, as `ls` prints it, straight as bytes: most entries of a
 * listing are ASCII throughout, and a string for each column of each takes three
 * times as long. Called by entries.ts, for as many entries as a snapshot has.
 * Invariant: what is written is what ENTRY's text is, and what is not simple (a
 * name to be escaped, a device, a remark, a size in megabytes) is left to that.
 */
import {
  BLOCK_DEVICE,
  CHARACTER_DEVICE,
  type EntryReader,
  FLAG_INCONSISTENT,
  FLAG_UNREADABLE,
} from '../snapshot/tree.ts';
import { formatMode, formatTime } from './format.ts';

/** What comes before the name: mode, owner (two numbers of ten digits), size, time. */
const HEAD_MAX_BYTES = 64;
export const OWNER_CHARS = 9;
export const SIZE_CHARS = 7;
const SPACE = 0x20;
const ZERO = 0x30;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const DEL = 0x7f;
const KILO = 1000;
/** From here on sizes are in megabytes. */
const KILOBYTES_END = 999_500;
/** From here on in whole kilobytes. */
const TENTHS_END = 9_950;
const DAY_SECONDS = 86_400;
/** `T00:12:04Z` is behind a day. */
const DAY_CHARS = '2021-11-27'.length;

/** Bytes of text that is written many times. */
function bytesOf(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** by mode, of which there are 16 bits */
const modes: Buffer[] = [];
/** the last one's, as most entries have their neighbour's */
let lastOwner: Buffer = bytesOf('');
let lastUid = -1;
let lastGid = -1;
let lastDay = Number.NaN;
let dayBytes: Buffer = bytesOf('');

function copy(from: Buffer, to: Buffer, at: number): number {
  for (let i = 0; i < from.length; i++) to[at + i] = from[i] as number;
  return at + from.length;
}

function two(value: number, to: Buffer, at: number): void {
  to[at] = ZERO + ((value / 10) | 0);
  to[at + 1] = ZERO + (value % 10);
}

/** Writes digits so that they end before `end`; returns where they begin. */
function digits(value: number, to: Buffer, end: number): number {
  let at = end;
  let rest = value;
  do {
    to[--at] = ZERO + (rest % 10);
    rest = (rest / 10) | 0;
  } while (rest > 0);
  return at;
}

/** A size below a megabyte, in SIZE_CHARS. */
function size(bytes: number, to: Buffer, at: number): void {
  const end = at + SIZE_CHARS;
  to[end - 1] = 0x42; // B
  let start: number;
  if (bytes < KILO) {
    to[end - 2] = SPACE;
    start = digits(bytes, to, end - 2);
  } else {
    to[end - 2] = 0x6b; // k
    to[end - 3] = SPACE;
    if (bytes < TENTHS_END) {
      const tenths = Math.round(bytes / 100);
      to[end - 4] = ZERO + (tenths % 10);
      to[end - 5] = 0x2e; // .
      start = digits((tenths / 10) | 0, to, end - 5);
    } else start = digits(Math.floor((bytes + KILO / 2) / KILO), to, end - 3);
  }
  for (let i = at; i < start; i++) to[i] = SPACE;
}

/** Whether a size is written here as formatBytes has it: tenths between two depend on how a double is rounded. */
function isSimple(bytes: number): boolean {
  return bytes < KILOBYTES_END && (bytes < KILO || bytes >= TENTHS_END || bytes % 100 !== 50);
}

/** Seconds since 1970; -1 where a day has no date of the usual length. */
function time(seconds: number, to: Buffer, at: number): number {
  const day = Math.floor(seconds / DAY_SECONDS);
  if (day !== lastDay) {
    lastDay = day;
    const text = formatTime(day * DAY_SECONDS);
    dayBytes = bytesOf(text.startsWith('@') ? '' : text.slice(0, text.indexOf('T') + 1));
  }
  if (dayBytes.length !== DAY_CHARS + 1) return -1;
  const rest = seconds - day * DAY_SECONDS;
  const minutes = (rest / 60) | 0;
  const end = copy(dayBytes, to, at);
  two((minutes / 60) | 0, to, end);
  to[end + 2] = COLON;
  two(minutes % 60, to, end + 3);
  to[end + 5] = COLON;
  two(rest % 60, to, end + 6);
  to[end + 8] = 0x5a; // Z
  return end + 9;
}

function mode(value: number, to: Buffer, at: number): number {
  let known = modes[value];
  if (known === undefined) {
    known = bytesOf(`${formatMode(value)} `);
    modes[value] = known;
  }
  return copy(known, to, at);
}

function owner(uid: number, gid: number, to: Buffer, at: number): number {
  if (uid !== lastUid || gid !== lastGid) {
    lastUid = uid;
    lastGid = gid;
    lastOwner = bytesOf(`${`${uid}:${gid}`.padEnd(OWNER_CHARS)} `);
  }
  return copy(lastOwner, to, at);
}

/** Writes what comes before the name, with the spaces behind it: where it ends, or -1. */
export function writeHead(entry: EntryReader, to: Buffer, at: number): number {
  const { type, flags, size: bytes } = entry;
  if (type === CHARACTER_DEVICE || type === BLOCK_DEVICE || !isSimple(bytes)) return -1;
  if ((flags & (FLAG_UNREADABLE | FLAG_INCONSISTENT)) !== 0 || to.length - at < HEAD_MAX_BYTES) return -1;
  const sizeAt = owner(entry.uid, entry.gid, to, mode(entry.mode & 0xffff, to, at));
  size(bytes, to, sizeAt);
  const end = time(entry.mtimeSec, to, spaces(to, sizeAt + SIZE_CHARS));
  return end < 0 ? -1 : spaces(to, end);
}

function spaces(to: Buffer, at: number): number {
  to[at] = SPACE;
  to[at + 1] = SPACE;
  return at + 2;
}

/** Writes bytes `start`..`end` of `from` where each prints as itself, and there is room: where they end, or -1. */
export function writePlain(from: Buffer, start: number, end: number, to: Buffer, at: number): number {
  if (to.length - at < end - start) return -1;
  let out = at;
  for (let i = start; i < end; i++) {
    const byte = from[i] as number;
    if (byte < SPACE || byte >= DEL || byte === BACKSLASH) return -1;
    to[out++] = byte;
  }
  return out;
}
