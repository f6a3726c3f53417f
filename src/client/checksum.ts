/** plakarctl checksum: SHA-256 of the contents of files, as sha256sum(1) prints it. */
import { createHash } from 'node:crypto';
import { DIRECTORY, type EntryReader, FILE } from '../snapshot/tree.ts';
import type { Given } from './arguments.ts';
import { browse } from './browse.ts';
import { writeContents } from './contents.ts';
import type { Context } from './context.ts';
import { nameFields, safeName } from './escape.ts';
import { locate } from './lookup.ts';
import { each, parseTarget, within } from './operands.ts';
import type { EventType } from './output.ts';
import type { Reader } from './reader.ts';
import { Tally } from './tally.ts';

interface Digest {
  readonly snapshot: string;
  readonly path: Buffer;
  /** SHA-256 of the contents, hexadecimal. */
  readonly sha256: string;
}

const CHECKSUM: EventType<Digest> = {
  name: 'checksum',
  json: ({ snapshot, path, sha256 }) => ({ snapshot, ...nameFields('path', path), sha256 }),
  text: ({ path, sha256 }) => `${sha256}  ${safeName(path)}`,
};

export async function run(context: Context, given: Given): Promise<void> {
  const targets = given.operands.map((operand) => parseTarget('checksum', operand));
  const reader = await within('checksum', context.repository ?? '', () => context.openReader('checksum'));
  await each(context, targets, (target) =>
    within('checksum', target.shown, async () => {
      const { snapshot, entry, path } = await locate(reader, 'checksum', target);
      const directory = entry.type === DIRECTORY ? entry.directory() : undefined;
      if (directory === undefined) {
        await digest(context, reader, snapshot.name, entry, path);
        return;
      }
      const tally = new Tally(context, 'checksum', snapshot.name);
      await browse(reader, directory, path, {
        recursive: true,
        visit: (child, at) => {
          if (child.type !== FILE) return undefined;
          const childPath = at.bytes;
          return tally.guard(childPath, () => digest(context, reader, snapshot.name, child, childPath));
        },
        damaged: (where, failure) => tally.add(where, failure),
      });
      tally.end(target.shown);
    }),
  );
}

async function digest(
  context: Context,
  reader: Reader,
  snapshot: string,
  entry: EntryReader,
  path: Buffer,
): Promise<void> {
  const hash = createHash('sha256');
  await writeContents(reader, entry, (bytes) => {
    hash.update(bytes);
    return undefined;
  });
  context.output.emit(CHECKSUM, { snapshot, path, sha256: hash.digest('hex') });
  await context.output.drained();
}
