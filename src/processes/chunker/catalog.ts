/**
 * The snapshots of a repository: their headers, opened, in order of time. Used
 * by everything in the chunker that names a snapshot. Headers never change, so
 * those that were opened once are kept; the list of names is read each time.
 */
import { Failure, fromWire } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import { headerEpoch } from '../../keys/frame.ts';
import {
  COMMIT,
  GET,
  NAMES,
  NAMES_ARE,
  OBJECT,
  OBJECTS,
  OBJECTS_MAX,
  OK,
  OPEN_OBJECTS,
  PUT_IS,
  SEAL_OBJECT,
} from '../../messages/data.ts';
import { COMMIT_COPY } from '../../messages/sync.ts';
import { isVoid } from '../../repository/lease.ts';
import {
  decodeSnapshot,
  encodeSnapshot,
  frameSnapshot,
  type SnapshotHeader,
  snapshotName,
  unframeSnapshot,
} from '../../repository/snapshot.ts';

/** A header, and its encoded form for whoever decodes it again. */
export interface Snapshot {
  readonly name: string;
  readonly header: SnapshotHeader;
  readonly encoded: Buffer;
}

/** Names or bytes asked for at once. */
const BATCH = Math.min(512, OBJECTS_MAX);
/** The shortest prefix of a UUID that names a snapshot. */
const PREFIX_MIN_CHARS = 1;

export class Catalog {
  readonly #storage: Channel;
  readonly #crypto: Channel;
  readonly #known = new Map<string, Snapshot>();
  /** names at which no snapshot can come to be any more */
  readonly #void = new Set<string>();
  #damaged: ReadonlyMap<string, string> = new Map();
  #ordered: Snapshot[] = [];
  /** the names that storage had for #ordered, in its order; undefined where they were not all opened */
  #listed: string | undefined;

  constructor(storage: Channel, crypto: Channel) {
    this.#storage = storage;
    this.#crypto = crypto;
  }

  /** Headers that the last list could not open, by name, and why. */
  get damaged(): ReadonlyMap<string, string> {
    return this.#damaged;
  }

  /** Has the next list read every header again: they may have been damaged since. */
  forget(): void {
    this.#known.clear();
    this.#void.clear();
    this.#listed = undefined;
  }

  /** All snapshots, oldest first: the same array for as long as they are the same. */
  async list(): Promise<readonly Snapshot[]> {
    const { payload } = await this.#storage.query(NAMES, { kind: 'snapshots' }, NAMES_ARE);
    const listed = payload.names.join(' ');
    if (listed === this.#listed) return this.#ordered;
    const names = new Set(payload.names);
    const wanted = payload.names.filter((name) => !this.#known.has(name) && !this.#void.has(name));
    let changed = wanted.length > 0;
    for (const name of this.#known.keys())
      if (!names.has(name)) changed = this.#known.delete(name) || changed;
    // of this list alone, and there when it is complete: others may list at the same time
    const damaged = new Map<string, string>();
    for (let at = 0; at < wanted.length; ) at += await this.#load(wanted.slice(at, at + BATCH), damaged);
    this.#damaged = damaged;
    if (changed)
      this.#ordered = [...this.#known.values()].sort(
        (a, b) => a.header.time - b.header.time || (a.name < b.name ? -1 : 1),
      );
    const isAll = names.size === this.#known.size && payload.names.every((name) => this.#known.has(name));
    this.#listed = isAll ? listed : undefined;
    return this.#ordered;
  }

  /** Loads as many of `names` as storage gives at once; returns how many. */
  async #load(names: readonly string[], damaged: Map<string, string>): Promise<number> {
    const { payload } = await this.#storage.query(GET, { kind: 'snapshots', names: [...names] }, OBJECTS);
    const sealed: { name: string; data: Buffer; epoch: number }[] = [];
    payload.objects.forEach(({ data, why }, i) => {
      const name = names[i] ?? '';
      // one that vanished since the listing is no damage
      if (data === undefined) {
        if (why !== undefined) damaged.set(name, why);
      } else
        attempt(name, damaged, () => {
          if (isVoid(data, name)) this.#void.add(name);
          else sealed.push({ name, data: unframeSnapshot(data, name), epoch: headerEpoch(data) });
        });
    });
    if (sealed.length > 0) {
      const opened = await this.#crypto.query(OPEN_OBJECTS, { kind: 'snapshots', objects: sealed }, OBJECTS);
      opened.payload.objects.forEach(({ data, why }, i) => {
        const name = sealed[i]?.name ?? '';
        attempt(name, damaged, () => {
          if (data === undefined) throw fromWire({ kind: 'damaged', text: why ?? 'missing' });
          // a copy of its own, not a view that keeps the whole message alive
          const encoded = Buffer.from(data);
          this.#known.set(name, { name, header: decodeSnapshot(encoded, name), encoded });
        });
      });
    }
    if (payload.objects.length === 0) throw new Failure('read snapshots', '', { cause: 'storage gave none' });
    return payload.objects.length;
  }

  /** The snapshot that a person means: a UUID, an unambiguous prefix, or `latest`. */
  async resolve(
    wanted: string,
    allowed: (snapshot: Snapshot) => boolean,
    list: Promise<readonly Snapshot[]> = this.list(),
  ): Promise<Snapshot> {
    const visible = (await list).filter(allowed);
    if (wanted === 'latest') return this.#latest(visible);
    const prefix = wanted.toLowerCase();
    const found =
      prefix.length < PREFIX_MIN_CHARS ? [] : visible.filter(({ name }) => name.startsWith(prefix));
    const [only] = found;
    if (only === undefined) throw this.#missing(wanted, prefix);
    if (found.length > 1)
      throw new Failure('find snapshot', wanted, {
        cause: `${found.length} snapshots begin so`,
        remedy: 'give more of the id',
        kind: 'usage',
      });
    return only;
  }

  /** Nobody can tell when one was made that cannot be opened: what is older is not given out as the latest. */
  #latest(visible: readonly Snapshot[]): Snapshot {
    const count = this.#damaged.size;
    if (count > 0)
      throw new Failure('find snapshot', 'latest', {
        cause: `${count === 1 ? 'one snapshot' : `${count} snapshots`} cannot be opened, and may be it`,
        remedy: 'name one that plakarctl ls lists, and see plakarctl repair',
        kind: 'damaged',
      });
    const latest = visible.at(-1);
    if (latest !== undefined) return latest;
    throw new Failure('find snapshot', 'latest', { cause: 'there are none yet', remedy: 'plakarctl push' });
  }

