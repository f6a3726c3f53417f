/** plakarctl trace: what the daemon's processes do in detail, until it is interrupted. */
import type { PayloadOf } from '../ipc/shape.ts';
import { DONE, TRACE, TRACE_IS } from '../messages/client.ts';
import { TOPICS, type Topic } from '../trace.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatMilliseconds } from './format.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

type Trace = PayloadOf<typeof TRACE_IS.shape>;

const TRACE_EVENT: EventType<Trace> = {
  name: 'trace',
  json: ({ timeMs, ...event }) => ({ ...event, time: formatMilliseconds(timeMs) }),
  text: ({ timeMs, process, topic, text, missed }) => {
    const gap = missed > 0 ? `(${missed} traces were missed)\n` : '';
    return `${gap}${formatMilliseconds(timeMs)}  ${safeText(process)}: ${topic}: ${safeText(text)}`;
  },
};

/** All topics where none is named. */
function topicsOf(words: readonly string[]): Topic[] {
  const topics = TOPICS.filter((topic) => words.length === 0 || words.includes(topic));
  const wrong = words.find((word) => !TOPICS.some((topic) => topic === word));
  if (wrong !== undefined) throw usageFailure('trace', safeText(wrong), 'not a topic', TOPICS.join(', '));
  return topics;
}

export async function run(context: Context, given: Given): Promise<void> {
  const topics = topicsOf(given.operands.map(String));
  const process = given.value('process')?.toString();
  await within('trace', process === undefined ? '' : safeText(process), async () => {
    const connection = await context.connect();
    connection.on(TRACE_IS, (event) => context.output.emit(TRACE_EVENT, event));
    // answered when the daemon ends
    await connection.request(TRACE, { process, topics }, DONE);
  });
}
