/**
 * Everything at once, for the soak test: streams of commands, of changes to the
 * configuration, of kills and of bad clients against one daemon, drawn from a
 * seed; and the ledger of what was acknowledged meanwhile.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '../../src/ipc/connect.ts';
import { QUERY, writeHeader } from '../../src/ipc/frame.ts';
import { HEADER_BYTES } from '../../src/ipc/message.ts';
import { encode } from '../../src/ipc/payload.ts';
import { STATUS } from '../../src/messages/client.ts';
import { closeAll } from '../../src/sys/socket.ts';
import { type Daemon, lives } from '../parent/daemon.ts';
import { noise } from '../processes/tree.ts';

/** Longer than any command may take: a child that stalls, its pause, and a job before. */
const HANG_MS = 120_000;
const FILES = 60;
const FILE_MAX_BYTES = 200_000;
/** Between two of each stream, in ms: fewest and most. */
const PAUSES = {
  push: [0, 800],
  path: [500, 3000],
  pull: [0, 1500],
  look: [0, 1000],
  reload: [500, 4000],
  kill: [3000, 11_000],
  client: [100, 1500],
} as const;
type Stream = keyof typeof PAUSES;
/** done, failed, done in part, busy, interrupted: anything else is an error of the daemon's */
const GOOD_CODES = [0, 1, 11, 130];

/** A stream of numbers from a seed: SplitMix32. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** What a directory holds, as one digest. */
export function fingerprint(directory: string): string {
  const hash = createHash('sha256');
  for (const name of fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()) {
    const file = path.join(directory, name);
    const stat = fs.lstatSync(file);
    hash.update(`${name}\0${stat.mode}\0${stat.size}\0`);
    if (stat.isFile()) hash.update(fs.readFileSync(file));
  }
  return hash.digest('hex');
}

/** A snapshot that a push said exists, and what it is of. */
export interface Acknowledged {
  readonly snapshot: string;
  readonly digest: string;
}

export class Soak {
  readonly acknowledged: Acknowledged[] = [];
  /** commands by name and exit code: `push 0` */
  readonly outcomes = new Map<string, number>();
  /** what must not be */
  readonly faults: string[] = [];
  kills = 0;
  badClients = 0;
  hangups = 0;
  restores = 0;
  readonly #daemon: Daemon;
  readonly #random: () => number;
  readonly #end: AbortController = new AbortController();

  constructor(daemon: Daemon, seed: number) {
    this.#daemon = daemon;
    this.#random = randomOf(seed);
  }

  /** Plants both trees and begins with a push of the first. */
  plant(): void {
    const { directory } = this.#daemon;
    for (const tree of ['source', 'mine']) {
      fs.mkdirSync(path.join(directory, tree, 'deep/er'), { recursive: true });
      for (let i = 0; i < FILES; i++) this.#change(tree);
    }
    this.#configure();
  }

