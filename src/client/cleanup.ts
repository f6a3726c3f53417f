/** plakarctl cleanup: returns the space of what no snapshot refers to, and says how much that is. */
import type { PayloadOf } from '../ipc/shape.ts';
import { CLEANED_UP, CLEANUP } from '../messages/client.ts';
import type { Given } from './arguments.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

type CleanedUp = PayloadOf<typeof CLEANED_UP.shape>;

/** `local: returned 1.2 GB: 40 packs removed, 3 of them rewritten (12 MB); 1.2 GB left, in 3.4 s` */
const CLEANED_UP_EVENT: EventType<CleanedUp> = {
  name: 'cleaned',
  json: (event) => ({ ...event, returnedBytes: event.removedBytes - event.copiedBytes }),
  text: (cleaned) => {
    const { dryRun, removedPacks, removedBytes, rewrittenPacks, copiedBytes, waitingPacks } = cleaned;
    const verb = dryRun ? 'would return' : 'returned';
    const parts = [`${formatCount(removedPacks, 'pack')} ${dryRun ? 'to remove' : 'removed'}`];
    if (rewrittenPacks > 0)
      parts.push(`${formatCount(rewrittenPacks, 'pack')} rewritten (${formatBytes(copiedBytes)})`);
    if (waitingPacks > 0)
      parts.push(
        `${formatCount(waitingPacks, 'pack')} (${formatBytes(cleaned.waitingBytes)}) marked: the next cleanup removes what nothing uses when ${formatCount(cleaned.writers, 'writer')} at work ${cleaned.writers === 1 ? 'is' : 'are'} done`,
      );
    if (cleaned.oldPacks > 0)
      parts.push(
        `${formatCount(cleaned.oldPacks, 'pack')} ${dryRun ? 'to seal anew' : 'still under older keys'}`,
      );
    if (cleaned.givenUp > 0) parts.push(`${formatCount(cleaned.givenUp, 'writer')} given up`);
    if (cleaned.leftovers > 0) parts.push(`${formatCount(cleaned.leftovers, 'leftover')} removed`);
    const left = `${formatBytes(cleaned.storedBytes)} in packs now`;
    const returned = formatBytes(Math.max(0, removedBytes - copiedBytes));
    const duration = formatDuration(cleaned.durationMs);
    return `${safeText(cleaned.repository)}: ${verb} ${returned}: ${parts.join(', ')}; ${left}, in ${duration}`;
  },
};

export async function run(context: Context, given: Given): Promise<void> {
  const { repository, output } = context;
  await within('cleanup', repository ?? '', async () => {
    const connection = await context.connect();
    connection.about = 'cleanup';
    const { payload } = await connection.request(
      CLEANUP,
      { repository, dryRun: given.has('n'), reseal: given.has('reseal') },
      CLEANED_UP,
    );
    output.emit(CLEANED_UP_EVENT, payload);
    for (const note of payload.notes) output.note(safeText(note));
  });
}
