/** plakarctl create: has the daemon make the repository that its configuration declares. */
import { CREATE, CREATED } from '../messages/client.ts';
import type { Given } from './arguments.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

const CREATED_EVENT: EventType<{ repository: string; id: string; location: string }> = {
  name: 'created',
  json: (event) => event,
  text: ({ repository, id, location }) => `${id}  ${safeText(repository)} at ${safeText(location)}`,
};

export async function run(context: Context, given: Given): Promise<void> {
  const { repository } = context;
  await within('create', repository ?? '', async () => {
    const connection = await context.connect();
    const noEncryption = given.has('no-encryption') ? true : undefined;
    const { payload } = await connection.request(CREATE, { repository, noEncryption }, CREATED);
    context.output.emit(CREATED_EVENT, payload);
  });
}
