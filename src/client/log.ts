/** plakarctl log: has the daemon log more, or less. */
import { DONE, SET_LOG } from '../messages/client.ts';
import { type Given, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { DONE_EVENT } from './daemon.ts';
import { within } from './operands.ts';

const LEVELS: Readonly<Record<string, boolean>> = { verbose: true, brief: false };

export async function run(context: Context, given: Given): Promise<void> {
  const [level] = given.operands.map(String);
  const verbose = level !== undefined && Object.hasOwn(LEVELS, level) ? LEVELS[level] : undefined;
  if (verbose === undefined) throw usageFailure('log', level ?? '', 'verbose or brief');
  await within('log', '', async () => {
    const connection = await context.connect();
    await connection.request(SET_LOG, { verbose }, DONE);
    context.output.emit(DONE_EVENT, { command: 'log' });
  });
}
