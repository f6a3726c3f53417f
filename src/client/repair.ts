/**
 * plakarctl repair: has the repository repaired from what is in it, then pushes
 * the sources of snapshots that miss something, as they may still have it, and
 * says what came back. Removes nothing unless -remove says so.
 */
import { describe, Failure } from '../error.ts';
import type { PayloadOf } from '../ipc/shape.ts';
import { PUSH, PUSHED, REPAIR, REPAIRED } from '../messages/client.ts';
import type { Given } from './arguments.ts';
import type { Connection } from './connection.ts';
import type { Context } from './context.ts';
import { safeText } from './escape.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

type Repaired = PayloadOf<typeof REPAIRED.shape> & { readonly regainedChunks: number };

/** `local: 1 pack set aside, 40 chunks (12 MB) salvaged, 3 chunks came back from sources, in 3.4 s: whole` */
const REPAIRED_EVENT: EventType<Repaired> = {
  name: 'repaired',
  json: (event) => event,
  text: (repaired) => {
    const { dryRun, indexed, missing, putBack, unmended, quarantined, salvagedChunks, salvagedBytes } =
      repaired;
    const { regainedChunks, lostChunks, broken, removed, accepted, unaccepted } = repaired;
    const parts: string[] = [];
    const say = (count: number, text: string) => count > 0 && parts.push(text);
    say(indexed, `${formatCount(indexed, 'pack')} indexed again`);
    say(missing, `${formatCount(missing, 'pack')} missing`);
    say(putBack, `${formatCount(putBack, 'object')} put back`);
    say(quarantined, `${formatCount(quarantined, 'pack')} ${dryRun ? 'to set' : 'set'} aside`);
    say(salvagedChunks, `${formatCount(salvagedChunks, 'chunk')} (${formatBytes(salvagedBytes)}) salvaged`);
    say(regainedChunks, `${formatCount(regainedChunks, 'chunk')} came back from sources`);
    say(accepted, `${formatCount(accepted, 'problem')} of the log accepted`);
    say(removed, `${formatCount(removed, 'snapshot')} removed`);
    const left: string[] = [];
    if (broken.length > removed)
      left.push(
        `${formatCount(broken.length, 'snapshot')} cannot be restored whole, ${formatCount(lostChunks, 'chunk')} lost`,
      );
    if (unmended > 0) left.push(`${formatCount(unmended, 'object')} cannot be mended`);
    if (unaccepted > 0) left.push(`${formatCount(unaccepted, 'problem')} of the log not accepted`);
    const did = parts.length === 0 ? 'nothing to repair' : parts.join(', ');
    const verdict = left.length === 0 ? 'whole' : left.join('; ');
    return `${safeText(repaired.repository)}: ${did}, in ${formatDuration(repaired.durationMs)}: ${verdict}`;
  },
};

export async function run(context: Context, given: Given): Promise<void> {
  const { repository, output } = context;
  const asked = { dryRun: given.has('n'), accept: given.has('accept'), remove: given.has('remove') };
  await within('repair', repository ?? '', async () => {
    const connection = await context.connect();
    connection.about = 'repair';
    const ask = async (step: 'mend' | 'end') =>
      (await connection.request(REPAIR, { repository, step, ...asked }, REPAIRED)).payload;
    const mended = await ask('mend');
    if (!asked.dryRun) for (const source of mended.sources) await pushAgain(connection, context, source);
    const isOver = asked.dryRun || mended.broken.length === 0;
    const after = isOver ? mended : await ask('end');
    const { lostChunks, broken, removed } = after;
    const repaired: Repaired = {
      ...mended,
      lostChunks,
      broken,
      removed,
      durationMs: mended.durationMs + (isOver ? 0 : after.durationMs),
      regainedChunks: Math.max(0, mended.lostChunks - lostChunks),
    };
    output.emit(REPAIRED_EVENT, repaired);
    const isWhole = broken.length <= removed && repaired.unaccepted === 0 && repaired.unmended === 0;
    if (!isWhole || (asked.dryRun && repaired.problems > 0)) throw leftOver(repaired);
  });
}

/** A push reads again what is lost; it may fail, and the rest is repaired all the same. */
async function pushAgain(
  connection: Connection,
  { repository, output }: Context,
  source: string,
): Promise<void> {
  connection.about = `push ${source}`;
  try {
    const { payload } = await connection.request(PUSH, { repository, source, tags: [] }, PUSHED);
    output.note(`read ${safeText(source)} again: snapshot ${payload.snapshot}`);
  } catch (error) {
    output.note(safeText(describe(new Failure('push', source, { cause: error }))));
  } finally {
    connection.about = 'repair';
  }
}

function leftOver({ repository, dryRun, problems, broken, removed, ...rest }: Repaired): Failure {
  if (dryRun) {
    const cause = `${formatCount(problems, 'problem')} found`;
    return new Failure('repair', repository, {
      cause,
      kind: 'damaged',
      remedy: 'without -n, it is repaired',
    });
  }
  if (broken.length > removed)
    return new Failure('repair', repository, {
      cause: `${formatCount(broken.length, 'snapshot')} cannot be restored whole`,
      kind: 'damaged',
      remedy: 'repair -remove removes them; what is left of them can be pulled before',
    });
  if (rest.unmended > 0)
    return new Failure('repair', repository, {
      cause: `${formatCount(rest.unmended, 'object')} that opens it cannot be mended`,
      kind: 'damaged',
      remedy: 'put it back from a copy of the repository',
    });
  return new Failure('repair', repository, {
    cause: `${formatCount(rest.unaccepted, 'problem')} of the log`,
    kind: 'damaged',
    remedy: 'repair -accept takes the repository as it is',
  });
}
