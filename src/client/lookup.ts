/**
 * Finds what SNAPSHOT:PATH names. Called by the commands that look into
 * snapshots, and by pull. Names are bytes; symbolic links are not followed, as
 * a snapshot's links speak of the machine it was taken on.
 *
 * A snapshot's tree begins at its source's path: with a source at /home,
 * `latest:/alice` is /home/alice. The whole path is understood as well, where
 * nothing in the tree has that name.
 */
import { Failure } from '../error.ts';
import type { SnapshotHeader } from '../repository/snapshot.ts';
import type { ChunkSource } from '../snapshot/chunks.ts';
import { findEntry, readRoot } from '../snapshot/directory.ts';
import { DIRECTORY, type EntryReader } from '../snapshot/tree.ts';
import { type Target, within } from './operands.ts';
import type { Reader, Snapshot } from './reader.ts';

/** Something inside a snapshot. */
export interface Found {
  /** Standing at the entry; the root's has an empty name. */
  readonly entry: EntryReader;
  /** Where it is in the tree: `/`, `/alice/mail`. */
  readonly path: Buffer;
}

const SLASH = 0x2f;
const DOT = 0x2e;
/** Names in a path; a path of more cannot be given on a command line anyhow. */
const NAMES_MAX = 1 << 20;

/** The names of a path, without empty ones and '.'; undefined where there is a '..', which names nothing here. */
export function splitPath(path: Buffer): Buffer[] | undefined {
  const names: Buffer[] = [];
  for (let start = 0; start <= path.length; ) {
    const slash = path.indexOf(SLASH, start);
    const end = slash < 0 ? path.length : slash;
    const name = path.subarray(start, end);
    start = end + 1;
    if (name.length === 0 || (name.length === 1 && name[0] === DOT)) continue;
    if (name.length === 2 && name[0] === DOT && name[1] === DOT) return undefined;
    names.push(name);
    if (names.length > NAMES_MAX) return undefined;
  }
  return names;
}

/** An absolute path of the tree, from its names. */
export function joinPath(names: readonly Buffer[]): Buffer {
  if (names.length === 0) return Buffer.from('/');
  return Buffer.concat(names.flatMap((name) => [Buffer.of(SLASH), name]));
}

async function descend(
  source: ChunkSource,
  root: EntryReader,
  names: readonly Buffer[],
): Promise<EntryReader | undefined> {
  let entry = root;
  for (const name of names) {
    const directory = entry.type === DIRECTORY ? entry.directory() : undefined;
    if (directory === undefined) return undefined;
    const next = await findEntry(source, directory, name);
    if (next === undefined) return undefined;
    entry = next;
  }
  return entry;
}

/** The names below the source's path, where `names` begins with that and the snapshot has but one. */
function belowSource(header: SnapshotHeader, names: readonly Buffer[]): readonly Buffer[] | undefined {
  const [path] = header.paths;
  if (path === undefined || header.paths.length !== 1) return undefined;
  const prefix = splitPath(path);
  if (prefix === undefined || prefix.length === 0 || prefix.length > names.length) return undefined;
  return prefix.every((name, i) => names[i]?.equals(name)) ? names.slice(prefix.length) : undefined;
}

/** What `path` names in the snapshot, or undefined where it names nothing. */
export async function lookUp(
  source: ChunkSource,
  header: SnapshotHeader,
  path: Buffer,
): Promise<Found | undefined> {
  const names = splitPath(path);
  if (names === undefined) return undefined;
  for (const candidate of [names, belowSource(header, names)]) {
    if (candidate === undefined) continue;
    const entry = await descend(source, await readRoot(source, header.root), candidate);
    if (entry !== undefined) return { entry, path: joinPath(candidate) };
  }
  return undefined;
}

/** Something inside a snapshot, and the snapshot. */
export interface Located extends Found {
  readonly snapshot: Snapshot;
}

/**
 * Resolves the snapshot and finds the path in it; without one, the root.
 * Rejects where there is none: `cat 99e5:/x: no such file in the snapshot`.
 */
export async function locate(reader: Reader, command: string, target: Target): Promise<Located> {
  return within(command, target.shown, async () => {
    const snapshot = await reader.resolve(target.snapshot, undefined, target.path);
    const found = await lookUp(reader, snapshot.header, target.path ?? Buffer.alloc(0));
    if (found === undefined)
      throw new Failure(command, target.shown, { cause: 'no such file in the snapshot' });
    return { snapshot, ...found };
  });
}
