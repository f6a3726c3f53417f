/**
 * A child's log: the same as the parent's, but its lines go to the parent, who
 * says which process they are from. Made by a role from its context. A child
 * that logs more than the parent will take loses lines, and nothing else.
 */
import { type Level, type Log, openLog } from '../log.ts';
import { LOG } from '../messages/parent.ts';
import type { ChildContext } from '../privsep/child.ts';

const TEXT_MAX_CHARS = 4096;

/** The log of the child; the parent knows its name. Debugging events are the parent's to drop. */
export function childLog({ parent, name }: ChildContext): Log {
  const prefix = `${name}: `;
  const write = (line: string, level: Level): void => {
    if (parent.closed || !parent.writable) return;
    const missed = parent.takeMissed(LOG);
    if (missed > 0) parent.message(LOG, { level: 'warn', text: `${missed} lines before were not logged` });
    parent.message(LOG, { level, text: line.slice(prefix.length, TEXT_MAX_CHARS).trimEnd() });
  };
  return openLog('text', true, write, { time: false });
}
