/**
 * Sizes, times, rates and modes as people read them. Called by the commands
 * for their text output; the JSON output has plain numbers and RFC 3339 times.
 */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'] as const;
const KILO = 1000;

/** Bytes in decimal units, two or three digits: `0 B`, `999 B`, `1.2 kB`, `11 MB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 999.5 kB is printed as 1.0 MB, not as 1000 kB
  while (unit < UNITS.length - 1 && (unit === 0 ? value >= KILO : value >= KILO - 0.5)) {
    value /= KILO;
    unit++;
  }
  const digits = unit > 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0);
  return `${digits} ${UNITS[unit] ?? 'EB'}`;
}

/** A duration for people: `0.4 s`, `12 s`, `3m05s`, `2h07m`, `4d03h`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${seconds.toFixed(0)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m${two(whole % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h${two(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d${two(hours % 24)}h`;
}

function two(value: number): string {
  return value.toString().padStart(2, '0');
}

/** What a Date can hold, seconds either side of 1970. */
const DATE_MAX_SECONDS = 8.64e12;

const DAY_SECONDS = 86_400;
/** As many days are remembered: files are of few. */
const DAYS_MAX = 4096;
/** by day since 1970: `2021-11-27T`. A Date and its text take longer than all else of a line of ls. */
const days = new Map<number, string>();
/** `00` to `59` */
const TWO = Array.from({ length: 60 }, (_, value) => two(value));

function dayText(day: number): string {
  const known = days.get(day);
  if (known !== undefined) return known;
  const text = new Date(day * DAY_SECONDS * 1000).toISOString().slice(0, -'00:00:00.000Z'.length);
  if (days.size >= DAYS_MAX) days.clear();
  days.set(day, text);
  return text;
}

/** Seconds since 1970 in UTC, `2021-11-27T00:12:04Z`; `@seconds` where the calendar ends. */
export function formatTime(seconds: number | bigint): string {
  const value = Math.floor(Number(seconds));
  if (!(Math.abs(value) <= DATE_MAX_SECONDS)) return `@${seconds}`;
  const day = Math.floor(value / DAY_SECONDS);
  const rest = value - day * DAY_SECONDS;
  const minutes = Math.floor(rest / 60);
  return `${dayText(day)}${TWO[Math.floor(minutes / 60)]}:${TWO[minutes % 60]}:${TWO[rest % 60]}Z`;
}

/** Milliseconds since 1970 in UTC, to the second. */
export function formatMilliseconds(milliseconds: number): string {
  return formatTime(Math.floor(milliseconds / 1000));
}

/** A time with all of its nanoseconds, for JSON. */
export function formatNanoseconds(seconds: number | bigint, nanoseconds: number): string {
  const time = formatTime(seconds);
  if (nanoseconds === 0 || time.startsWith('@')) return time;
  return `${time.slice(0, -1)}.${nanoseconds.toString().padStart(9, '0')}Z`;
}

/** The letter of a file type in the first column, by S_IFMT. */
const TYPE_LETTERS: Readonly<Record<number, string>> = {
  32768: '-',
  16384: 'd',
  40960: 'l',
  4096: 'p',
  49152: 's',
  8192: 'c',
  24576: 'b',
};

function triplet(bits: number, special: boolean, set: string, unset: string): string {
  const last = special ? ((bits & 1) !== 0 ? set : unset) : (bits & 1) !== 0 ? 'x' : '-';
  return ((bits & 4) !== 0 ? 'r' : '-') + ((bits & 2) !== 0 ? 'w' : '-') + last;
}

/** by mode, of which there are 16 bits */
const modes = new Map<number, string>();

/** A mode as ls(1) prints it: `-rw-r--r--`, `drwxrwxrwt`, `-rwsr-xr-x`. */
export function formatMode(mode: number): string {
  const known = modes.get(mode & 0xffff);
  if (known !== undefined) return known;
  const text = modeText(mode & 0xffff);
  modes.set(mode & 0xffff, text);
  return text;
}

function modeText(mode: number): string {
  const letter = TYPE_LETTERS[mode & 0xf000] ?? '?';
  const owner = triplet(mode >> 6, (mode & 0o4000) !== 0, 's', 'S');
  const group = triplet(mode >> 3, (mode & 0o2000) !== 0, 's', 'S');
  const others = triplet(mode, (mode & 0o1000) !== 0, 't', 'T');
  return letter + owner + group + others;
}

/** A count with its noun: `1 file`, `12 files`. */
export function formatCount(count: number, noun: string, plural = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`;
}

/** Columns padded to the widest cell; the last is left as it is. Rows are printed with two spaces between. */
export function formatColumns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
