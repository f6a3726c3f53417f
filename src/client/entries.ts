/**
 * What is inside a snapshot as events: a line as ls -l prints it, or an object.
 * Emitted by ls and find. The event refers to the cursor's current entry and is
 * printed at once, so listing allocates nothing but the lines.
 */
import {
  BLOCK_DEVICE,
  CHARACTER_DEVICE,
  EntryReader,
  FLAG_INCONSISTENT,
  FLAG_UNREADABLE,
  SYMLINK,
} from '../snapshot/tree.ts';
import type { Path } from './browse.ts';
import { nameFields, safeName } from './escape.ts';
import { formatBytes, formatMode, formatNanoseconds, formatTime } from './format.ts';
import { OWNER_CHARS, SIZE_CHARS, writeHead, writePlain } from './line.ts';
import type { EventType } from './output.ts';

export interface EntryEvent {
  readonly entry: EntryReader;
  /** Where it is in the tree. */
  readonly path: Buffer;
  /** The snapshot's name. */
  readonly snapshot: string;
  /** What text output calls it: its name, or its path. */
  readonly shown: Buffer;
  /** Writes the same to `to` at `at` where all of it prints as itself: where it ends, or -1. */
  readonly writeShown?: (to: Buffer, at: number) => number;
}

/** What `ls` emits for each entry of a walk: one object, so that a path is made only where one is needed. */
export class Listing implements EntryEvent {
  entry: EntryReader = new EntryReader();
  at: Path | undefined;
  readonly snapshot: string;
  /** By its path, not by its name alone. */
  readonly #byPath: boolean;

  constructor(snapshot: string, byPath: boolean) {
    this.snapshot = snapshot;
    this.#byPath = byPath;
  }

  get path(): Buffer {
    return this.at?.bytes ?? Buffer.alloc(0);
  }

  get shown(): Buffer {
    return this.#byPath ? this.path : this.entry.name();
  }

  writeShown(to: Buffer, at: number): number {
    if (this.#byPath) return this.at?.writePlain(to, at) ?? -1;
    const { buffer, nameStart, nameEnd } = this.entry;
    return writePlain(buffer, nameStart, nameEnd, to, at);
  }
}

/** By entry type, as in tree.ts. */
export const TYPE_NAMES = [
  '',
  'file',
  'directory',
  'symlink',
  'fifo',
  'socket',
  'character device',
  'block device',
] as const;

function isDevice(type: number): boolean {
  return type === CHARACTER_DEVICE || type === BLOCK_DEVICE;
}

function sizeText(entry: EntryReader): string {
  return isDevice(entry.type) ? `${entry.deviceMajor}, ${entry.deviceMinor}` : formatBytes(entry.size);
}

/** What is wrong with the entry's contents, for people. */
function remark(flags: number): string {
  if ((flags & FLAG_UNREADABLE) !== 0) return ' (not read)';
  return (flags & FLAG_INCONSISTENT) !== 0 ? ' (changed while it was read)' : '';
}

function jsonOf({ entry, path, snapshot }: EntryEvent): object {
  const { type, flags } = entry;
  return {
    snapshot,
    ...nameFields('path', path),
    type: TYPE_NAMES[type],
    mode: (entry.mode & 0o7777).toString(8).padStart(4, '0'),
    uid: entry.uid,
    gid: entry.gid,
    size: entry.size,
    mtime: formatNanoseconds(entry.mtimeSec, entry.mtimeNsec),
    ...(type === SYMLINK ? nameFields('target', entry.target()) : {}),
    ...(isDevice(type) ? { major: entry.deviceMajor, minor: entry.deviceMinor } : {}),
    ...((flags & FLAG_UNREADABLE) !== 0 ? { unreadable: true } : {}),
    ...((flags & FLAG_INCONSISTENT) !== 0 ? { inconsistent: true } : {}),
  };
}

/** `-rw-r--r-- 1000:1000    11 MB  2021-11-27T00:12:04Z  mail.db` */
export const ENTRY: EventType<EntryEvent> = {
  name: 'entry',
  json: jsonOf,
  text: (event) => {
    const { entry } = event;
    const size = sizeText(entry).padStart(SIZE_CHARS);
    const target = entry.type === SYMLINK ? ` -> ${safeName(entry.target())}` : '';
    const name = safeName(event.shown) + target + remark(entry.flags);
    const owner = `${entry.uid}:${entry.gid}`.padEnd(OWNER_CHARS);
    return `${formatMode(entry.mode)} ${owner} ${size}  ${formatTime(entry.mtimeSec)}  ${name}`;
  },
  write: (event, to, at) => {
    const { entry } = event;
    if (event.writeShown === undefined) return -1;
    const nameAt = writeHead(entry, to, at);
    const end = nameAt < 0 ? -1 : event.writeShown(to, nameAt);
    return end < 0 || entry.type !== SYMLINK ? end : writeTarget(entry, to, end);
  },
};

const ARROW = Buffer.from(' -> ');

function writeTarget(entry: EntryReader, to: Buffer, at: number): number {
  const target = entry.target();
  const targetAt = writePlain(ARROW, 0, ARROW.length, to, at);
  return targetAt < 0 ? -1 : writePlain(target, 0, target.length, to, targetAt);
}

/** The path alone: what find prints. */
export const PATH: EventType<EntryEvent> = {
  name: 'entry',
  json: jsonOf,
  text: ({ path, snapshot }) => `${snapshot}:${safeName(path)}`,
};
