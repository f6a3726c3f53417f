/**
 * Runs one command and measures it: wall-clock time from the start of its
 * process to its end, processor time by process, and the highest memory of its
 * tree and of the daemon that works for it. Called by bench.ts's works.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Command, failed, follow, SAID_MAX_BYTES } from './command.ts';
import { cpuTime, pssBytes, title, withDescendants } from './processes.ts';

export interface Measured {
  readonly seconds: number;
  /** highest sum of the PSS of all processes; undefined where it was not asked for */
  readonly peakBytes: number | undefined;
  /** processor seconds by process: the daemon's by their titles, `client` for the command */
  readonly cpu: ReadonlyMap<string, number>;
}

/** Reading PSS takes the kernel milliseconds for each process, at the cost of what is measured. */
const SAMPLE_MS = 500;

/** The highest sum of the PSS of process trees. */
class Memory {
  peakBytes = 0;
  readonly #roots: readonly number[];

  constructor(roots: readonly number[]) {
    this.#roots = roots;
  }

  sample(): void {
    let pss = 0;
    for (const pid of withDescendants(this.#roots)) pss += pssBytes(pid);
    this.peakBytes = Math.max(this.peakBytes, pss);
  }
}

/** Processor time of a daemon's processes, by their titles. */
function daemonTimes(daemon: number | undefined): Map<string, number> {
  const times = new Map<string, number>();
  if (daemon === undefined) return times;
  for (const pid of withDescendants([daemon])) times.set(title(pid), cpuTime(pid).own);
  times.set('plakard: ended', cpuTime(daemon).children);
  return times;
}

export interface MeasureOptions {
  /** the process that is the daemon's parent, where the tool has one */
  readonly daemon?: number | undefined;
  /** whether memory is wanted: not for commands of a few milliseconds */
  readonly memory: boolean;
}

/** Runs the command, output thrown away. */
export async function measure(command: Command, { daemon, memory }: MeasureOptions): Promise<Measured> {
  const before = daemonTimes(daemon);
  const clientBefore = cpuTime(process.pid).children;
  const [program, ...args] = command.argv;
  const beganMs = performance.now();
  const child = spawn(program, args, {
    cwd: command.cwd,
    env: { ...process.env, ...command.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  follow(child);
  const ended = once(child, 'exit');
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-SAID_MAX_BYTES);
  });
  const watched = new Memory(daemon === undefined ? [child.pid ?? 0] : [daemon, child.pid ?? 0]);
  const timer = memory ? setInterval(() => watched.sample(), SAMPLE_MS) : undefined;
  let seconds: number;
  try {
    const [code, signal] = await ended;
    seconds = (performance.now() - beganMs) / 1000;
    if (code !== 0) throw failed(command, signal ?? `exit code ${code}`, said);
  } finally {
    clearInterval(timer);
  }
  const cpu = new Map([['client', cpuTime(process.pid).children - clientBefore]]);
  for (const [name, time] of daemonTimes(daemon)) cpu.set(name, time - (before.get(name) ?? 0));
  return { seconds, peakBytes: memory ? watched.peakBytes : undefined, cpu };
}
