/**
 * Where a walk begins. One path that is a directory becomes the snapshot's root
 * directory. Several paths, or a path that is no directory, are put into
 * directories made up for them, named as the path's components: /etc/passwd and
 * /home/a become the root directory with `etc` and `home`, with `passwd` in one
 * and `a` in the other. Called by the walker. Invariant: no path is inside
 * another; what is inside comes with what is around it.
 */
import { Failure } from '../error.ts';
import { type EntryStat, isName } from './tree.ts';

export const ROOTS_MAX = 64;

/** A path to be walked: `name` in the directory `dirfd` is opened, without following it. */
export interface WalkRoot {
  /** its absolute path; what it is called, if there are several */
  readonly path: Buffer;
  /** An open directory; it stays the caller's. */
  readonly dirfd: number;
  /** one component, or '.' for the directory itself */
  readonly name: Buffer;
}

/** A directory that is made up: names, as latin1, and what they are. */
export class VirtualDirectory {
  readonly children = new Map<string, VirtualDirectory | WalkRoot>();
}

/** The metadata of a directory that is made up: the same always. */
export const VIRTUAL_STAT: EntryStat = {
  mode: 0o40755,
  uid: 0,
  gid: 0,
  nlink: 1,
  inoLow: 0,
  inoHigh: 0,
  size: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
  ctimeSec: 0,
  ctimeNsec: 0,
};

const NO_ROOT = '';

/**
 * What a walk of `roots` begins with: a directory with one child, without a name, that is the root directory.
 * `isDirectory` tells of a single root what it is.
 */
export function startOf(
  roots: readonly WalkRoot[],
  isDirectory: (root: WalkRoot) => boolean,
): VirtualDirectory {
  const [only] = roots;
  if (only === undefined || roots.length > ROOTS_MAX)
    throw new Failure('walk', '', { cause: `${roots.length} paths` });
  const start = new VirtualDirectory();
  if (roots.length === 1 && isDirectory(only)) {
    start.children.set(NO_ROOT, only);
    return start;
  }
  const top = new VirtualDirectory();
  for (const root of roots) add(top, root);
  start.children.set(NO_ROOT, top);
  return start;
}

function add(top: VirtualDirectory, root: WalkRoot): void {
  const names = root.path
    .toString('latin1')
    .split('/')
    .filter((name) => name !== '');
  const last = names.pop();
  if (last === undefined) throw new Failure('walk', '/', { cause: 'it comes with no other path' });
  let at = top;
  for (const name of [...names, last]) {
    const bytes = Buffer.from(name, 'latin1');
    if (!isName(bytes, 0, bytes.length))
      throw new Failure('walk', root.path.toString(), { cause: 'malformed path' });
  }
  for (const name of names) {
    let child = at.children.get(name);
    if (child === undefined) {
      child = new VirtualDirectory();
      at.children.set(name, child);
    }
    // a path around this one is walked already
    if (!(child instanceof VirtualDirectory)) return;
    at = child;
  }
  at.children.set(last, root);
}
