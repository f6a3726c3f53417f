/**
 * How a child stops being root. Called by child.ts, after everything that the
 * role needs has been loaded.
 *
 * Invariant: when `giveUpRoot` returns, no thread is root and none can become
 * root again; that was tried. Any failure throws, and the child dies of it:
 * there is no other user to fall back to.
 */
import { describe, Failure } from '../error.ts';
import {
  dropBoundingSet,
  getCapabilities,
  getResGid,
  getResUid,
  keepCapabilities,
  setCapabilities,
  setGroups,
  setResGid,
  setResUid,
} from '../sys/process.ts';
import { CAPABILITIES, type CapabilityName } from './declare.ts';
import type { User } from './user.ts';

/** The capabilities as a bit mask. */
export function capabilityMask(names: readonly CapabilityName[]): bigint {
  return names.reduce((mask, name) => mask | (1n << BigInt(CAPABILITIES[name])), 0n);
}

/**
 * Becomes `user`, on all threads, with no capability but `capabilities`. Those
 * are kept on the calling (main) thread only: the threads that already exist
 * lose all theirs with their user id.
 */
export function giveUpRoot(user: User, capabilities: readonly CapabilityName[]): void {
  const mask = capabilityMask(capabilities);
  try {
    if (mask !== 0n) keepCapabilities();
    dropBoundingSet();
    setGroups([]);
    setResGid(user.gid);
    setResUid(user.uid);
    setCapabilities({ permitted: mask, effective: mask, inheritable: 0n });
  } catch (error) {
    throw new Failure('become user', `${user.uid}:${user.gid}`, {
      cause: error,
      remedy: 'start plakard as root',
    });
  }
  proveIdentity(user, mask);
  proveLost();
}

function proveIdentity(user: User, mask: bigint): void {
  const uid = getResUid();
  const gid = getResGid();
  const wrong =
    [uid.real, uid.effective, uid.saved].some((id) => id !== user.uid) ||
    [gid.real, gid.effective, gid.saved].some((id) => id !== user.gid);
  if (wrong) throw new Failure('give up root', '', { cause: `still ${uid.effective}:${gid.effective}` });
  const { permitted, effective, inheritable } = getCapabilities();
  if (permitted !== mask || effective !== mask || inheritable !== 0n)
    throw new Failure('give up root', '', { cause: `capabilities ${permitted.toString(16)} are left` });
}

/** Every way back, each of which must be refused. */
const WAYS_BACK: Readonly<Record<string, () => void>> = {
  setresuid: () => setResUid(0),
  setresgid: () => setResGid(0),
  setgroups: () => setGroups([0]),
  setuid: () => process.setuid?.(0),
  seteuid: () => process.seteuid?.(0),
  setgid: () => process.setgid?.(0),
  setegid: () => process.setegid?.(0),
};

function proveLost(): void {
  for (const [name, attempt] of Object.entries(WAYS_BACK)) {
    let refusal: unknown;
    try {
      attempt();
    } catch (error) {
      refusal = error;
    }
    if (refusal === undefined)
      throw new Failure('give up root', '', {
        cause: `${name}(0) succeeded`,
        remedy: 'do not run this system',
      });
    if (!/not permitted|EPERM/.test(describe(refusal)))
      throw new Failure('give up root', `by trying ${name}(0)`, { cause: refusal });
  }
}
