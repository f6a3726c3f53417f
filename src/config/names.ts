/**
 * The names of repositories and sources: where each is declared, and where it is
 * referred to. References may come first, so they are settled after the last
 * file. A name counts as declared even if the rest of its statement is wrong, so
 * that one mistake is one error.
 */

import { type ConfigError, type Position, shown } from './model.ts';
import { suggestion } from './suggest.ts';

/** What a name can be of. */
export type NameKind = 'repository' | 'source';

/** Declarations of one kind: a child process or more will run for each. */
const DECLARATIONS_MAX = 256;
/** References in one run. */
const REFERENCES_MAX = 8192;

interface Reference {
  readonly kind: NameKind;
  readonly name: string;
  readonly at: Position;
}

export class Names {
  readonly #declared: Readonly<Record<NameKind, Map<string, Position>>> = {
    repository: new Map(),
    source: new Map(),
  };
  readonly #references: Reference[] = [];

  /** Declares a name; returns what is wrong with that, if anything. */
  declare(kind: NameKind, name: string, at: Position): string | undefined {
    const declared = this.#declared[kind];
    const first = declared.get(name);
    if (first !== undefined)
      return `${kind} ${shown(name)} is already defined at ${first.file}:${first.line}`;
    if (declared.size >= DECLARATIONS_MAX) return `more than ${DECLARATIONS_MAX} of ${kind}`;
    declared.set(name, at);
    return undefined;
  }

  /** Notes that a name is used; returns what is wrong with that, if anything. */
  refer(kind: NameKind, name: string, at: Position): string | undefined {
    if (this.#references.length >= REFERENCES_MAX) return `more than ${REFERENCES_MAX} uses of names`;
    this.#references.push({ kind, name, at });
    return undefined;
  }

  /** What names nothing, once everything has been read; worded one by one, as only so many are reported. */
  *unresolved(): Generator<ConfigError> {
    for (const { kind, name, at } of this.#references) {
      const declared = this.#declared[kind];
      if (declared.has(name)) continue;
      yield { ...at, message: `unknown ${kind} ${shown(name)}${suggestion(name, declared.keys())}` };
    }
  }
}
