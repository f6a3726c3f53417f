/**
 * Starts plakarctl: from its bundle where there is one of the sources as they
 * are now, and from its modules otherwise. Run by bin/plakarctl on the pinned
 * runtime. Owns the promise that what is kept between starts (compiled code,
 * the bundle) is used only from a directory that is ours alone, as what is read
 * from there is run.
 */
'use strict';
const fs = require('node:fs');
const nodeModule = require('node:module');
const path = require('node:path');

const ROOT = path.dirname(__dirname);
const MODE_MASK = 0o7777;

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

function mainFile() {
  const source = path.join(ROOT, 'src/plakarctl.ts');
  return fs.existsSync(source) ? source : path.join(ROOT, 'dist/plakarctl.js');
}

/** What was bundled, if that is still how the sources are. */
function currentManifest(file, main) {
  let text;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  const manifest = JSON.parse(text);
  if (manifest.version !== process.version || manifest.main !== main) return undefined;
  for (const [source, ctimeMs, size] of manifest.stamps) {
    const stat = fs.statSync(source, { throwIfNoEntry: false });
    if (stat?.ctimeMs !== ctimeMs || stat.size !== size) return undefined;
  }
  return manifest;
}

/** Runs the bundle in `directory`; `main` is the id of its main, in the file of that name. */
function runBundle(directory, main) {
  const definitions = new Map();
  const modules = new Map();
  const define = (id, body) => {
    if (!definitions.has(id)) definitions.set(id, body);
  };
  const bundled = (id) => {
    let exported = modules.get(id);
    if (exported === undefined) {
      exported = definitions.get(id)();
      modules.set(id, exported);
    }
    return exported;
  };
  const read = (file) => require(path.join(directory, file))(define, bundled, loaded, require);
  const loaded = async (id, file) => {
    if (!modules.has(id)) read(file);
    return bundled(id);
  };
  read(`${main.replaceAll('/', '-')}.cjs`);
  bundled(main);
}

async function start() {
  const main = mainFile();
  // what the program sees as its own name
  process.argv[1] = main;
  const cache = cacheDirectory();
  if (cache !== undefined) {
    nodeModule.enableCompileCache(cache);
    const manifestFile = path.join(cache, 'client.json');
    let manifest = currentManifest(manifestFile, main);
    if (manifest === undefined) {
      const bundler = path.join(path.dirname(main), `client/bundle${path.extname(main)}`);
      if (fs.existsSync(bundler)) manifest = (await import(bundler)).makeBundle(main, cache, manifestFile);
    }
    if (manifest?.directory !== undefined)
      return runBundle(path.join(cache, manifest.directory), path.relative(ROOT, main));
  }
  await import(main);
}

start();
