/**
 * The programs where every user can start them: a checkout may lie where only
 * its owner gets at it. What runs there is a copy of the code and of the packages
 * that it needs; it goes when this process ends. Invariant: nothing that bundles
 * are made of gets a new name, as that changes when its inode was changed, by
 * which they are known to be of the sources as they are.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..');
/** what the packages of the runtime bring beside it, headers and manuals */
const RUNTIME = /^node_modules\/node-linux-/;

let installed: string | undefined;

/** Whether the file could be given another name: it cannot on another file system, or on one that refuses links to what is not ours. */
function linked(from: string, to: string): boolean {
  try {
    fs.linkSync(from, to);
    return true;
  } catch {
    return false;
  }
}

/** A copy; or, of the runtime, which is large, another name. */
function take(part: string, to: string): void {
  const from = path.join(ROOT, part);
  if (!RUNTIME.test(part) || !linked(from, to)) fs.copyFileSync(from, to);
}

function copy(part: string, top: string): void {
  const from = path.join(ROOT, part);
  const to = path.join(top, part);
  const stat = fs.lstatSync(from);
  if (stat.isDirectory()) {
    fs.mkdirSync(to, { recursive: true });
    for (const name of fs.readdirSync(from)) copy(path.join(part, name), top);
  } else if (stat.isSymbolicLink()) fs.symlinkSync(fs.readlinkSync(from), to);
  else take(part, to);
}

/** The directories that a run needs, relative to the checkout. */
function* parts(): Generator<string> {
  yield 'bin';
  yield 'src';
  const lock = JSON.parse(fs.readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8'));
  for (const [name, { dev }] of Object.entries<{ dev?: boolean }>(lock.packages)) {
    const part = RUNTIME.test(name) ? path.join(name, 'bin') : name;
    if (name !== '' && dev !== true && fs.existsSync(path.join(ROOT, part))) yield part;
  }
}

/** The path of a file of the checkout, as every user can reach it. */
export function forEveryone(file: string): string {
  if (installed === undefined) {
    const top = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'plakard-'));
    process.once('exit', () => fs.rmSync(top, { recursive: true, force: true }));
    fs.chmodSync(top, 0o755);
    for (const part of parts()) copy(part, top);
    for (const name of ['package.json', 'test/parent/flood.ts']) {
      fs.mkdirSync(path.dirname(path.join(top, name)), { recursive: true });
      take(name, path.join(top, name));
    }
    installed = top;
  }
  return path.join(installed, path.relative(ROOT, file));
}

/** What bin/runtime gives every process for a quick start, where a test starts one itself. */
export const RUNTIME_FLAGS = ['--max-old-space-size=32768'] as const;
