/**
 * The parent's log as systemd-journald keeps it: by its native protocol, with
 * level and process as fields of their own, which its copy of standard error
 * does not have. Used by the command where standard error is the journal's.
 * https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
 */
import { closeSync, fstatSync, writeSync } from 'node:fs';
import type { WriteLine } from '../../log.ts';
import { connectDatagram } from '../../sys/datagram.ts';
import { SEVERITY } from './syslog.ts';

const SOCKET = '/run/systemd/journal/socket';
/** More than a datagram holds by default is passed in a file, which no line of ours is worth. */
const VALUE_MAX_CHARS = 16 << 10;
const FIELDS_MAX = 32;

/** Whether standard error goes to the journal: systemd.exec(5), JOURNAL_STREAM. */
export function isJournal(environment: NodeJS.ProcessEnv, fd = 2): boolean {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return environment.JOURNAL_STREAM === `${dev}:${ino}`;
}

/** One field: its value has no newline, as that would begin another. */
function field(name: string, value: unknown): string {
  const text = String(value).slice(0, VALUE_MAX_CHARS);
  return `${name}=${text.replace(/[\0-\x1f\x7f]/g, '?')}\n`;
}

/** `source` is PLAKARD_SOURCE. */
function fieldName(name: string): string {
  return `PLAKARD_${name.toUpperCase().replace(/[^A-Z0-9]/g, '_')}`;
}

/** Writes to the journal at `socket`; while it is away, to `fallback`. */
export function journal(fallback: WriteLine, socket = SOCKET): WriteLine {
  let fd: number | undefined;
  const send = (datagram: string): void => {
    fd ??= connectDatagram(socket);
    writeSync(fd, datagram);
  };
  return (line, level, event) => {
    const { process, text, more } = event;
    const datagram = [
      // a line for machines is theirs as it is; one for people begins with what are fields here
      field('MESSAGE', line.startsWith('{') ? line.trimEnd() : `${process}: ${text}`),
      field('PRIORITY', SEVERITY[level]),
      field('SYSLOG_IDENTIFIER', 'plakard'),
      field('PLAKARD_PROCESS', process),
      ...Object.entries(more)
        .slice(0, FIELDS_MAX)
        .map(([name, value]) => field(fieldName(name), value)),
    ].join('');
    try {
      send(datagram);
    } catch {
      // it may have been restarted: the next line tries a new socket
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
      fallback(line, level, event);
    }
  };
}
