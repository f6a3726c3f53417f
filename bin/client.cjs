/**
 * Starts plakarctl: from its bundle, one file of all its modules, and from its
 * modules where there is none. A package has the bundle in dist/; in a checkout
 * it is in the cache, and scripts/bundle.ts makes it where esbuild is installed.
 * Run by bin/plakarctl on the pinned runtime. Owns the promise that what is kept
 * between starts (compiled code, a checkout's bundle) is used only from a
 * directory that is ours alone, as what is read from there is run, and that no
 * bundle is run of sources as they were.
 */
'use strict';
const fs = require('node:fs');
const nodeModule = require('node:module');
const path = require('node:path');
const vm = require('node:vm');

const ROOT = path.dirname(__dirname);
const MODE_MASK = 0o7777;
/** In the cache: which bundle there is, and of what. */
const MANIFEST = 'client.json';

/**
 * In the cache: what V8 made of the bundle, with the functions that a command has
 * used, in a file for each command, as to read those of all takes longer than to
 * compile some; behind a line that says of which bundle. As the runtime keeps it
 * by itself, no function would be in it that is first called after the bundle was
 * loaded. It is there twice: V8 runs what it is given, and a byte that the disk has
 * lost may be anything; to compare takes the least time.
 */
const COMPILED = (command) => `client-${command}.compiled`;
const COMMAND = /^[a-z]{2,16}$/;
const WORDS_MAX = 16;
const HEAD_MAX_BYTES = 16_384;
const NEWLINE = 10;

/** Two of them wait for the daemon (src/ipc/stream.ts); as many as the runtime would have are left. */
const POOL_THREADS = '6';

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

/** The cache, made if it is not there; undefined where it is not ours and closed to everybody else. */
function cacheDirectory() {
  try {
    const directory = cachePlace();
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

/** The path of the bundle in `cache`, if it and its sources are still as they were when it was made. */
function currentBundle(cache, main) {
  try {
    const manifest = JSON.parse(fs.readFileSync(path.join(cache, MANIFEST), 'utf8'));
    if (manifest.main !== main || !manifest.stamps.every(isAsStamped)) return undefined;
    return path.join(cache, manifest.bundle);
  } catch {
    // there is none yet, or it is nothing that we can use
    return undefined;
  }
}

/** Makes a checkout's bundle, and returns its path; undefined where it cannot be made. */
async function newBundle(cache, main) {
  const bundler = path.join(ROOT, 'scripts/bundle.ts');
  if (!fs.existsSync(bundler) || !fs.existsSync(path.join(ROOT, 'node_modules/esbuild'))) return undefined;
  try {
    const { makeBundle } = await import(bundler);
    return await makeBundle(main, cache, MANIFEST);
  } catch {
    // a full disk, or a source that is being edited: the modules tell better what is wrong with them
    return undefined;
  }
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

/** What is kept for the command that this is, as far as its words tell: the bundle alone knows which of them it is. */
function findCompiled(cache, stamp) {
  for (const word of process.argv.slice(2, 2 + WORDS_MAX)) {
    const compiled = COMMAND.test(word) ? readCompiled(path.join(cache, COMPILED(word)), stamp) : undefined;
    if (compiled !== undefined) return { command: word, compiled };
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

/** Runs the bundle; at the end of a command whose functions are not kept yet, they are. */
function runBundle(bundle, cache) {
  const { ctimeMs, size } = fs.statSync(bundle);
  const stamp = JSON.stringify([bundle, ctimeMs, size]);
  const kept = cache && findCompiled(cache, stamp);
  // one line more than the file has would tell wrong lines of it
  const text = `(function (exports, require, module, __filename, __dirname) {${fs.readFileSync(bundle, 'latin1')}\n})`;
  const script = new vm.Script(text, { filename: bundle, cachedData: kept?.compiled });
  process.once('plakarctl over', (command) => {
    const isKept = kept?.command === command && !script.cachedDataRejected;
    if (cache && !isKept && COMMAND.test(command)) writeCompiled(path.join(cache, COMPILED(command)), stamp, script);
  });
  script.runInThisContext()(exports, require, module, bundle, path.dirname(bundle));
}

async function start() {
  process.env.UV_THREADPOOL_SIZE = POOL_THREADS;
  const source = path.join(ROOT, 'src/plakarctl.ts');
  const isCheckout = fs.existsSync(source);
  const main = isCheckout ? source : path.join(ROOT, 'dist/plakarctl.js');
  // what the program sees as its own name
  process.argv[1] = main;
  const cache = cacheDirectory();
  let bundle = path.join(ROOT, 'dist/client.cjs');
  if (isCheckout) bundle = cache && (currentBundle(cache, main) ?? (await newBundle(cache, main)));
  else if (!fs.existsSync(bundle)) bundle = undefined;
  if (bundle !== undefined) {
    runBundle(bundle, cache);
    return;
  }
  if (cache !== undefined) nodeModule.enableCompileCache(cache);
  await import(main);
}

start();
