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

const ROOT = path.dirname(__dirname);
const MODE_MASK = 0o7777;
/** In the cache: which bundle there is, and of what. */
const MANIFEST = 'client.json';

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

async function start() {
  const source = path.join(ROOT, 'src/plakarctl.ts');
  const isCheckout = fs.existsSync(source);
  const main = isCheckout ? source : path.join(ROOT, 'dist/plakarctl.js');
  // what the program sees as its own name
  process.argv[1] = main;
  const cache = cacheDirectory();
  if (cache !== undefined) nodeModule.enableCompileCache(cache);
  let bundle = path.join(ROOT, 'dist/client.cjs');
  if (isCheckout) bundle = cache && (currentBundle(cache, main) ?? (await newBundle(cache, main)));
  else if (!fs.existsSync(bundle)) bundle = undefined;
  if (bundle === undefined) await import(main);
  else require(bundle);
}

start();
