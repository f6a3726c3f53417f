/** What reload and stop share: a request to the daemon that has no answer but that it is done. */

import type { MessageType } from '../ipc/message.ts';
import { DONE } from '../messages/client.ts';
import type { Context } from './context.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

export const DONE_EVENT: EventType<{ command: string }> = {
  name: 'done',
  json: (event) => event,
  text: () => undefined,
};

/** Has the daemon do `command` and says so with -j. */
export async function order(
  context: Context,
  command: string,
  type: MessageType<Record<string, never>>,
): Promise<void> {
  await within(command, '', async () => {
    const connection = await context.connect();
    await connection.request(type, {}, DONE);
    context.output.emit(DONE_EVENT, { command });
  });
}
