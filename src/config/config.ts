/**
 * plakard.conf: from files to plain data, or to a list of what is wrong. The
 * parent calls this at start and at reload, and plakard -n to check; plakarctl's
 * keep uses the policy alone. This is the directory's whole surface; the data is
 * described field by field in model.ts.
 *
 * It never throws for what a file holds, and returns a configuration only if
 * there was nothing wrong: a reload applies all of a file, or nothing.
 */

import { describe, Failure } from '../error.ts';
import { defineFixed } from './directive.ts';
import { openFile } from './file.ts';
import { scope, statements } from './grammar.ts';
import { type Machine, Mistake, Session } from './input.ts';
import type { ConfigError, Configuration, FileSource } from './model.ts';
import { finish, newDraft, STATEMENTS } from './statement.ts';

export { resolveGroup, resolveUser } from './account.ts';
export { diskFiles } from './file.ts';
export { checkFiles, checkKeyFile } from './keyfile.ts';
export type * from './model.ts';
export { formatError, OPERATIONS } from './model.ts';
export { parsePolicy } from './policy.ts';
export { print, printPolicy } from './print.ts';
export { parseDuration } from './value.ts';

export interface ParseOptions extends Machine {
  readonly files: FileSource;
  /** As given with -D; they outrank what files define. */
  readonly macros?: Readonly<Record<string, string>>;
}

export interface Parsed {
  /** Absent if there are errors. */
  readonly configuration?: Configuration;
  /** In the order of reading, then names that nothing defines; at most 100. */
  readonly errors: readonly ConfigError[];
  /** Every file that was or should have been read, the first first: what to watch. */
  readonly files: readonly string[];
  /** Words read, macros expanded: the measure of time that a run is bounded by. */
  readonly steps: number;
}

/** Reads the configuration in `path` and what it includes. */
export function parseFile(path: string, { files, macros = {}, host, system }: ParseOptions): Parsed {
  const session = new Session(files, { host, system });
  const draft = newDraft();
  define(session, macros);
  try {
    const input = openFile(session, path, []);
    statements(input, STATEMENTS, scope(draft), false);
  } catch (error) {
    const text = describe(new Failure('read configuration', '', { cause: error }));
    session.report({ file: path, line: 0, column: 0 }, text);
  }
  for (const error of session.names.unresolved()) {
    if (session.stopped) break;
    session.report(error, error.message);
  }
  const { errors, steps, read } = session;
  const parsed = { errors, steps, files: [...read] };
  return errors.length > 0 ? parsed : { ...parsed, configuration: finish(draft) };
}

function define(session: Session, macros: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(macros)) {
    const at = { file: `-D ${name}`, line: 0, column: 0 };
    try {
      defineFixed(session, name, value, at);
    } catch (error) {
      if (!(error instanceof Mistake)) throw error;
      session.report(at, error.message);
    }
  }
}

/** The name and value of a -D argument, `macro=value`. */
export function parseDefinition(argument: string): readonly [name: string, value: string] {
  const equals = argument.indexOf('=');
  if (equals > 0) return [argument.slice(0, equals), argument.slice(equals + 1)];
  throw new Failure('-D', argument, { cause: 'expected macro=value', kind: 'usage' });
}
