/**
 * The report of a run: as text, one table of all works and those of processor
 * time and of workers below it; and as JSON. Called by bench.ts. Invariant:
 * both come from the same rows.
 */
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { WORKS, type WorkName } from './results.ts';
import { type Quantity, type Report, secondsAFile, TARGETS } from './targets.ts';

interface Reached {
  readonly text: string;
  readonly reached: number | undefined;
  readonly met: boolean | undefined;
}

interface Row {
  readonly work: WorkName;
  readonly quantity: Quantity;
  /** seconds or bytes, by tool; the first is plakard's */
  readonly values: Readonly<Record<string, number>>;
  readonly targets: readonly Reached[];
}

const QUANTITIES: readonly Quantity[] = ['time', 'memory', 'stored', 'time a file'];
/** Columns of the table; find is shown where it was run. */
const COLUMNS = ['plakard', 'restic', 'borg', 'find'];

function figure(report: Report, work: WorkName, quantity: Quantity, tool: string): number | undefined {
  if (quantity === 'time a file') return work === 'c' ? secondsAFile(report, 'c', tool) : undefined;
  // a variant of plakard is held against the peers' one first push
  const [from, name]: [WorkName, string] =
    work !== 'zstd3' ? [work, tool] : tool === 'plakard' ? ['zstd3', 'zstd 3'] : ['a', tool];
  const runs = report.results.get(from, name);
  if (quantity === 'time') return runs?.seconds;
  return quantity === 'memory' ? runs?.peakBytes : runs?.stored;
}

function rowsOf(report: Report): Row[] {
  const rows: Row[] = [];
  for (const work of report.results.works().filter((name) => name !== 'cores'))
    for (const quantity of QUANTITIES) {
      const values: Record<string, number> = {};
      for (const tool of COLUMNS) {
        const value = figure(report, work, quantity, tool);
        if (value !== undefined) values[tool] = value;
      }
      if (values.plakard === undefined) continue;
      const targets = TARGETS.filter((target) => target.work === work && target.quantity === quantity);
      rows.push({
        work,
        quantity,
        values,
        targets: targets.map(({ text, limit, reached }) => {
          const value = reached(report);
          return { text, reached: value, met: value === undefined ? undefined : value <= limit };
        }),
      });
    }
  return rows;
}

function formatValue(quantity: Quantity, value: number | undefined): string {
  if (value === undefined) return '';
  if (quantity === 'time a file') return `${(value * 1e6).toFixed(1)} us`;
  if (quantity === 'memory') return `${(value / 2 ** 20).toFixed(0)} MiB`;
  if (quantity === 'stored') return `${(value / 1e6).toFixed(value < 1e8 ? 2 : 0)} MB`;
  return value < 1 ? `${(value * 1000).toFixed(0)} ms` : `${value.toFixed(2)} s`;
}

function formatRatio(above: number | undefined, below: number | undefined): string {
  return above === undefined || below === undefined ? '' : (above / below).toFixed(2);
}

/** Columns as wide as their widest cell: the first two to the left, and the rest to the right. */
function layout(lines: readonly (readonly string[])[], left: number): string {
  const widths: number[] = [];
  for (const line of lines)
    line.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  const pad = (cell: string, i: number) =>
    i < left ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0);
  return lines.map((line) => line.map(pad).join('  ').trimEnd()).join('\n');
}

const VERDICT = { true: 'yes', false: 'NO', undefined: '' } as const;

function workTable(rows: readonly Row[]): string {
  const lines = [
    ['work', 'quantity', 'plakard', 'restic', 'borg', '/restic', '/borg', 'to reach', 'reached', 'met'],
  ];
  let last: WorkName | undefined;
  for (const { work, quantity, values, targets } of rows) {
    const { plakard, restic, borg } = values;
    const [first, ...more] = targets;
    const verdict = (target: Reached | undefined): string[] =>
      target === undefined
        ? ['', '', '']
        : [
            target.text,
            target.reached?.toFixed(target.reached < 10 ? 2 : 0) ?? 'not measured',
            VERDICT[`${target.met}`],
          ];
    lines.push([
      work === last ? '' : WORKS[work],
      quantity,
      ...[plakard, restic, borg].map((value) => formatValue(quantity, value)),
      formatRatio(plakard, restic),
      formatRatio(plakard, borg),
      ...verdict(first),
    ]);
    for (const target of more) lines.push(['', '', '', '', '', '', '', ...verdict(target)]);
    last = work;
  }
  return layout(lines, 2);
}

/** Works whose processor time is shown, by process. */
const CPU_WORKS: readonly WorkName[] = ['a', 'unchanged', 'pull', 'check', 'c'];

