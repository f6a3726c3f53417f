/**
 * The layering check: which directory of src may import which, and which
 * directory may import which package. `npm run check` runs it; LAYERS is the
 * one place that says so, and CONTRIBUTING.md refers to it.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

/** Layers from the top down. A file may import its own directory and any layer further down. */
export const LAYERS: readonly (readonly string[])[] = [
  ['plakard.ts', 'plakarctl.ts'],
  ['daemon.ts'],
  ['processes'],
  ['client'],
  ['snapshot', 'repository', 'config', 'schedule'],
  ['messages'],
  ['keys', 'backends'],
  ['privsep'],
  ['ipc'],
  ['sys'],
  ['builtin.ts', 'collect.ts', 'error.ts', 'log.ts', 'trace.ts', 'version.ts'],
];

/** Imports between two directories of one layer. */
const BESIDE: Readonly<Record<string, readonly string[]>> = { snapshot: ['repository'] };

/** Directories that may import less than their layer would allow. */
const ONLY: Readonly<Record<string, readonly string[]>> = { config: ['error.ts'] };

/** Packages that belong to one directory. */
const PACKAGES: readonly { readonly prefix: string; readonly directory: string }[] = [
  { prefix: 'ffi-napi', directory: 'sys' },
  { prefix: 'ref-napi', directory: 'sys' },
  { prefix: '@noble/', directory: 'keys' },
];

/** Sources by path below src, such as 'ipc/channel.ts'. */
export type Sources = ReadonlyMap<string, string>;

// Biome keeps imports at the start of a line, which is what tells them from prose and strings.
const STATIC_IMPORT = /^(?:import|export)\b(?:[^'"`;]*?\bfrom)?\s*['"]([^'"]+)['"]/gm;
const DYNAMIC_IMPORT = /^(?!\s*(?:\*|\/\/)).*?\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;

/** One import: the name as written, whether it is gone once types are stripped, and whether it waits to be asked for. */
export interface Import {
  readonly name: string;
  readonly typeOnly: boolean;
  readonly dynamic: boolean;
}

/** What `source` imports. */
export function importsOf(source: string): Import[] {
  const found: Import[] = [];
  for (const pattern of [STATIC_IMPORT, DYNAMIC_IMPORT])
    for (const [text, name] of source.matchAll(pattern))
      if (name !== undefined)
        found.push({
          name,
          typeOnly: /^(?:import|export) type\b/.test(text),
          dynamic: pattern === DYNAMIC_IMPORT,
        });
  return found;
}

/** The directory of src that `file` is in, or the file itself where it is in none. */
function unitOf(file: string): string {
  return file.split('/', 1)[0] ?? file;
}

function rankOf(unit: string): number {
  return LAYERS.findIndex((layer) => layer.includes(unit));
}

/** Why `from` may not import `to` (two units), or undefined where it may. */
function forbidden(from: string, to: string): string | undefined {
  if (from === to) return undefined;
  if (ONLY[from] !== undefined) return ONLY[from].includes(to) ? undefined : `may only import ${ONLY[from]}`;
  if (BESIDE[from]?.includes(to)) return undefined;
  return rankOf(from) < rankOf(to) ? undefined : `may not import ${to}: arrows point down only`;
}

function packageFault(unit: string, name: string): string | undefined {
  const rule = PACKAGES.find(({ prefix }) => name === prefix || name.startsWith(prefix));
  return rule === undefined || rule.directory === unit
    ? undefined
    : `may not import ${name}: only src/${rule.directory} does`;
}

function fileFaults(file: string, imports: readonly Import[], sources: Sources): string[] {
  const unit = unitOf(file);
  if (rankOf(unit) === -1) return [`src/${file}: ${unit} is in no layer (scripts/layers.ts names them)`];
  const faults: string[] = [];
  for (const { name } of imports) {
    if (!name.startsWith('.')) {
      const fault = packageFault(unit, name);
      if (fault !== undefined) faults.push(`src/${file}: ${fault}`);
      continue;
    }
    const target = path.posix.join(path.posix.dirname(file), name);
    const fault = sources.has(target)
      ? forbidden(unit, unitOf(target))
      : `imports ${name}, which is not there`;
    if (fault !== undefined) faults.push(`src/${file}: ${fault}`);
  }
  return faults;
}

/** One cycle of imports as a list of files that ends where it began, or undefined. */
function findCycle(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const trail: string[] = [];
  const visit = (file: string): string[] | undefined => {
    if (done.has(file)) return undefined;
    const start = trail.indexOf(file);
    if (start !== -1) return [...trail.slice(start), file];
    trail.push(file);
    for (const next of graph.get(file) ?? []) {
      const cycle = visit(next);
      if (cycle !== undefined) return cycle;
    }
    trail.pop();
    done.add(file);
    return undefined;
  };
  for (const file of graph.keys()) {
    const cycle = visit(file);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

/** Every breach of the layering in `sources`, one line each; empty where it holds. */
export function checkLayers(sources: Sources): string[] {
  const faults: string[] = [];
  const graph = new Map<string, string[]>();
  for (const [file, source] of sources) {
    const imports = importsOf(source);
    faults.push(...fileFaults(file, imports, sources));
    // Types that name each other load nothing, so they are no cycle.
    const loaded = imports.filter(({ name, typeOnly }) => name.startsWith('.') && !typeOnly);
    graph.set(
      file,
      loaded.map(({ name }) => path.posix.join(path.posix.dirname(file), name)),
    );
  }
  const cycle = findCycle(graph);
  if (cycle !== undefined) faults.push(`a cycle of imports: ${cycle.join(' → ')}`);
  return faults;
}

/** The TypeScript files below `directory`. */
export function readSources(directory: string): Sources {
  const sources = new Map<string, string>();
  for (const entry of fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort())
    if (entry.endsWith('.ts')) sources.set(entry, fs.readFileSync(path.join(directory, entry), 'utf8'));
  return sources;
}

if (import.meta.main) {
  const faults = checkLayers(readSources(path.join(import.meta.dirname, '../src')));
  for (const fault of faults) console.error(fault);
  process.exitCode = faults.length === 0 ? 0 : 1;
}
