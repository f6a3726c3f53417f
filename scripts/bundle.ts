/**
 * Makes one file of plakarctl's many modules, by esbuild, so that a start reads
 * that instead of resolving, reading and linking forty. Called by bin/client.cjs
 * in a checkout, at the first start after a source has changed, and by
 * `npm run build` for dist/.
 *
 * Modules that are imported dynamically are in the file too, as functions that
 * run at the first import. Invariant: a bundle and its manifest are there whole
 * or not at all, whoever else makes them at the same time; and a manifest tells
 * the sources as they were when they were read.
 */
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin, stop } from 'esbuild';

const ROOT = path.join(import.meta.dirname, '..');
/** Bundles that are kept in a cache: another start may be about to read an older one. */
const BUNDLES_KEPT = 4;
const PREFIX = 'client-';
/** Digits of a digest in a file's name. */
const NAME_CHARS = 16;
/** What a file's times may be behind the clock. */
const CLOCK_STEP_MS = 10;

/** What of a file tells that it has changed. */
export type Stamp = readonly [file: string, ctimeMs: number, sizeBytes: number];

/** What the launcher reads first at each start. */
export interface Manifest {
  readonly main: string;
  /** the bundle's name in the cache */
  readonly bundle: string;
  /** of the bundle, and of everything that it was made of and by */
  readonly stamps: readonly Stamp[];
}

interface Bundled {
  readonly text: string;
  /** absolute paths */
  readonly sources: readonly string[];
}

/** The names that stand for import.meta's in what is bundled. */
const META = {
  'import.meta.url': 'plakardModule.url',
  'import.meta.filename': 'plakardModule.filename',
  'import.meta.dirname': 'plakardModule.dirname',
} as const;

/**
 * Gives each module its own import.meta, as it has it when it is a file. `base`
 * is the main's directory, links resolved, or what that becomes in a package.
 */
function ownMeta(base: string, isCompiled: boolean): Plugin {
  return {
    name: 'own import.meta',
    setup: ({ onLoad }) =>
      onLoad({ filter: /\.[cm]?[jt]s$/ }, ({ path: file }) => {
        const text = fs.readFileSync(file, 'utf8');
        if (!text.includes('import.meta.')) return undefined;
        const name = path.relative(base, file);
        const asRun = isCompiled ? name.replace(/ts$/, 'js') : name;
        const own = `const plakardModule = moduleAt(${JSON.stringify(asRun)});`;
        return { contents: `${own}${text}`, loader: file.endsWith('ts') ? 'ts' : 'js' };
      }),
  };
}

/**
 * Has the runtime say where packages are, as it does without a bundle: esbuild
 * would also take the word of what lies in directories above this one.
 */
const ownPackages: Plugin = {
  name: 'own packages',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^[^./]/ }, ({ path: name, kind }) => {
      if (kind === 'entry-point') return undefined;
      return isBuiltin(name)
        ? { path: name, external: true }
        : { path: fileURLToPath(import.meta.resolve(name)) };
    }),
};

/** Goes before everything: where a module is, from where the bundle is. */
function moduleAt(fromBundleToBase: string): string {
  return `'use strict';
const moduleAt = (name) => {
  const filename = require('node:path').resolve(__dirname, ${JSON.stringify(fromBundleToBase)}, name);
  return {
    filename,
    get dirname() { return require('node:path').dirname(filename); },
    get url() { return require('node:url').pathToFileURL(filename).href; },
  };
};`;
}

/**
 * The program whose main is `main`, for a file in `directory`: of the sources as
 * they are, or, with `isCompiled`, of what they are compiled to, beside that file.
 */
async function bundle(main: string, directory: string, isCompiled: boolean): Promise<Bundled> {
  // as the runtime and esbuild do with what it imports
  const base = path.dirname(fs.realpathSync(main));
  const toBase = isCompiled ? '' : path.relative(fs.realpathSync(directory), base);
  const { outputFiles, metafile } = await build({
    entryPoints: [main],
    absWorkingDir: base,
    // never written by esbuild; it insists on knowing where to
    outfile: path.join(directory, 'client.cjs'),
    write: false,
    metafile: true,
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    // half a millisecond or more at each start; names stay, for traces of stacks
    minifyWhitespace: true,
    minifySyntax: true,
    lineLimit: 200,
    define: META,
    banner: { js: moduleAt(toBase) },
    plugins: [ownMeta(base, isCompiled), ownPackages],
    tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
    logLevel: 'silent',
    // its process would stay as long as the command runs
  }).finally(stop);
  const [output] = outputFiles;
  if (output === undefined) throw new Error(`esbuild made nothing of ${main}`);
  return { text: output.text, sources: Object.keys(metafile.inputs).map((name) => path.resolve(base, name)) };
}

/** A file that is there whole or not at all, also after a power loss. */
function writeDurably(directory: string, name: string, text: string): void {
  const unfinished = path.join(directory, `${PREFIX}${randomUUID()}`);
  try {
    fs.writeFileSync(unfinished, text, { mode: 0o600, flag: 'wx', flush: true });
    fs.renameSync(unfinished, path.join(directory, name));
  } finally {
    fs.rmSync(unfinished, { force: true });
  }
}

/** Removes bundles but the last few, and what a power loss left of others. */
function removeOld(cache: string): void {
  const bundles = fs
    .readdirSync(cache)
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => path.join(cache, name))
    .flatMap((file) => {
      const stat = fs.statSync(file, { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ file, ms: stat.mtimeMs }];
    })
    .sort((a, b) => b.ms - a.ms);
  for (const { file } of bundles.slice(BUNDLES_KEPT)) fs.rmSync(file, { recursive: true, force: true });
}

function stampOf(file: string): Stamp {
  const { ctimeMs, size } = fs.statSync(file);
  return [file, ctimeMs, size];
}

/**
 * Makes the bundle of the program whose main is `main` in `cache`, with a
 * manifest in `manifestName`. Returns the bundle's path, or undefined where a
 * source changed meanwhile. Rejects where esbuild cannot make it.
 */
export async function makeBundle(
  main: string,
  cache: string,
  manifestName: string,
): Promise<string | undefined> {
  const begunMs = Date.now() - CLOCK_STEP_MS;
  const { text, sources } = await bundle(main, cache, false);
  const by = [import.meta.filename, path.join(ROOT, 'node_modules/.package-lock.json')].filter(fs.existsSync);
  const stamps = [...by, ...sources].map(stampOf);
  // the clock counts whole milliseconds here, files do not
  const endMs = Date.now() + 1;
  if (stamps.some(([, ctimeMs]) => ctimeMs >= begunMs && ctimeMs <= endMs)) return undefined;
  const name = `${PREFIX}${createHash('sha256').update(text).digest('hex').slice(0, NAME_CHARS)}.cjs`;
  const file = path.join(cache, name);
  writeDurably(cache, name, text);
  const manifest: Manifest = { main, bundle: name, stamps: [...stamps, stampOf(file)] };
  writeDurably(cache, manifestName, JSON.stringify(manifest));
  removeOld(cache);
  return file;
}

/** Makes the bundle that goes with what was compiled to `directory`, wherever that is installed. */
async function buildInto(directory: string): Promise<void> {
  const { text } = await bundle(path.join(ROOT, 'src/plakarctl.ts'), directory, true);
  fs.writeFileSync(path.join(directory, 'client.cjs'), text);
}

if (import.meta.main) await buildInto(path.resolve(process.argv[2] ?? path.join(ROOT, 'dist')));
