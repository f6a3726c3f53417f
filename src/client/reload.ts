/** plakarctl reload: has the daemon read its configuration again; a bad one changes nothing and is said. */
import { Failure } from '../error.ts';
import { RELOAD, RELOADED } from '../messages/client.ts';
import type { Context } from './context.ts';
import { DONE_EVENT } from './daemon.ts';
import { within } from './operands.ts';

export async function run(context: Context): Promise<void> {
  await within('reload', '', async () => {
    const connection = await context.connect();
    const { payload } = await connection.request(RELOAD, {}, RELOADED);
    for (const line of payload.errors) context.report(new Failure(line, ''));
    if (payload.errors.length > 0)
      throw new Failure('configuration', '', { cause: 'it has errors, and nothing was changed' });
    context.output.emit(DONE_EVENT, { command: 'reload' });
  });
}
