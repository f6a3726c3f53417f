/** What a push came to, as an event: the snapshot's UUID, and what it cost. */
import type { PayloadOf } from '../ipc/shape.ts';
import type { summary } from '../messages/client.ts';
import { safeText } from './escape.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import type { EventType } from './output.ts';

export type Summary = PayloadOf<typeof summary>;

/** `12 files new, 3 changed, 108000 unchanged, 1 unreadable`: of files of every type, directories too. */
function entriesText(cost: Summary): string {
  const parts = [
    `${formatCount(cost.filesNew, 'file')} new`,
    `${cost.filesChanged} changed`,
    `${cost.filesUnchanged} unchanged`,
    `${cost.unreadable} unreadable`,
  ];
  if (cost.inconsistent > 0) parts.push(`${cost.inconsistent} changed while read`);
  if (cost.excluded > 0) parts.push(`${cost.excluded} excluded`);
  return parts.join(', ');
}

function bytesText(cost: Summary): string {
  const { readBytes, addedBytes, storedBytes } = cost;
  return `${formatBytes(readBytes)} read, ${formatBytes(addedBytes)} added, ${formatBytes(storedBytes)} stored`;
}

/** The UUID alone: what scripts take. */
export const PUSHED_BRIEF: EventType<Summary> = {
  name: 'pushed',
  json: (cost) => cost,
  text: ({ snapshot }) => safeText(snapshot),
};

/** The UUID, and below it the cost. */
export const PUSHED_COST: EventType<Summary> = {
  ...PUSHED_BRIEF,
  text: (cost) => {
    const duration = formatDuration(cost.durationMs);
    return `${safeText(cost.snapshot)}\n${entriesText(cost)}; ${bytesText(cost)}; ${duration}`;
  },
};

/** With what the whole holds, and what it was compared with: push -v. */
export const PUSHED_VERBOSE: EventType<Summary> = {
  ...PUSHED_BRIEF,
  text: (cost) => {
    const whole = [
      formatCount(cost.files, 'file'),
      formatCount(cost.directories, 'directory', 'directories'),
      formatCount(cost.others, 'other'),
      formatBytes(cost.bytes),
    ].join(', ');
    const compared = cost.parent === undefined ? 'no parent' : `parent ${safeText(cost.parent)}`;
    return `${PUSHED_COST.text(cost)}\n${whole}; ${compared}`;
  },
};
