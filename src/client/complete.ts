/**
 * What a line of the shell can go on with: commands and options from the table,
 * sources, snapshots and the paths in them from the daemon. Called by the shell.
 */
import { STATUS, STATUS_IS } from '../messages/client.ts';
import { DIRECTORY } from '../snapshot/tree.ts';
import { type CommandRow, findCommand } from './arguments.ts';
import { browse } from './browse.ts';
import type { Context } from './context.ts';
import { safeName, safeText } from './escape.ts';
import { lookUp } from './lookup.ts';
import { parseTarget } from './operands.ts';
import type { Reader } from './reader.ts';
import { typed, unfinishedWords } from './words.ts';

/** A directory of more names is not worth showing. */
const NAMES_MAX = 10_000;
const TIMEOUT_MS = 5000;
const COLON = 0x3a;
const SLASH = 0x2f;
/** What stands before a command and takes a word of its own. */
const TAKES_WORD = /^(?:on|-s)$/;

/** What begins with `start`, each with what follows it: a blank behind what is complete. */
function offers(words: readonly string[], start: string, end = ' '): string[] {
  return words.filter((word) => word.startsWith(start)).map((word) => `${word}${end}`);
}

/** What the words before call for: a word of the grammar, or an operand or option of a command. */
function wanted(
  before: readonly Buffer[],
  commands: readonly CommandRow[],
): CommandRow | 'command' | 'repository' | 'nothing' {
  for (let at = 0; at < before.length; at++) {
    const word = before[at]?.toString() ?? '';
    if (TAKES_WORD.test(word)) {
      at++;
      if (at === before.length) return word === 'on' ? 'repository' : 'nothing';
    } else if (!word.startsWith('-')) {
      try {
        return findCommand(word, commands);
      } catch {
        // not a command: nothing can be said of what follows
        return 'nothing';
      }
    }
  }
  return 'command';
}

async function namesOf(context: Context, what: 'sources' | 'repositories'): Promise<string[]> {
  const connection = await context.connect();
  const { payload } = await connection.request(STATUS, {}, STATUS_IS, TIMEOUT_MS);
  return payload[what].map(({ name }) => typed(safeText(name)));
}

/** `SNAPSHOT:/dir/na`: what is in the directory, and begins so. */
async function paths(reader: Reader, word: Buffer): Promise<string[]> {
  const colon = word.indexOf(COLON);
  const cut = Math.max(colon, word.lastIndexOf(SLASH));
  const { snapshot } = parseTarget('complete', word.subarray(0, colon));
  const { header } = await reader.resolve(snapshot);
  const found = await lookUp(reader, header, word.subarray(colon + 1, cut + 1));
  const directory = found?.entry.type === DIRECTORY ? found.entry.directory() : undefined;
  if (found === undefined || directory === undefined) return [];
  const head = typed(safeName(word.subarray(0, cut + 1)));
  const slash = cut === colon ? '/' : '';
  const all: string[] = [];
  await browse(reader, directory, found.path, {
    recursive: false,
    visit: (entry) => {
      const name = entry.name();
      if (all.length < NAMES_MAX && name.subarray(0, word.length - cut - 1).equals(word.subarray(cut + 1)))
        all.push(`${head}${slash}${typed(safeName(name))}${entry.type === DIRECTORY ? '/' : ' '}`);
      return undefined;
    },
    damaged: () => undefined,
  });
  return all;
}

async function snapshots(context: Context, word: Buffer): Promise<string[]> {
  const reader = await context.openReader('ls');
  try {
    if (word.includes(COLON)) return await paths(reader, word);
    const { snapshots } = await reader.list();
    return offers(['latest', ...snapshots.map(({ name }) => name)], word.toString(), '');
  } finally {
    reader.close();
  }
}

/**
 * What can stand in the place of the line's last word: the candidates, and the
 * text of it that they replace. Rejects where the daemon had to be asked and
 * does not answer.
 */
export async function complete(context: Context, line: string): Promise<[string[], string]> {
  const { before, word, text } = unfinishedWords(line);
  return [await candidates(context, wanted(before, context.commands), word, text), text];
}

async function candidates(
  context: Context,
  row: ReturnType<typeof wanted>,
  word: Buffer,
  text: string,
): Promise<string[]> {
  const commands = context.commands.map(({ name }) => name);
  if (row === 'nothing') return [];
  if (row === 'command') return offers([...commands, 'on', 'exit'], text);
  if (row === 'repository') return offers(await namesOf(context, 'repositories'), text);
  if (text.startsWith('-'))
    return offers(
      row.options.map(({ name }) => `-${name}`),
      text,
    );
  if (row.name === 'push') return offers(await namesOf(context, 'sources'), text);
  if (row.name === 'help') return offers(commands, text);
  return row.usage.includes('SNAPSHOT') ? snapshots(context, word) : [];
}
