/**
 * Makes one file of a program's many modules, by esbuild, so that a start reads
 * that instead of resolving, reading and linking up to a hundred and fifty. Of
 * plakard there is one for each of its processes, of plakarctl one more for the
 * threads of a restore. Called by bin/start.cjs in a checkout, at the first start
 * after a source has changed, and by `npm run build` for dist/.
 *
 * Modules that are imported dynamically are in the file too, as functions that
 * run at the first import. Invariant: bundles and their manifest are there whole
 * or not at all, whoever else makes them at the same time; and a manifest tells
 * the sources as they were when they were read.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin, stop } from 'esbuild';

const ROOT = path.join(import.meta.dirname, '..');
/** Bundles of a kind that are kept in a cache: another start may be about to read an older one. */
const BUNDLES_KEPT = 4;
/** What a file's times may be behind the clock. */
const CLOCK_STEP_MS = 10;

/** What a program's main imports dynamically for one process alone, by that process, which its bundle is named after. */
type Parts = Readonly<Record<string, string>>;

interface Program {
  /** its main, without the extension */
  readonly main: string;
  readonly parts: Parts;
  /** modules that threads begin with: each has a bundle of its own, named after the thread */
  readonly threads: Readonly<Record<string, string>>;
}

/** What is bundled: the client in one, the daemon in one for each process. */
const PROGRAMS = {
  client: {
    main: 'plakarctl',
    parts: { client: '' },
    threads: { hand: './snapshot/restore-hand.ts' },
  },
  daemon: {
    main: 'plakard',
    parts: {
      parent: './daemon.ts',
      control: './processes/control.ts',
      scanner: './processes/scanner.ts',
      chunker: './processes/chunker.ts',
      crypto: './processes/crypto.ts',
      storage: './processes/storage.ts',
      keys: './processes/keys.ts',
    },
    threads: {},
  },
} as const satisfies Readonly<Record<string, Program>>;
export type ProgramName = keyof typeof PROGRAMS;

/** What of a file tells that it has changed. */
export type Stamp = readonly [file: string, ctimeMs: number, sizeBytes: number];

/** What the launcher reads first at each start. */
export interface Manifest {
  readonly main: string;
  /** the directory in the cache that the bundles are in */
  readonly bundle: string;
  /** of the bundles, and of everything that they were made of and by */
  readonly stamps: readonly Stamp[];
}

