/**
 * Restore: puts what a snapshot has into a directory of the local file system,
 * with the caller's own rights. Called by plakarctl's pull. The parts are in
 * restore-*.ts:
 *
 *   walk ──▶ directory, special, link      made as they are met
 *     └────▶ window ──locate, read──▶ file     in the order of the repository
 *                └────────────▶ hands          threads that make most of them
 *
 * Invariants: nothing is written outside the target; nothing that is there is
 * changed in place but the metadata of directories; whatever is not restored
 * is named, and everything else is restored.
 */
import fs from 'node:fs';
import { Failure, type FailureKind } from '../error.ts';
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../sys/constants.ts';
import { changeDirectory, openAt } from '../sys/files.ts';
import type { BulkSource } from './chunks.ts';
import { Directories, type Directory } from './restore-directory.ts';
import { Files } from './restore-file.ts';
import { Hands } from './restore-hands.ts';
import { Links } from './restore-link.ts';
import { Metadata, type Rights } from './restore-metadata.ts';
import { Report, type RestoreCounts, type RestoreProblem } from './restore-report.ts';
import { Specials } from './restore-special.ts';
import { Walk } from './restore-walk.ts';
import { Window } from './restore-window.ts';
import { DIRECTORY, type EntryReader } from './tree.ts';

export type { RestoreCounts, RestoreProblem, Rights };

export interface RestoreOptions {
  /** the directory to restore into, open; stays the caller's */
  readonly target: number;
  /** it was made for this, or was empty: it gets the metadata of the directory whose contents go into it */
  readonly targetIsNew: boolean;
  /** replaces what is there and differs; without it that is a problem */
  readonly overwrite: boolean;
  readonly rights: Rights;
  /** threads that make files beside this one */
  readonly hands: number;
  readonly random: (bytes: number) => Buffer;
  /** hears of everything that is not restored, as it happens */
  readonly problem: (problem: RestoreProblem) => void;
  /** called now and then; the object is always the same */
  readonly progress: (counts: Readonly<RestoreCounts>) => void;
  /** ends it: what is half done is removed */
  readonly signal: AbortSignal;
}

export interface RestoreResult {
  readonly counts: RestoreCounts;
  /** the gravest kind of the problems; undefined where there were none */
  readonly worst: FailureKind | undefined;
}

/** Chunks between two calls of `progress`. */
const CHUNKS_A_PROGRESS = 64;
const TEMPORARY_BYTES = 9;
const CURRENT = Buffer.from('.');

/** A name of a file that is not complete; what a killed restore leaves behind is found by its beginning. */
function temporaryName(random: (bytes: number) => Buffer): Buffer {
  return Buffer.from(`.plakard-${random(TEMPORARY_BYTES).toString('base64url')}`);
}

class Restore {
  readonly #options: RestoreOptions;
  readonly #report: Report;
  readonly #directories: Directories;
  readonly #files: Files;
  readonly #hands: Hands;
  readonly #walk: Walk;
  #chunks = 0;
  #isOver = false;

  constructor(source: BulkSource, options: RestoreOptions) {
    const { overwrite, random } = options;
    this.#options = options;
    const report = new Report(options.problem);
    const metadata = new Metadata(options.rights);
    const directories = new Directories(report, metadata, overwrite);
    const temporary = () => temporaryName(random);
    const links = new Links(directories, report, overwrite, temporary);
    const writing = { directories, links, metadata, report, overwrite, temporary };
    const files = new Files(writing);
    const onChunk = () => this.#step();
    const hands = new Hands(options.hands, options.rights);
    const window = () => new Window(source, files, directories, hands, onChunk);
    const specials = new Specials(writing);
    const parts = { source, directories, files, links, specials, report, onLeaf: onChunk };
    this.#walk = new Walk(parts, [window(), window()]);
    this.#report = report;
    this.#directories = directories;
    this.#files = files;
    this.#hands = hands;
  }

  #step(): void {
    // a window may still be read when the restore has ended: its chunks go nowhere
    if (this.#isOver) throw new Failure('restore', '', { cause: 'it has ended' });
    if (this.#options.signal.aborted)
      throw new Failure('restore', '', { cause: 'interrupted', kind: 'interrupted' });
    if (++this.#chunks % CHUNKS_A_PROGRESS === 0) this.#options.progress(this.#report.counts);
  }

  async run(entries: readonly EntryReader[]): Promise<RestoreResult> {
    const [first] = entries;
    const owns = this.#options.targetIsNew && entries.length === 1 && first?.type === DIRECTORY;
    const record = owns && first !== undefined ? Buffer.from(first.record()) : undefined;
    const target = this.#directories.target(this.#options.target, record);
    for (const entry of entries) await this.#put(target, entry);
    await this.#walk.flush();
    this.#directories.release(target);
    this.#directories.finish();
    this.#options.progress(this.#report.counts);
    return { counts: this.#report.counts, worst: this.#report.worst };
  }

  async #put(target: Directory, entry: EntryReader): Promise<void> {
    if (entry.type !== DIRECTORY) return this.#walk.single(target, entry);
    const ref = entry.directory();
    if (ref !== undefined) return this.#walk.contents(target, ref);
    const path = Buffer.from('.');
    const cause = 'it could not be read when the snapshot was taken';
    this.#report.problem(path, new Failure('restore', '.', { cause, kind: 'partial' }));
  }

  async abandon(): Promise<void> {
    this.#isOver = true;
    // they write to what is going to be removed
    await this.#hands.close();
    this.#files.abandon();
  }

  async close(): Promise<void> {
    await this.#hands.close();
    this.#directories.close();
  }
}

/**
 * Restores `entries` into the target: the contents of a directory directly under it, anything else under its own
 * name. Resolves when everything is there or was named to `problem`; rejects with a Failure where it ended before
 * that: the target is full or broken, the source is gone, or `signal` was aborted (kind 'interrupted').
 */
export async function restore(
  source: BulkSource,
  entries: readonly EntryReader[],
  options: RestoreOptions,
): Promise<RestoreResult> {
  const run = new Restore(source, options);
  // modes are the snapshot's; xattrs of names go through the current directory
  const umask = process.umask(0);
  const current = openAt(AT_FDCWD, CURRENT, O_PATH | O_DIRECTORY);
  try {
    return await run.run(entries);
  } catch (error) {
    await run.abandon();
    throw error;
  } finally {
    await run.close();
    process.umask(umask);
    if (current >= 0) {
      changeDirectory(current);
      fs.closeSync(current);
    }
  }
}
