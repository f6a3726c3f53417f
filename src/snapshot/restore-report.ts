/**
 * What a restore has come to so far, and what went wrong: every part of the
 * restore counts and reports here. Owns the rule which failures end the whole
 * restore (the target is full, read-only or broken) and which concern one name.
 */
import { Failure, type FailureKind } from '../error.ts';

/** How far a restore is, and what it came to. Bytes are of file contents as they are in the files. */
export interface RestoreCounts {
  /** regular files written */
  files: number;
  directories: number;
  /** symlinks, fifos, sockets and devices */
  others: number;
  /** further names of a file */
  links: number;
  /** what was there already, identical, and left alone */
  kept: number;
  bytes: number;
  /** names that are missing or incomplete, for whatever reason */
  problems: number;
}

export interface RestoreProblem {
  /** relative to the target, bytes */
  readonly path: Buffer;
  /** names the path as well; its kind is 'damaged', 'partial' (missing in the snapshot) or 'failed' */
  readonly failure: Failure;
}

/** After these nothing else can be written either. */
const FATAL = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM']);
/** The chain of causes that is searched for an errno. */
const CHAIN_MAX = 16;

function isFatal(failure: Failure): boolean {
  let at: unknown = failure;
  for (let depth = 0; at instanceof Error && depth < CHAIN_MAX; depth++) {
    if ('code' in at && typeof at.code === 'string' && FATAL.has(at.code)) return true;
    at = at.cause;
  }
  return false;
}

export class Report {
  readonly counts: RestoreCounts = {
    files: 0,
    directories: 0,
    others: 0,
    links: 0,
    kept: 0,
    bytes: 0,
    problems: 0,
  };
  readonly #problem: (problem: RestoreProblem) => void;
  readonly #kinds = new Set<FailureKind>();

  constructor(problem: (problem: RestoreProblem) => void) {
    this.#problem = problem;
  }

  /** Counts and names a problem of one path; throws `failure` where it ends the restore. */
  problem(path: Buffer, failure: Failure): void {
    this.flaw(path, failure);
    if (isFatal(failure)) throw failure;
  }

  /** Counts and names a problem that is never more than this path's, such as an attribute that does not fit. */
  flaw(path: Buffer, failure: Failure): void {
    this.counts.problems++;
    this.#kinds.add(failure.kind);
    this.#problem({ path, failure });
  }

  /** The gravest kind of problem so far, or undefined where there was none. */
  get worst(): FailureKind | undefined {
    const [first] = this.#kinds;
    if (this.#kinds.has('damaged')) return 'damaged';
    return this.#kinds.size > 1 || first !== 'partial' ? first && 'failed' : first;
  }
}

/** `failure` as that of restoring `path`. */
export function failureOf(path: Buffer, cause: unknown, remedy?: string): Failure {
  return new Failure('restore', path.toString(), remedy === undefined ? { cause } : { cause, remedy });
}
