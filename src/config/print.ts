/**
 * The configuration in its own syntax, for plakard -nv: every default written
 * out, macros, includes and conditions gone. What is printed reads back as the
 * same configuration, and prints the same again; a test holds every statement
 * to that.
 */

import {
  CHECKS,
  type Checks,
  type Compression,
  type Configuration,
  type Encryption,
  type Keep,
  type KeepWhen,
  type Limits,
  PERIOD_SECONDS,
  PERIODS,
  type Permit,
  type Repository,
  ROLES,
  type Schedule,
  type Source,
  WEEK_DAYS,
} from './model.ts';
import { DURATION_UNITS, SIZE_UNITS, timeOfDay } from './value.ts';

/** The configuration as text, each statement on a line, each block indented. */
export function print(configuration: Configuration): string {
  const { repositories, sources, pushes, syncs, permits } = configuration;
  const sections = [
    settings(configuration),
    ...repositories.map(repository),
    ...sources.map(source),
    pushes.map((push) => `push ${quote(push.source)} to ${quote(push.repository)}${when(push.schedule)}`),
    syncs.map(
      (sync) => `sync ${quote(sync.repository)} ${sync.direction} ${quote(sync.other)}${when(sync.schedule)}`,
    ),
    permits.map(permit),
  ];
  return sections
    .filter((lines) => lines.length > 0)
    .map((lines) => `${lines.join('\n')}\n`)
    .join('\n');
}

function settings({
  cpu,
  memoryBytes,
  socket,
  state,
  log,
  reload,
  metricsFile,
  users,
  limits,
}: Configuration): string[] {
  const group = socket.group === undefined ? '' : ` group ${quote(socket.group)}`;
  return [
    ...(cpu === undefined ? [] : [`set cpu ${cpu}`]),
    ...(memoryBytes === undefined ? [] : [`set memory ${size(memoryBytes)}`]),
    `set socket ${quote(socket.path)}${group} mode ${socket.mode.toString(8).padStart(4, '0')}`,
    `set state ${quote(state)}`,
    ...ROLES.map((role) => `set user ${role} ${quote(users[role])}`),
    `set log ${log}`,
    `set reload ${reload}`,
    ...(metricsFile === undefined ? [] : [`set metrics file ${quote(metricsFile)}`]),
    ...rates(limits),
  ];
}

function repository(given: Repository): string[] {
  const { name, location, keep, checks, cleanup, limits } = given;
  return blockOf(`repository ${quote(name)} at ${quote(location.path)}`, [
    encryption(given.encryption),
    compression(given.compression),
    ...(keep === undefined ? [] : [`keep ${printPolicy(keep)}${keepWhen(given.keepWhen)}`]),
    ...checksOf(checks),
    ...(cleanup === undefined ? [] : [`cleanup${when(cleanup)}`]),
    ...rates(limits),
  ]);
}

function encryption(given: Encryption): string {
  if (given.kind === 'none') return 'no encryption';
  const { kind, path, credential } = given;
  const from = credential === undefined ? `file ${quote(path)}` : `credential ${quote(credential)}`;
  return `${kind === 'passphrase' ? 'passphrase' : 'key'} ${from}`;
}

function compression(given: Compression): string {
  return given.kind === 'none' ? 'compression none' : `compression zstd ${given.level}`;
}

/** A retention policy, as `keep` and plakarctl take it. */
export function printPolicy(keep: Keep): string {
  const counts = PERIODS.map((period) => (keep[period] === undefined ? '' : `${keep[period]} ${period}`));
  const last = keep.last === undefined ? '' : `last ${keep.last}`;
  const within = keep.withinSeconds === undefined ? '' : `within ${duration(keep.withinSeconds)}`;
  return [...counts, last, within].filter((rule) => rule !== '').join(', ');
}

function checksOf(checks: Checks): string[] {
  const rules = CHECKS.filter((depth) => checks[depth] !== undefined).map(
    (depth) => `${depth}${periodOf(checks[depth])}`,
  );
  return rules.length === 0 ? [] : [`check ${rules.join(', ')}`];
}

/** As a period where it is one. */
function periodOf(schedule: Schedule | undefined): string {
  const period =
    schedule?.kind === 'every'
      ? PERIODS.find((each) => PERIOD_SECONDS[each] === schedule.seconds)
      : undefined;
  return period === undefined ? when(schedule) : ` ${period}`;
}

function rates(limits: Limits): string[] {
  return (['read', 'write'] as const).flatMap((way) =>
    limits[way].map(
      ({ bytesPerSecond, between }) =>
        `limit ${way} ${size(bytesPerSecond)}${between === undefined ? '' : ` between ${timeOfDay(between.from)} and ${timeOfDay(between.to)}`}`,
    ),
  );
}

function source({ name, paths, excludes, oneFilesystem, watch, before, after }: Source): string[] {
  return blockOf(`source ${quote(name)}`, [
    `path ${items(paths)}`,
    ...(excludes.length === 0 ? [] : [`exclude ${items(excludes)}`]),
    ...(oneFilesystem ? ['one filesystem'] : []),
    ...(watch === undefined
      ? []
      : [`watch settle ${duration(watch.settleSeconds)} scan ${duration(watch.scanSeconds)}`]),
    ...before.map(({ command, user }) => `run before ${quote(command)} as ${quote(user)}`),
    ...after.map(({ command, user }) => `run after ${quote(command)} as ${quote(user)}`),
  ]);
}

function permit({ subject, name, operations, source, repository }: Permit): string {
  const on = repository === undefined ? '' : ` on ${quote(repository)}`;
  const of = source === undefined ? '' : ` source ${quote(source)}`;
  return `permit ${subject} ${quote(name)} { ${operations.join(', ')} }${of}${on}`;
}

function when(schedule: Schedule | undefined): string {
  if (schedule === undefined) return '';
  if (schedule.kind === 'every') return ` every ${duration(schedule.seconds)}`;
  const { minutes, weekDays = [], monthDays = [], cron } = schedule;
  if (cron !== undefined) return ` at ${quote(cron)}`;
  const days = [...weekDays.map((day) => WEEK_DAYS[day]), ...monthDays];
  return ` at ${minutes.map(timeOfDay).join(', ')}${days.length === 0 ? '' : ` on ${days.join(', ')}`}`;
}

function keepWhen(given: KeepWhen | undefined): string {
  return given?.kind === 'after push' ? ' after push' : when(given);
}

function blockOf(head: string, lines: readonly string[]): string[] {
  return [`${head} {`, ...lines.map((line) => `\t${line}`), '}'];
}

function items(values: readonly string[]): string {
  const quoted = values.map(quote);
  return quoted.length === 1 ? quoted.join() : `{ ${quoted.join(', ')} }`;
}

/** The largest unit that leaves a whole number. */
function size(bytes: number): string {
  const unit = SIZE_UNITS.find(([, unitBytes]) => bytes % unitBytes === 0);
  return unit === undefined ? String(bytes) : `${bytes / unit[1]}${unit[0]}`;
}

function duration(seconds: number): string {
  const unit = DURATION_UNITS.find(([, unitSeconds]) => seconds % unitSeconds === 0) ?? ['s', 1];
  return `${seconds / unit[1]}${unit[0]}`;
}

/** A string as the lexer reads it back. */
function quote(text: string): string {
  const escaped = text.replace(/["\\\0-\x1f\x7f]/g, (character) => {
    if (character === '"' || character === '\\') return `\\${character}`;
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${escaped}"`;
}
