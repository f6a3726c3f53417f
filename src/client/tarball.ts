/**
 * plakarctl tarball: snapshots, or parts of them, as a tar archive. Names in it
 * are relative to what was named, as pull would put them under a directory.
 */
import fs from 'node:fs';
import path from 'node:path';
import { Failure } from '../error.ts';
import { DIRECTORY } from '../snapshot/tree.ts';
import { Archive } from './archive.ts';
import type { Given } from './arguments.ts';
import { browse } from './browse.ts';
import type { Context } from './context.ts';
import { safeName } from './escape.ts';
import { type Located, locate } from './lookup.ts';
import { each, parseTarget, type Target, within } from './operands.ts';
import type { Reader } from './reader.ts';
import { Sink } from './sink.ts';
import { Tally } from './tally.ts';

export async function run(context: Context, given: Given): Promise<void> {
  const targets = given.operands.map((operand) => parseTarget('tarball', operand));
  const reader = await within('tarball', context.repository ?? '', () => context.openReader('tarball'));
  const file = given.value('o');
  if (file === undefined) {
    await write(context, reader, targets, (bytes) => context.output.raw(bytes));
    return;
  }
  await within('tarball', safeName(file), () => toFile(context, reader, targets, file));
}

/** Writes beside `file`, and puts it in its place when it is complete; what is no file is written to as it is. */
async function toFile(
  context: Context,
  reader: Reader,
  targets: readonly Target[],
  file: Buffer,
): Promise<void> {
  const there = fs.statSync(file, { throwIfNoEntry: false });
  const isInPlace = there !== undefined && !there.isFile();
  const temporary = isInPlace ? file : Buffer.concat([file, Buffer.from(`.${process.pid}.partial`)]);
  const fd = fs.openSync(temporary, isInPlace ? 'w' : 'wx', 0o600);
  try {
    const sink = new Sink(fd, path.basename(safeName(file)));
    const outcome = await write(context, reader, targets, async (bytes) => {
      sink.write(bytes);
      await sink.flush();
    }).catch((error: unknown) => {
      // an archive without some files is one all the same, and says so by its exit code
      if (error instanceof Failure && error.kind === 'partial') return error;
      throw error;
    });
    if (!isInPlace) {
      fs.fsyncSync(fd);
      fs.renameSync(temporary, file);
    }
    if (outcome instanceof Failure) throw outcome;
  } finally {
    fs.closeSync(fd);
    if (!isInPlace) fs.rmSync(temporary, { force: true });
  }
}

async function write(
  context: Context,
  reader: Reader,
  targets: readonly Target[],
  out: (bytes: Buffer) => Promise<void>,
): Promise<void> {
  const archive = new Archive(reader, out);
  await each(context, targets, (target) =>
    within('tarball', target.shown, async () => {
      const located = await locate(reader, 'tarball', target);
      const tally = new Tally(context, 'tarball', located.snapshot.name);
      await add(context, reader, archive, located, tally);
      tally.end(target.shown);
    }),
  );
  await archive.end();
}

async function add(
  context: Context,
  reader: Reader,
  archive: Archive,
  { snapshot, entry, path: base }: Located,
  tally: Tally,
): Promise<void> {
  const problem = (where: Buffer, error: unknown): void => tally.add(where, error);
  archive.begin(snapshot.name, problem);
  const directory = entry.type === DIRECTORY ? entry.directory() : undefined;
  // the bytes of a path that are not in the archive's name: all up to the directory, or to a file's own name
  const strip =
    directory === undefined ? base.lastIndexOf(0x2f) + 1 : base.length === 1 ? 1 : base.length + 1;
  if (directory === undefined) await archive.add(entry, base, strip);
  else {
    await archive.root(entry);
    await browse(reader, directory, base, {
      recursive: true,
      visit: (child, at) => archive.add(child, at.bytes, strip),
      damaged: problem,
    });
  }
  await archive.flush();
  if (context.signal.aborted) throw context.signal.reason;
}
