/** Which snapshots of a repository a sync is about. Pure, but for the names, which their repository resolves. */
import { Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { TAKE } from '../../messages/sync.ts';
import { becomes } from '../../repository/provisional.ts';
import type { SnapshotHeader } from '../../repository/snapshot.ts';

export type Selection = PayloadOf<typeof TAKE.shape>['selection'];

/** A snapshot as either side lists it. */
export interface Listed {
  readonly name: string;
  readonly header: SnapshotHeader;
}

export interface Selected {
  /** oldest first */
  readonly snapshots: readonly Listed[];
  /** those of them that were named */
  readonly named: ReadonlySet<string>;
  /** names that name nothing */
  readonly unknown: readonly string[];
}

/** Whether all is meant, whatever there is. */
export function isEverything({ snapshots, tags, source, sinceMs }: Selection): boolean {
  return snapshots.length === 0 && tags.length === 0 && source === undefined && sinceMs === undefined;
}

/**
 * Those of `all` that the selection is about. `resolve` finds what a name means; where it fails as there is none,
 * the name is unknown if the selection is `lenient`, and else the failure is thrown.
 */
export async function select(
  all: readonly Listed[],
  selection: Selection,
  resolve: (name: string) => Promise<Listed>,
  lenient: boolean,
): Promise<Selected> {
  const named = new Set<string>();
  const unknown: string[] = [];
  for (const name of selection.snapshots) {
    try {
      named.add((await resolve(name)).name);
    } catch (error) {
      // an ambiguous name is a mistake, and a damaged snapshot is damage
      if (!lenient || !(error instanceof Failure) || error.kind !== 'failed') throw error;
      unknown.push(name);
    }
  }
  const { tags, source, sinceMs, snapshots } = selection;
  const hasFilter =
    snapshots.length === 0 || tags.length > 0 || source !== undefined || sinceMs !== undefined;
  const fits = ({ header }: Listed): boolean =>
    hasFilter &&
    tags.every((tag) => header.tags.includes(tag)) &&
    (source === undefined || header.source === source) &&
    (sinceMs === undefined || header.time >= sinceMs);
  return {
    snapshots: all.filter(
      (each) => named.has(each.name) || (fits(each) && becomes(each.header) === undefined),
    ),
    named,
    unknown,
  };
}
