/**
 * What the operands of commands have in common: SNAPSHOT[:PATH], several of
 * them in one call, and errors that say which one they are about. Called by
 * the commands.
 */
import { Failure, type FailureKind, kindOf } from '../error.ts';
import { usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { safeName } from './escape.ts';
import { ReaderGone } from './sink.ts';

/** SNAPSHOT[:PATH] as it was written. */
export interface Target {
  /** A UUID, a prefix of one, or `latest`. */
  readonly snapshot: string;
  /** Undefined where no PATH was given. */
  readonly path: Buffer | undefined;
  /** The operand as it may be printed. */
  readonly shown: string;
}

const COLON = 0x3a;
const SNAPSHOT = /^(?:latest|[0-9a-f][0-9a-f-]{0,35})$/i;

/** Takes an operand apart; what cannot name a snapshot is a usage error. */
export function parseTarget(command: string, operand: Buffer): Target {
  const colon = operand.indexOf(COLON);
  const name = operand.toString('latin1', 0, colon < 0 ? operand.length : colon);
  const shown = safeName(operand);
  if (!SNAPSHOT.test(name))
    throw usageFailure(command, shown, 'not a snapshot', 'a UUID, a prefix of one, or latest');
  return {
    snapshot: name.toLowerCase(),
    path: colon < 0 ? undefined : operand.subarray(colon + 1),
    shown,
  };
}

/** Takes an operand that names a whole snapshot. */
export function parseSnapshot(command: string, operand: Buffer): string {
  const { snapshot, path, shown } = parseTarget(command, operand);
  if (path !== undefined) throw usageFailure(command, shown, 'a whole snapshot is needed here');
  return snapshot;
}

/** Does `work` for `object`; a failure says so: `cat 99e5:/x: <cause>`. */
export async function within<T>(operation: string, object: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof ReaderGone || (cause instanceof Failure && cause.operation === operation))
      throw cause;
    throw new Failure(operation, object, { cause });
  }
}

/** From the gravest on; a kind that is not named is in between. */
const GRAVEST: readonly FailureKind[] = ['interrupted', 'damaged'];
const LEAST: FailureKind = 'partial';

/** Whether `a` matters more than `b` for the exit code. */
function isGraver(a: FailureKind, b: FailureKind): boolean {
  const rank = (kind: FailureKind) => {
    const index = GRAVEST.indexOf(kind);
    return index >= 0 ? index : GRAVEST.length + (kind === LEAST ? 1 : 0);
  };
  return rank(a) < rank(b);
}

/**
 * Does `work` for each item in turn. What fails is said, and the others are
 * done all the same; then the gravest failure is thrown.
 */
export async function each<T>(
  context: Context,
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  for (const item of items) {
    try {
      await work(item);
    } catch (error) {
      if (context.signal.aborted || error instanceof ReaderGone) throw error;
      failures.push(error);
      if (items.length > 1) context.report(error);
    }
  }
  let gravest = failures[0];
  for (const failure of failures) if (isGraver(kindOf(failure), kindOf(gravest))) gravest = failure;
  if (gravest !== undefined) throw items.length > 1 ? new Reported(gravest) : gravest;
}

/** A failure that has been printed: only its exit code is left to tell. */
export class Reported extends Failure {
  constructor(cause: unknown) {
    super('', '', { cause });
  }
}