  #missing(wanted: string, prefix: string): Failure {
    const operation = 'find snapshot';
    for (const [name, cause] of this.#damaged)
      if (name.startsWith(prefix))
        return new Failure(operation, name, { cause, kind: 'damaged', remedy: 'see plakarctl repair' });
    return new Failure(operation, wanted, { cause: 'no such snapshot', remedy: 'plakarctl ls lists them' });
  }

  /**
   * The parent for a push: the latest of the same host, source and paths. What a
   * client walks has a parent of the same user's only: the tree goes to the
   * client, and what is unchanged is taken over without being opened.
   */
  async parentFor(
    host: string,
    source: string,
    paths: readonly Buffer[],
    user: string,
  ): Promise<Snapshot | undefined> {
    const same = (header: SnapshotHeader) =>
      header.host === host &&
      header.source === source &&
      (source !== '' || header.user === user) &&
      header.paths.length === paths.length &&
      header.paths.every((path, i) => paths[i]?.equals(path) === true);
    return (await this.list()).findLast(({ header }) => same(header));
  }

  /** Seals a header and stores it under its lease: from then on the snapshot exists. */
  async add(header: SnapshotHeader): Promise<Snapshot> {
    const name = snapshotName(header.id);
    const encoded = encodeSnapshot(header);
    const { payload } = await this.#crypto.query(
      SEAL_OBJECT,
      { kind: 'snapshots', name, data: encoded, epoch: undefined },
      OBJECT,
    );
    const data = frameSnapshot(payload.data, payload.epoch);
    await this.#storage.query(COMMIT, { snapshot: name, data }, OK);
    return { name, header, encoded };
  }

  /** Seals the header of a snapshot that was made elsewhere and stores it under `lease`; false where it is there already. */
  async copy(lease: string, header: SnapshotHeader, provisional: SnapshotHeader): Promise<boolean> {
    const snapshot = snapshotName(header.id);
    const { payload } = await this.#storage.query(
      COMMIT_COPY,
      { lease, snapshot, data: await this.#sealed(header), provisional: await this.#sealed(provisional) },
      PUT_IS,
    );
    return payload.made;
  }

  /** A header as it is stored. */
  async #sealed(header: SnapshotHeader): Promise<Buffer> {
    const name = snapshotName(header.id);
    const data = encodeSnapshot(header);
    const { payload } = await this.#crypto.query(
      SEAL_OBJECT,
      { kind: 'snapshots', name, data, epoch: undefined },
      OBJECT,
    );
    return frameSnapshot(payload.data, payload.epoch);
  }
}

/** Opens a header; one that cannot be opened is noted. */
function attempt(name: string, damaged: Map<string, string>, open: () => void): void {
  try {
    open();
  } catch (error) {
    damaged.set(name, error instanceof Error ? error.message : String(error));
  }
}
