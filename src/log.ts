/**
 * The log of the daemon: one line for each event, as text for people or JSON
 * for machines. Every process has one, on pino; a child's goes to the parent
 * over their channel, and the parent alone writes: to a terminal, to syslog or
 * to a file.
 *
 * Invariant: one event is one line, whatever its text holds.
 */
import { pino } from 'pino';

/** What an event is about, beside its text. */
export interface LogFields {
  /** the process that it happened in: `storage local` */
  readonly process: string;
  readonly [field: string]: string | number | boolean;
}

export const LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type Level = (typeof LEVELS)[number];

export interface Log extends Record<Level, (text: string, fields: LogFields) => void> {
  /** Whether debugging events are logged too. */
  verbose: boolean;
}

/** A log whose lines may change their form. */
export interface OpenLog extends Log {
  form: Form;
}

/** Lines for people, or JSON for machines. */
type Form = 'text' | 'json';

/** Writes one line, with its newline; what it is made from may go beside it. */
export type WriteLine = (line: string, level: Level, event: Event) => void;

/** pino's numbers of its levels. */
const LEVEL_OF: Readonly<Record<number, Level>> = { 20: 'debug', 30: 'info', 40: 'warn', 50: 'error' };

export interface Event {
  readonly time: string;
  readonly level: Level;
  readonly process: string;
  readonly text: string;
  /** what else it is about: `source` */
  readonly more: Readonly<Record<string, unknown>>;
}

/** `verbose` logs debugging events too; `write` takes whole lines. `clock` leaves the time to whoever gets them. */
export function openLog(
  form: Form,
  verbose: boolean,
  write: WriteLine,
  { now = () => new Date(), time = true }: { now?: () => Date; time?: boolean } = {},
): OpenLog {
  let current = form;
  const stream = {
    write: (line: string): void => {
      const event = eventOf(line);
      if (current === 'json') write(line, event.level, event);
      else write(`${time ? `${event.time} ` : ''}${event.process}: ${event.text}\n`, event.level, event);
    },
  };
  const logger = pino(
    {
      base: undefined,
      level: verbose ? 'debug' : 'info',
      timestamp: () => `,"time":"${now().toISOString()}"`,
    },
    stream,
  );
  const at =
    (level: Level) =>
    (text: string, fields: LogFields): void =>
      logger[level](fields, text);
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    get verbose() {
      return logger.level === 'debug';
    },
    set verbose(on: boolean) {
      logger.level = on ? 'debug' : 'info';
    },
    get form() {
      return current;
    },
    set form(next: Form) {
      current = next;
    },
  };
}

/** What syslog and people are shown of a line of pino's. */
function eventOf(line: string): Event {
  const { time, process, msg, level, ...more } = JSON.parse(line) as Record<string, unknown>;
  return {
    time: String(time),
    process: String(process),
    level: LEVEL_OF[Number(level)] ?? 'info',
    text: String(msg).replace(/[\0-\x1f\x7f]/g, '?'),
    more,
  };
}
