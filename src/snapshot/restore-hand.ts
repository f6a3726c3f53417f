/**
 * A hand of a restore: a thread that makes files and writes parts of them, as
 * restore-hands.ts tells it. Most of what a restore costs is the kernel's work
 * for new files, and several threads have it done at once. Invariant: a job is
 * done as the restore itself would have done it, or nothing is left of it, and
 * the answer says which; why it failed is found out by the restore, which does
 * it again.
 */
import fs from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { collectInTime } from '../collect.ts';
import { Failure } from '../error.ts';
import { O_CREAT, O_EXCL, O_WRONLY } from '../sys/constants.ts';
import { openAt, unlinkAt } from '../sys/files.ts';
import { JobReader } from './restore-jobs.ts';
import { Metadata, type Rights } from './restore-metadata.ts';
import { DataWriter } from './restore-write.ts';
import { EntryReader } from './tree.ts';

const metadata = new Metadata(workerData as Rights);
const writer = new DataWriter(() => performance.now());
const entry = new EntryReader();

/** Makes a file of all of the data; false where it is not there afterwards. */
function make(job: JobReader): boolean {
  entry.loadRecord(job.bytes, job.recordStart, job.recordEnd, true);
  const { descriptor: dirfd, newGid, hasDefaultAcl } = job;
  const mode = metadata.newMode(entry, newGid, hasDefaultAcl);
  const { buffer, nameStart, nameEnd } = entry;
  const fd = openAt(dirfd, buffer, O_WRONLY | O_CREAT | O_EXCL, mode, nameStart, nameEnd);
  if (fd < 0) return false;
  let isDone = writer.whole(fd, job.address, job.dataLength) === 0;
  isDone &&= metadata.complete(fd, entry, mode, newGid, hasDefaultAcl, () => '') === undefined;
  isDone = isClosed(fd) && isDone;
  if (!isDone) unlinkAt(dirfd, entry.name());
  return isDone;
}

/** Closing may say what writing did not. */
function isClosed(fd: number): boolean {
  try {
    fs.closeSync(fd);
    return true;
  } catch {
    return false;
  }
}

function write({ descriptor, direct, address, dataLength, offset }: JobReader): boolean {
  return writer.part(descriptor, direct, address, dataLength, offset) === 0;
}

function work(jobs: Uint8Array): Uint8Array {
  const job = new JobReader(jobs);
  const done: number[] = [];
  while (job.next()) {
    done.push((job.isWhole ? make(job) : write(job)) ? 1 : 0);
  }
  return Uint8Array.from(done);
}

if (parentPort === null) throw new Failure('restore', 'hand', { cause: 'it is no thread' });
const restore = parentPort;
collectInTime();
restore.on('message', (jobs: Uint8Array) => {
  if (jobs.length > 0) restore.postMessage(work(jobs));
  // nothing more comes
  else restore.close();
});
