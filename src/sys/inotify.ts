/**
 * inotify(7): what changes in directories. Used by the scanner, where a source is
 * watched. Node's own fs.watch will not do: it says nothing of an overflow, and
 * takes paths.
 *
 * Invariant: every event that the kernel has room for is taken once, in order.
 */
import fs from 'node:fs';
import { O_CLOEXEC } from './constants.ts';
import { check } from './errno.ts';
import { addressOf, pinned, syscall } from './foreign.ts';
import { NUMBERS } from './numbers.ts';

// linux/inotify.h
export const IN_ATTRIB = 0x4;
export const IN_DELETE_SELF = 0x400;
export const IN_MOVE_SELF = 0x800;
export const IN_UNMOUNT = 0x2000;
export const IN_Q_OVERFLOW = 0x4000;
export const IN_IGNORED = 0x8000;
const IN_MODIFY = 0x2;
const IN_CLOSE_WRITE = 0x8;
const IN_MOVED_FROM = 0x40;
const IN_MOVED_TO = 0x80;
const IN_CREATE = 0x100;
const IN_DELETE = 0x200;
const IN_ONLYDIR = 0x1000000;
const IN_DONT_FOLLOW = 0x2000000;
/** Nothing of files that have no name any more. */
const IN_EXCL_UNLINK = 0x4000000;
const CHANGES = IN_ATTRIB | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE;
const MASK = CHANGES | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK;

/** struct inotify_event: i32 wd, u32 mask, u32 cookie, u32 length of the name behind it. */
const HEAD_BYTES = 16;
const BUFFER_BYTES = 64 << 10;
const FIONREAD = 0x541b;

const current = pinned(2);
current.write('.\0', 'latin1');

/** Takes the events of a buffer: watch descriptor (-1 of an overflow) and IN_… bits. */
export type TakeEvent = (watch: number, mask: number) => void;

function parse(buffer: Buffer, bytes: number, take: TakeEvent): void {
  for (let at = 0; at + HEAD_BYTES <= bytes; ) {
    take(buffer.readInt32LE(at), buffer.readUInt32LE(at + 4));
    at += HEAD_BYTES + buffer.readUInt32LE(at + 12);
  }
}

export class Inotify {
  readonly #fd: number;
  readonly #take: TakeEvent;
  readonly #unread = pinned(4);
  readonly #unreadAddress = addressOf(this.#unread);
  #closed = false;
  #isOwed = false;

  /**
   * Begins to read, on a thread of libuv's pool that waits for as long as nothing happens. Throws where there are too
   * many of them (EMFILE).
   */
  constructor(take: TakeEvent, onError: (error: unknown) => void) {
    this.#fd = check(syscall(NUMBERS.inotify_init1, O_CLOEXEC), 'inotify_init1', '');
    this.#take = take;
    const buffer = Buffer.alloc(BUFFER_BYTES);
    const next = (): void =>
      fs.read(this.#fd, buffer, 0, BUFFER_BYTES, null, (error, bytes) => {
        if (this.#closed) {
          fs.closeSync(this.#fd);
          return;
        }
        if (error !== null) {
          onError(error);
          return;
        }
        parse(buffer, bytes, this.#take);
        this.#isOwed = false;
        this.look();
        next();
      });
    next();
  }

  /** Watches the current directory: the watch descriptor, the same for the same directory, or -errno. */
  addCurrent(): number {
    return syscall(NUMBERS.inotify_add_watch, this.#fd, addressOf(current), MASK);
  }

  remove(watch: number): void {
    syscall(NUMBERS.inotify_rm_watch, this.#fd, watch);
  }

  /** Reads no more. The thread that waits is woken by an event: a watch that comes and goes. */
  close(): void {
    this.#closed = true;
    const watch = this.addCurrent();
    if (watch >= 0) this.remove(watch);
  }

  /** Whether there are events that will be taken in a moment. */
  look(): boolean {
    const failed = syscall(NUMBERS.ioctl, this.#fd, FIONREAD, this.#unreadAddress);
    // what was there once is taken with the next turn but one, though the thread may have read it by now
    if (failed === 0 && this.#unread.readUInt32LE(0) > 0) this.#isOwed = true;
    return this.#isOwed;
  }
}
