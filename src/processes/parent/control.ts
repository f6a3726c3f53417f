/**
 * The control process, as the parent sees it: started, told its settings, and
 * given the listening socket; all of that again when it dies. Owns the socket:
 * the parent keeps the descriptor, so that clients which connect while control
 * is away are served when it is back.
 */
import { closeSync, lstatSync, unlinkSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { Log } from '../../log.ts';
import { CONTROL_SETTINGS, LISTEN, PARENT_DONE } from '../../messages/parent.ts';
import { Backoff } from '../../privsep/backoff.ts';
import { child, type Serve } from '../../privsep/declare.ts';
import type { Exit } from '../../privsep/start.ts';
import type { Supervisor, ToChild } from '../../privsep/supervise.ts';
import type { User } from '../../privsep/user.ts';
import { listenUnix, type SocketOwner } from '../../sys/server.ts';
import { connectUnix } from '../../sys/socket.ts';
import { EMPTY_DIRECTORY } from './empty.ts';

const CONNECT_TIMEOUT_MS = 1000;
const DESCRIPTORS_MAX = 2048;
/** Without it nobody can even ask; it costs little to start. */
const LONGEST_PAUSE_MS = 1000;
/** Jobs of one life of control; the next one's have other numbers. */
const JOBS_PER_LIFE = 1e9;

type Settings = PayloadOf<typeof CONTROL_SETTINGS.shape>;

export interface ControlTools {
  readonly supervisor: Supervisor;
  readonly log: Log;
  readonly user: User;
  readonly stopping: AbortSignal;
  /** of a monotonic clock */
  readonly nowMs: () => number;
  /** registers what control may ask, at each start */
  readonly serve: Serve;
}

/** What control is told when it starts. */
export interface ControlStart {
  readonly firstJob: number;
}

export class ControlProcess {
  readonly #tools: ControlTools;
  readonly #backoff = new Backoff(LONGEST_PAUSE_MS);
  #settings: Settings;
  #listening: number | undefined;
  #lives = 0;
  #returning: Promise<void> | undefined;

  constructor(tools: ControlTools, settings: Settings) {
    this.#tools = tools;
    this.#settings = settings;
  }

  /** Makes the socket and starts the process; resolves when clients can connect. */
  async start(path: string, owner: SocketOwner): Promise<void> {
    await this.#launch();
    const { supervisor } = this.#tools;
    // somebody may have come meanwhile
    refuseSecond(path);
    const listening = listenUnix(path, owner);
    this.#listening = listening;
    const { ino, dev } = lstatSync(path);
    supervisor.atEnd(() => {
      closeSync(listening);
      // what another daemon has made in its place stays
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (found?.ino === ino && found.dev === dev) unlinkSync(path);
    });
    await this.#listen();
  }

  /** Tells it what the configuration says now. */
  async configure(settings: Settings): Promise<void> {
    this.#settings = settings;
    await this.#returning;
    await this.channel.query(CONTROL_SETTINGS, settings, PARENT_DONE);
  }

  get channel(): ToChild {
    return this.#tools.supervisor.channel('control');
  }

  /** It died: it is started again, until that succeeds. */
  fell(exit: Exit): void {
    this.#returning ??= this.#return(exit.failure).finally(() => {
      this.#returning = undefined;
    });
  }

  async #return(failure: Failure): Promise<void> {
    const { log, stopping, nowMs, supervisor } = this.#tools;
    for (let reason: unknown = failure; ; ) {
      const pauseMs = this.#backoff.next(nowMs());
      log.info(`starts again in ${pauseMs} ms`, { process: 'control' });
      try {
        await pause(pauseMs, undefined, { signal: stopping });
        await this.#launch();
        await this.#listen();
        log.info('serves again', { process: 'control' });
        return;
      } catch (error) {
        if (stopping.aborted) return;
        reason = error;
      }
      log.error(`not back: ${describe(reason)}`, { process: 'control' });
      await supervisor.kill(['control']);
    }
  }

  async #launch(): Promise<void> {
    const { supervisor, user, serve } = this.#tools;
    const start: ControlStart = { firstJob: this.#lives++ * JOBS_PER_LIFE + 1 };
    supervisor.declare(
      child('control')
        .user(user)
        .chroot(EMPTY_DIRECTORY)
        .profile('control')
        .limit('nofile', DESCRIPTORS_MAX)
        .mayTalkTo('chunker')
        .settings(start)
        .servedBy(serve),
    );
    await supervisor.start(['control']);
    await this.channel.query(CONTROL_SETTINGS, this.#settings, PARENT_DONE);
  }

  async #listen(): Promise<void> {
    if (this.#listening === undefined) throw new Failure('listen', '', { cause: 'no socket yet' });
    await this.channel.query(LISTEN, {}, PARENT_DONE, { fds: [this.#listening] });
  }
}

/** Throws if somebody serves the socket already; one that a dead daemon left is no obstacle. */
export function refuseSecond(path: string): void {
  let fd: number;
  try {
    fd = connectUnix(path, CONNECT_TIMEOUT_MS);
  } catch (error) {
    // only these two say that nobody listens; a socket that is merely busy is served
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ECONNREFUSED') return;
    throw new Failure('listen on', path, { cause: error });
  }
  closeSync(fd);
  throw new Failure('listen on', path, {
    cause: 'another plakard serves it',
    kind: 'busy',
    remedy: `plakarctl -s ${path} stop`,
  });
}

function errnoOf(error: unknown): unknown {
  for (let at = error; at instanceof Error; at = at.cause) if ('code' in at) return at.code;
  return undefined;
}
