/**
 * plakarctl sync: copies the snapshots that one repository has and the other
 * lacks, one way or both, all or those that are selected.
 */
import { Failure } from '../error.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { copySnapshots, type Request, repositoryOf, selectionOf, throwFailed } from './copies.ts';
import { safeName } from './escape.ts';
import { each, parseSnapshot, within } from './operands.ts';

const USAGE = 'sync REPOSITORY to|from|with REPOSITORY [SNAPSHOT...]';
const WAYS = ['to', 'from', 'with'] as const;
type Way = (typeof WAYS)[number];

/** What the operands say. */
interface Said {
  readonly from: string;
  readonly to: string;
  readonly way: Way;
  readonly snapshots: readonly string[];
}

function wayOf(operand: Buffer | undefined): Way | undefined {
  return WAYS.find((way) => way === operand?.toString());
}

/** `A to B …`; or `to B …`, of the repository after `on`. */
function parse(context: Context, { operands }: Given): Said {
  const isWhole = wayOf(operands[1]) !== undefined;
  const [first, word, second]: readonly (Buffer | undefined)[] = isWhole
    ? operands
    : [undefined, ...operands];
  const way = wayOf(word);
  if (way === undefined || second === undefined)
    throw usageFailure('sync', safeName(operands[0] ?? Buffer.alloc(0)), 'not understood', USAGE);
  const a = first === undefined ? context.repository : repositoryOf('sync', first);
  if (a === undefined) throw usageFailure('sync', '', 'which repository is missing', USAGE);
  const b = repositoryOf('sync', second);
  const snapshots = operands.slice(isWhole ? 3 : 2).map((operand) => parseSnapshot('sync', operand));
  return way === 'from' ? { from: b, to: a, way, snapshots } : { from: a, to: b, way, snapshots };
}

export async function run(context: Context, given: Given): Promise<void> {
  const { from, to, way, snapshots } = parse(context, given);
  const request: Request = {
    operation: 'sync',
    from,
    to,
    dryRun: given.has('n'),
    selection: selectionOf(given, snapshots, context.wallClock()),
    // with `with`, what is named is in one of the two
    lenient: way === 'with',
  };
  const requests = way === 'with' ? [request, { ...request, from: to, to: from }] : [request];
  const unknown: (readonly string[])[] = [];
  await each(context, requests, (one) =>
    within('sync', `${one.from} to ${one.to}`, async () => {
      const synced = await copySnapshots(context, one);
      unknown.push(synced.unknown);
      throwFailed('sync', synced);
    }),
  );
  const nowhere = snapshots.filter((name) => unknown.every((names) => names.includes(name)));
  if (nowhere.length > 0)
    throw new Failure('sync', nowhere.join(', '), { cause: `no such snapshot in ${from} or ${to}` });
}
