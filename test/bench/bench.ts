/**
 * `npm run bench [-- OPTION...]`: plakard beside restic and borg, on the same
 * data, in one run. README.md beside this file says how to read it. Invariant:
 * nothing is left behind, neither files nor processes, unless -keep says so.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { describe, EXIT_CODES, Failure, kindOf } from '../../src/error.ts';
import { borg } from './borg.ts';
import { killAll, progress } from './command.ts';
import { plakard } from './plakard.ts';
import { restic } from './restic.ts';
import { isWorkName, Results, WORKS, type WorkName } from './results.ts';
import { reportJson, reportText } from './table.ts';
import type { Tool } from './tool.ts';
import { type Plan, runWorks } from './works.ts';

const PEERS: Readonly<Record<string, () => Tool>> = { restic, borg };
const USAGE = `usage: npm run bench -- [-n RUNS[,WORK=RUNS]...] [-only WORK,...] [-scale FACTOR] [-peers NAME,...]
                        [-directory DIR] [-keep] [-j]
works: ${Object.keys(WORKS).join(', ')}
peers: ${Object.keys(PEERS).join(', ')}, or none`;
const RUNS = 3;
const RUNS_MAX = 100;
const SCALE_MIN = 0.001;
const SCALE_MAX = 100;

const OPTIONS = {
  n: { type: 'string', default: `${RUNS}` },
  only: { type: 'string', default: Object.keys(WORKS).join(',') },
  scale: { type: 'string', default: '1' },
  peers: { type: 'string', default: Object.keys(PEERS).join(',') },
  directory: { type: 'string' },
  keep: { type: 'boolean', default: false },
  j: { type: 'boolean', default: false },
} as const;

function usage(what: string, cause: string): Failure {
  return new Failure('read arguments', what, { cause, remedy: USAGE, kind: 'usage' });
}

function numberIn(name: string, text: string, from: number, to: number): number {
  const value = Number(text);
  if (!(value >= from && value <= to)) throw usage(`-${name} ${text}`, `not from ${from} to ${to}`);
  return value;
}

function names(text: string): string[] {
  return text.split(',').filter((name) => name !== '' && name !== 'none');
}

/** How often each work is run: `3`, or `3,c=1` with another number for some. */
function runsOf(text: string): (work: WorkName) => number {
  const [general, ...some] = text.split(',');
  const runs = numberIn('n', general ?? '', 1, RUNS_MAX);
  const others = new Map(
    some.map((each) => {
      const [work = '', number = ''] = each.split('=');
      if (!isWorkName(work)) throw usage(`-n ${text}`, `${work} is no work`);
      return [work, numberIn('n', number, 1, RUNS_MAX)];
    }),
  );
  return (work) => others.get(work) ?? runs;
}

/** The works that were asked for. */
function worksOf(text: string): ReadonlySet<WorkName> {
  return new Set(
    names(text).map((name) => {
      if (!isWorkName(name)) throw usage(name, 'not a work');
      return name;
    }),
  );
}

function peersOf(text: string): Tool[] {
  return names(text).map((name) => {
    const peer = PEERS[name];
    if (peer === undefined) throw usage(name, 'not a peer');
    return peer();
  });
}

/** The arguments; long options are written with one dash, and two are accepted. */
function parse(args: readonly string[]) {
  const dashed = args.map((word) => word.replace(/^--?(?=[a-z]{2})/, '--').replace(/^--?(?=[nj]$)/, '--'));
  try {
    return parseArgs({ args: dashed, options: OPTIONS }).values;
  } catch (error) {
    throw usage('', error instanceof Error ? error.message : String(error));
  }
}

/**
 * A directory that the daemon's children can pass through, as they are not root.
 * Below one that was named it is of our own name, as it will be removed.
 */
function workDirectory(given: string | undefined): string {
  if (given === undefined) {
    const made = mkdtempSync(path.join(tmpdir(), 'plakard-bench-'));
    chmodSync(made, 0o755);
    return made;
  }
  const named = path.resolve(given, 'plakard-bench');
  mkdirSync(named, { recursive: true, mode: 0o755 });
  return named;
}

async function main(args: readonly string[]): Promise<void> {
  const options = parse(args);
  if (process.getuid?.() !== 0)
    throw new Failure('start', '', { cause: 'the daemon must be started as root', kind: 'not-permitted' });
  const runs = runsOf(options.n);
  const scale = numberIn('scale', options.scale, SCALE_MIN, SCALE_MAX);
  const works = worksOf(options.only);
  const tools = [plakard('plakard'), ...peersOf(options.peers)];
  const directory = workDirectory(options.directory);
  const clean = () => {
    killAll();
    if (!options.keep) rmSync(directory, { recursive: true, force: true });
    else progress(`kept ${directory}`);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      clean();
      process.exit(EXIT_CODES.interrupted);
    });
  const plan: Plan = { directory, works, runs, scale, tools, results: new Results(), data: new Map() };
  try {
    await runWorks(plan);
  } finally {
    clean();
  }
  const about = {
    runs: options.n,
    scale,
    tools: Object.fromEntries(tools.map((tool) => [tool.name, tool.about])),
  };
  process.stdout.write((options.j ? reportJson : reportText)(about, plan));
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`bench: ${describe(error)}\n`);
  process.exitCode = EXIT_CODES[kindOf(error)];
}
