/** plakarctl pause: nothing begins by itself, for a while or until `resume`. */
import { parseDuration } from '../config/config.ts';
import { DONE, PAUSE } from '../messages/client.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { DONE_EVENT } from './daemon.ts';
import { within } from './operands.ts';

export async function run(context: Context, given: Given): Promise<void> {
  const [duration] = given.operands.map(String);
  const seconds = duration === undefined ? undefined : parseDuration(duration);
  if (duration !== undefined && seconds === undefined)
    throw usageFailure('pause', duration, 'not a duration', 'such as 90m, 8h or 2d');
  await within('pause', '', async () => {
    const connection = await context.connect();
    await connection.request(PAUSE, { seconds }, DONE);
    context.output.emit(DONE_EVENT, { command: 'pause' });
  });
}
