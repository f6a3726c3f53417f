/** Trees without a file system, for tests: what a walk of them would have told is told to the builder. */
import assert from 'node:assert/strict';
import { TreeBuilder } from '../../src/snapshot/builder.ts';
import { Bytes } from '../../src/snapshot/bytes.ts';
import { CHUNK_DATA, type ChunkRef, ID_BYTES, MemoryChunks } from '../../src/snapshot/chunks.ts';
import { readRoot } from '../../src/snapshot/directory.ts';
import * as scan from '../../src/snapshot/scanlog.ts';
import { beginEntry, type EntryStat, endEntry } from '../../src/snapshot/tree.ts';

/** Names and what they are: a directory, or a file's contents. */
export interface Plan {
  readonly [name: string]: Plan | string | object;
}

export function statOf(mode: number, size = 0): EntryStat {
  return {
    mode,
    uid: 1000,
    gid: 100,
    nlink: 1,
    inoLow: 1,
    inoHigh: 0,
    size,
    mtimeSec: 1_600_000_000,
    mtimeNsec: 1,
    ctimeSec: 1_600_000_001,
    ctimeNsec: 2,
  };
}

/** Appends one record that holds an entry without content. */
export function appendEntryRecord(
  out: Bytes,
  what: number,
  flags: number,
  stat: EntryStat,
  name: string,
): void {
  const record = scan.beginRecord(out, what, flags);
  const bytes = Buffer.from(name, 'latin1');
  const entry = beginEntry(out, stat, 0, 0, bytes, 0, bytes.length);
  endEntry(out, entry);
  scan.endRecord(out, record);
}

export function appendEnter(out: Bytes, name: string, old?: ChunkRef): void {
  const record = scan.beginRecord(out, scan.ENTER, old === undefined ? 0 : 1);
  if (old !== undefined) {
    out.bytes(old.id);
    out.u32(old.length);
  }
  out.bytes(Buffer.from(name, 'latin1'));
  scan.endRecord(out, record);
}

function appendPlan(out: Bytes, contents: string[], name: string, plan: Plan | object): void {
  appendEnter(out, name);
  const names = Object.keys(plan).sort((a, b) => (a < b ? -1 : 1));
  for (const child of names) {
    const what = (plan as Plan)[child];
    if (typeof what === 'string') {
      contents.push(what);
      appendEntryRecord(out, scan.FILE_TO_READ, 1, statOf(0o100644, what.length), child);
    } else appendPlan(out, contents, child, what ?? {});
  }
  appendEntryRecord(out, scan.LEAVE, 0, statOf(0o040755), name);
}

export interface Planted {
  readonly chunks: MemoryChunks;
  readonly root: ChunkRef;
  /** the root directory's own node */
  readonly directory: ChunkRef;
}

export async function plant(plan: Plan, chunks = new MemoryChunks()): Promise<Planted> {
  const out = new Bytes();
  const contents: string[] = [];
  appendPlan(out, contents, '', plan);
  scan.appendEnd(out, false, scan.noCounts());
  const id = Buffer.alloc(ID_BYTES);
  const builder = new TreeBuilder({
    source: chunks,
    store: chunks,
    readFile: (fd, { content }) => {
      const data = Buffer.from(contents[fd] ?? '');
      if (data.length === 0) return 0;
      chunks.put(CHUNK_DATA, data, id);
      content.data(data.length, id);
      return 0;
    },
    discard: () => undefined,
    onEvent: () => undefined,
  });
  await builder.feed(
    out.since(0),
    contents.map((_, i) => i),
  );
  const root = builder.result?.root;
  assert.ok(root !== undefined);
  const directory = (await readRoot(chunks, root)).directory();
  assert.ok(directory !== undefined);
  return { chunks, root, directory };
}
