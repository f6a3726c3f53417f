/** plakarctl info: what a repository holds, or all that a snapshot's header says. */
import type { PayloadOf } from '../ipc/shape.ts';
import { INFO, INFO_IS } from '../messages/client.ts';
import type { Given } from './arguments.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatBytes, formatColumns, formatMilliseconds } from './format.ts';
import { each, parseSnapshot, within } from './operands.ts';
import type { EventType } from './output.ts';

type RepositoryInfo = PayloadOf<typeof INFO_IS.shape>;

/** Field names in front of their values. */
export function fieldLines(rows: readonly (readonly [string, string])[]): string {
  return formatColumns(rows.map(([field, value]) => [`${field}:`, value])).join('\n');
}

const REPOSITORY: EventType<RepositoryInfo> = {
  name: 'repository',
  json: ({ created, ...info }) => ({ ...info, created: formatMilliseconds(created) }),
  text: (info) =>
    fieldLines([
      ['repository', safeText(info.name)],
      ['id', safeText(info.id)],
      ['location', safeText(info.location)],
      ['format', info.format.toString()],
      ['created', formatMilliseconds(info.created)],
      ['encryption', info.encryption ? 'yes' : 'no'],
      ['compression', safeText(info.compression)],
      ['snapshots', info.snapshots.toString()],
      ['packs', info.packs.toString()],
      ['segments', info.segments.toString()],
      ['chunks', info.chunks.toString()],
      ['stored', formatBytes(info.storedBytes)],
    ]),
};

export async function run(context: Context, given: Given): Promise<void> {
  if (given.operands.length > 0) {
    await snapshots(context, given);
    return;
  }
  const { repository } = context;
  await within('info', repository ?? '', async () => {
    const connection = await context.connect();
    const { payload } = await connection.request(INFO, { repository }, INFO_IS);
    context.output.emit(REPOSITORY, payload);
  });
}

async function snapshots(context: Context, given: Given): Promise<void> {
  const names = given.operands.map((operand) => parseSnapshot('info', operand));
  const [reader, { SNAPSHOT_INFO }] = await Promise.all([context.openReader('info'), import('./headers.ts')]);
  await each(context, names, (name) =>
    within('info', name, async () => {
      context.output.emit(SNAPSHOT_INFO, await reader.resolve(name));
    }),
  );
}
