/**
 * What a repository mends by itself, because everything that it takes is there:
 * an index that is lost or damaged is made again from the footers of the packs.
 * Called by store.ts when it is opened or cleaned up, and by repairs. Owns the
 * rule that no index object goes before others name what it may have named.
 */
import type { PackRecord } from './index.ts';
import { readFooter } from './pack.ts';
import { isUnreadable, noteMended, noteProblem, PACK_IS_MISSING, packOf, problemOf } from './problem.ts';
import type { Store } from './store.ts';

/**
 * Takes the packs that no index names into the tables by their footers, writes
 * the index that was missing, and removes index objects that are damaged once
 * it is durable. Damaged packs are noted as problems; those in quarantine were
 * dealt with.
 */
export async function recover(store: Store): Promise<void> {
  const adopted = await eachFooter(store, store.orphans, (record) => store.adoptOrphan(record));
  const named = await eachFooter(store, await unnamed(store), (record) => store.name(record));
  await store.writeIndex();
  store.orphans = store.orphans.filter((name) => store.segments.packNumber(name) === undefined);
  const count = adopted.done + named.done;
  if (count > 0)
    noteMended(store.mended, `packs that no index named are indexed again by their footers: ${count}`);
  if (adopted.isWhole && named.isWhole) await removeDamagedIndexes(store);
}

/** Reads the footers of packs; how many `take` has taken, and whether all of them could be read. */
async function eachFooter(
  store: Store,
  packs: readonly string[],
  take: (record: PackRecord) => boolean,
): Promise<{ done: number; isWhole: boolean }> {
  let done = 0;
  let isWhole = true;
  for (const name of packs) {
    try {
      const record = await readFooter(store.backend, store.codec, name);
      if (record !== undefined && take(record)) done++;
    } catch (error) {
      // what a newer program wrote is named, and left alone
      if (!isUnreadable(error)) throw error;
      if (store.marks.quarantined.has(name)) continue;
      noteProblem(store.problems, problemOf(`packs/${name}`, error));
      isWhole = false;
    }
  }
  return { done, isWhole };
}

/** Packs that are known, and whose index object is gone or damaged. */
async function unnamed(store: Store): Promise<string[]> {
  const first = new Set(await store.unnamed());
  if (first.size === 0) return [];
  // whoever merges index objects elsewhere writes the new one before the old ones go
  await store.refresh();
  return (await store.unnamed()).filter((name) => first.has(name));
}

/** Removes index objects that are damaged; all packs that have a footer are indexed by others. */
export async function removeDamagedIndexes(store: Store): Promise<void> {
  const { damaged } = store.indexes;
  for (const name of damaged) noteMended(store.mended, `index/${name} was damaged: others name its packs`);
  const objects = new Set([...damaged].map((name) => `index/${name}`));
  await store.indexes.removeDamaged();
  const left = store.problems.filter(({ object }) => !objects.has(object));
  store.problems.splice(0, store.problems.length, ...left);
}

/** Indexes packs by their footers whose index says something else; where the footer is damaged, nothing changes. */
export async function reindexByFooter(store: Store, packs: readonly string[]): Promise<number> {
  let reindexed = 0;
  for (const name of packs) {
    const record = await readFooter(store.backend, store.codec, name);
    if (record === undefined) continue;
    await store.reindex(new Set([name]));
    store.forget([name]);
    if (store.adoptOrphan(record)) reindexed++;
    await store.writeIndex();
  }
  return reindexed;
}

/** Packs that index objects name and that are not there, without one's having removed them. */
export async function missingPacks({ problems, indexes }: Store): Promise<PackRecord[]> {
  const missing = new Set<string>();
  for (const { object, text } of problems) if (text === PACK_IS_MISSING) missing.add(packOf(object));
  const records = new Map<string, PackRecord>();
  if (missing.size > 0)
    for await (const record of indexes.readAll())
      if (missing.has(record.name)) records.set(record.name, record);
  return [...records.values()];
}
