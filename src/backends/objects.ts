/**
 * What a backend is: objects by kind and name. Called by src/repository; one
 * file of this directory implements it for each place objects can be kept, and
 * test/backends/conformance.ts holds them all to what is written here.
 *
 * Common to all: an object is written once and never changes. Names that are
 * not of their kind are a programmer's error or an attack, and are refused
 * with a Failure before anything is touched. A failure of the place itself is
 * a Failure whose cause has the system's error; only absence is undefined or
 * false. Nothing is ever half there: an object is found complete or not at all.
 */
import { Failure } from '../error.ts';

export const OBJECT_KINDS = ['config', 'keys', 'packs', 'index', 'snapshots', 'leases', 'log'] as const;
export type ObjectKind = (typeof OBJECT_KINDS)[number];

/** What names of each kind look like: they are path components, and nothing else may be one. */
const NAMES: Readonly<Record<ObjectKind, RegExp>> = {
  config: /^config$/,
  keys: /^[0-9a-f]{16}$/,
  packs: /^[0-9a-f]{32}$/,
  index: /^[0-9a-f]{32}$/,
  snapshots: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
  leases: /^[0-9a-f]{32}$/,
  log: /^[0-9a-f]{32}-[0-9a-f]{16}$/,
};

export function isObjectName(kind: ObjectKind, name: string): boolean {
  return NAMES[kind].test(name);
}

/** Throws a Failure unless `name` can be an object of `kind`. */
export function checkObjectName(kind: ObjectKind, name: string): void {
  if (!isObjectName(kind, name)) throw new Failure('use object', kind, { cause: 'malformed name' });
}

/** The largest object that `get` gives whole, bytes. */
export const OBJECT_MAX_BYTES = 128 << 20;

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export interface PutOptions {
  /** Refuse to replace: the answer tells whether this call made the object. */
  readonly ifAbsent?: boolean;
  /** On a full disk, what is kept in reserve may be used up: for small objects that give space back. */
  readonly urgent?: boolean;
}

/** An object that is written piece by piece, and does not exist before its commit. */
export interface ObjectWriter {
  /** Appends, in the order of the calls; the buffer may be used again when it returns. */
  write(data: Buffer): void | Promise<void>;
  /** Bytes appended so far. */
  readonly sizeBytes: number;
  /** Makes it durable under `name`: as `put` without ifAbsent. On failure nothing is left, as after abort. */
  commit(name: string): Promise<void>;
  /** Discards it; nothing is left. Never fails, also not after a failure. */
  abort(): Promise<void>;
}

export interface Backend {
  /** Where it is, for errors and people. */
  readonly location: string;
  /**
   * The object, or exactly the range of it; undefined where there is no such
   * object. A range beyond its end is a Failure of kind 'damaged'.
   */
  get(kind: ObjectKind, name: string, range?: ByteRange): Promise<Buffer | undefined>;
  /** Fills `out` from `offset` of the object; otherwise as `get` of that range. False if there is no such object. */
  getInto(kind: ObjectKind, name: string, offset: number, out: Buffer): Promise<boolean>;
  /**
   * Makes an object of the concatenated pieces; durable when it returns.
   * False if `ifAbsent` and it was there (and is durable); true otherwise.
   */
  put(kind: ObjectKind, name: string, pieces: readonly Buffer[], options?: PutOptions): Promise<boolean>;
  /** Begins an object of unknown length. */
  create(kind: ObjectKind): ObjectWriter;
  /** The names of all objects of a kind, in any order: complete, or a Failure. */
  list(kind: ObjectKind): Promise<string[]>;
  /** The size of an object in bytes, or undefined where there is none. */
  stat(kind: ObjectKind, name: string): Promise<number | undefined>;
  /** Removes an object durably; false where there was none. */
  delete(kind: ObjectKind, name: string): Promise<boolean>;
  /** What writers that died have left behind, by names of its own; no object. */
  leftovers(): Promise<string[]>;
  /** Removes one that `leftovers` named; one that is gone is no failure. */
  removeLeftover(name: string): Promise<void>;
  /** Sets aside what urgent puts use up, where it is not; false where there is no space for it. */
  reserve(): Promise<boolean>;
}
