/**
 * Times on the wall's clock: `02:30, 14:30 on monday, thursday`, and the five
 * fields of crontab(5). Read by the statements that do something at a time.
 * Invariant: what is accepted comes round: a date that no year has is refused.
 */
import { type Input, Mistake } from './input.ts';
import { type Calendar, shown, WEEK_DAYS, type WeekDay } from './model.ts';
import { suggestion } from './suggest.ts';
import { clock, oneOf, type Value } from './value.ts';

/** Times in one list. */
const TIMES_MAX = 96;
const HOURS = 24;
const MINUTES = 60;
const MONTH_DAYS = 31;
/** Days of each month, in the longest year. */
const DAYS_OF_MONTHS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
/** Words for several days. */
const GROUPS: Readonly<Record<string, readonly WeekDay[]>> = {
  weekdays: ['monday', 'tuesday', 'wednesday', 'thursday', 'friday'],
  weekends: ['saturday', 'sunday'],
};

/** A field of crontab(5): its numbers, and the words that stand for the first of them. */
interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly words?: readonly string[];
}

const FIELDS = [
  { name: 'minute', min: 0, max: MINUTES - 1 },
  { name: 'hour', min: 0, max: HOURS - 1 },
  { name: 'day of the month', min: 1, max: MONTH_DAYS },
  { name: 'month', min: 1, max: MONTHS.length, words: MONTHS },
  // 7 is Sunday too
  { name: 'day of the week', min: 0, max: 7, words: WEEK_DAYS.map((day) => day.slice(0, 3)) },
] as const satisfies readonly Field[];

function ascending(numbers: Iterable<number>): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}

/** One number of a field, or undefined. */
function numberOf({ min, max, words = [] }: Field, text: string): number | undefined {
  const word = words.indexOf(text.toLowerCase());
  if (word >= 0) return word + min;
  if (!/^\d{1,2}$/.test(text)) return undefined;
  const number = Number(text);
  return number >= min && number <= max ? number : undefined;
}

/** `*`, `5`, `1-5`, and of ranges every so many-th: `0-30/10`; undefined where it is none of these. */
function part(field: Field, text: string): number[] | undefined {
  const [, range = '', step = '1'] = /^([^/]+)(?:\/([1-9]\d?))?$/.exec(text) ?? [];
  const [from = '', to, ...more] = range === '*' ? [String(field.min), String(field.max)] : range.split('-');
  const first = numberOf(field, from);
  const last = to === undefined ? first : numberOf(field, to);
  const isStepOfOne = to === undefined && text.includes('/');
  if (first === undefined || last === undefined || last < first || more.length > 0 || isStepOfOne)
    return undefined;
  const numbers: number[] = [];
  for (let number = first; number <= last; number += Number(step)) numbers.push(number);
  return numbers;
}

/** A field's numbers; undefined for all of them. Throws a string that says what is wrong. */
function field(description: Field, text: string): number[] | undefined {
  if (text === '*') return undefined;
  const numbers: number[] = [];
  for (const each of text.split(',')) {
    const found = part(description, each);
    if (found === undefined) throw new Error(`${shown(each)} is no ${description.name}`);
    numbers.push(...found);
  }
  return ascending(numbers);
}

function all(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** The five fields of crontab(5), or what is wrong with them. */
export function parseCron(text: string): Calendar | string {
  const fields = text.trim().split(/\s+/);
  if (fields.length !== FIELDS.length) return `expected five fields as in crontab(5), found ${shown(text)}`;
  try {
    const [minutes, hours, monthDays, months, weekDays] = FIELDS.map((each, i) =>
      field(each, fields[i] ?? ''),
    );
    const days = weekDays && ascending(weekDays.map((day) => day % WEEK_DAYS.length));
    const times = (hours ?? all(HOURS)).flatMap((hour) =>
      (minutes ?? all(MINUTES)).map((minute) => hour * MINUTES + minute),
    );
    const earliest = Math.min(...(monthDays ?? [1]));
    const isDate = (month: number): boolean => earliest <= (DAYS_OF_MONTHS[month - 1] ?? 0);
    if (days === undefined && months !== undefined && !months.some(isDate)) return `no year has such a date`;
    return {
      kind: 'at',
      minutes: times,
      ...(monthDays && { monthDays }),
      ...(months && { months }),
      ...(days && { weekDays: days }),
      cron: fields.join(' '),
    };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Whether a list goes on; takes the comma, and the line's end after it. */
function continues(input: Input, isItem: (text: string) => boolean): boolean {
  if (input.peek().kind !== ',') return false;
  input.take();
  input.skipNewlines();
  const { kind, text } = input.peek();
  return (kind === 'word' || kind === 'string') && isItem(text);
}

function times(input: Input): number[] {
  const found: number[] = [];
  do {
    if (found.length >= TIMES_MAX) throw new Mistake(input.peek().at, `more than ${TIMES_MAX} times`);
    found.push(clock.parse(input));
  } while (continues(input, (text) => /^\d\d?:/.test(text)));
  return ascending(found);
}

const DAY_WORDS = [...WEEK_DAYS, ...Object.keys(GROUPS)];
const dayWord = oneOf(DAY_WORDS);

/** Days of the week, or of the month by number; either is enough where there are both. */
function days(input: Input): Pick<Calendar, 'weekDays' | 'monthDays'> {
  const weekDays: number[] = [];
  const monthDays: number[] = [];
  do {
    const { text, at } = input.peek();
    if (/^\d+$/.test(text)) {
      const day = Number(text);
      if (text.length > 2 || day < 1 || day > MONTH_DAYS)
        throw new Mistake(at, `expected a day from 1 to ${MONTH_DAYS}, found ${shown(text)}`);
      input.take();
      monthDays.push(day);
    } else {
      const word = dayWord.parse(input);
      for (const day of GROUPS[word] ?? [word]) weekDays.push(WEEK_DAYS.indexOf(day as WeekDay));
    }
  } while (continues(input, (text) => /^\d{1,2}$/.test(text) || isDayLike(text)));
  return {
    ...(weekDays.length > 0 && { weekDays: ascending(weekDays) }),
    ...(monthDays.length > 0 && { monthDays: ascending(monthDays) }),
  };
}

/** A day's name, or what is near one. */
function isDayLike(text: string): boolean {
  return DAY_WORDS.includes(text) || suggestion(text, DAY_WORDS) !== '';
}

/** `02:30, 14:30 on monday, 15`, or `"30 2 * * 1-5"`. */
export const calendar: Value<Calendar> = {
  expected: 'a time such as 03:30',
  parse(input) {
    const { kind, text, at } = input.peek();
    if (kind === 'string' && /\s/.test(text)) {
      const found = parseCron(text);
      if (typeof found === 'string') throw new Mistake(at, found);
      input.take();
      return found;
    }
    const minutes = times(input);
    const onDays = input.accept('on') ? days(input) : {};
    return { kind: 'at', minutes, ...onDays };
  },
};
