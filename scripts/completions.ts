/**
 * Writes what the shell completions know of plakarctl's commands, from the
 * table of commands: the part of each file between its two marks. Run it with
 * `npm run completions` after changing the table; a test compares.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { CommandRow, OptionRow } from '../src/client/arguments.ts';
import { COMMANDS } from '../src/client/commands.ts';

const DIRECTORY = path.join(import.meta.dirname, '../etc/completions');
const BEGIN = '# from the table of commands: npm run completions';
const END = '# end of the table';

/** Commands whose operands are snapshots, or something in them. */
const INSIDE = new Set(['cat', 'check', 'checksum', 'diff', 'find', 'ls', 'pull', 'rm', 'tarball']);

/** What an option's argument is, for shells that complete it. */
function isPath({ argument = '' }: OptionRow): 'directory' | 'file' | undefined {
  if (argument === 'DIR') return 'directory';
  return argument === 'FILE' ? 'file' : undefined;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function bash(): string[] {
  const rows = COMMANDS.map(({ name, options }) => {
    const words = options.map((option) => `-${option.name}${option.argument === undefined ? '' : '='}`);
    return `\t[${name}]=${quoted(words.join(' '))}`;
  });
  const inside = [...INSIDE].join(' ');
  return ['declare -gA _plakarctl_options=(', ...rows, ')', `_plakarctl_inside=' ${inside} '`];
}

function zshOption(option: OptionRow): string {
  const { name, argument, repeated, summary } = option;
  const plain = summary.replaceAll(/[[\]:]/g, ' ');
  const files = { directory: ':_files -/', file: ':_files' };
  const kind = isPath(option);
  const value =
    argument === undefined ? '' : `:${argument.toLowerCase()}${kind === undefined ? ':' : files[kind]}`;
  return quoted(`${repeated === true ? '*' : ''}-${name}[${plain}]${value}`);
}

function zshOperands({ name }: CommandRow): string {
  if (INSIDE.has(name)) return "'*:snapshot:_plakarctl_snapshots'";
  return name === 'push' ? "'*:source or path:_files'" : '';
}

function zsh(): string[] {
  const commands = COMMANDS.map(
    ({ name, summary }) => `\t\t${quoted(`${name}:${summary.replaceAll(':', ' ')}`)}`,
  );
  const cases = COMMANDS.map((row) => {
    const words = [...row.options.map(zshOption), zshOperands(row)].filter(Boolean);
    return words.length === 0 ? undefined : `\t${row.name}) _arguments ${words.join(' ')} ;;`;
  }).filter((line) => line !== undefined);
  return [
    '_plakarctl_commands() {',
    '\tlocal -a commands',
    '\tcommands=(',
    ...commands,
    '\t)',
    '\t_describe command commands',
    '}',
    '',
    '_plakarctl_arguments() {',
    '\tcase $words[1] in',
    ...cases,
    '\tesac',
    '}',
  ];
}

function fishOption(command: string, option: OptionRow): string {
  const kind = isPath(option);
  const values = { directory: " -r -a '(__fish_complete_directories)'", file: ' -r -F' };
  const value = option.argument === undefined ? '' : kind === undefined ? ' -r' : values[kind];
  const seen = `-n '__fish_seen_subcommand_from ${command}'`;
  return `complete -c plakarctl ${seen} -o ${option.name}${value} -d ${quoted(option.summary)}`;
}

function fish(): string[] {
  return [
    `set -l commands ${COMMANDS.map(({ name }) => name).join(' ')}`,
    `set -l inside ${[...INSIDE].join(' ')}`,
    ...COMMANDS.flatMap(({ name, options }) => options.map((option) => fishOption(name, option))),
  ];
}

const SHELLS = { 'plakarctl.bash': bash, _plakarctl: zsh, 'plakarctl.fish': fish } as const;

/** Each completion file's path, its text, and what its text should be. */
export function completions(): { file: string; text: string; wanted: string }[] {
  return Object.entries(SHELLS).map(([name, table]) => {
    const file = path.join(DIRECTORY, name);
    const text = fs.readFileSync(file, 'utf8');
    const begin = text.indexOf(BEGIN);
    const end = text.indexOf(END);
    if (begin < 0 || end < begin) throw new Error(`${file}: the marks of the table are missing`);
    const wanted = `${text.slice(0, begin)}${BEGIN}\n${table().join('\n')}\n${text.slice(end)}`;
    return { file, text, wanted };
  });
}

if (process.argv[1] === import.meta.filename) {
  for (const { file, wanted } of completions()) fs.writeFileSync(file, wanted);
}
