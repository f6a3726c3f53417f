/**
 * What was measured, by work and tool. The works put it in; the table and the
 * JSON take it out. Invariant: a figure is the median of all its runs that are
 * timed, for every tool alike.
 */
import type { Measured } from './measure.ts';

export const WORKS = {
  a: 'first push of (a)',
  zstd3: 'first push of (a), zstd 3',
  unchanged: 'unchanged push of (a)',
  pull: 'pull of (a)',
  check: 'full check of (a)',
  ls: 'ls -R of (a)',
  d: 'push of (d): 1% of (a) changed',
  b: 'first push of (b)',
  e: 'first push of (e)',
  c: 'first push of (c)',
  snapshots: 'list the snapshots',
  cat: 'cat a small file',
  status: 'plakarctl status',
  cores: 'first push of (a) by workers',
} as const;

export type WorkName = keyof typeof WORKS;

export function isWorkName(name: string): name is WorkName {
  return Object.hasOwn(WORKS, name);
}

/** One tool's runs of one work. */
export class Runs {
  readonly measured: Measured[] = [];
  /** of the repository, after each run where that is of interest */
  readonly storedBytes: number[] = [];
  /** what a restore was found to differ in; empty: it is identical; undefined: it was not compared */
  differences: readonly string[] | undefined;

  /**
   * Those whose time counts: looking at memory slows down whoever has many processes, so a run that was looked at does
   * not, unless there is no other.
   */
  get timed(): readonly Measured[] {
    const alone = this.measured.filter(({ peakBytes }) => peakBytes === undefined);
    return alone.length === 0 ? this.measured : alone;
  }

  get seconds(): number {
    return median(this.timed.map(({ seconds }) => seconds));
  }

  /** the highest of all runs */
  get peakBytes(): number | undefined {
    const peaks = this.measured.flatMap(({ peakBytes }) => peakBytes ?? []);
    return peaks.length === 0 ? undefined : Math.max(...peaks);
  }

  get stored(): number | undefined {
    return this.storedBytes.length === 0 ? undefined : median(this.storedBytes);
  }

  /** Processor seconds by process: of each the median. */
  get cpu(): Map<string, number> {
    const { timed } = this;
    const names = new Set(timed.flatMap(({ cpu }) => [...cpu.keys()]));
    return new Map(Array.from(names, (name) => [name, median(timed.map(({ cpu }) => cpu.get(name) ?? 0))]));
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = sorted.length >>> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

export class Results {
  readonly #runs = new Map<WorkName, Map<string, Runs>>();

  /** The runs of a work by a tool, to add to. */
  of(work: WorkName, tool: string): Runs {
    const tools = this.#runs.get(work) ?? new Map<string, Runs>();
    this.#runs.set(work, tools);
    const runs = tools.get(tool) ?? new Runs();
    tools.set(tool, runs);
    return runs;
  }

  /** The runs of a work by a tool, if there are any. */
  get(work: WorkName, tool: string): Runs | undefined {
    const runs = this.#runs.get(work)?.get(tool);
    return runs === undefined || runs.measured.length === 0 ? undefined : runs;
  }

  works(): WorkName[] {
    return [...this.#runs.keys()];
  }

  tools(work: WorkName): string[] {
    return [...(this.#runs.get(work)?.keys() ?? [])];
  }
}
