/**
 * Files with several names. The first name that the walk meets is restored as
 * a file; every other becomes a link to it, at once or, where the file's
 * contents are still to come, when it is complete. Called by the restore's walk
 * and by whatever completes a file. Invariant: what a name is linked to is the
 * very file that was written, by device and inode.
 */
import { Failure } from '../error.ts';
import { EEXIST, errnoError } from '../sys/errno.ts';
import { linkAt, renameAt, Stat, statAt, unlinkAt } from '../sys/files.ts';
import type { Directories, Directory } from './restore-directory.ts';
import { failureOf, type Report } from './restore-report.ts';
import { type EntryReader, FLAG_LINKED } from './tree.ts';

/** Files of several names that are remembered; beyond them each name becomes a file of its own. */
const LINKS_MAX = 1 << 20;
/** Names that wait for their file; above it the walk waits for the files. */
export const WAITING_MAX = 1 << 16;

interface Place {
  readonly directory: Directory;
  readonly name: Buffer;
}

interface Link extends Place {
  state: 'pending' | 'done' | 'failed';
  devMajor: number;
  devMinor: number;
  inoLow: number;
  inoHigh: number;
  waiting: Place[];
}

function keyOf(entry: EntryReader): string {
  return `${entry.filesystem}:${entry.inoHigh}:${entry.inoLow}`;
}

export class Links {
  /** names that wait for their file */
  waiting = 0;
  readonly #links = new Map<string, Link>();
  readonly #directories: Directories;
  readonly #report: Report;
  readonly #overwrite: boolean;
  readonly #stat = new Stat();
  readonly #temporary: () => Buffer;

  constructor(directories: Directories, report: Report, overwrite: boolean, temporary: () => Buffer) {
    this.#directories = directories;
    this.#report = report;
    this.#overwrite = overwrite;
    this.#temporary = temporary;
  }

  /**
   * Whether the entry is another name of a file already met: then it is linked, now or later, and there is nothing
   * left to do for it.
   */
  take(directory: Directory, entry: EntryReader): boolean {
    if ((entry.flags & FLAG_LINKED) === 0) return false;
    const key = keyOf(entry);
    const link = this.#links.get(key);
    const name = Buffer.from(entry.name());
    if (link === undefined) {
      if (this.#links.size < LINKS_MAX) this.#links.set(key, newLink(directory, name));
      return false;
    }
    const place = { directory, name };
    if (link.state === 'pending') {
      link.waiting.push(place);
      this.waiting++;
      this.#directories.hold(directory);
    } else this.#place(link, place);
    return true;
  }

  /** The file that `entry` in `directory` names is complete, or (`done` false) will never be. */
  settle(directory: Directory, entry: EntryReader, done: boolean): void {
    if ((entry.flags & FLAG_LINKED) === 0) return;
    const link = this.#links.get(keyOf(entry));
    if (link === undefined || link.state !== 'pending') return;
    if (link.directory !== directory || !link.name.equals(entry.name())) return;
    link.state = done && this.#identify(link) ? 'done' : 'failed';
    const { waiting } = link;
    link.waiting = [];
    this.waiting -= waiting.length;
    for (const place of waiting) {
      this.#place(link, place);
      this.#directories.release(place.directory);
    }
  }

  #identify(link: Link): boolean {
    const stat = this.#stat;
    if (statAt(this.#directories.open(link.directory), link.name, stat) !== 0) return false;
    link.devMajor = stat.devMajor;
    link.devMinor = stat.devMinor;
    link.inoLow = stat.inoLow;
    link.inoHigh = stat.inoHigh;
    return true;
  }

  #isLink(link: Link, dirfd: number, name: Buffer): boolean {
    const stat = this.#stat;
    return (
      statAt(dirfd, name, stat) === 0 &&
      stat.inoLow === link.inoLow &&
      stat.inoHigh === link.inoHigh &&
      stat.devMajor === link.devMajor &&
      stat.devMinor === link.devMinor
    );
  }

  #place(link: Link, place: Place): void {
    const path = () => this.#directories.pathOf(place.directory, place.name);
    try {
      if (link.state === 'failed') {
        const first = this.#directories.pathOf(link.directory, link.name).toString();
        throw failureOf(path(), `it is a link to ${first}, which is missing`);
      }
      if (this.#link(link, place)) this.#report.counts.links++;
      else this.#report.counts.kept++;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#report.problem(path(), error);
    }
  }

  /** Makes the link; false where it was there already. */
  #link(link: Link, { directory, name }: Place): boolean {
    const path = () => this.#directories.pathOf(directory, name).toString();
    const from = this.#directories.open(link.directory);
    this.#directories.pin(link.directory);
    try {
      const to = this.#directories.open(directory);
      let result = linkAt(from, link.name, to, name);
      let made = name;
      if (result === -EEXIST) {
        if (this.#isLink(link, to, name)) return false;
        if (!this.#overwrite) throw exists(path());
        made = this.#temporary();
        result = linkAt(from, link.name, to, made);
      }
      if (result < 0) throw errnoError(result, 'linkat', path());
      // somebody may have put another file in the place of the first
      if (!this.#isLink(link, to, made)) {
        unlinkAt(to, made);
        throw new Failure('link', path(), { cause: 'the file it is a link to was replaced meanwhile' });
      }
      if (made !== name) replace(to, made, name, path);
      return true;
    } finally {
      this.#directories.unpin(link.directory);
    }
  }
}

function newLink(directory: Directory, name: Buffer): Link {
  return { directory, name, state: 'pending', devMajor: 0, devMinor: 0, inoLow: 0, inoHigh: 0, waiting: [] };
}

/** What is to be restored is there already, and is something else. */
export function exists(path: string): Failure {
  return new Failure('restore', path, {
    cause: 'it exists, and is not what the snapshot has',
    remedy: '-overwrite replaces it',
  });
}

/** Puts `temporary` in the place of `name`; removes it where that fails. */
export function replace(dirfd: number, temporary: Buffer, name: Buffer, path: () => string): void {
  const result = renameAt(dirfd, temporary, dirfd, name);
  if (result === 0) return;
  unlinkAt(dirfd, temporary);
  throw errnoError(result, 'renameat2', path());
}
