/**
 * plakarctl pull: restores snapshots, or parts of them, under a directory, with
 * the caller's own rights. What is written, and how, is src/snapshot/restore.ts;
 * here are the target directory, what is printed, and the exit code.
 *
 * The contents of a directory go directly under DIR (without -to, the current
 * directory), anything else under its own name. Directories that are there are
 * merged; a file that is there and equal is left alone; one that differs is a
 * problem, or with -overwrite replaced as a whole. DIR itself gets the mode,
 * owner and times of the one directory that is restored into it, if it was
 * missing or empty.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { describe, Failure } from '../error.ts';
import { type RestoreCounts, type RestoreProblem, type Rights, restore } from '../snapshot/restore.ts';
import { DIRECTORY } from '../snapshot/tree.ts';
import type { Given } from './arguments.ts';
import type { Context } from './context.ts';
import { nameFields, safeName, safeText } from './escape.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import { type Located, locate } from './lookup.ts';
import { parseTarget, within } from './operands.ts';
import type { EventType } from './output.ts';
import type { Reader } from './reader.ts';

/** Problems that are said one by one; beyond them they are counted. */
const PROBLEMS_SHOWN_MAX = 10_000;
/** Beyond this the daemon's side is slower. */
const HANDS_MAX = 4;
const PRIVATE = 0o700;
const ALL = 0o777;
const { O_DIRECTORY, O_RDONLY } = fs.constants;

const PROBLEM: EventType<RestoreProblem> = {
  name: 'problem',
  json: ({ path: name, failure }) => ({
    ...nameFields('path', name),
    kind: failure.kind,
    text: describe(failure),
  }),
  text: ({ failure }) => `pull: ${safeText(describe(failure))}`,
  aside: true,
};

interface Pulled extends RestoreCounts {
  readonly durationMs: number;
}

const PULLED: EventType<Pulled> = {
  name: 'pulled',
  json: (pulled) => pulled,
  text: ({ files, directories, others, links, kept, bytes, problems, durationMs }) => {
    const parts = [
      formatCount(files, 'file'),
      formatCount(directories, 'directory', 'directories'),
      formatCount(others, 'other'),
      formatBytes(bytes),
    ];
    if (links > 0) parts.push(formatCount(links, 'hard link'));
    if (kept > 0) parts.push(`${kept} there already`);
    if (problems > 0) parts.push(formatCount(problems, 'problem'));
    return `${parts.join(', ')}; ${formatDuration(durationMs)}`;
  },
  aside: true,
};

/** The directory that is restored into. */
interface Target {
  readonly fd: number;
  /** made now, or empty */
  readonly isNew: boolean;
}

export async function run(context: Context, given: Given): Promise<void> {
  const operands = given.operands.map((operand) => parseTarget('pull', operand));
  const shown = operands.map((operand) => operand.shown).join(' ');
  const reader = await within('pull', context.repository ?? '', () => context.openReader('pull'));
  // all before anything is written: an operand that names nothing costs nothing
  const located: Located[] = [];
  for (const operand of operands) located.push(await locate(reader, 'pull', operand));
  const directory = given.value('to') ?? Buffer.from('.');
  await within('pull', shown, async () => {
    const target = openTarget(directory, located);
    try {
      await pull(context, reader, located, target, given.has('overwrite'), shown);
    } finally {
      fs.closeSync(target.fd);
    }
  });
}

/**
 * Opens DIR, and makes it where it is missing. As long as not everything is in it, and its own mode is to come from
 * the snapshot, nobody else sees into one that was made.
 */
function openTarget(directory: Buffer, located: readonly Located[]): Target {
  const owns = located.length === 1 && located[0]?.entry.type === DIRECTORY;
  const isMade = !fs.existsSync(directory);
  try {
    if (isMade) {
      const parent = Buffer.from(path.posix.dirname(directory.toString('latin1')), 'latin1');
      fs.mkdirSync(parent, { recursive: true });
      fs.mkdirSync(directory, { mode: owns ? PRIVATE : ALL });
    }
    const fd = fs.openSync(directory, O_RDONLY | O_DIRECTORY);
    return { fd, isNew: isMade || isEmpty(directory) };
  } catch (cause) {
    throw new Failure('open', safeName(directory), { cause });
  }
}

function isEmpty(directory: Buffer): boolean {
  const entries = fs.opendirSync(directory as unknown as string, { bufferSize: 1 });
  try {
    return entries.readSync() === null;
  } finally {
    entries.closeSync();
  }
}

/** One thread more than one can use costs memory alone. */
function handsOf(cores: number): number {
  return cores < 2 ? 0 : Math.min(cores, HANDS_MAX);
}

/** As whom the kernel judges what we do. */
function rightsOfProcess(): Rights {
  const uid = process.geteuid?.() ?? 0;
  const gid = process.getegid?.() ?? 0;
  return { uid, gid, groups: new Set([gid, ...(process.getgroups?.() ?? [])]) };
}

async function pull(
  context: Context,
  reader: Reader,
  located: readonly Located[],
  target: Target,
  overwrite: boolean,
  shown: string,
): Promise<void> {
  const { output } = context;
  const startMs = context.now();
  let said = 0;
  const problem = (each: RestoreProblem): void => {
    if (++said <= PROBLEMS_SHOWN_MAX) output.emit(PROBLEM, each);
  };
  const { counts, worst } = await restore(
    reader,
    located.map(({ entry }) => entry),
    {
      target: target.fd,
      targetIsNew: target.isNew,
      overwrite,
      rights: rightsOfProcess(),
      hands: handsOf(availableParallelism()),
      random: randomBytes,
      problem,
      progress: progressOf(context, located),
      signal: context.signal,
    },
  );
  const pulled = { ...counts, durationMs: context.now() - startMs };
  if (output.json || !output.quiet) output.emit(PULLED, pulled);
  if (worst === undefined) return;
  const rest = said > PROBLEMS_SHOWN_MAX ? `, ${PROBLEMS_SHOWN_MAX} of them shown` : '';
  const cause = `${formatCount(counts.problems, 'problem')} met${rest}`;
  throw new Failure('pull', shown, { cause, kind: worst });
}

/** Draws how far it is; what the whole comes to is known where whole snapshots are restored. */
function progressOf(context: Context, located: readonly Located[]): (counts: RestoreCounts) => void {
  const isWhole = located.every(({ path: within }) => within.length === 1);
  let filesExpected: number | undefined;
  let bytesExpected: number | undefined;
  if (isWhole) {
    filesExpected = located.reduce((sum, { snapshot }) => sum + snapshot.header.counts.files, 0);
    bytesExpected = located.reduce((sum, { snapshot }) => sum + snapshot.header.counts.bytes, 0);
  }
  return ({ files, bytes, problems }) =>
    context.output.progress.show({ operation: 'pull', files, bytes, filesExpected, bytesExpected, problems });
}
