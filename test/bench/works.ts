/**
 * The works that are measured, in groups that share repositories. Called by
 * bench.ts. Invariants: whoever is held against each other takes turns within
 * each round, and another begins each round; what is going to be read is in the
 * page cache, for one tool as for another (borg drops from it what it has read,
 * plakard writes past it); a repository that is measured was made in this run;
 * what a tool restores is compared with the original once for each kind of data.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { compareTrees } from '../../scripts/compare.ts';
import { Failure } from '../../src/error.ts';
import { type Command, progress, run } from './command.ts';
import {
  changeSome,
  type Data,
  type DataName,
  makeData,
  measureTree,
  removeOld,
  TINY_FILE,
  warm,
} from './data.ts';
import { measure } from './measure.ts';
import { plakard } from './plakard.ts';
import type { Results, WorkName } from './results.ts';
import type { Store, Tool } from './tool.ts';

/** Works of milliseconds are run so many times more often. */
const QUICK_REPEATS = 5;
const SNAPSHOTS = 1000;
const SNAPSHOTS_MIN = 10;
/** Crypto workers for which throughput is measured, as far as the machine has cores. */
const WORKERS = [1, 2, 4, 8];

export interface Plan {
  readonly directory: string;
  readonly works: ReadonlySet<WorkName>;
  readonly runs: (work: WorkName) => number;
  readonly scale: number;
  /** plakard with its defaults first, then its peers */
  readonly tools: readonly Tool[];
  /** filled in */
  readonly results: Results;
  /** the kinds of data that were used; filled in */
  readonly data: Map<DataName, Data>;
}

type Stores = Map<Tool, Store>;

/** The tools in turn, begun by another in each round. */
function inTurn<T>(things: readonly T[], round: number): T[] {
  const first = round % things.length;
  return [...things.slice(first), ...things.slice(0, first)];
}

function dataOf(plan: Plan, name: DataName): Data {
  const data = makeData(path.join(plan.directory, 'data'), name, plan.scale);
  plan.data.set(name, data);
  return data;
}

function emptyDirectory(plan: Plan, name: string): string {
  const directory = path.join(plan.directory, name.replaceAll(' ', '-'));
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  return directory;
}

async function closeAll(plan: Plan, stores: Stores, tools = [...stores.keys()]): Promise<void> {
  for (const tool of tools) {
    await stores.get(tool)?.close();
    stores.delete(tool);
    rmSync(storeDirectory(plan, tool), { recursive: true });
  }
}

function storeDirectory(plan: Plan, tool: Tool): string {
  return path.join(plan.directory, tool.name.replaceAll(' ', '-'));
}

/** What belongs to one measurement. */
interface Measuring {
  readonly work: WorkName;
  /** of the tool */
  readonly name: string;
  readonly command: Command;
  readonly store?: Store;
  /** the directory that is read */
  readonly reads?: string;
}

/** Measures one command of one tool and notes it. */
async function once(plan: Plan, { work, name, command, store, reads }: Measuring): Promise<void> {
  const runs = plan.results.of(work, name).measured;
  const memory = !QUICK.has(work) && runs.length === 0;
  // so that nobody writes back what another wrote
  run({ argv: ['sync'] });
  if (reads !== undefined) warm(reads);
  const measured = await measure(command, { daemon: store?.daemon, memory });
  runs.push(measured);
  if (!QUICK.has(work)) progress(`${work}: ${name} ${measured.seconds.toFixed(2)} s`);
}

const QUICK: ReadonlySet<WorkName> = new Set(['snapshots', 'cat', 'status', 'ls']);

/** Memory is looked at in the first run, which is one more than are timed, unless only one is wanted. */
function rounds(plan: Plan, work: WorkName): number {
  const runs = plan.runs(work);
  if (QUICK.has(work)) return runs * QUICK_REPEATS;
  return runs > 1 ? runs + 1 : runs;
}

