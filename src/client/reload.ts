/** plakarctl reload: has the daemon read its configuration again; a bad one changes nothing and is said. */
import { Failure } from '../error.ts';
import { RELOAD, RELOADED } from '../messages/client.ts';
import type { Context } from './context.ts';
import { DONE_EVENT } from './daemon.ts';
import { within } from './operands.ts';

const UNCHANGED = 'nothing was changed';

export async function run(context: Context): Promise<void> {
  await within('reload', '', async () => {
    const connection = await context.connect();
    const { payload } = await connection.request(RELOAD, {}, RELOADED);
    // a line for each, and all of the same form
    const failures = payload.errors.map((cause) => new Failure('reload', '', { cause, remedy: UNCHANGED }));
    const last = failures.pop();
    for (const failure of failures) context.report(failure);
    if (last !== undefined) throw last;
    context.output.emit(DONE_EVENT, { command: 'reload' });
  });
}
