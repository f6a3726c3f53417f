/**
 * Runs one command line in its session, and says why it failed, where it did.
 * Called by the main, and by the shell for each of its lines.
 */
import type { CommandLine } from './arguments.ts';
import type { Session } from './session.ts';
import { ReaderGone } from './sink.ts';

/** Says why the run failed; what is thrown instead when that cannot be written has been said as well. */
async function conclude(session: Session, error: unknown): Promise<unknown> {
  const failure = session.signal.aborted ? session.signal.reason : error;
  // whoever read our output has left: there is nobody to tell
  if (failure instanceof ReaderGone) return failure;
  try {
    if (session.signal.aborted) await session.fail(failure);
    else await session.finish(failure);
  } catch (unwritten) {
    if (!(unwritten instanceof ReaderGone) && unwritten !== failure) await session.fail(unwritten);
  }
  return failure;
}

/** Runs the command to its end; resolves with the failure that it ended in, which has been said, or undefined. */
export async function runCommand(session: Session, { command, given }: CommandLine): Promise<unknown> {
  try {
    const module = await command.load();
    await module.run(session, given);
    await session.finish();
    return undefined;
  } catch (error) {
    return conclude(session, error);
  }
}
