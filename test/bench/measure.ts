/**
 * Runs one command and measures it: wall-clock time from the start of its
 * process to its end, processor time by process, and the highest memory of its
 * tree and of the daemon that works for it. Called by bench.ts's works.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Command, failed, follow, run, SAID_MAX_BYTES } from './command.ts';
import { cpuTime, pssBytes, rssBytes, title, withDescendants } from './processes.ts';

export interface Measured {
  readonly seconds: number;
  /** highest sum of the PSS of all processes; undefined where it was not asked for */
  readonly peakBytes: number | undefined;
  /** processor seconds by process: the daemon's by their titles, `client` for the command */
  readonly cpu: ReadonlyMap<string, number>;
}

const SAMPLE_MS = 50;
/** Looking for new processes, and at PSS where RSS has not grown, is dear: not at each sample. */
const THOROUGH_MS = 500;
const GROWTH_BYTES = 1 << 20;

/**
 * Follows the memory of process trees. PSS is what counts, but reading it takes
 * the kernel 1 ms a process, which would slow down what is measured: so RSS is
 * looked at 20 times a second, and PSS when RSS is higher than ever, and else
 * twice a second.
 */
class Memory {
  peakBytes = 0;
  readonly #roots: readonly number[];
  #pids: readonly number[] = [];
  #thoroughMs = Number.NEGATIVE_INFINITY;
  #highestRssBytes = 0;

  constructor(roots: readonly number[]) {
    this.#roots = roots;
  }

  sample(nowMs: number): void {
    const thorough = nowMs - this.#thoroughMs >= THOROUGH_MS;
    if (thorough) {
      this.#thoroughMs = nowMs;
      this.#pids = withDescendants(this.#roots);
    }
    let rss = 0;
    for (const pid of this.#pids) rss += rssBytes(pid);
    const grown = rss > this.#highestRssBytes + GROWTH_BYTES;
    if (!thorough && !grown) return;
    this.#highestRssBytes = Math.max(this.#highestRssBytes, rss);
    let pss = 0;
    for (const pid of this.#pids) pss += pssBytes(pid);
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

/** Runs the command, output thrown away, with what earlier commands wrote already on the disk. */
export async function measure(command: Command, { daemon, memory }: MeasureOptions): Promise<Measured> {
  run({ argv: ['sync'] });
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
  const timer = memory ? setInterval(() => watched.sample(performance.now()), SAMPLE_MS) : undefined;
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
