/** plakarctl diff: the paths that differ between two snapshots, or two directories of them. */
import { DIRECTORY } from '../snapshot/tree.ts';
import type { Given } from './arguments.ts';
import { usageFailure } from './arguments.ts';
import { compare, type Difference } from './compare.ts';
import type { Context } from './context.ts';
import { nameFields, safeName } from './escape.ts';
import { type Located, locate } from './lookup.ts';
import { parseTarget, within } from './operands.ts';
import type { EventType } from './output.ts';
import { Tally } from './tally.ts';

const LETTERS: Readonly<Record<Difference['change'], string>> = {
  added: '+',
  removed: '-',
  contents: 'M',
  metadata: 'm',
};

/** `+ /a`, `- /b`, `M /c` for contents, `m /d` for metadata alone. */
const DIFFERENCE: EventType<Difference> = {
  name: 'difference',
  json: ({ change, path }) => ({ change, ...nameFields('path', path) }),
  text: ({ change, path }) => `${LETTERS[change]} ${safeName(path)}`,
};

export async function run(context: Context, given: Given): Promise<void> {
  const [first, second] = given.operands.map((operand) => parseTarget('diff', operand));
  if (first === undefined || second === undefined) throw usageFailure('diff', '', 'needs two snapshots');
  const { output } = context;
  await within('diff', `${first.shown} ${second.shown}`, async () => {
    const reader = await context.openReader('diff');
    const before = directoryOf(await locate(reader, 'diff', first), first.shown);
    const after = directoryOf(await locate(reader, 'diff', second), second.shown);
    const tally = new Tally(context, 'diff', `${first.snapshot}..${second.snapshot}`);
    await compare(reader, before, after, {
      differs: (difference) => {
        output.emit(DIFFERENCE, difference);
        return output.full ? output.drained() : undefined;
      },
      damaged: (path, error) => tally.add(path, error),
    });
    tally.end('');
  });
}

function directoryOf({ entry }: Located, shown: string) {
  const directory = entry.type === DIRECTORY ? entry.directory() : undefined;
  if (directory === undefined) throw usageFailure('diff', shown, 'not a directory that could be read');
  return directory;
}
