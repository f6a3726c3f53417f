/**
 * Starts a program from its bundle, one file of all its modules, and from its
 * modules where there is none. Run by bin/plakarctl, as plakarctl, on the pinned
 * runtime; bin/daemon.cjs takes its functions for plakard and each of its
 * processes. A package has bundles in dist/bundle; in a checkout they are in the
 * cache, and scripts/bundle.ts makes them where esbuild is installed. Owns the
 * promise that what is kept between starts (compiled code, a checkout's bundles)
 * is used only from a directory that is ours alone, as what is read from there
 * is run, and that no bundle is run of sources as they were.
 */
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const vm = require('node:vm');

const ROOT = path.dirname(__dirname);
const MODE_MASK = 0o7777;

/**
 * In the cache: what V8 made of a bundle, with the functions that a process or
 * command has used, in a file for each, as to read those of all takes longer than
 * to compile some; behind a line that says of which bundle. As the runtime keeps
 * it by itself, no function would be in it that is first called after the bundle
 * was loaded. It is there twice: V8 runs what it is given, and a byte that the
 * disk has lost may be anything; to compare takes the least time.
 */
const compiledOf = (program, word) => `${program}-${word}.compiled`;
/** A command of plakarctl, or a process of plakard. */
const WORD = /^[a-z]{2,16}$/;
const WORDS_MAX = 16;
const HEAD_MAX_BYTES = 16_384;
const NEWLINE = 10;

/** Two of them wait for the daemon (src/ipc/stream.ts); as many as the runtime would have are left. */
const CLIENT_POOL_THREADS = '6';

/** The root directory of an installed package, and where it keeps what is compiled. */
const PACKAGE = '/usr/lib/plakard';
const PACKAGE_CACHE = '/var/cache/plakard';

function isOurs(directory) {
  const stat = fs.statSync(directory, { throwIfNoEntry: false });
  return stat?.isDirectory() === true && stat.uid === process.geteuid();
}

/** Where the cache belongs, as in bin/runtime; undefined where there is no place for it. */
function cachePlace() {
  if (ROOT === PACKAGE && isOurs(PACKAGE_CACHE)) return `${PACKAGE_CACHE}/compiled`;
  if (isOurs(`${ROOT}/node_modules`)) return `${ROOT}/node_modules/.plakard`;
  const home = process.env.HOME;
  if (home && isOurs(home)) return `${home}/.cache/plakard`;
  return undefined;
}

/** `directory`, made if it is not there; undefined where it is not ours and closed to everybody else. */
function closedDirectory(directory) {
  try {
    if (directory === undefined) return undefined;
    if (!fs.existsSync(directory)) fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const stat = fs.lstatSync(directory);
    const isClosed = stat.isDirectory() && (stat.mode & MODE_MASK) === 0o700;
    return isClosed && stat.uid === process.geteuid() ? directory : undefined;
  } catch {
    // nothing is kept then
    return undefined;
  }
}

function isAsStamped([file, ctimeMs, sizeBytes]) {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  return stat?.ctimeMs === ctimeMs && stat.size === sizeBytes;
}

/** The directory of a program's bundles in `cache`, if they and their sources are still as they were when they were made. */
function currentBundles(program, main, cache) {
  try {
    const manifest = JSON.parse(fs.readFileSync(path.join(cache, `${program}.json`), 'utf8'));
    if (manifest.main !== main || !manifest.stamps.every(isAsStamped)) return undefined;
    return path.join(cache, manifest.bundle);
  } catch {
    // there are none yet, or it is nothing that we can use
    return undefined;
  }
}

/** Has a checkout's bundles made, and returns their directory; undefined where they cannot be. */
function newBundles(program, main, cache) {
  const bundler = path.join(ROOT, 'scripts/bundle.ts');
  if (!fs.existsSync(bundler) || !fs.existsSync(path.join(ROOT, 'node_modules/esbuild'))) return undefined;
  // by a process of its own: a daemon would keep what that loads
  const { spawnSync } = require('node:child_process');
  const args = [...process.execArgv, bundler, program, main, cache];
  const { status, stdout } = spawnSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  // a full disk, or a source that is being edited: the modules tell better what is wrong with them
  return status === 0 ? stdout.toString() : undefined;
}

/** What V8 is to make of the bundle whose stamp that is; undefined where that is not known. */
function readCompiled(file, stamp) {
  try {
    const bytes = fs.readFileSync(file);
    const end = bytes.subarray(0, HEAD_MAX_BYTES).indexOf(NEWLINE);
    if (bytes.toString('utf8', 0, end) !== stamp) return undefined;
    const middle = (end + 1 + bytes.length) / 2;
    const compiled = bytes.subarray(end + 1, middle);
    return compiled.equals(bytes.subarray(middle)) ? compiled : undefined;
  } catch {
    // there is none yet
    return undefined;
  }
}

