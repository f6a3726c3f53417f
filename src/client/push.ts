/**
 * plakarctl push: takes snapshots. A configured source is read by its scanner.
 * An operand with a '/' in it, or that begins with '.', is a path: this process
 * walks it with its user's own rights, and passes the daemon open descriptors
 * of what that user may read, and nothing else.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { PUSH, PUSHED, STATUS, STATUS_IS } from '../messages/client.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { safeName, textOf } from './escape.ts';
import { formatCount } from './format.ts';
import { each, within } from './operands.ts';
import type { PathPush } from './pushpath.ts';
import { PUSHED_BRIEF, PUSHED_COST, PUSHED_VERBOSE, type Summary } from './summary.ts';

const SLASH = 0x2f;
const DOT = 0x2e;
/** How long the list of sources for a usage error is waited for. */
const STATUS_TIMEOUT_MS = 5000;

/** What one operand asks for. */
interface Wanted {
  /** As it was written, for errors. */
  readonly shown: string;
  /** A configured source's name, or an absolute path of ours. */
  readonly source?: string;
  readonly path?: string;
}

export function isPath(operand: Buffer): boolean {
  return operand.includes(SLASH) || operand[0] === DOT;
}

function wantedOf(operand: Buffer): Wanted {
  const shown = safeName(operand);
  const text = textOf(operand);
  if (text === undefined || text === '') throw usageFailure('push', shown, 'not a name in UTF-8');
  if (!isPath(operand)) return { shown, source: text };
  try {
    // what is walked is what the path leads to now, under the name that it has
    return { shown, path: fs.realpathSync(text) };
  } catch (cause) {
    throw new Failure('push', shown, { cause });
  }
}

export async function run(context: Context, given: Given): Promise<void> {
  if (given.operands.length === 0) throw await nothingNamed(context);
  const tags = given.values('tag').map(String);
  const excludes = given.values('exclude').map(String);
  const oneFilesystem = given.has('one-filesystem');
  await each(context, given.operands, async (operand) => {
    const wanted = wantedOf(operand);
    if (wanted.path === undefined && (excludes.length > 0 || oneFilesystem))
      throw usageFailure('push', wanted.shown, 'a source has its own excludes', 'see plakard.conf(5)');
    const options = { tags, excludes, oneFilesystem };
    await within('push', wanted.shown, () => push(context, wanted, options));
  });
}

/** The usage error that names what could be pushed, as far as the daemon says. */
async function nothingNamed(context: Context): Promise<Failure> {
  let sources: string[] = [];
  try {
    const connection = await context.connect();
    const { payload } = await connection.request(STATUS, {}, STATUS_IS, STATUS_TIMEOUT_MS);
    sources = payload.sources.map(({ name }) => name);
  } catch {
    // the command line is wrong whether or not there is a daemon to say how it could be right
  }
  const names = sources.length === 0 ? 'a source' : sources.join(', ');
  return usageFailure('push', '', 'missing operand', `${names}, or a path`);
}

type Options = Pick<PathPush, 'tags' | 'excludes' | 'oneFilesystem'>;

async function push(context: Context, wanted: Wanted, options: Options): Promise<void> {
  const { output, repository } = context;
  const connection = await context.connect();
  connection.about = `push ${wanted.shown}`;
  let cost: Summary;
  if (wanted.path !== undefined) {
    const { pushPath } = await import('./pushpath.ts');
    cost = await pushPath(connection, { repository, path: wanted.path, signal: context.signal, ...options });
  } else {
    const request = { repository, source: wanted.source ?? '', tags: [...options.tags] };
    cost = (await connection.request(PUSH, request, PUSHED)).payload;
  }
  output.progress.end();
  output.emit(output.quiet ? PUSHED_BRIEF : output.verbose ? PUSHED_VERBOSE : PUSHED_COST, cost);
  const { unreadable, inconsistent } = cost;
  if (unreadable + inconsistent === 0) return;
  const causes = [];
  if (unreadable > 0) causes.push(`${formatCount(unreadable, 'file')} could not be read`);
  if (inconsistent > 0) causes.push(`${formatCount(inconsistent, 'file')} changed while being read`);
  throw new Failure('push', wanted.shown, { cause: causes.join(', '), kind: 'partial' });
}