  /** Runs all streams for so long. Resolves when the last command has ended. */
  async run(seconds: number): Promise<void> {
    const timer = setTimeout(() => this.#end.abort(), seconds * 1000);
    const watchers = [this.#watch('monitor'), this.#watch('trace', 'object')];
    await Promise.all([
      this.#stream('push', () => this.#push('source', 'home')),
      this.#stream('path', () => this.#push('mine', this.#daemon.path('mine'))),
      this.#stream('pull', () => this.#pull()),
      this.#stream('look', () => this.#look()),
      this.#stream('reload', () => this.#reload()),
      this.#stream('kill', () => this.#kill()),
      this.#stream('client', () => this.#badClient()),
    ]);
    clearTimeout(timer);
    await Promise.all(watchers);
  }

  /** The processes of the daemon that are no parent, by name, as the kernel has them. */
  children(): Map<string, number> {
    const found = new Map<string, number>();
    const { pid } = this.#daemon;
    for (const entry of fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ')) {
      try {
        const title = fs.readFileSync(`/proc/${entry}/cmdline`, 'latin1').replace(/\0.*$/s, '');
        if (title.startsWith('plakard: ')) found.set(title.slice('plakard: '.length), Number(entry));
      } catch {
        // it ended
      }
    }
    return found;
  }

  async #stream(name: Stream, once: () => Promise<void>): Promise<void> {
    const [fewestMs, mostMs] = PAUSES[name];
    const { signal } = this.#end;
    while (!signal.aborted) {
      try {
        await once();
      } catch (error) {
        this.faults.push(`${name}: ${error}`);
      }
      const pauseMs = fewestMs + this.#random() * (mostMs - fewestMs);
      await pause(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }

  #pick<T>(of: readonly T[]): T {
    const picked = of[Math.floor(this.#random() * of.length)];
    if (picked === undefined) throw new Error('nothing to pick from');
    return picked;
  }

  /** Runs a command, and judges how it ended. */
  async command(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const { process: running, done } = this.#daemon.begin(...args);
    const late = setTimeout(() => {
      this.faults.push(`${args.join(' ')}: not over after ${HANG_MS} ms, ${new Date().toISOString()}`);
      // how things are while it hangs
      void this.#daemon.run('status').then(({ stdout, stderr }) => {
        this.faults.push(stdout + stderr);
        running.kill('SIGKILL');
      });
    }, HANG_MS);
    const outcome = await done;
    clearTimeout(late);
    const { code, stderr } = outcome;
    const [first = ''] = args.filter((arg) => !arg.startsWith('-'));
    const key = `${first} ${code}`;
    this.outcomes.set(key, (this.outcomes.get(key) ?? 0) + 1);
    if (code === null || !GOOD_CODES.includes(code) || /[A-Z]\w+Error|undefined|\n {4}at /.test(stderr))
      this.faults.push(`${args.join(' ')}: ended with ${code}: ${stderr.trim()}`);
    return outcome;
  }

  /** Writes, or removes, a file of the tree. */
  #change(tree: string): void {
    const number = Math.floor(this.#random() * FILES);
    const file = this.#daemon.path(`${tree}/${number % 3 === 0 ? 'deep/er/' : ''}${number}`);
    if (this.#random() < 0.1) fs.rmSync(file, { force: true });
    else fs.writeFileSync(file, noise(`${this.#random()}`, Math.floor(this.#random() * FILE_MAX_BYTES)));
  }

  async #push(tree: string, what: string): Promise<void> {
    for (let i = Math.floor(this.#random() * 8); i >= 0; i--) this.#change(tree);
    const digest = fingerprint(this.#daemon.path(tree));
    const { code, stdout } = await this.command('-q', 'push', what);
    if (code !== 0) return;
    const snapshot = stdout.trim();
    if (/^[0-9a-f-]{36}$/.test(snapshot)) this.acknowledged.push({ snapshot, digest });
    else this.faults.push(`push ${what}: printed '${snapshot}'`);
  }

  /** Restores an acknowledged snapshot and compares it. */
  async restore({ snapshot, digest }: Acknowledged): Promise<number | null> {
    const to = this.#daemon.path(`restored-${this.restores++}`);
    const { code } = await this.command('pull', '-to', to, snapshot);
    if (code === 0 && fingerprint(to) !== digest) this.faults.push(`pull ${snapshot}: it is not the same`);
    fs.rmSync(to, { recursive: true, force: true });
    return code;
  }

  async #pull(): Promise<void> {
    if (this.acknowledged.length > 0) await this.restore(this.#pick(this.acknowledged));
  }

  async #look(): Promise<void> {
    const commands = [['ls'], ['status'], ['metrics'], ['info'], ['check', '-fast'], ['ls', 'latest']];
    await this.command(...this.#pick(commands));
  }

  #configure(more = ''): void {
    this.#daemon.configure(more, 'exclude "nothing is called this"');
  }

  /** Now a good configuration, now a bad one, by the command or by the signal. */
  async #reload(): Promise<void> {
    const choice = this.#random();
    const other = `source "other${Math.floor(choice * 50)}" {\n path "${this.#daemon.path('mine')}"\n}`;
    if (choice < 0.3) this.#daemon.configure(other, `exclude "${choice}"`);
    else if (choice < 0.5) this.#configure(`${other}\nnonsense here\n`);
    else this.#configure(this.#pick([other, '', 'set log text', 'set cpu 2']));
    if (this.#random() < 0.3) {
      this.#daemon.kill('SIGHUP');
      this.hangups++;
    } else await this.command('reload');
  }

  async #kill(): Promise<void> {
    const [name, pid] = this.#pick([...this.children()]);
    try {
      process.kill(pid, this.#random() < 0.85 ? 'SIGKILL' : 'SIGSTOP');
      this.kills++;
    } catch (error) {
      // it was quicker
      if (lives(pid)) throw new Error(`kill ${name}: ${error}`);
    }
  }

  /** Garbage, half of a message, requests whose answers nobody reads, or nothing at all. */
  async #badClient(): Promise<void> {
    let ends: ReturnType<typeof connect>;
    try {
      ends = connect(this.#daemon.path('socket'), 1000);
    } catch {
      // control is away: that is what a client sees
      return;
    }
    this.badClients++;
    const frame = encode({}, HEADER_BYTES);
    writeHeader(frame, STATUS.number, QUERY, 1, 0);
    const choice = this.#random();
    try {
      if (choice < 0.25) fs.writeSync(ends.stream, noise(`${choice}`, 300));
      else if (choice < 0.5) fs.writeSync(ends.stream, frame.subarray(0, HEADER_BYTES - 2));
      else if (choice < 0.75) for (let i = 0; i < 20; i++) fs.writeSync(ends.stream, frame);
      await pause(this.#random() * 500);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error;
    } finally {
      closeAll([ends.stream, ends.descriptors]);
    }
  }

  /** Somebody always watches; control's death ends it, and it begins again. */
  async #watch(...args: string[]): Promise<void> {
    while (!this.#end.signal.aborted) {
      const { process: running, done } = this.#daemon.begin(...args);
      const stop = (): boolean => running.kill('SIGINT');
      this.#end.signal.addEventListener('abort', stop);
      await done;
      this.#end.signal.removeEventListener('abort', stop);
    }
  }
}
