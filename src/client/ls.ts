/**
 * plakarctl ls: the snapshots of a repository, oldest first; or with
 * SNAPSHOT[:PATH] what is in a directory of one, as ls -l prints it.
 */
import { Failure } from '../error.ts';
import { DIRECTORY } from '../snapshot/tree.ts';
import type { Given } from './arguments.ts';
import { browse } from './browse.ts';
import type { Context } from './context.ts';
import { ENTRY, Listing } from './entries.ts';
import { formatCount } from './format.ts';
import { PLAIN_LINES, ROW, SNAPSHOT, SNAPSHOT_VERBOSE } from './headers.ts';
import { type Located, locate } from './lookup.ts';
import { each, parseTarget, within } from './operands.ts';
import type { Output } from './output.ts';
import { PROBLEM_EVENT } from './problems.ts';
import type { Reader, SnapshotList } from './reader.ts';
import { Tally } from './tally.ts';

export async function run(context: Context, given: Given): Promise<void> {
  const targets = given.operands.map((operand) => parseTarget('ls', operand));
  await within('ls', context.repository ?? '', async () => {
    const reader = await context.openReader('ls');
    if (targets.length === 0) await listSnapshots(context, reader, given);
    else
      await each(context, targets, async (target) => {
        await listEntries(context, reader, await locate(reader, 'ls', target), given.has('R'), target.shown);
      });
  });
}

async function listSnapshots(context: Context, reader: Reader, given: Given): Promise<void> {
  const { output } = context;
  const source = given.value('source')?.toString();
  const tags = given.values('tag').map(String);
  const isWanted: Wanted = (of) =>
    (source === undefined || of.source === source) && tags.every((tag) => of.tags.includes(tag));
  const list =
    output.json || output.verbose
      ? listHeaders
      : source === undefined && tags.length === 0
        ? listAll
        : listRows;
  const damaged = await list(output, reader, isWanted);
  for (const { name, text } of damaged) output.emit(PROBLEM_EVENT, { object: `snapshots/${name}`, text });
  if (damaged.length === 0) return;
  const cause = `${formatCount(damaged.length, 'snapshot')} could not be read`;
  throw new Failure('ls', reader.repository, { cause, kind: 'damaged' });
}

type Wanted = (of: { readonly source: string; readonly tags: readonly string[] }) => boolean;
type Damaged = SnapshotList['damaged'];

/** All, by lines that are ready, where they can be printed as they are. */
async function listAll(output: Output, reader: Reader, isWanted: Wanted): Promise<Damaged> {
  const { text, damaged } = await reader.lines();
  if (text === undefined || !PLAIN_LINES.test(text.toString('latin1')))
    return listRows(output, reader, isWanted);
  output.lines(text);
  return damaged;
}

async function listRows(output: Output, reader: Reader, isWanted: Wanted): Promise<Damaged> {
  return reader.rows((row) => {
    if (isWanted(row.labels)) output.emit(ROW, row);
  });
}

/** With all that a header says. */
async function listHeaders(output: Output, reader: Reader, isWanted: Wanted): Promise<Damaged> {
  const { snapshots, damaged } = await reader.list();
  const type = output.verbose ? SNAPSHOT_VERBOSE : SNAPSHOT;
  for (const snapshot of snapshots) if (isWanted(snapshot.header)) output.emit(type, snapshot);
  return damaged;
}

async function listEntries(
  context: Context,
  reader: Reader,
  { snapshot, entry, path }: Located,
  recursive: boolean,
  shownTarget: string,
): Promise<void> {
  const { output } = context;
  // a directory that could not be read has nothing to list but itself
  const directory = entry.type === DIRECTORY ? entry.directory() : undefined;
  if (directory === undefined) {
    output.emit(ENTRY, { entry, path, snapshot: snapshot.name, shown: path });
    return;
  }
  const tally = new Tally(context, 'ls', snapshot.name);
  const listing = new Listing(snapshot.name, recursive);
  await browse(reader, directory, path, {
    recursive,
    visit: (child, at) => {
      listing.entry = child;
      listing.at = at;
      output.emit(ENTRY, listing);
      return output.full ? output.drained() : undefined;
    },
    damaged: (where, failure) => tally.add(where, failure),
  });
  tally.end(shownTarget);
}
