/**
 * plakarctl find: paths of snapshots that match a pattern of plakard.conf(5), in
 * the snapshots that are named, or in all.
 */
import { Excludes } from '../snapshot/exclude.ts';
import { DIRECTORY } from '../snapshot/tree.ts';
import type { Given } from './arguments.ts';
import { browse } from './browse.ts';
import type { Context } from './context.ts';
import { PATH } from './entries.ts';
import { type Located, locate, lookUp } from './lookup.ts';
import { each, parseTarget, within } from './operands.ts';
import type { Reader } from './reader.ts';
import { Tally } from './tally.ts';

export async function run(context: Context, given: Given): Promise<void> {
  const [pattern = Buffer.alloc(0), ...operands] = given.operands;
  const matcher = new Excludes([pattern]);
  const targets = operands.map((operand) => parseTarget('find', operand));
  const reader = await within('find', context.repository ?? '', () => context.openReader('find'));
  if (targets.length > 0) {
    await each(context, targets, async (target) => {
      await search(context, reader, matcher, await locate(reader, 'find', target));
    });
    return;
  }
  const { snapshots } = await reader.list();
  await each(context, snapshots, (snapshot) =>
    within('find', snapshot.name, async () => {
      const root = await lookUp(reader, snapshot.header, Buffer.alloc(0));
      if (root !== undefined) await search(context, reader, matcher, { snapshot, ...root });
    }),
  );
}

async function search(
  context: Context,
  reader: Reader,
  matcher: Excludes,
  { snapshot, entry, path }: Located,
): Promise<void> {
  const { output } = context;
  const directory = entry.type === DIRECTORY ? entry.directory() : undefined;
  if (directory === undefined) return;
  const tally = new Tally(context, 'find', snapshot.name);
  await browse(reader, directory, path, {
    recursive: true,
    visit: (child, at) => {
      const name = child.name();
      const childPath = at.bytes;
      // the directory's path without its slashes
      const length = Math.max(0, childPath.length - name.length - 2);
      if (matcher.matches(name, 0, name.length, childPath.subarray(1), length, child.type === DIRECTORY))
        output.emit(PATH, { entry: child, path: childPath, snapshot: snapshot.name, shown: childPath });
      return output.full ? output.drained() : undefined;
    },
    damaged: (where, failure) => tally.add(where, failure),
  });
  tally.end(snapshot.name);
}
