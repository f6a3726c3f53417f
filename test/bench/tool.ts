/**
 * The interface to a backup tool under measurement; plakard.ts, restic.ts and
 * borg.ts implement it. Invariant: the commands do the same work with each, on
 * the same data, encrypted, and with nothing tuned but what the name says.
 */
import type { Command } from './command.ts';

/** A repository that holds snapshots of one directory. */
export interface Store {
  /** where the repository's files are */
  readonly path: string;
  /** the daemon's first process, where the tool has one */
  readonly daemon: number | undefined;
  push(): Command;
  /** Restores the newest snapshot below the directory `to`, which exists and is empty. */
  pull(to: string): Command;
  /** Where pull(to) puts the source's contents. */
  restored(to: string): string;
  /** Verifies everything, contents too. */
  check(): Command;
  /** Lists all that is in the newest snapshot, with sizes and times. */
  tree(): Command;
  /** Lists the snapshots. */
  snapshots(): Command;
  /** Prints a file of the newest snapshot; `name` is its path in the source. */
  cat(name: string): Command;
  /** Asks a tool that has a daemon how that is doing. */
  status?(): Command;
  /** Makes `count` snapshots in the quickest way that the tool has. Not measured. */
  multiply(count: number): Promise<void>;
  close(): Promise<void>;
}

export interface Tool {
  readonly name: string;
  /** its version and what is noteworthy of how it is run */
  readonly about: string;
  /** Makes an empty repository in `directory`, which exists, for snapshots of `source`. */
  create(directory: string, source: string): Promise<Store>;
}