/** Who takes part in a round of first pushes, and the work that it counts for. */
interface Entrant {
  readonly work: WorkName;
  readonly tool: Tool;
}

function entrants(work: WorkName, tools: readonly Tool[]): Entrant[] {
  return tools.map((tool) => ({ work, tool }));
}

/** First pushes, each into a new repository. The last one's repositories stay. */
async function firstPushes(plan: Plan, data: Data, all: readonly Entrant[], stores: Stores) {
  const most = Math.max(...all.map(({ work }) => rounds(plan, work)));
  for (let round = 0; round < most; round++)
    for (const { work, tool } of inTurn(all, round)) {
      if (round >= rounds(plan, work)) continue;
      await stores.get(tool)?.close();
      const store = await tool.create(emptyDirectory(plan, tool.name), data.directory);
      stores.set(tool, store);
      const command = store.push();
      await once(plan, { work, name: tool.name, command, store, reads: data.directory });
      plan.results.of(work, tool.name).storedBytes.push(measureTree(store.path).bytes);
    }
}

/** Compares what a pull has made with the original. */
function compare(plan: Plan, work: WorkName, tool: Tool, data: Data, restored: string): void {
  const { differences } = compareTrees(data.directory, restored);
  plan.results.of(work, tool.name).differences = differences;
  progress(`${work}: ${tool.name} restored: ${differences[0] ?? 'identical'}`);
  if (differences.length > 0 && tool === plan.tools[0])
    throw new Failure('restore with', tool.name, { cause: differences.join('; ') });
}

/** Restores from each repository and compares, without measuring. */
function verify(plan: Plan, work: WorkName, data: Data, stores: Stores): void {
  for (const [tool, store] of stores) {
    const to = emptyDirectory(plan, 'restored');
    run(store.pull(to));
    compare(plan, work, tool, data, store.restored(to));
    rmSync(to, { recursive: true });
  }
}

/** A check reads the repository. */
function reading(work: WorkName, { path: reads }: Store): { reads?: string } {
  return work === 'check' ? { reads } : {};
}

/** Measures a work that leaves the repositories as they are. */
async function repeated(
  plan: Plan,
  work: WorkName,
  stores: Stores,
  command: (store: Store) => Command,
): Promise<void> {
  if (!plan.works.has(work)) return;
  for (let round = 0; round < rounds(plan, work); round++)
    for (const [tool, store] of inTurn([...stores], round))
      await once(plan, { work, name: tool.name, command: command(store), store, ...reading(work, store) });
}

/** What was restored is removed at the end: removing it keeps the disk busy while the next tool writes. */
async function pulls(plan: Plan, data: Data, stores: Stores): Promise<void> {
  const restored: string[] = [];
  for (let round = 0; round < rounds(plan, 'pull'); round++)
    for (const [tool, store] of inTurn([...stores], round)) {
      const to = emptyDirectory(plan, `restored ${round} ${tool.name}`);
      restored.push(to);
      const command = store.pull(to);
      await once(plan, { work: 'pull', name: tool.name, command, store, reads: store.path });
      if (round === 0) compare(plan, 'pull', tool, data, store.restored(to));
    }
  for (const each of restored) rmSync(each, { recursive: true });
}

/** find that looks at every name, as the least that an unchanged push has to do. */
function find(data: Data): Command {
  return { argv: ['find', data.directory, '-printf', '%s %T@'] };
}

async function unchangedPushes(plan: Plan, data: Data, stores: Stores): Promise<void> {
  if (!plan.works.has('unchanged')) return;
  await repeated(plan, 'unchanged', stores, (store) => store.push());
  for (let round = 0; round < rounds(plan, 'unchanged'); round++)
    await once(plan, { work: 'unchanged', name: 'find', command: find(data) });
}

/** A push after 1% of the files have changed, other files in each round. */
async function changedPushes(plan: Plan, data: Data, stores: Stores): Promise<void> {
  for (let round = 0; round < rounds(plan, 'd'); round++) {
    changeSome(data.directory, round);
    for (const [tool, store] of inTurn([...stores], round))
      await once(plan, {
        work: 'd',
        name: tool.name,
        command: store.push(),
        store,
        reads: data.directory,
      });
  }
  verify(plan, 'd', data, stores);
}

