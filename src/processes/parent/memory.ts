/**
 * What the parent remembers of repositories over restarts, in the file
 * `repositories.json` of the state directory: which one was where, where the
 * chains of its log ended, and the turns of sampled checks. Used by the groups
 * (group.ts), on behalf of their chunkers. Owns the file: it is written beside,
 * synchronized and renamed, so that it is found complete or as it was.
 *
 * Invariant: that a repository is the right one for its place is learned once,
 * when it is first seen there, and changes only when somebody says so.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import path from 'node:path';
import { describe, Failure } from '../../error.ts';
import { type PayloadOf, record, text } from '../../ipc/shape.ts';
import type { Log } from '../../log.ts';
import { MEMORY, type REMEMBER } from '../../messages/memory.ts';

const FILE = 'repositories.json';
/** Repositories, and places, that are remembered. */
const REPOSITORIES_MAX = 1024;

type Memory = PayloadOf<typeof MEMORY.shape>;
type Remember = PayloadOf<typeof REMEMBER.shape>;

export interface MemoryOptions {
  readonly log: Log;
  /** the directory of what is remembered */
  readonly state: string;
}

/** What is known of one repository. */
type Known = Pick<Memory, 'heads' | 'turns'>;
const NOTHING: Known = { heads: [], turns: [] };
const place = record({ location: text(4096), id: text(36) });

export class RepositoryMemory {
  readonly #options: MemoryOptions;
  /** id of the repository that is right for a location */
  readonly #places = new Map<string, string>();
  readonly #repositories = new Map<string, Known>();
  #saving: Promise<void> = Promise.resolve();

  constructor(options: MemoryOptions) {
    this.#options = options;
    this.#load();
  }

  /** What is remembered of the repository with this id, which is at `location` now. */
  async recall(id: string, location: string): Promise<Memory> {
    const right = this.#places.get(location);
    if (right === undefined) await this.#settle(id, location);
    const found =
      right === undefined || right === id
        ? []
        : [{ object: 'config', text: `this is repository ${id}, where ${right} was before` }];
    return { ...(this.#repositories.get(id) ?? NOTHING), found };
  }

  async remember(id: string, location: string, { heads, turns, accept }: Remember): Promise<void> {
    const before = JSON.stringify(this.#encoded());
    if (this.#repositories.size < REPOSITORIES_MAX || this.#repositories.has(id))
      this.#repositories.set(id, { heads, turns });
    if (accept) this.#places.set(location, id);
    if (JSON.stringify(this.#encoded()) !== before) await this.#save();
  }

  /** A repository is about to be made at `location`: the one that comes is the right one. */
  forgetPlace(location: string): void {
    this.#places.delete(location);
  }

  async #settle(id: string, location: string): Promise<void> {
    if (this.#places.size >= REPOSITORIES_MAX) return;
    this.#places.set(location, id);
    await this.#save();
  }

  #encoded(): unknown {
    return {
      version: 1,
      places: [...this.#places].map(([location, id]) => ({ location, id })),
      repositories: [...this.#repositories].map(([id, { heads, turns }]) => ({
        id,
        heads: heads.map((head) => ({ ...head, digest: head.digest.toString('hex') })),
        turns,
      })),
    };
  }

  /** One after another; a failure is logged, and nothing else fails by it. */
  #save(): Promise<void> {
    this.#saving = this.#saving.then(() => this.#write());
    return this.#saving;
  }

  async #write(): Promise<void> {
    const { state, log } = this.#options;
    const file = path.join(state, FILE);
    try {
      mkdirSync(state, { recursive: true, mode: 0o700 });
      const beside = await open(`${file}.new`, 'w', 0o600);
      try {
        await beside.writeFile(`${JSON.stringify(this.#encoded())}\n`);
        await beside.sync();
      } finally {
        await beside.close();
      }
      await rename(`${file}.new`, file);
      const directory = await open(state, 'r');
      await directory.sync().finally(() => directory.close());
    } catch (cause) {
      log.error(describe(new Failure('write', file, { cause })), { process: 'parent' });
    }
  }

  /** What was remembered; nothing where there is nothing, or nothing that can be read. */
  #load(): void {
    const { state, log } = this.#options;
    const file = path.join(state, FILE);
    try {
      this.#decode(JSON.parse(readFileSync(file, 'utf8')));
    } catch (cause) {
      const isNew = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
      if (isNew) return;
      this.#places.clear();
      this.#repositories.clear();
      const remedy = 'what was put back meanwhile is not noticed';
      log.warn(describe(new Failure('read', file, { cause, remedy })), { process: 'parent' });
    }
  }

  #decode(value: unknown): void {
    if (!isRecord(value) || value.version !== 1) throw new Error('not a memory of version 1');
    if (!Array.isArray(value.places) || !Array.isArray(value.repositories))
      throw new Error('not a memory of repositories');
    for (const each of value.places.slice(0, REPOSITORIES_MAX)) {
      const { location, id } = place(each, 'places');
      this.#places.set(location, id);
    }
    for (const each of value.repositories.slice(0, REPOSITORIES_MAX)) {
      if (!isRecord(each) || typeof each.id !== 'string' || !Array.isArray(each.heads))
        throw new Error('not a memory of a repository');
      const heads: unknown[] = each.heads.map((head: unknown) =>
        isRecord(head) ? { ...head, digest: Buffer.from(String(head.digest), 'hex') } : head,
      );
      const known = MEMORY.shape({ heads, turns: each.turns, found: [] }, 'repositories');
      this.#repositories.set(each.id, { heads: known.heads, turns: known.turns });
    }
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
