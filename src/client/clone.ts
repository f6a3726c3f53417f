/** plakarctl clone: all snapshots of one repository into another, which holds nothing else and is made if it is missing. */
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { copySnapshots, repositoryOf, throwFailed } from './copies.ts';
import { safeName } from './escape.ts';
import { within } from './operands.ts';

export async function run(context: Context, given: Given): Promise<void> {
  const [first, word, last] = given.operands.length === 2 ? [undefined, ...given.operands] : given.operands;
  if (word?.toString() !== 'to' || last === undefined)
    throw usageFailure(
      'clone',
      safeName(word ?? Buffer.alloc(0)),
      'not understood',
      'clone REPOSITORY to REPOSITORY',
    );
  const from = first === undefined ? context.repository : repositoryOf('clone', first);
  if (from === undefined)
    throw usageFailure('clone', '', 'which repository is missing', 'clone REPOSITORY to REPOSITORY');
  const to = repositoryOf('clone', last);
  const everything = { snapshots: [], tags: [], source: undefined, sinceMs: undefined };
  const request = {
    operation: 'clone' as const,
    from,
    to,
    dryRun: given.has('n'),
    selection: everything,
    lenient: false,
  };
  await within('clone', `${from} to ${to}`, async () => {
    throwFailed('clone', await copySnapshots(context, request));
  });
}
