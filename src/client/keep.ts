/** plakarctl keep: removes the snapshots that no rule of a policy keeps; says of each why it stays. */
import { parsePolicy } from '../config/config.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { KEEP, KEPT } from '../messages/client.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatCount, formatMilliseconds } from './format.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

type Judged = PayloadOf<typeof KEPT.shape>['snapshots'][number];

/** `2021-11-27T00:12:04Z  99e53a9c-…  keep: daily, last`, or `remove` */
const JUDGED: EventType<Judged & { repository: string; dryRun: boolean }> = {
  name: 'kept',
  json: ({ repository, snapshot, time, reasons, dryRun }) => ({
    repository,
    snapshot,
    time: formatMilliseconds(time),
    reasons,
    removed: reasons.length === 0 && !dryRun,
  }),
  text: ({ snapshot, time, reasons }) => {
    const verdict = reasons.length === 0 ? 'remove' : `keep: ${reasons.map(safeText).join(', ')}`;
    return `${formatMilliseconds(time)}  ${snapshot}  ${verdict}`;
  },
};

export async function run(context: Context, given: Given): Promise<void> {
  const { repository, output } = context;
  const text = given.operands.map((word) => word.toString()).join(' ');
  const keepTags = given.values('keep-tag').map((tag) => tag.toString());
  const { keep, errors } = text === '' ? { keep: {}, errors: [] } : parsePolicy(text);
  const [error] = errors;
  if (keep === undefined || error !== undefined)
    throw usageFailure(
      'keep',
      text,
      error?.message ?? 'malformed policy',
      'such as: 7 daily, last 3, within 30d',
    );
  // without a policy, the configuration's
  const isOwn = text !== '' || keepTags.length > 0;
  const policy = isOwn ? { ...keep, tags: keepTags.length === 0 ? undefined : keepTags } : undefined;
  const dryRun = given.has('n');
  const asked = {
    repository,
    policy: policy as PayloadOf<typeof KEEP.shape>['policy'],
    dryRun,
    tags: given.values('tag').map((tag) => tag.toString()),
    source: given.value('source')?.toString(),
  };
  await within('keep', repository ?? '', async () => {
    const connection = await context.connect();
    const { payload } = await connection.request(KEEP, asked, KEPT);
    for (const judged of payload.snapshots)
      output.emit(JUDGED, { ...judged, repository: payload.repository, dryRun });
    const removed = payload.snapshots.filter(({ reasons }) => reasons.length === 0).length;
    const total = formatCount(payload.snapshots.length, 'snapshot');
    output.note(`${total}, ${removed} ${dryRun ? 'would be removed' : 'removed'}`);
  });
}