/** What is kept for the first of `words` that something is kept for. */
function findCompiled(program, words, cache, stamp) {
  for (const word of words) {
    const file = path.join(cache, compiledOf(program, word));
    const compiled = WORD.test(word) ? readCompiled(file, stamp) : undefined;
    if (compiled !== undefined) return { word, compiled };
  }
  return undefined;
}

/** There whole or not at all, also after a power loss. */
function writeCompiled(file, stamp, script) {
  const unfinished = `${file}.${process.pid}`;
  try {
    const compiled = script.createCachedData();
    const data = Buffer.concat([Buffer.from(`${stamp}\n`), compiled, compiled]);
    fs.rmSync(unfinished, { force: true });
    fs.writeFileSync(unfinished, data, { mode: 0o600, flag: 'wx', flush: true });
    fs.renameSync(unfinished, file);
  } catch {
    // a full disk: the next start compiles again
    fs.rmSync(unfinished, { force: true });
  }
}

/** Has traces of stacks name the sources, wherever the bundle's map can be read: in no child that is confined. */
function nameSources(bundle) {
  let map;
  const sourceOf = (place, line, column) => {
    map ??= new (require('node:module').SourceMap)(JSON.parse(fs.readFileSync(`${bundle}.map`, 'utf8')));
    const { originalSource, originalLine, originalColumn } = map.findEntry(line - 1, column - 1);
    if (originalSource === undefined) return place;
    return `${path.join(ROOT, originalSource)}:${originalLine + 1}:${originalColumn + 1}`;
  };
  const place = new RegExp(`${bundle.replace(/[^\w/]/g, '\\$&')}:(\\d+):(\\d+)`);
  Error.prepareStackTrace = (error, frames) => {
    const bare = `${error}${frames.map((frame) => `\n    at ${frame}`).join('')}`;
    try {
      return bare.replace(new RegExp(place, 'g'), sourceOf);
    } catch {
      return bare;
    }
  };
}

/**
 * Runs a bundle of `program`, which says by an event when what was compiled for
 * one of `words` is to be kept, if it is not; the program alone may know which.
 */
function runBundle(bundle, program, words, cache) {
  const { ctimeMs, size } = fs.statSync(bundle);
  const stamp = JSON.stringify([bundle, ctimeMs, size]);
  const kept = cache && findCompiled(program, words, cache, stamp);
  // one line more than the file has would tell wrong lines of it
  const text = `(function (exports, require, module, __filename, __dirname) {${fs.readFileSync(bundle, 'latin1')}\n})`;
  const script = new vm.Script(text, { filename: bundle, cachedData: kept?.compiled });
  const keptWord = script.cachedDataRejected ? undefined : kept?.word;
  process.once('plakard compiled', (word) => {
    if (cache && keptWord !== word && WORD.test(word))
      writeCompiled(path.join(cache, compiledOf(program, word)), stamp, script);
  });
  nameSources(bundle);
  script.runInThisContext()(exports, require, module, bundle, path.dirname(bundle));
}

/** The main of `name` as a source, or as what it was compiled to. */
function mainOf(name) {
  const source = path.join(ROOT, `src/${name}.ts`);
  return fs.existsSync(source)
    ? { main: source, isCheckout: true }
    : { main: path.join(ROOT, `dist/${name}.js`), isCheckout: false };
}

/** The directory of a program's bundles; undefined where there are none. Makes those of a checkout with `mayMake`. */
function findBundles(program, { main, isCheckout }, cache, mayMake) {
  if (!isCheckout) return path.join(ROOT, 'dist/bundle');
  if (cache === undefined) return undefined;
  const current = currentBundles(program, main, cache);
  return current ?? (mayMake ? newBundles(program, main, cache) : undefined);
}

/** Runs a program's modules as they are. */
async function runModules(main, cache) {
  if (cache !== undefined) {
    // children have it from there
    process.env.NODE_COMPILE_CACHE = cache;
    require('node:module').enableCompileCache(cache);
  }
  await import(main);
}

async function startClient() {
  process.env.UV_THREADPOOL_SIZE = CLIENT_POOL_THREADS;
  const found = mainOf('plakarctl');
  // what the program sees as its own name
  process.argv[1] = found.main;
  const cache = closedDirectory(cachePlace());
  const directory = findBundles('client', found, cache, true);
  const bundle = directory && path.join(directory, 'client.cjs');
  if (bundle !== undefined && fs.existsSync(bundle))
    // a word that is no command has nothing kept
    runBundle(bundle, 'client', process.argv.slice(2, 2 + WORDS_MAX), cache);
  else await runModules(found.main, cache);
}

module.exports = { cachePlace, closedDirectory, findBundles, mainOf, runBundle, runModules, WORD };
if (require.main === module) startClient();
