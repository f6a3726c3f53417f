/**
 * Modules of the runtime that take a start's milliseconds to load, for sources
 * that plakarctl's short commands load and that seldom need them. Called by ipc
 * and keys. Invariant: nothing is loaded here before it is used.
 */
import type Crypto from 'node:crypto';
import type Net from 'node:net';

let loaded: typeof Crypto | undefined;

/** node:crypto, which takes five milliseconds: most commands of plakarctl leave keys and digests to the daemon. */
export function crypto(): typeof Crypto {
  loaded ??= process.getBuiltinModule('node:crypto');
  return loaded;
}

/** As node:net, which takes as long: plakarctl's channels do without. */
export function net(): typeof Net {
  return process.getBuiltinModule('node:net');
}

/** Has the runtime write what it compiled of modules, where it keeps that at all: bin/start.cjs sees to bundles. */
export function keepCompiled(): void {
  if (process.env.NODE_COMPILE_CACHE === undefined) return;
  process.getBuiltinModule('node:module').flushCompileCache();
}

/** As node:assert, which takes one, and has nothing to do where assertions hold. */
export function assert(value: unknown, text?: string): asserts value {
  if (value) return;
  const { AssertionError } = process.getBuiltinModule('node:assert');
  throw new AssertionError({ message: text ?? 'an assertion does not hold' });
}
