/** plakarctl monitor: what happens to jobs, as it happens, until it is interrupted. */
import type { PayloadOf } from '../ipc/shape.ts';
import { DONE, EVENT, MONITOR } from '../messages/client.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatBytes, formatMilliseconds } from './format.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

type JobEvent = PayloadOf<typeof EVENT.shape>;

const JOB_EVENT: EventType<JobEvent> = {
  name: 'job',
  json: ({ timeMs, ...event }) => ({ ...event, time: formatMilliseconds(timeMs) }),
  text: ({ timeMs, kind, job, operation, repository, source, user, files, bytes, text, missed }) => {
    const about = source === undefined ? repository : `${source} to ${repository}`;
    const head = `${formatMilliseconds(timeMs)}  job ${job} ${operation} ${about} for ${user}: ${kind}`;
    const rest = text ?? (kind === 'begun' ? undefined : `${files} files, ${formatBytes(bytes)}`);
    const gap = missed > 0 ? `(${missed} events were missed)\n` : '';
    return `${gap}${safeText(rest === undefined ? head : `${head}, ${rest}`)}`;
  },
};

export async function run(context: Context): Promise<void> {
  await within('monitor', '', async () => {
    const connection = await context.connect();
    connection.on(EVENT, (event) => context.output.emit(JOB_EVENT, event));
    // answered when the daemon ends
    await connection.request(MONITOR, {}, DONE);
  });
}
