/**
 * What a repository mends by itself, because everything that it takes is there:
 * an index that is lost or damaged is made again from the footers of the packs.
 * Called by store.ts when it is opened or cleaned up, and by repairs. Owns the
 * rule that no index object goes before others name what it may have named.
 */
import type { PackRecord } from './index.ts';
import { readFooter } from './pack.ts';
import { isUnreadable, noteMended, noteProblem, PACK_IS_MISSING, problemOf } from './problem.ts';
import type { Store } from './store.ts';

/**
 * Takes the packs that no index names into the tables by their footers, writes
 * the index that was missing, and removes index objects that are damaged once
 * it is durable. Damaged packs are noted as problems; those in quarantine were
 * dealt with.
 */
export async function recover(store: Store): Promise<void> {
  let adopted = 0;
  let isWhole = true;
  for (const name of store.orphans) {
    try {
      const record = await readFooter(store.backend, store.codec, name);
      if (record !== undefined && store.adoptOrphan(record)) adopted++;
    } catch (error) {
      // what a newer program wrote is named, and left alone
      if (!isUnreadable(error)) throw error;
      if (store.marks.quarantined.has(name)) continue;
      noteProblem(store.problems, problemOf(`packs/${name}`, error));
      isWhole = false;
    }
  }
  await store.writeIndex();
  store.orphans = store.orphans.filter((name) => store.segments.packNumber(name) === undefined);
  if (adopted > 0)
    noteMended(store.mended, `packs that no index named are indexed again by their footers: ${adopted}`);
  if (isWhole) await removeDamagedIndexes(store);
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
  for (const { object, text } of problems)
    if (text === PACK_IS_MISSING) missing.add(object.slice(object.indexOf('/') + 1));
  const records = new Map<string, PackRecord>();
  if (missing.size > 0)
    for await (const record of indexes.readAll())
      if (missing.has(record.name)) records.set(record.name, record);
  return [...records.values()];
}
