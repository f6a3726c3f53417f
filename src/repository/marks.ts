/**
 * The marks and verdicts that a repository has, as last read. Called by
 * store.ts. Marks and verdicts never change, so each is read once; leases do,
 * and are none of its business. Owns the rule of which packs may be referred to:
 *
 *   named by a mark that has no verdict    marked: it can be read, nothing new may refer to it
 *   likewise, and the mark says quarantine quarantined: it is marked, and damaged; it stays so
 *   to be removed by a verdict             doomed: it does not exist any more, whoever has yet to remove it
 *   any other                              there to stay
 */
import type { Backend } from '../backends/objects.ts';
import { Failure } from '../error.ts';
import { decodeMark, decodeVerdict, kindOfLease, type Verdict, verdictName } from './lease.ts';

const NONE: ReadonlySet<string> = new Set();

interface KnownMark {
  readonly packs: ReadonlySet<string>;
  readonly quarantine: boolean;
}

export class Marks {
  /** each mark by its name; undefined where it cannot be read */
  readonly #marks = new Map<string, KnownMark | undefined>();
  /** by the name of their mark */
  readonly #verdicts = new Map<string, Verdict>();
  /** names of objects that are read, or need not be */
  readonly #known = new Set<string>();
  /** something was read that #sort has not seen yet */
  #changed = false;
  #marked: ReadonlySet<string> = NONE;
  #quarantined: ReadonlySet<string> = NONE;
  #doomed: ReadonlySet<string> = NONE;

  /**
   * Reads what is new; returns whether anything has changed since the last call
   * that returned. A failing backend is a Failure.
   */
  async refresh(backend: Backend): Promise<boolean> {
    const names = new Set(await backend.list('leases'));
    for (const name of this.#known) {
      if (names.has(name)) continue;
      this.#known.delete(name);
      if (this.#marks.delete(name)) this.#changed = true;
    }
    for (const mark of this.#verdicts.keys())
      if (!names.has(verdictName(mark)) && this.#verdicts.delete(mark)) this.#changed = true;
    for (const name of names) {
      if (this.#known.has(name)) continue;
      const object = await backend.get('leases', name);
      if (object !== undefined && (await this.#take(name, object, backend))) this.#changed = true;
    }
    if (!this.#changed) return false;
    this.#sort();
    this.#changed = false;
    return true;
  }

  async #take(name: string, object: Buffer, backend: Backend): Promise<boolean> {
    const kind = kindOfLease(object);
    try {
      if (kind === 'mark') {
        const { packs, quarantine } = decodeMark(object, name);
        this.#marks.set(name, { packs: new Set(packs), quarantine });
      }
      if (kind === 'verdict') {
        const verdict = decodeVerdict(object, name);
        // while there is a mark there is one verdict on it; what is put later counts for nothing
        const counts =
          verdictName(verdict.mark) === name && (await backend.stat('leases', verdict.mark)) !== undefined;
        if (!counts) return false;
        this.#verdicts.set(verdict.mark, verdict);
      }
    } catch (error) {
      if (!(error instanceof Failure) || error.kind !== 'damaged') throw error;
      // a mark that nobody can read is heeded by nobody, and so never carried out
      if (kind === 'mark') this.#marks.set(name, undefined);
    }
    this.#known.add(name);
    return kind !== 'lease';
  }

  #sort(): void {
    const marked = new Set<string>();
    const quarantined = new Set<string>();
    const doomed = new Set<string>();
    for (const [name, mark] of this.#marks) {
      if (mark === undefined || this.#verdicts.has(name)) continue;
      for (const pack of mark.packs) {
        marked.add(pack);
        if (mark.quarantine) quarantined.add(pack);
      }
    }
    for (const { remove } of this.#verdicts.values())
      for (const pack of remove) {
        doomed.add(pack);
        marked.delete(pack);
        quarantined.delete(pack);
      }
    this.#marked = marked;
    this.#quarantined = quarantined;
    this.#doomed = doomed;
  }

  /** The names of marks, those with a verdict and those that cannot be read too. */
  get names(): string[] {
    return [...this.#marks.keys()];
  }

  /** The marks that whoever uses this knows the packs of. */
  get heeded(): string[] {
    return this.names.filter((mark) => this.#marks.get(mark) !== undefined);
  }

  /** The packs of a mark; none where it cannot be read. */
  packsOf(mark: string): ReadonlySet<string> {
    return this.#marks.get(mark)?.packs ?? NONE;
  }

  isQuarantine(mark: string): boolean {
    return this.#marks.get(mark)?.quarantine === true;
  }

  verdictOn(mark: string): Verdict | undefined {
    return this.#verdicts.get(mark);
  }

  get marked(): ReadonlySet<string> {
    return this.#marked;
  }

  /** Those of the marked packs that are damaged. */
  get quarantined(): ReadonlySet<string> {
    return this.#quarantined;
  }

  get doomed(): ReadonlySet<string> {
    return this.#doomed;
  }
}
