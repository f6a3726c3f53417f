/**
 * plakarctl check: has the repository verified, prints what is damaged as it is
 * found, and a verdict. Fast: everything that is named exists. With snapshots:
 * all that they need is read and verified. Without: the whole repository.
 */
import { Failure } from '../error.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { CHECK, CHECKED } from '../messages/client.ts';
import type { Given } from './arguments.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import { parseSnapshot, within } from './operands.ts';
import type { EventType } from './output.ts';

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
    const orphans = checked.orphans === 0 ? '' : `, ${formatCount(checked.orphans, 'orphan')}`;
    const duration = formatDuration(checked.durationMs);
    return `${safeText(checked.repository)}: ${looked} in ${duration}: ${verdict}${orphans}`;
  },
};

export async function run(context: Context, given: Given): Promise<void> {
  const { repository } = context;
  const snapshots = given.operands.map((operand) => parseSnapshot('check', operand));
  const depth = given.has('fast') ? 'fast' : snapshots.length > 0 ? 'snapshots' : 'full';
  await within('check', repository ?? '', async () => {
    const connection = await context.connect();
    connection.about = 'check';
    const { payload } = await connection.request(CHECK, { repository, depth, snapshots }, CHECKED);
    context.output.emit(CHECKED_EVENT, payload);
    if (payload.problems === 0) return;
    const cause = `${formatCount(payload.problems, 'problem')} found`;
    throw new Failure('check', payload.repository, { cause, kind: 'damaged' });
  });
}