const WORKS_OF_TREE: readonly WorkName[] = ['a', 'zstd3', 'unchanged', 'pull', 'check', 'ls', 'd', 'cores'];

/** All that is measured on the tree of real files. */
async function treeWorks(plan: Plan): Promise<void> {
  if (!WORKS_OF_TREE.some((work) => plan.works.has(work))) return;
  const data = dataOf(plan, 'a');
  const stores: Stores = new Map();
  // beside the others, as it is held against theirs
  const others = plan.works.has('zstd3') ? [plakard('zstd 3', { compression: 'zstd 3' })] : [];
  const all = [...entrants('a', plan.tools), ...entrants('zstd3', others)];
  await firstPushes(plan, data, all, stores);
  await closeAll(plan, stores, others);
  if (!plan.works.has('pull')) verify(plan, 'a', data, stores);
  await unchangedPushes(plan, data, stores);
  if (plan.works.has('pull')) await pulls(plan, data, stores);
  await repeated(plan, 'check', stores, (store) => store.check());
  await repeated(plan, 'ls', stores, (store) => store.tree());
  if (plan.works.has('cores')) await pushesByWorkers(plan, data);
  // last, as it changes the data
  if (plan.works.has('d')) await changedPushes(plan, data, stores);
  await closeAll(plan, stores);
}

/** First pushes of plakard with one worker, two, and so on. */
async function pushesByWorkers(plan: Plan, data: Data): Promise<void> {
  const possible = WORKERS.filter((workers) => workers <= availableParallelism());
  const tools = possible.map((workers) => plakard(`${workers} workers`, { workers }));
  const stores: Stores = new Map();
  await firstPushes(plan, data, entrants('cores', tools), stores);
  await closeAll(plan, stores);
}

/** First push of data of its own. */
async function pushWork(plan: Plan, work: 'b' | 'c' | 'e'): Promise<void> {
  if (!plan.works.has(work)) return;
  const data = dataOf(plan, work);
  const stores: Stores = new Map();
  await firstPushes(plan, data, entrants(work, plan.tools), stores);
  verify(plan, work, data, stores);
  await closeAll(plan, stores);
}

/** What is measured on repositories with many snapshots. */
async function manyWorks(plan: Plan): Promise<void> {
  if (!(['snapshots', 'cat', 'status'] as const).some((work) => plan.works.has(work))) return;
  const data = dataOf(plan, 'tiny');
  const count = Math.max(SNAPSHOTS_MIN, Math.round(SNAPSHOTS * plan.scale));
  const stores: Stores = new Map();
  for (const tool of plan.tools) {
    const store = await tool.create(emptyDirectory(plan, tool.name), data.directory);
    stores.set(tool, store);
    if (plan.works.size === 1 && plan.works.has('status')) continue;
    progress(`making ${count} snapshots with ${tool.name}`);
    await store.multiply(count);
  }
  await repeated(plan, 'snapshots', stores, (store) => store.snapshots());
  await repeated(plan, 'cat', stores, (store) => store.cat(TINY_FILE));
  for (let round = 0; round < rounds(plan, 'status'); round++)
    for (const [tool, store] of stores) {
      const command = plan.works.has('status') ? store.status?.() : undefined;
      if (command !== undefined) await once(plan, { work: 'status', name: tool.name, command, store });
    }
  await closeAll(plan, stores);
}

/** Runs everything that was asked for. */
export async function runWorks(plan: Plan): Promise<void> {
  const data = path.join(plan.directory, 'data');
  mkdirSync(data, { recursive: true });
  await treeWorks(plan);
  await pushWork(plan, 'b');
  await pushWork(plan, 'e');
  await pushWork(plan, 'c');
  await manyWorks(plan);
  removeOld(data);
}