interface Bundled {
  /** what it is called, without `.cjs` */
  readonly name: string;
  readonly text: string;
  /** from its lines to those of the sources, as JSON */
  readonly map: string;
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

/** Leaves out what the main imports for other processes than `part`. */
function onlyPart(main: string, parts: Parts, part: string): Plugin {
  const others = new Set(Object.values(parts).filter((module) => module !== parts[part]));
  return {
    name: 'only a part',
    setup: ({ onResolve }) =>
      onResolve({ filter: /^\./ }, ({ path: name, importer, kind }) =>
        kind === 'dynamic-import' && importer === main && others.has(name)
          ? { path: name, external: true }
          : undefined,
      ),
  };
}

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
};
const nodeESM = (module) => Object.create(module, { default: { value: module } });`;
}

/**
 * What esbuild calls for each module that imports one of the runtime's by
 * default: it makes a getter of each of its names, a hundred of node:fs's, which
 * took three milliseconds of a short command. `nodeESM` has them by inheritance;
 * as its name is as long, the map holds as it is.
 */
const IMPORT_OF_NODE = /\b__toESM(?=\(require\("node:[\w/]+"\),1\))/g;

/** A map whose sources are relative to `root`, not to the bundle's directory. */
function fromRoot(map: string, directory: string, root: string): string {
  const parsed = JSON.parse(map) as { sources: string[] };
  const sources = parsed.sources.map((source) => path.relative(root, path.resolve(directory, source)));
  return JSON.stringify({ ...parsed, sources });
}

/** What is made for a file in a directory. */
interface Wanted {
  readonly main: string;
  readonly directory: string;
  /** not of the sources as they are, but of what they are compiled to, beside that file */
  readonly isCompiled: boolean;
}

async function bundle(
  { main, directory, isCompiled }: Wanted,
  { parts, threads }: Program,
  name: string,
): Promise<Bundled> {
  // as the runtime and esbuild do with what it imports
  const source = fs.realpathSync(main);
  const base = path.dirname(source);
  const toBase = isCompiled ? '..' : path.relative(fs.realpathSync(directory), base);
  const { outputFiles, metafile } = await build({
    entryPoints: [path.resolve(base, threads[name] ?? source)],
    absWorkingDir: base,
    // never written by esbuild; it insists on knowing where to
    outfile: path.join(directory, `${name}.cjs`),
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
    sourcemap: 'external',
    sourcesContent: false,
    define: META,
    banner: { js: moduleAt(toBase) },
    plugins: [onlyPart(source, parts, name), ownMeta(base, isCompiled), ownPackages],
    tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
    logLevel: 'silent',
  });
  const [text, map] = ['.cjs', '.map'].map(
    (end) => outputFiles.find((file) => file.path.endsWith(end))?.text,
  );
  if (text === undefined || map === undefined) throw new Error(`esbuild made nothing of ${main}`);
  const sources = Object.keys(metafile.inputs).map((input) => path.resolve(base, input));
  return {
    name,
    text: text.replace(IMPORT_OF_NODE, 'nodeESM'),
    map: fromRoot(map, directory, path.dirname(base)),
    sources,
  };
}

/** All bundles of a program. */
function bundleAll(program: ProgramName, wanted: Wanted): Promise<Bundled[]> {
  const { parts, threads } = PROGRAMS[program];
  const names = [...Object.keys(parts), ...Object.keys(threads)];
  // its process would stay as long as the program runs
  return Promise.all(names.map((name) => bundle(wanted, PROGRAMS[program], name))).finally(stop);
}

/** Writes them to `directory`; those that are run, so that they are there after a power loss as they are now. */
function writeBundles(directory: string, bundled: readonly Bundled[]): string[] {
  return bundled.map(({ name, text, map }) => {
    const file = path.join(directory, `${name}.cjs`);
    fs.writeFileSync(file, text, { flush: true });
    fs.writeFileSync(`${file}.map`, map);
    return file;
  });
}

/** There whole or not at all, also after a power loss. */
function writeManifest(file: string, manifest: Manifest): void {
  const unfinished = `${file}.${randomUUID()}`;
  try {
    fs.writeFileSync(unfinished, JSON.stringify(manifest), { mode: 0o600, flag: 'wx', flush: true });
    fs.renameSync(unfinished, file);
  } finally {
    fs.rmSync(unfinished, { force: true });
  }
}

/** Removes a program's bundles but the last few, whether or not they were finished. */
function removeOld(cache: string, program: ProgramName): void {
  const directories = fs
    .readdirSync(cache, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name.startsWith(`${program}-`))
    .flatMap(({ name }) => {
      const directory = path.join(cache, name);
      const stat = fs.statSync(directory, { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ directory, ms: stat.mtimeMs }];
    })
    .sort((a, b) => b.ms - a.ms);
  for (const { directory } of directories.slice(BUNDLES_KEPT))
    fs.rmSync(directory, { recursive: true, force: true });
}

function stampOf(file: string): Stamp {
  const { ctimeMs, size } = fs.statSync(file);
  return [file, ctimeMs, size];
}

/**
 * Makes the bundles of `program`, whose main is `main`, in a new directory in
 * `cache`, and the manifest, PROGRAM.json, that names it. Returns the directory's
 * path, or undefined where a source changed meanwhile. Rejects where esbuild
 * cannot make them.
 */
export async function makeBundles(
  program: ProgramName,
  main: string,
  cache: string,
): Promise<string | undefined> {
  const begunMs = Date.now() - CLOCK_STEP_MS;
  const directory = fs.mkdtempSync(path.join(cache, `${program}-`));
  const bundled = await bundleAll(program, { main, directory, isCompiled: false });
  const by = [import.meta.filename, path.join(ROOT, 'node_modules/.package-lock.json')].filter(fs.existsSync);
  const sources = new Set(bundled.flatMap((each) => each.sources));
  const stamps = [...by, ...sources].map(stampOf);
  // the clock counts whole milliseconds here, files do not
  const endMs = Date.now() + 1;
  if (stamps.some(([, ctimeMs]) => ctimeMs >= begunMs && ctimeMs <= endMs)) return undefined;
  const made = writeBundles(directory, bundled).map(stampOf);
  const bundle = path.basename(directory);
  writeManifest(path.join(cache, `${program}.json`), { main, bundle, stamps: [...stamps, ...made] });
  removeOld(cache, program);
  return directory;
}

/** Makes the bundles that go with what was compiled to `dist`, wherever that is installed. */
async function buildInto(dist: string): Promise<void> {
  const directory = path.join(dist, 'bundle');
  fs.mkdirSync(directory);
  for (const program of ['client', 'daemon'] as const) {
    const main = path.join(ROOT, 'src', `${PROGRAMS[program].main}.ts`);
    writeBundles(directory, await bundleAll(program, { main, directory, isCompiled: true }));
  }
}

/** For bin/start.cjs: prints where they are. */
async function makeInto(program: ProgramName, main: string, cache: string): Promise<void> {
  const directory = await makeBundles(program, main, cache);
  if (directory === undefined) process.exitCode = 1;
  else process.stdout.write(directory);
}

if (import.meta.main) {
  const [first = path.join(ROOT, 'dist'), main, cache] = process.argv.slice(2);
  if (main === undefined || cache === undefined) await buildInto(path.resolve(first));
  else await makeInto(first as ProgramName, main, cache);
}
