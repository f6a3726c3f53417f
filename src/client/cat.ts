/** plakarctl cat: the contents of files, one after another, to standard output. */
import type { Given } from './arguments.ts';
import { usageFailure } from './arguments.ts';
import { writeContents } from './contents.ts';
import type { Context } from './context.ts';
import { locate } from './lookup.ts';
import { each, parseTarget, within } from './operands.ts';

export async function run(context: Context, given: Given): Promise<void> {
  const targets = given.operands.map((operand) => parseTarget('cat', operand));
  for (const { path, shown } of targets)
    if (path === undefined) throw usageFailure('cat', shown, 'names no file', 'SNAPSHOT:PATH does');
  const reader = await within('cat', context.repository ?? '', () => context.openReader('cat'));
  await each(context, targets, (target) =>
    within('cat', target.shown, async () => {
      const { entry } = await locate(reader, 'cat', target);
      await writeContents(reader, entry, (bytes) => context.output.raw(bytes));
    }),
  );
}
