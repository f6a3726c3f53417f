/**
 * The `permit` rules: what a client may do, by the credentials that the kernel
 * gave for it. Root may do everything; anybody else what a rule says. Pure.
 */
import { Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { CONTROL_SETTINGS } from '../../messages/parent.ts';

export type PermitRule = PayloadOf<typeof CONTROL_SETTINGS.shape>['permits'][number];

/** Who asks. */
export interface Caller {
  readonly pid: number;
  readonly uid: number;
  readonly groups: readonly number[];
}

const ROOT = 0;
/** What `all` does not permit: whoever may change keys decides who else can read everything. */
const EXPLICIT: readonly string[] = ['key'];
/** What `all` of one repository or source does not permit, as it is of the daemon and so of all of them. */
const WHOLE: readonly string[] = ['monitor', 'log', 'trace', 'pause', 'resume', 'reload', 'stop'];

export class Permits {
  readonly #rules: readonly PermitRule[];

  constructor(rules: readonly PermitRule[]) {
    this.#rules = rules;
  }

  /**
   * As `check`, for what cannot be done for some sources alone; `why` says why
   * a caller that is confined to some may not.
   */
  checkWhole(caller: Caller, operation: string, why: string, repository?: string): void {
    if (this.check(caller, operation, repository) !== undefined)
      throw new Failure(operation, repository ?? '', { cause: why, kind: 'not-permitted' });
  }

  /**
   * Throws a Failure of kind 'not-permitted' unless the caller may do it.
   * Returns the sources that it is confined to, or undefined for all.
   */
  check(caller: Caller, operation: string, repository?: string, source?: string): string[] | undefined {
    if (caller.uid === ROOT) return undefined;
    const sources = new Set<string>();
    let allowed = false;
    for (const rule of this.#rules) {
      if (!appliesTo(rule, caller) || !covers(rule, operation, repository)) continue;
      if (rule.source === undefined) return undefined;
      sources.add(rule.source);
      if (source === undefined || source === rule.source) allowed = true;
    }
    if (!allowed)
      throw new Failure(operation, source ?? repository ?? '', {
        cause: `user ${caller.uid} is not permitted to`,
        kind: 'not-permitted',
        remedy: 'a permit statement in plakard.conf allows it',
      });
    return [...sources];
  }
}

function appliesTo(rule: PermitRule, { uid, groups }: Caller): boolean {
  return rule.uid === uid || (rule.gid !== undefined && groups.includes(rule.gid));
}

function covers(rule: PermitRule, operation: string, repository: string | undefined): boolean {
  if (rule.repository !== undefined && repository !== undefined && rule.repository !== repository)
    return false;
  if (rule.operations.includes(operation)) return true;
  if (!rule.operations.includes('all') || EXPLICIT.includes(operation)) return false;
  const isConfined = rule.repository !== undefined || rule.source !== undefined;
  return !(isConfined && WHOLE.includes(operation));
}