/** Where the time goes: processor seconds of every process, and their sum in every tool. */
function cpuTable({ results }: Report): string {
  const works = CPU_WORKS.filter((work) => results.get(work, 'plakard') !== undefined);
  const names = new Set<string>();
  for (const work of works)
    for (const [name, seconds] of results.get(work, 'plakard')?.cpu ?? []) if (seconds > 0) names.add(name);
  const sum = (cpu: ReadonlyMap<string, number> | undefined) =>
    cpu === undefined ? '' : [...cpu.values()].reduce((total, seconds) => total + seconds, 0).toFixed(2);
  const lines = [['processor seconds', ...works.map((work) => WORKS[work])]];
  for (const name of names)
    lines.push([
      `  ${name}`,
      ...works.map((work) => results.get(work, 'plakard')?.cpu.get(name)?.toFixed(2) ?? ''),
    ]);
  for (const tool of ['plakard', 'restic', 'borg'])
    lines.push([`${tool}, in all`, ...works.map((work) => sum(results.get(work, tool)?.cpu))]);
  lines.push([
    'plakard, wall clock',
    ...works.map((work) => results.get(work, 'plakard')?.seconds.toFixed(2) ?? ''),
  ]);
  return layout(lines, 1);
}

function megabytesASecond({ results, data }: Report, tool: string): number {
  return (data.get('a')?.bytes ?? 0) / 1e6 / results.of('cores', tool).seconds;
}

function coresTable(report: Report): string {
  const lines = [['crypto workers, pinned', 'time', 'throughput', 'against the first']];
  const tools = report.results.tools('cores');
  const first = megabytesASecond(report, tools[0] ?? '');
  for (const tool of tools) {
    const throughput = megabytesASecond(report, tool);
    const { seconds } = report.results.of('cores', tool);
    lines.push([
      tool,
      `${seconds.toFixed(2)} s`,
      `${throughput.toFixed(0)} MB/s`,
      (throughput / first).toFixed(2),
    ]);
  }
  return layout(lines, 1);
}

/** What was restored and compared, and what was found. */
function verified(report: Report): { work: WorkName; tool: string; differences: readonly string[] }[] {
  return report.results.works().flatMap((work) =>
    report.results.tools(work).flatMap((tool) => {
      const { differences } = report.results.of(work, tool);
      return differences === undefined ? [] : [{ work, tool, differences }];
    }),
  );
}

export interface Run {
  /** as it was asked for: `3`, or `3,c=1` */
  readonly runs: string;
  readonly scale: number;
  /** what each tool is, by its name */
  readonly tools: Readonly<Record<string, string>>;
}

function machine() {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
  };
}

export function reportText(run: Run, report: Report): string {
  const { cpu, cores, memoryBytes, kernel } = machine();
  const head = [
    `${cores} cores (${cpu}), ${(memoryBytes / 2 ** 30).toFixed(0)} GiB of memory, Linux ${kernel}; ` +
      `scale ${run.scale}, medians of ${run.runs}`,
    ...Object.values(run.tools),
    ...Array.from(
      report.data,
      ([name, { about, files, bytes }]) =>
        `(${name}) ${about}: ${files} files, ${(bytes / 1e6).toFixed(0)} MB`,
    ),
  ];
  const restored = verified(report).map(
    ({ work, tool, differences }) =>
      `restored, ${WORKS[work]}, ${tool}: ${differences.length === 0 ? 'identical' : `${differences.length} differences, such as ${differences[0]}`}`,
  );
  const parts = [head.join('\n'), workTable(rowsOf(report))];
  if (CPU_WORKS.some((work) => report.results.get(work, 'plakard') !== undefined))
    parts.push(cpuTable(report));
  if (report.results.tools('cores').length > 0) parts.push(coresTable(report));
  if (restored.length > 0) parts.push(restored.join('\n'));
  return `${parts.join('\n\n')}\n`;
}

export function reportJson(run: Run, report: Report): string {
  const { results, data } = report;
  const runs = results.works().flatMap((work) =>
    results.tools(work).map((tool) => {
      const { measured, timed, storedBytes, cpu } = results.of(work, tool);
      const seconds = timed.map((one) => one.seconds);
      const peakBytes = measured.flatMap((one) => one.peakBytes ?? []);
      return { work, tool, seconds, peakBytes, storedBytes, cpuSeconds: Object.fromEntries(cpu) };
    }),
  );
  return `${JSON.stringify({
    machine: machine(),
    ...run,
    data: Object.fromEntries(
      Array.from(data, ([name, { about, files, bytes }]) => [name, { about, files, bytes }]),
    ),
    table: rowsOf(report),
    runs,
    restored: verified(report),
  })}\n`;
}
