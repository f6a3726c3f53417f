/** plakarctl stop: ends the daemon in good order. */
import { STOP } from '../messages/client.ts';
import type { Context } from './context.ts';
import { order } from './daemon.ts';

export async function run(context: Context): Promise<void> {
  await order(context, 'stop', STOP);
}
