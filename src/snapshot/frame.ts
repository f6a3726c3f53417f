/**
 * One directory that a walk has open. Called by the walker, which has one for
 * each level and uses it again. It says where the walk is in the directory, and
 * what of it is not yet told: the run of old entries that stay as they are.
 */
import type { Stat } from '../sys/files.ts';
import { Bytes } from './bytes.ts';
import { Names } from './names.ts';
import { OldPlace } from './oldtree.ts';
import type { VirtualDirectory } from './roots.ts';
import type { Visit } from './visits.ts';
import type { OwnCounts, Place } from './watched.ts';

const SLASH = 0x2f;

export class Frame {
  /** -1 while closed, and of a directory that is made up, unreadable, or of another file system */
  fd = -1;
  /** its own name's number in Names */
  name = 0;
  /** its entries' numbers in Names: the first, the next to visit, and the end */
  first = 0;
  next = 0;
  end = 0;
  /** where in Names those are kept */
  nameBytes = 0;
  /** which directory it is */
  devMajor = 0;
  devMinor = 0;
  inoLow = 0;
  inoHigh = 0;
  /** length of its path */
  pathLength = 0;
  /** where its own entry is, among those of the open directories */
  head = 0;
  /** to be set in its entry */
  flags = 0;
  /** its name is in the parent's old directory */
  matched = false;
  /** its own metadata is as in the old tree */
  sameSelf = false;
  /** a directory below the roots that can be closed, and opened again through its child or parent */
  canReopen = false;
  virtual: VirtualDirectory | undefined;
  /** which of it is visited; all where undefined */
  visit: Visit | undefined;
  /** of a watched source: which directory this is */
  place: Place | undefined;
  /** what is in it, itself */
  readonly own: OwnCounts = { files: 0, bytes: 0, others: 0, directories: 0, excluded: 0 };
  /** how often the current name turned out to be something else */
  attempts = 0;
  readonly old = new OldPlace();
  /** old entries from..to-1 of the current leaf stay; none if equal */
  runFrom = 0;
  runTo = 0;
  /** so many leaves before stay completely; told when the directory is entered */
  wholeLeaves = 0;

  reset(): void {
    this.fd = -1;
    this.flags = 0;
    this.sameSelf = false;
    this.canReopen = false;
    this.virtual = undefined;
    this.visit = undefined;
    this.place = undefined;
    const { own } = this;
    own.files = 0;
    own.bytes = 0;
    own.others = 0;
    own.directories = 0;
    own.excluded = 0;
    this.attempts = 0;
    this.runFrom = 0;
    this.runTo = 0;
    this.wholeLeaves = 0;
  }

  identify(stat: Stat): void {
    this.devMajor = stat.devMajor;
    this.devMinor = stat.devMinor;
    this.inoLow = stat.inoLow;
    this.inoHigh = stat.inoHigh;
  }

  isIdentified(stat: Stat): boolean {
    return (
      this.inoLow === stat.inoLow &&
      this.inoHigh === stat.inoHigh &&
      this.devMinor === stat.devMinor &&
      this.devMajor === stat.devMajor
    );
  }

  /** The current old entry stays. */
  extendRun(): void {
    const { index } = this.old.entries;
    if (this.runFrom === this.runTo) this.runFrom = index;
    this.runTo = index + 1;
  }
}

/** The directories that are open, from the made-up start to the innermost, with what they share. */
export class Frames {
  readonly names = new Names();
  /** entries of the open directories themselves, without content */
  readonly heads = new Bytes();
  /** path of the innermost, below the source */
  readonly path = new Bytes();
  readonly #all: Frame[] = [];
  depth = 0;

  /** Frame number `index`; 0 is the made-up start. */
  at(index: number): Frame {
    return this.#all[index] as Frame;
  }

  get top(): Frame {
    return this.#all[this.depth - 1] as Frame;
  }

  /** Opens a directory with the name number `name`: fresh, but for its place in the old tree. */
  push(name: number): Frame {
    let frame = this.#all[this.depth];
    if (frame === undefined) {
      frame = new Frame();
      this.#all.push(frame);
    }
    this.depth++;
    frame.reset();
    frame.name = name;
    frame.first = this.names.count;
    frame.next = frame.first;
    frame.end = frame.first;
    frame.nameBytes = this.names.bytes;
    frame.head = this.heads.length;
    if (this.depth > 1) this.#appendPath(name);
    frame.pathLength = this.path.length;
    return frame;
  }

  #appendPath(name: number): void {
    this.names.at(name);
    if (this.path.length > 0) this.path.u8(SLASH);
    this.path.bytes(this.names.buffer, this.names.start, this.names.end);
  }

  /** Leaves the innermost. */
  pop(): void {
    const frame = this.top;
    this.names.truncate(frame.first, frame.nameBytes);
    this.heads.truncate(frame.head);
    this.depth--;
    if (this.depth > 0) this.path.truncate(this.top.pathLength);
  }
}
