/**
 * The native parts of ffi-napi and ref-napi, for foreign.ts. They are loaded
 * from where the two packages, whose versions are pinned, have them: their own
 * loaders search directories, load a debugging library and declare types and
 * prototypes that nothing here uses, which is a tenth of plakarctl's start.
 * Invariant: where a package is laid out otherwise, its own loader decides.
 */
import fs from 'node:fs';
import path from 'node:path';
import type Bindings from 'ffi-napi/lib/bindings.js';
import type Ref from 'ref-napi';

/** In the packages' directories of prebuilds, by processor. */
const PREBUILDS: Readonly<Record<string, { readonly ffi: string; readonly ref: string }>> = {
  x64: { ffi: 'linux-x64/node.napi.uv1.node', ref: 'linux-x64/node.napi.node' },
  arm64: { ffi: 'linux-arm64/node.napi.uv1.armv8.node', ref: 'linux-arm64/node.napi.armv8.node' },
};

const ROOT = path.join(import.meta.dirname, '../..');
/** Where the packages are: below us, or beside us where plakard is itself a package. */
const PLACES = [path.join(ROOT, 'node_modules'), path.join(path.dirname(ROOT), '../node_modules')];

interface Natives {
  readonly bindings: typeof Bindings;
  readonly ref: Pick<typeof Ref, 'address' | 'readPointer'>;
}

interface RefNative extends Pick<typeof Ref, 'address' | 'readPointer'> {
  readonly instance: unknown;
}

interface FfiNative {
  initializeBindings(instance: unknown): typeof Bindings;
}

/** The path of a package's file; undefined where it is not in any of the places. */
function find(name: string): string | undefined {
  return PLACES.map((place) => path.join(place, name)).find((file) => fs.existsSync(file));
}

/** Without require(), which takes a millisecond to find out the same. */
function open(file: string): unknown {
  const module = { exports: {} };
  process.dlopen(module, file);
  return module.exports;
}

function load(): Natives {
  const files = PREBUILDS[process.arch];
  const refFile = files && find(`ref-napi/prebuilds/${files.ref}`);
  const ffiFile = files && find(`ffi-napi/prebuilds/${files.ffi}`);
  if (refFile === undefined || ffiFile === undefined) return loadUsual();
  const ref = open(refFile) as RefNative;
  const ffi = open(ffiFile) as FfiNative;
  return { ref, bindings: ffi.initializeBindings(ref.instance) };
}

function loadUsual(): Natives {
  const require = process.getBuiltinModule('node:module').createRequire(import.meta.url);
  return { ref: require('ref-napi'), bindings: require('ffi-napi/lib/bindings.js') };
}

export const { bindings, ref } = load();
