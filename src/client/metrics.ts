/** plakarctl metrics: the state of the daemon as OpenMetrics text, for node_exporter's textfile collector. */
import { METRICS, METRICS_ARE } from '../messages/client.ts';
import type { Context } from './context.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

const TIMEOUT_MS = 30_000;

const METRICS_EVENT: EventType<{ text: string }> = {
  name: 'metrics',
  json: (event) => event,
  text: ({ text }) => text.trimEnd(),
};

export async function run(context: Context): Promise<void> {
  await within('metrics', '', async () => {
    const connection = await context.connect();
    const { payload } = await connection.request(METRICS, {}, METRICS_ARE, TIMEOUT_MS);
    context.output.emit(METRICS_EVENT, payload);
  });
}
