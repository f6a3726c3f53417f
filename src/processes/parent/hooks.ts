/**
 * The commands that a source runs before and after its pushes: as the user that
 * the configuration names, with an environment of their own, for a limited time,
 * and with what they print kept for whoever asks why. Used by the parent.
 *
 * Invariant: a hook that has ended or was given up has left no process of its
 * group behind, and none survives the parent, whatever that dies of.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { type Hook, resolveUser } from '../../config/config.ts';
import { Failure } from '../../error.ts';
import type { Log } from '../../log.ts';
import { keepOwnDescriptors } from '../../privsep/descriptors.ts';

const SHELL = '/bin/sh';
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/**
 * Runs $1. Beside it, in its group, waits a process for the end of its lifeline,
 * whose other end the parent alone has: then it kills the group. As it is a
 * member, no other group can have got the number meanwhile.
 */
const LIFELINE = 3;
const SCRIPT = `(read -r _ <&${LIFELINE}; kill -KILL 0) >/dev/null 2>&1 & exec ${LIFELINE}<&-; exec ${SHELL} -c "$1"`;
/** How long one hook may take. */
export const HOOK_TIMEOUT_MS = 600_000;
/** How long what it printed is waited for, once its group is gone. */
const READ_TIMEOUT_MS = 1000;
/** The end of what it printed that is kept. */
const OUTPUT_MAX_CHARS = 2048;

/** What a hook is told, as PLAKARD_SOURCE and so on. */
export interface HookEvent {
  readonly source: string;
  readonly repository: string;
  readonly when: 'before' | 'after';
  /** missing before */
  readonly result?: 'ok' | 'failed';
}

export interface HookTools {
  readonly log: Log;
  readonly timeoutMs: number;
  readonly stopping: AbortSignal;
}

interface Account {
  readonly uid: number;
  readonly gid: number;
  readonly name: string;
  readonly home: string;
}

function accountOf(user: string): Account {
  const passwd = readFileSync('/etc/passwd');
  const { uid, gid } = resolveUser(user, (maxBytes) => passwd.subarray(0, maxBytes));
  const fields = passwd
    .toString('latin1')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([, , id]) => id === String(uid));
  return { uid, gid, name: fields?.[0] ?? user, home: fields?.[5] || '/' };
}

function environment({ name, home }: Account, event: HookEvent): Record<string, string> {
  const { source, repository, when, result } = event;
  return {
    PATH,
    SHELL,
    HOME: home,
    USER: name,
    LOGNAME: name,
    PLAKARD_SOURCE: source,
    PLAKARD_REPOSITORY: repository,
    PLAKARD_WHEN: when,
    ...(result === undefined ? {} : { PLAKARD_RESULT: result }),
  };
}

/** Keeps the end of what is printed. */
function collect(streams: readonly (Readable | null)[]): () => string {
  let kept = '';
  for (const stream of streams)
    stream?.setEncoding('utf8').on('data', (text: string) => {
      kept = (kept + text).slice(-OUTPUT_MAX_CHARS);
    });
  return () => kept.trim();
}

/** Of a hook that has ended: resolves when all that it printed is read, but for what left its group. */
function readToEnd(child: ChildProcess): () => Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  child.on('close', () => resolve());
  return async () => {
    // there are none where it could not be started
    const streams = child.stdio ?? [];
    streams[LIFELINE]?.destroy();
    const timer = setTimeout(resolve, READ_TIMEOUT_MS);
    await promise;
    clearTimeout(timer);
    for (const each of streams) each?.destroy();
  };
}

/** Ends the hook and all that it started. */
function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // all of the group has ended
  }
}

/** Hooks at work, which do not outlive the parent. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const each of running) killGroup(each);
});

/** Runs one hook; rejects with its output unless it exits with 0 in time. */
export async function runHook(hook: Hook, event: HookEvent, tools: HookTools): Promise<void> {
  const account = accountOf(hook.user);
  keepOwnDescriptors();
  const child = spawn(SHELL, ['-c', SCRIPT, SHELL, hook.command], {
    cwd: '/',
    uid: account.uid,
    gid: account.gid,
    env: environment(account, event),
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    // a group of its own, so that all of it can be ended
    detached: true,
  });
  running.add(child);
  const output = collect([child.stdout, child.stderr]);
  const closed = readToEnd(child);
  const cause = await outcome(child, tools);
  running.delete(child);
  killGroup(child);
  await closed();
  const printed = output();
  const { source } = event;
  if (printed !== '') tools.log.info(`${hook.command}: ${printed}`, { process: 'parent', source });
  if (cause === undefined) return;
  const failure = new Failure(printed === '' ? 'it' : printed.split('\n').slice(-1).join(''), '', { cause });
  throw new Failure(`run ${event.when}`, hook.command, { cause: printed === '' ? cause : failure });
}

/** How it failed, or undefined. */
function outcome(child: ChildProcess, { timeoutMs, stopping }: HookTools): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const stop = (): void => resolve('plakard stops');
  const timer = setTimeout(() => resolve(`not done after ${timeoutMs} ms`), timeoutMs);
  child.on('error', resolve);
  child.on('exit', (code, signal) => {
    if (code === 0) resolve(undefined);
    else resolve(code === null ? `killed by ${signal}` : `exited with code ${code}`);
  });
  if (stopping.aborted) stop();
  stopping.addEventListener('abort', stop);
  return promise.finally(() => {
    clearTimeout(timer);
    stopping.removeEventListener('abort', stop);
  });
}
