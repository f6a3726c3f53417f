/**
 * Tells the chunker what a walk found, in the order that scanlog.ts asks for.
 * Called by the walker. Invariant: a directory, and all around it, is entered
 * only when something in it differs, and then everything before the difference
 * is told first, as runs of old entries.
 */
import { describe } from '../error.ts';
import { errnoError } from '../sys/errno.ts';
import type { Attributes } from './attributes.ts';
import type { Bytes } from './bytes.ts';
import { ID_BYTES } from './chunks.ts';
import type { Frame, Frames } from './frame.ts';
import type { Outbox } from './outbox.ts';
import * as scan from './scanlog.ts';
import { AT_FLAGS, appendXattrs, beginEntry, type EntryStat, endEntry, FLAG_XATTRS } from './tree.ts';

export class Teller {
  readonly counts = scan.noCounts();
  readonly #frames: Frames;
  readonly #outbox: Outbox;
  readonly #base: Buffer;
  /** so many frames, from the first, have been entered; the made-up start counts as one */
  #entered = 1;
  #rootDiffers = false;

  /** @param base absolute path of the source, for events */
  constructor(frames: Frames, outbox: Outbox, base: Buffer) {
    this.#frames = frames;
    this.#outbox = outbox;
    this.#base = base;
  }

  /** Something in the innermost directory differs: it is entered, and what comes before is told. */
  differs(): void {
    for (let i = this.#entered; i < this.#frames.depth; i++) {
      if (i > 1) this.#closeRun(this.#frames.at(i - 1));
      this.#enter(this.#frames.at(i), this.#frames.at(i - 1));
    }
    this.#entered = Math.max(this.#entered, this.#frames.depth);
    this.#closeRun(this.#frames.top);
  }

  get isEntered(): boolean {
    return this.#entered >= this.#frames.depth;
  }

  /** The innermost directory's leaf is at its end, and another will be used. */
  endLeaf(): void {
    const frame = this.#frames.top;
    if (this.isEntered) this.#closeRun(frame);
    else frame.wholeLeaves++;
    frame.runFrom = 0;
    frame.runTo = 0;
  }

  #closeRun(frame: Frame): void {
    if (frame.runTo > frame.runFrom) {
      scan.appendCopy(this.#outbox.records, frame.old.part, frame.runFrom, frame.runTo);
      this.#outbox.ended();
    }
    frame.runFrom = 0;
    frame.runTo = 0;
  }

  #enter(frame: Frame, parent: Frame): void {
    this.#rootDiffers = true;
    const out = this.#outbox.records;
    const { names } = this.#frames;
    const record = scan.beginRecord(out, scan.ENTER, frame.old.exists ? 1 : 0);
    if (frame.old.exists) {
      const { entries } = parent.old;
      out.bytes(entries.buffer, entries.contentStart, entries.contentStart + ID_BYTES + 4);
    }
    names.at(frame.name);
    out.bytes(names.buffer, names.start, names.end);
    scan.endRecord(out, record);
    this.#outbox.ended();
    for (let part = 0; part < frame.wholeLeaves; part++) {
      scan.appendCopy(out, part, 0, scan.TO_END);
      this.#outbox.ended();
    }
  }

  /** Begins the entry of what differs, in a record of its own; its name is bytes `start`..`end` of `name`. */
  #begin(
    what: number,
    recordFlags: number,
    stat: EntryStat,
    filesystem: number,
    flags: number,
    name: Uint8Array,
    start: number,
    end: number,
  ): Bytes {
    const out = this.#outbox.records;
    this.#record = scan.beginRecord(out, what, recordFlags);
    this.#entry = beginEntry(out, stat, filesystem, flags, name, start, end);
    return out;
  }
  #record = 0;
  #entry = 0;

  #endEntry(fd: number): void {
    const out = this.#outbox.records;
    endEntry(out, this.#entry);
    scan.endRecord(out, this.#record);
    this.#outbox.ended(fd);
  }

  /** A regular file to be read through `fd`; -1 with FLAG_UNREADABLE where it could not be opened. */
  file(
    stat: EntryStat,
    filesystem: number,
    flags: number,
    name: Uint8Array,
    start: number,
    end: number,
    fd: number,
    { xattrs }: Attributes,
  ): void {
    const out = this.#begin(scan.FILE_TO_READ, fd < 0 ? 0 : 1, stat, filesystem, flags, name, start, end);
    appendXattrs(out, this.#entry, xattrs);
    this.#endEntry(fd);
  }

  /** What is neither file nor directory; `content` as in tree.ts. */
  special(
    stat: EntryStat,
    filesystem: number,
    name: Uint8Array,
    start: number,
    end: number,
    content: Uint8Array,
    { xattrs }: Attributes,
  ): void {
    const out = this.#begin(scan.SPECIAL, 0, stat, filesystem, 0, name, start, end);
    appendXattrs(out, this.#entry, xattrs);
    out.bytes(content);
    this.#endEntry(-1);
  }

  /** The end of the innermost directory, which was entered. */
  leave(frame: Frame, { xattrs }: Attributes): void {
    const out = this.#outbox.records;
    const { heads } = this.#frames;
    this.#record = scan.beginRecord(out, scan.LEAVE, 0);
    this.#entry = out.length;
    out.bytes(heads.buffer, frame.head, heads.length);
    const at = this.#entry + AT_FLAGS;
    out.buffer[at] = ((out.buffer[at] as number) | frame.flags) & ~FLAG_XATTRS;
    appendXattrs(out, this.#entry, xattrs);
    this.#endEntry(-1);
    this.#entered--;
  }

  /** Tells that `name`, or the innermost directory where there is none, could not be had: `call` failed. */
  unreadable(call: string, errno: number, name?: Uint8Array): void {
    this.problem(describe(errnoError(errno, call, '')), name);
  }

  problem(text: string, name?: Uint8Array): void {
    this.counts.unreadable++;
    this.#event(scan.EVENT_UNREADABLE, text, name);
  }

  vanished(name: Uint8Array): void {
    this.counts.vanished++;
    this.#event(scan.EVENT_VANISHED, 'vanished before it could be opened', name);
  }

  #event(event: number, text: string, name: Uint8Array | undefined): void {
    const parts = [this.#base.equals(ROOT) ? NOTHING : this.#base];
    const path = this.#frames.path.since(0);
    if (path.length > 0) parts.push(ROOT, path);
    if (name !== undefined && name.length > 0) parts.push(ROOT, Buffer.from(name));
    const whole = Buffer.concat(parts);
    scan.appendEvent(this.#outbox.records, event, text, whole.length === 0 ? ROOT : whole);
    this.#outbox.ended();
  }

  /** The end of the walk. */
  end(): void {
    scan.appendEnd(this.#outbox.records, !this.#rootDiffers, this.counts);
    this.#outbox.ended();
  }
}

const ROOT = Buffer.from('/');
const NOTHING = Buffer.alloc(0);
