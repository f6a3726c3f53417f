/**
 * Starts plakard, or, with -x, one of its processes, from its own bundle: see
 * start.cjs. Run by bin/plakard, and by plakard for each of its children, which
 * run what it runs itself: it tells them by two variables of their environment
 * where its bundles and its cache are, so that neither is looked for again, and
 * a daemon whose sources change has no children of others as long as its bundles
 * are there. Nobody else can set these: bin/runtime removes them.
 */
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { cachePlace, closedDirectory, findBundles, mainOf, runBundle, runModules, WORD } = require('./start.cjs');

const BUNDLES = 'PLAKARD_BUNDLES';
const CACHE = 'PLAKARD_CACHE';

/** The process that this is to be: `parent`, or a child's role. */
function partOf([flag, role]) {
  if (flag !== '-x') return 'parent';
  return WORD.test(role) ? role : undefined;
}

/** Where the parent has its bundles, if that is in the cache. */
function givenBundles({ isCheckout }, cache) {
  const directory = process.env[BUNDLES];
  return isCheckout && directory && path.dirname(directory) === cache ? directory : undefined;
}

async function start() {
  const found = mainOf('plakard');
  process.argv[1] = found.main;
  const part = partOf(process.argv.slice(2));
  const isChild = part !== 'parent';
  const cache = closedDirectory((isChild && process.env[CACHE]) || cachePlace());
  const given = isChild ? givenBundles(found, cache) : undefined;
  const directory = given ?? findBundles('daemon', found, cache, !isChild);
  const bundle = directory && part && path.join(directory, `${part}.cjs`);
  if (bundle === undefined || !fs.existsSync(bundle)) {
    delete process.env[BUNDLES];
    await runModules(found.main, cache);
    return;
  }
  process.env[BUNDLES] = directory;
  if (cache !== undefined) process.env[CACHE] = cache;
  runBundle(bundle, 'daemon', [part], cache);
}

start();
