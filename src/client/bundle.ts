/**
 * Makes few files of plakarctl's many modules: one of what every command needs,
 * and one of what each dynamic import adds, so that a start reads three or four
 * files where it would resolve, read and link forty. Called by bin/client.cjs,
 * at the first start after a source has changed; it runs what is made here.
 *
 * Each module becomes a function that returns what the module exports. That is
 * the same as the module as long as it exports no variable that changes, awaits
 * nothing while it is loaded, and modules do not import each other in a circle.
 * Invariant: what is not so, or not understood, is refused, and plakarctl then
 * runs from its modules as they are.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import module from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import vm from 'node:vm';

/** Modules of one program. */
const MODULES_MAX = 1000;
/** Bundles that are kept: a program that runs may still load from the one that it began with. */
const BUNDLES_KEPT = 4;

const PREFIX = 'client-';
/** Digits of a digest in a directory's name. */
const NAME_CHARS = 16;

/** What of a source tells that it has changed. */
export type Stamp = readonly [file: string, ctimeMs: number, sizeBytes: number];

/** What the launcher reads first at each start. */
export interface Manifest {
  /** of the runtime */
  readonly version: string;
  readonly main: string;
  /** every source, and this file */
  readonly stamps: readonly Stamp[];
  /** where the files are, below the cache; undefined where the program cannot be bundled */
  readonly directory: string | undefined;
  /** why it cannot */
  readonly refused: string | undefined;
}

interface Source {
  readonly id: string;
  /** the function's body */
  readonly body: string;
  readonly statics: readonly string[];
  readonly dynamics: readonly string[];
}

/** The program cannot be bundled: not a failure, as it runs without. */
class Refusal extends Error {}

const IMPORT = /^import\s+(?:([\w$*{},\s]+?)\s+from\s+)?['"]([^'"]+)['"];?/gm;
const EXPORT_FROM = /^export\s*\{([^}]*)\}\s*from\s*['"]([^'"]+)['"];?/gm;
const EXPORT_LIST = /^export\s*\{([^}]*)\};?/gm;
const EXPORT_PATTERN = /^export\s+const\s*\{([^}]*)\}(?=\s*=)/gm;
const EXPORT_NAMED = /^export\s+((?:async\s+)?function\*?|class|const|let)\s+([\w$]+)/gm;
const DYNAMIC_IMPORT = /\bimport\(\s*['"]([^'"]+)['"]\s*\)/g;
const META = /\bimport\.meta\.(url|filename|dirname)\b/g;

/** `a, b as c` as pairs. */
function namesOf(list: string, between: string): [string, string][] {
  return list
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '')
    .map((each) => {
      const [from = '', to = from] = each.split(between).map((name) => name.trim());
      return [from, to];
    });
}

/** The declaration that an import clause becomes; `value` is the module's exports. */
function binding(clause: string, value: string, isBuiltin: boolean): string {
  const out: string[] = [];
  const [, named] = /\{([^}]*)\}/.exec(clause) ?? [];
  const rest = clause
    .replace(/\{[^}]*\}/, '')
    .replace(/,/g, ' ')
    .trim();
  const [, space] = /^\*\s+as\s+([\w$]+)$/.exec(rest) ?? [];
  if (space !== undefined) out.push(`const ${space} = ${value};`);
  // what a builtin exports by default is itself
  else if (rest !== '')
    out.push(isBuiltin ? `const ${rest} = ${value};` : `const ${rest} = ${value}.default;`);
  if (named !== undefined) {
    const pairs = namesOf(named, ' as ').map(([from, to]) => `${from}: ${to}`);
    if (pairs.length > 0) out.push(`const { ${pairs.join(', ')} } = ${value};`);
  }
  return out.join(' ');
}

/** Modules of the runtime that take a millisecond or more to load, and that most commands never use. */
const LATE: ReadonlySet<string> = new Set(['node:assert/strict', 'node:crypto', 'node:util']);

/** Whether all that `code` does with `name` is to call it. */
function isOnlyCalled(name: string, code: string): boolean {
  const uses = code.match(new RegExp(`(?:\\bnew\\s+|[.\\w$])?\\b${name}\\b\\s*\\(?`, 'g')) ?? [];
  return uses.every((use) => use.startsWith(name) && use.endsWith('('));
}

