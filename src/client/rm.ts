/** plakarctl rm: removes snapshots. Their space comes back with cleanup. */
import { REMOVE, REMOVED, SNAPSHOTS_MAX } from '../messages/client.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { parseSnapshot, within } from './operands.ts';
import type { EventType } from './output.ts';

const REMOVED_EVENT: EventType<{ repository: string; snapshot: string }> = {
  name: 'removed',
  json: (event) => event,
  text: ({ snapshot }) => snapshot,
};

export async function run(context: Context, given: Given): Promise<void> {
  const { repository } = context;
  const snapshots = given.operands.map((operand) => parseSnapshot('rm', operand));
  if (snapshots.length > SNAPSHOTS_MAX)
    throw usageFailure('rm', '', `more than ${SNAPSHOTS_MAX} snapshots at once`);
  await within('rm', snapshots.length === 1 ? (snapshots[0] ?? '') : '', async () => {
    const connection = await context.connect();
    const { payload } = await connection.request(REMOVE, { repository, snapshots }, REMOVED);
    for (const snapshot of payload.snapshots)
      context.output.emit(REMOVED_EVENT, { repository: payload.repository, snapshot });
  });
}
