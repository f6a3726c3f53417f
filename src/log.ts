/**
 * The log of the daemon: one line for each event, as text for people or JSON
 * for machines. Made by the main and written by the parent alone, which logs on
 * behalf of its children too.
 */
import { pino } from 'pino';

/** What an event is about, beside its text. */
export interface LogFields {
  /** the process that it happened in: `storage local` */
  readonly process: string;
  readonly [field: string]: string | number | boolean;
}

export interface Log {
  debug(text: string, fields: LogFields): void;
  info(text: string, fields: LogFields): void;
  warn(text: string, fields: LogFields): void;
  error(text: string, fields: LogFields): void;
}

/** `verbose` logs debugging events too; `write` takes whole lines. */
export function openLog(
  form: 'text' | 'json',
  verbose: boolean,
  write: (line: string) => void,
  now: () => Date = () => new Date(),
): Log {
  const stream = { write: form === 'json' ? write : (line: string) => write(textOf(line)) };
  const logger = pino(
    {
      base: undefined,
      level: verbose ? 'debug' : 'info',
      timestamp: () => `,"time":"${now().toISOString()}"`,
    },
    stream,
  );
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (text: string, fields: LogFields): void =>
      logger[level](fields, text);
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** `2026-11-21T10:00:00.000Z storage local: text`, as syslog would show it. */
function textOf(line: string): string {
  const event: unknown = JSON.parse(line);
  if (typeof event !== 'object' || event === null) return line;
  const { time, process, msg } = event as Record<string, unknown>;
  return `${String(time)} ${String(process)}: ${String(msg).replace(/[\0-\x1f\x7f]/g, '?')}\n`;
}
