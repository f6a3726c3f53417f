/**
 * Retention policies: `24 hourly, 7 daily, last 3, within 30d`. The same text is
 * read in a repository's `keep` statement and from plakarctl's `keep` command.
 */

import { Failure } from '../error.ts';
import { Input, Mistake, Session } from './input.ts';
import { lex } from './lexer.ts';
import { type ConfigError, type FileSource, type Keep, PERIODS } from './model.ts';
import { duration, integer, list, oneOf, type Value } from './value.ts';

/** Snapshots that one rule can keep. */
const KEEP_MAX = 1_000_000;

type KeepRule = readonly [name: keyof Keep, value: number];

const count = integer(1, KEEP_MAX);
const period = oneOf(PERIODS);

/** `24 hourly`, `last 3` or `within 30d`. */
const keepRule: Value<KeepRule> = {
  expected: `a rule such as '7 daily', 'last 3' or 'within 30d'`,
  parse(input) {
    if (input.accept('last')) return ['last', count.parse(input)];
    if (input.accept('within')) return ['withinSeconds', duration.parse(input)];
    const { kind, text } = input.peek();
    if (kind !== 'word' && kind !== 'string') throw input.unexpected(keepRule.expected);
    if (!/^\d/.test(text)) throw input.unexpected(keepRule.expected);
    const number = count.parse(input);
    return [period.parse(input), number];
  },
};

/** What may stand behind a policy. */
const rules = list(keepRule, { until: ['every', 'at', 'after'] });

/** A whole policy, in which each rule stands once. */
export const keepPolicy: Value<Keep> = {
  expected: keepRule.expected,
  parse(input) {
    const { at } = input.peek();
    const keep: { -readonly [K in keyof Keep]: Keep[K] } = {};
    for (const [name, value] of rules.parse(input)) {
      if (Object.hasOwn(keep, name)) {
        throw new Mistake(at, `'${name === 'withinSeconds' ? 'within' : name}' is given twice`);
      }
      keep[name] = value;
    }
    return keep;
  },
};

/** A policy alone includes no files. */
const NO_FILES: FileSource = {
  uid: 0,
  readFile: (path) => {
    throw new Failure('read', path, { cause: 'a policy has no files' });
  },
  stat: (path) => {
    throw new Failure('stat', path, { cause: 'a policy has no files' });
  },
};

/** Reads a policy as given on the command line; what is wrong has `name` for a file. */
export function parsePolicy(text: string, name = 'keep'): { keep?: Keep; errors: ConfigError[] } {
  const session = new Session(NO_FILES, { host: '', system: '' });
  const input = new Input(session, name, [], lex(name, text));
  try {
    const keep = keepPolicy.parse(input);
    if (input.peek().kind !== 'end') throw input.unexpected('the end of the policy');
    return { keep, errors: [] };
  } catch (error) {
    if (!(error instanceof Mistake)) throw error;
    session.report(error.at, error.message);
    return { errors: session.errors };
  }
}
