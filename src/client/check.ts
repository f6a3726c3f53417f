/**
 * plakarctl check: has the repository verified, prints what is damaged as it is
 * found, and a verdict. Fast: everything that is named exists. Sample: so much
 * of the repository is read too, another part each time. With snapshots: all
 * that they need is read and verified. Without: the whole repository.
 */
import { Failure } from '../error.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { CHECK, CHECKED } from '../messages/client.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import { parseSnapshot, within } from './operands.ts';
import type { EventType } from './output.ts';

/** Runs of a sample in which everything is read, at most. */
const RUNS_MAX = 1000;

type Checked = PayloadOf<typeof CHECKED.shape>;

/** `local: 12 snapshots, 40 packs, 11203 chunks, 1.2 GB in 3.4 s: no damage` */
const CHECKED_EVENT: EventType<Checked> = {
  name: 'checked',
  json: (event) => event,
  text: (checked) => {
    const looked = [
      formatCount(checked.snapshots, 'snapshot'),
      formatCount(checked.packs, 'pack'),
      formatCount(checked.chunks, 'chunk'),
      // a fast check reads no contents
      ...(checked.bytes > 0 ? [`${formatBytes(checked.bytes)} read`] : []),
    ].join(', ');
    const verdict = checked.problems === 0 ? 'no damage' : formatCount(checked.problems, 'problem');
    const { orphans, duplicates, quarantined, runs, turn } = checked;
    const rest = [
      ...(runs === undefined || turn === undefined ? [] : [`part ${turn + 1} of ${runs}`]),
      ...(orphans === 0 ? [] : [formatCount(orphans, 'orphan')]),
      ...(duplicates === 0 ? [] : [formatCount(duplicates, 'duplicate')]),
      ...(quarantined === 0 ? [] : [`${formatCount(quarantined, 'pack')} in quarantine`]),
    ].map((text) => `, ${text}`);
    const duration = formatDuration(checked.durationMs);
    return `${safeText(checked.repository)}: ${looked} in ${duration}: ${verdict}${rest.join('')}`;
  },
};

/** In how many runs everything is read, a share of so many percent each; undefined without -sample. */
function sampleRuns(given: Given): number | undefined {
  const value = given.value('sample')?.toString();
  if (value === undefined) return undefined;
  const percent = /^(\d{1,3}(?:\.\d{1,3})?)%?$/.exec(value)?.[1];
  const runs = percent === undefined ? Number.NaN : Math.ceil(100 / Number(percent));
  if (!(runs >= 1 && runs <= RUNS_MAX && Number(percent) <= 100))
    throw usageFailure('check', '-sample', 'needs a share from 0.1% to 100%');
  return runs;
}

function depthOf(given: Given, runs: number | undefined, snapshots: number): Checked['depth'] {
  if (given.has('fast')) return 'fast';
  if (runs !== undefined) return 'sample';
  return snapshots > 0 ? 'snapshots' : 'full';
}

export async function run(context: Context, given: Given): Promise<void> {
  const { repository } = context;
  const snapshots = given.operands.map((operand) => parseSnapshot('check', operand));
  const runs = sampleRuns(given);
  if (runs !== undefined && (given.has('fast') || snapshots.length > 0))
    throw usageFailure('check', '-sample', 'is of the whole repository, and not fast');
  const depth = depthOf(given, runs, snapshots.length);
  await within('check', repository ?? '', async () => {
    const connection = await context.connect();
    connection.about = 'check';
    const { payload } = await connection.request(CHECK, { repository, depth, snapshots, runs }, CHECKED);
    for (const note of payload.notes) context.output.note(safeText(note));
    context.output.emit(CHECKED_EVENT, payload);
    if (payload.problems === 0) return;
    const cause = `${formatCount(payload.problems, 'problem')} found`;
    throw new Failure('check', payload.repository, { cause, kind: 'damaged' });
  });
}
