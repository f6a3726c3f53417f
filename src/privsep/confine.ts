/**
 * The walls around a child: root directory, resource limits, no new
 * privileges, no core dumps, system calls. Called by child.ts; `refuseRings`
 * by start.ts in the parent, and `keepMemory` by the parent itself.
 *
 * Invariant: a wall that the system cannot build is an error, never skipped.
 */
import { closeSync } from 'node:fs';
import process from 'node:process';
import { Failure } from '../error.ts';
import {
  chrootTo,
  getRlimit,
  installSeccomp,
  setDumpable,
  setNoNewPrivs,
  setParentDeathSignal,
  setRlimit,
} from '../sys/process.ts';
import { LIMITS, type LimitName } from './declare.ts';
import { noRingsProgram, type Profile, profileProgram } from './seccomp.ts';

/** Its number: node:os, which has it too, takes milliseconds of each start of a scanner. */
const SIGKILL = 9;

/** Makes the open `directory`, which the parent has chosen, the root directory; goes there, and closes it. */
export function enterRoot(directory: number): void {
  try {
    chrootTo(directory);
    closeSync(directory);
  } catch (error) {
    throw new Failure('enter root directory', '', { cause: error });
  }
}

/** Lowers limits, soft and hard; one that is lower already stays as it is. */
export function limit(limits: readonly { readonly name: LimitName; readonly value: number }[]): void {
  for (const { name, value } of limits) {
    const lower = Math.min(value, getRlimit(LIMITS[name]).hard);
    setRlimit(LIMITS[name], lower, lower);
  }
}

/**
 * Closes what is left: nothing executed gains privileges, nothing is dumped or
 * traced, the parent's death is this process's own, and no thread makes a
 * system call outside of `profile`. A change of user id undoes the middle two,
 * so this comes after it.
 */
export function close(profile: Profile, parent: number): void {
  setNoNewPrivs();
  setDumpable(false);
  setParentDeathSignal(SIGKILL);
  if (process.ppid !== parent) throw new Failure('start', '', { cause: 'the parent died meanwhile' });
  try {
    installSeccomp(profileProgram(profile, process.pid), { tsync: true });
  } catch (error) {
    throw new Failure('confine system calls', profile, {
      cause: error,
      remedy: 'run a kernel with CONFIG_SECCOMP_FILTER, and allow seccomp in the container',
    });
  }
}

/** For the parent, whose hands keys pass through: no part of its memory is written anywhere. */
export function keepMemory(): void {
  setDumpable(false);
  setRlimit(LIMITS.core, 0, 0);
}

let refused = false;

/** In the parent: processes started from now on make no io_uring. See seccomp.ts. */
export function refuseRings(): void {
  if (refused) return;
  setNoNewPrivs();
  installSeccomp(noRingsProgram(), { tsync: true });
  refused = true;
}
