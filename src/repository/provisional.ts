/**
 * How a snapshot that was made elsewhere comes to be, with the id that it has
 * there. Called by storage at the end of each snapshot of a sync, and by
 * simulations.
 *
 * A writer's lease and its snapshot have one id (writer.ts): whoever gives the
 * writer up puts something in the snapshot's place. An id that is given from
 * outside cannot be leased so: two may want it at once, and one that was given
 * up could never be had again. So the lease has an id of its own, and the copy
 * is made under that first:
 *
 *   1. the provisional snapshot, under the lease's id, unless the writer was
 *      given up: from then on it keeps all that it refers to;
 *   2. the snapshot, under its own id, where there is none;
 *   3. the provisional one goes.
 *
 * A kill in between leaves a provisional snapshot: whole, with a tag that says
 * what it was to become, and the base of the next sync, which costs nothing
 * then and removes it.
 */
import type { Backend } from '../backends/objects.ts';
import { type SnapshotHeader, snapshotId, snapshotName } from './snapshot.ts';
import type { WriterLease } from './writer.ts';

const TAG = 'plakard sync: becomes ';

/** The header of the provisional snapshot under `lease`. */
export function provisionalHeader(header: SnapshotHeader, lease: string): SnapshotHeader {
  return { ...header, id: snapshotId(lease), tags: [TAG + snapshotName(header.id)] };
}

/** The snapshot that a provisional one was to become; undefined of any other. */
export function becomes({ tags }: Pick<SnapshotHeader, 'tags'>): string | undefined {
  const [tag] = tags;
  return tags.length === 1 && tag?.startsWith(TAG) === true ? tag.slice(TAG.length) : undefined;
}

/** Makes the snapshot of these headers, as they are stored; false where it is there already. */
export async function commitCopy(
  lease: WriterLease,
  backend: Backend,
  headers: { readonly provisional: Buffer; readonly snapshot: string; readonly data: Buffer },
): Promise<boolean> {
  await lease.commit(headers.provisional);
  try {
    return await backend.put('snapshots', headers.snapshot, [headers.data], { ifAbsent: true });
  } finally {
    // the copy keeps all of it now, or nothing has to
    await backend.delete('snapshots', lease.snapshot);
  }
}
