/**
 * plakarctl help: usage lines and options, printed from the command table, so
 * that no command can be missing.
 */
import { type CommandRow, findCommand, type Given, GLOBAL_USAGE } from './arguments.ts';
import type { Context } from './context.ts';
import { safeName } from './escape.ts';
import { formatColumns } from './format.ts';
import type { EventType } from './output.ts';

const GLOBAL_OPTIONS: readonly (readonly [string, string])[] = [
  ['-j', 'print one JSON object per line'],
  ['-q', 'print results, problems and errors only'],
  ['-v', 'print more'],
  ['-s socket', 'connect to this socket of the daemon'],
  ['on REPOSITORY', 'not on the first repository of the configuration'],
];

/** A line of help; with -j the table's own rows are printed instead. */
const HELP: EventType<{ rows: readonly CommandRow[]; lines: readonly string[] }> = {
  name: 'help',
  json: ({ rows }) => ({
    commands: rows.map(({ name, summary, usage, options }) => ({ name, summary, usage, options })),
  }),
  text: ({ lines }) => lines.join('\n'),
};

function usageOf(row: CommandRow): string {
  return `plakarctl ${row.name} ${row.usage}`.trimEnd();
}

function overview(rows: readonly CommandRow[]): string[] {
  const commands = formatColumns(rows.map((row) => [`  ${row.name}`, row.summary]));
  const options = formatColumns(GLOBAL_OPTIONS.map(([option, summary]) => [`  ${option}`, summary]));
  return [`usage: ${GLOBAL_USAGE}`, '', ...commands, '', ...options, '', 'See plakarctl(8).'];
}

function details(row: CommandRow): string[] {
  const options = row.options.map(({ name, argument, summary }) => [
    `  -${name}${argument === undefined ? '' : ` ${argument}`}`,
    summary,
  ]);
  const about = `${row.summary[0]?.toUpperCase()}${row.summary.slice(1)}.`;
  return [
    `usage: ${usageOf(row)}`,
    '',
    about,
    ...(options.length > 0 ? ['', ...formatColumns(options)] : []),
  ];
}

export async function run(context: Context, given: Given): Promise<void> {
  const [word] = given.operands;
  if (word === undefined) {
    context.output.emit(HELP, { rows: context.commands, lines: overview(context.commands) });
    return;
  }
  const row = findCommand(safeName(word), context.commands);
  context.output.emit(HELP, { rows: [row], lines: details(row) });
}