/**
 * What an import of a module in LATE becomes: functions that load it when one
 * is called. Undefined where `code`, which imports it, does anything else with them.
 */
function lateBinding(clause: string, name: string, code: string): string | undefined {
  const [, named] = /^\{([^}]*)\}$/.exec(clause.trim()) ?? [];
  const pairs: [string | undefined, string][] =
    named === undefined ? [[undefined, clause.trim()]] : namesOf(named, ' as ');
  if (!pairs.every(([, to]) => /^[\w$]+$/.test(to) && isOnlyCalled(to, code))) return undefined;
  const value = `builtin(${JSON.stringify(name)})`;
  return pairs
    .map(([from, to]) =>
      // an assertion that holds needs nothing of the module
      name === 'node:assert/strict'
        ? `const ${to} = (value, text) => { if (!value) ${value}(value, text); };`
        : `const ${to} = (...given) => ${from === undefined ? value : `${value}.${from}`}(...given);`,
    )
    .join(' ');
}

/** The code of a module without its imports and comments. */
function codeOf(text: string): string {
  return text
    .replace(IMPORT, '')
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/^(.*?)\/\/.*$/gm, '$1');
}

/** The file that `name` means in `from`, or undefined for a module of the runtime. */
function resolve(name: string, from: string): string | undefined {
  if (module.isBuiltin(name)) return undefined;
  if (name.startsWith('.')) return path.resolve(path.dirname(from), name);
  // packages are found from here as from every other module of ours
  const url = import.meta.resolve(name);
  if (!url.startsWith('file:')) throw new Refusal(`${name} in ${from}: not a file`);
  return fileURLToPath(url);
}

/** Makes a function's body of the module in `file`; modules are known by their place below `root`. */
function convert(file: string, root: string): Source {
  const statics: string[] = [];
  const dynamics: string[] = [];
  const exported: string[] = [];
  const idOf = (target: string): string => JSON.stringify(path.relative(root, target));
  const exportsOf = (name: string): string => {
    const target = resolve(name, file);
    if (target === undefined) return `builtin(${JSON.stringify(name)})`;
    statics.push(target);
    return `bundled(${idOf(target)})`;
  };
  const own = { url: pathToFileURL(file).href, filename: file, dirname: path.dirname(file) };
  const text = fs.readFileSync(file, 'utf8');
  const stripped = file.endsWith('.ts') ? module.stripTypeScriptTypes(text) : text;
  const late = (clause: string, name: string): string | undefined =>
    LATE.has(name) ? lateBinding(clause, name, codeOf(stripped)) : undefined;
  const body = stripped
    .replace(EXPORT_FROM, (_, list: string, name: string) => {
      const value = exportsOf(name);
      for (const [from, to] of namesOf(list, ' as ')) exported.push(`${to}: ${value}.${from}`);
      return '';
    })
    .replace(EXPORT_LIST, (_, list: string) => {
      for (const [from, to] of namesOf(list, ' as ')) exported.push(`${to}: ${from}`);
      return '';
    })
    .replace(IMPORT, (_, clause: string | undefined, name: string) => {
      const value = exportsOf(name);
      if (clause === undefined) return `${value};`;
      return late(clause, name) ?? binding(clause, value, module.isBuiltin(name));
    })
    .replace(EXPORT_PATTERN, (_, list: string) => {
      for (const [, to] of namesOf(list, ':')) exported.push(to);
      return `const {${list}}`;
    })
    .replace(EXPORT_NAMED, (_, kind: string, name: string) => {
      // a package's is taken for what it was when it was imported: none that we use changes after that
      if (kind === 'let' && !file.includes('/node_modules/'))
        throw new Refusal(`${file} exports the variable ${name}`);
      exported.push(name);
      return `${kind} ${name}`;
    })
    .replace(DYNAMIC_IMPORT, (whole, name: string) => {
      const target = resolve(name, file);
      if (target === undefined) return whole;
      dynamics.push(target);
      return `loaded(${idOf(target)}, ${JSON.stringify(chunkName(target, root))})`;
    })
    .replace(META, (_, what: keyof typeof own) => JSON.stringify(own[what]));
  if (/^(?:import|export)\b/m.test(body) || body.includes('import.meta'))
    throw new Refusal(`${file}: an import or export of another kind`);
  return { id: idOf(file), body: `${body}\nreturn { ${exported.join(', ')} };`, statics, dynamics };
}

