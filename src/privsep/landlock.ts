/**
 * What a child may do with files and the network at all, told to the kernel a
 * second time: Landlock, beside root directory and system call profile, so that
 * a hole in one of them is none in the others. Called by confine.ts.
 *
 * Invariant: where the kernel has Landlock, the main thread, every thread of the
 * pool and all that start later are restricted. Before Linux 7.0 a thread can
 * only restrict itself; the runtime's own, which compile and collect, are then
 * left to the other walls.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import {
  allowBeneath,
  createRuleset,
  type FileAccess,
  landlockVersion,
  restrictPoolThread,
  restrictSelf,
  restrictsAll,
} from '../sys/landlock.ts';
import { blockingPair, closeAll } from '../sys/socket.ts';
import type { Profile } from './seccomp.ts';

const READ: readonly FileAccess[] = ['read file', 'read directory'];
const CHANGE: readonly FileAccess[] = [
  ...READ,
  'write file',
  'truncate',
  'make file',
  'make directory',
  'remove file',
  'remove directory',
  'link elsewhere',
];

interface Allowed {
  /** beneath its root directory */
  readonly files: readonly FileAccess[];
  readonly tcp: boolean;
}

/** What each profile leaves to be done. */
const ALLOWED: Readonly<Record<Profile, Allowed>> = {
  worker: { files: [], tcp: false },
  control: { files: [], tcp: false },
  scanner: { files: READ, tcp: false },
  storage: { files: CHANGE, tcp: false },
  remote: { files: [], tcp: true },
};

/** libuv's: threads of its pool where UV_THREADPOOL_SIZE does not say, and at most. */
const POOL_DEFAULT = 4;
const POOL_MAX = 1024;

/** How many threads the pool has: as libuv reads its variable. */
export function poolSize(variable: string | undefined): number {
  if (variable === undefined) return POOL_DEFAULT;
  const size = Number.parseInt(variable, 10);
  return Number.isNaN(size) || size === 0 ? 1 : Math.min(Math.max(size, 1), POOL_MAX);
}

/**
 * Restricts this process to what `profile` allows, below the present root
 * directory. Resolves with the version of Landlock that does so, 0 for none.
 * After it no thread can be signalled by another everywhere, so the change of
 * ids comes before.
 */
export async function restrict(profile: Profile): Promise<number> {
  const version = landlockVersion();
  if (version === 0) return 0;
  const { files, tcp } = ALLOWED[profile];
  try {
    const ruleset = createRuleset(version, { tcp: !tcp });
    try {
      if (files.length > 0) allowBeneath(ruleset, '/', files, version);
      if (!restrictsAll(version)) await restrictPool(ruleset, poolSize(process.env.UV_THREADPOOL_SIZE));
      restrictSelf(ruleset, version);
    } finally {
      fs.closeSync(ruleset);
    }
    return version;
  } catch (error) {
    throw new Failure('confine files', profile, { cause: error });
  }
}

/**
 * Has each of the pool's threads restrict itself. The pool takes its tasks in
 * order, so: all wait at a gate; one after another is let through, finds the
 * restriction as the next task, and is held until the others have it too.
 */
async function restrictPool(ruleset: number, size: number): Promise<void> {
  const [open, gate] = blockingPair();
  const [release, hold] = blockingPair();
  try {
    const waiting: Promise<unknown>[] = [];
    for (let i = 0; i < size; i++) waiting.push(readByte(gate));
    for (let i = 0; i < size; i++) {
      const restricted = restrictPoolThread(ruleset);
      waiting.push(readByte(hold));
      fs.writeSync(open, Buffer.alloc(1));
      if ((await restricted) !== 0)
        throw new Failure('restrict thread', `${i} of the pool`, { cause: 'the kernel refused' });
    }
    fs.writeSync(release, Buffer.alloc(size));
    await Promise.all(waiting);
  } finally {
    closeAll([open, gate, release, hold]);
  }
}

function readByte(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.read(fd, Buffer.alloc(1), 0, 1, null, (error) => (error === null ? resolve() : reject(error)));
  });
}
