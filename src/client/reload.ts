/** plakarctl reload: has the daemon read its configuration again; a bad one changes nothing and is said. */
import { RELOAD } from '../messages/client.ts';
import type { Context } from './context.ts';
import { order } from './daemon.ts';

export async function run(context: Context): Promise<void> {
  await order(context, 'reload', RELOAD);
}