/** Puts all modules that `main` reaches into `all`. */
function collect(main: string, root: string, all: Map<string, Source>): void {
  for (const waiting = [main]; waiting.length > 0; ) {
    const file = waiting.pop() as string;
    if (all.has(file)) continue;
    if (all.size >= MODULES_MAX) throw new Refusal(`more than ${MODULES_MAX} modules`);
    const source = convert(file, root);
    all.set(file, source);
    waiting.push(...source.statics, ...source.dynamics);
  }
}

/** What `from` imports, directly or not, without what is in `but`; each before those that need it. */
function reached(all: ReadonlyMap<string, Source>, from: string, but: ReadonlySet<string>): Set<string> {
  const done = new Set<string>();
  const begun = new Set<string>();
  const visit = (file: string): void => {
    if (done.has(file) || but.has(file)) return;
    if (begun.has(file)) throw new Refusal(`${file} imports itself`);
    begun.add(file);
    for (const next of all.get(file)?.statics ?? []) visit(next);
    done.add(file);
  };
  visit(from);
  return done;
}

/** A file that defines modules. */
function chunk(all: ReadonlyMap<string, Source>, files: Iterable<string>): string {
  const parts: string[] = [];
  for (const file of files) {
    const source = all.get(file);
    if (source !== undefined) parts.push(`define(${source.id}, function () {\n${source.body}\n});\n`);
  }
  return `'use strict';\nmodule.exports = function (define, bundled, loaded, builtin) {\n${parts.join('')}};\n`;
}

/** The name of the file with what loading `target` adds. */
function chunkName(target: string, root: string): string {
  return `${path.relative(root, target).replaceAll('/', '-')}.cjs`;
}

/** A file that is there whole or not at all, also after a power loss. */
function writeDurably(file: string, text: string): void {
  const fd = fs.openSync(`${file}.new`, 'w', 0o600);
  try {
    fs.writeFileSync(fd, text);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  fs.renameSync(`${file}.new`, file);
}

/** Writes all files of the bundle into a directory of their own, and returns its name. */
function writeChunks(all: ReadonlyMap<string, Source>, main: string, root: string, cache: string): string {
  const base = reached(all, main, new Set());
  const chunks = new Map([[chunkName(main, root), chunk(all, base)]]);
  for (const { dynamics } of all.values())
    for (const target of dynamics)
      chunks.set(chunkName(target, root), chunk(all, reached(all, target, base)));
  const hash = createHash('sha256');
  for (const [name, text] of chunks) {
    // a syntax error shows here, and not when a command is run
    new vm.Script(text, { filename: name });
    hash.update(text);
  }
  const name = `${PREFIX}${hash.digest('hex').slice(0, NAME_CHARS)}`;
  const directory = path.join(cache, name);
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const [file, text] of chunks) writeDurably(path.join(directory, file), text);
  return name;
}

/** Removes bundles but the last few. */
function removeOld(cache: string): void {
  const bundles = fs
    .readdirSync(cache)
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => ({ name, ms: fs.statSync(path.join(cache, name)).mtimeMs }))
    .sort((a, b) => b.ms - a.ms);
  for (const { name } of bundles.slice(BUNDLES_KEPT)) fs.rmSync(path.join(cache, name), { recursive: true });
}

function stampOf(file: string): Stamp {
  const { ctimeMs, size } = fs.statSync(file);
  return [file, ctimeMs, size];
}

/** Bundles the program whose main is `main` into `cache`, and writes `manifestFile`, which says how that went. */
export function makeBundle(main: string, cache: string, manifestFile: string): Manifest {
  const root = path.dirname(path.dirname(main));
  const all = new Map<string, Source>();
  let directory: string | undefined;
  let refused: string | undefined;
  try {
    collect(main, root, all);
    directory = writeChunks(all, main, root, cache);
    removeOld(cache);
  } catch (error) {
    if (!(error instanceof Refusal || error instanceof SyntaxError)) throw error;
    refused = error.message;
  }
  const stamps = [import.meta.filename, main, ...all.keys()].map(stampOf);
  const manifest = { version: process.version, main, stamps, directory, refused };
  writeDurably(manifestFile, JSON.stringify(manifest));
  return manifest;
}
