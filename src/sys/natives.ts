/**
 * The native parts of ffi-napi and ref-napi, for foreign.ts. They are loaded
 * from where the two packages, whose versions are pinned, have them: their own
 * loaders search directories, load a debugging library and declare types and
 * prototypes that nothing here uses, which is a tenth of plakarctl's start.
 * Invariant: where a package is laid out otherwise, its own loader decides.
 */
import { createRequire } from 'node:module';
import type Bindings from 'ffi-napi/lib/bindings.js';
import type Ref from 'ref-napi';

const require = createRequire(import.meta.url);

/** In the packages' directories of prebuilds, by processor. */
const PREBUILDS: Readonly<Record<string, { readonly ffi: string; readonly ref: string }>> = {
  x64: { ffi: 'linux-x64/node.napi.uv1.node', ref: 'linux-x64/node.napi.node' },
  arm64: { ffi: 'linux-arm64/node.napi.uv1.armv8.node', ref: 'linux-arm64/node.napi.armv8.node' },
};

interface Natives {
  readonly bindings: typeof Bindings;
  readonly ref: Pick<typeof Ref, 'address' | 'readPointer'>;
}

function isNotThere(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND';
}

function load(): Natives {
  const files = PREBUILDS[process.arch];
  if (files === undefined) return loadUsual();
  try {
    const ref = require(`ref-napi/prebuilds/${files.ref}`);
    const ffi = require(`ffi-napi/prebuilds/${files.ffi}`);
    return { ref, bindings: ffi.initializeBindings(ref.instance) };
  } catch (error) {
    if (isNotThere(error)) return loadUsual();
    throw error;
  }
}

function loadUsual(): Natives {
  return { ref: require('ref-napi'), bindings: require('ffi-napi/lib/bindings.js') };
}

export const { bindings, ref } = load();
