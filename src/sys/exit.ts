/**
 * The end of the process without Node's own: no thread is waited for. Called by
 * plakarctl, whose threads may be in a write that nobody takes, when everything
 * that matters has been written.
 */
import { syscall } from './foreign.ts';
import { NUMBERS } from './numbers.ts';

/** Ends all threads at once. Buffered output and handlers of 'exit' are the caller's to see to. */
export function exitNow(exitCode: number): never {
  syscall(NUMBERS.exit_group, exitCode);
  throw new Error('exit_group returned');
}
