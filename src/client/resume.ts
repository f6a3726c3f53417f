/** plakarctl resume: what happens by itself goes on. */
import { DONE, RESUME } from '../messages/client.ts';
import type { Context } from './context.ts';
import { DONE_EVENT } from './daemon.ts';
import { within } from './operands.ts';

export async function run(context: Context): Promise<void> {
  await within('resume', '', async () => {
    const connection = await context.connect();
    await connection.request(RESUME, {}, DONE);
    context.output.emit(DONE_EVENT, { command: 'resume' });
  });
}
